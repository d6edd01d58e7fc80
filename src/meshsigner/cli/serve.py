"""`meshsigner serve`: the server, as it runs in production."""

from pathlib import Path
from typing import Annotated

import typer

from meshsigner.cli.exits import Exit, exit_codes
from meshsigner.cli.terminal import fail
from meshsigner.config import load_config
from meshsigner.errors import ConfigurationError, MeshsignerError

HELP = f"""Run the server until SIGTERM or Ctrl-C: a supervisor and one worker a CPU.

There is no default for anything that is an identity or a secret, and no development token issuer.
SIGTERM drains: no new calls, those in flight are answered. SIGHUP takes the configuration anew,
where need be by replacing workers one after the other; docs/config.md says what waits for a
restart.

Example:

    meshsigner serve --config /etc/meshsigner/meshsigner.yaml

{exit_codes(Exit.INPUT, Exit.UNAVAILABLE)}
"""


def serve(
    *,
    config: Annotated[Path, typer.Option(help="The YAML file; see docs/config.md.")],
) -> None:
    """Run the server."""
    # The server's libraries are only loaded where a server is started.
    from meshsigner.workers.process import supervise  # noqa: PLC0415

    try:
        supervise(load_config(config), reload=lambda: load_config(config))
    except ConfigurationError as error:
        fail(Exit.INPUT, f"{config}: the server cannot start with this", *error.problems)
    except MeshsignerError as error:
        fail(Exit.UNAVAILABLE, "the server cannot start", str(error))
