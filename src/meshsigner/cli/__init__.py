"""The command line: what a person starts.

Each command is a file of its own; `exits` has the meaning of exit codes,
`terminal` the way of talking. Commands import the server only when they start
it, so that help and completion answer at once.
"""

import os
import sys

import typer

# gRPC reads these when it is imported, which the commands do. Its own lines are no JSON, and come
# for each failed handshake. Connections are read by the thread that waits for gRPC's events, not
# by a pool of threads that hand them to each other (docs/adr/0043).
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")

from meshsigner.cli import (
    agent,
    backends,
    check_config,
    cluster,
    dev,
    intermediate,
    inventory,
    request,
    serve,
    version,
)

app = typer.Typer(
    name="meshsigner",
    help="An Istio-compatible certificate signing server.\n\n"
    "Example: `meshsigner dev run` starts one on embedded defaults.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,  # locals hold tokens and keys
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(dev.app, name="dev", help=dev.HELP)
app.command("serve", help=serve.HELP)(serve.serve)
app.add_typer(agent.app, name="agent", help=agent.HELP)
app.command("request", help=request.HELP)(request.request)
app.add_typer(inventory.app, name="inventory", help=inventory.HELP)
app.add_typer(cluster.app, name="cluster", help=cluster.HELP)
app.add_typer(intermediate.app, name="intermediate", help=intermediate.HELP)
app.command("backends", help=backends.HELP)(backends.backends)
app.command("check-config", help=check_config.HELP)(check_config.check_config)
app.command("config-reference", help=check_config.REFERENCE_HELP)(check_config.config_reference)
app.command("version", help=version.HELP)(version.version)


def main() -> None:
    """Run the command line."""
    sys.exit(app())
