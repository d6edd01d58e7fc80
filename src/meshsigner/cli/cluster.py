"""`meshsigner cluster`: what the cluster gets from its CA, once or for ever."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from meshsigner.cli.exits import Exit, exit_codes
from meshsigner.cli.options import duration
from meshsigner.cli.terminal import fail, say
from meshsigner.config import load_config
from meshsigner.errors import ConfigurationError, MeshsignerError

HELP = "Keep the roots and istiod's certificate in a Kubernetes cluster."

BOOTSTRAP_HELP = f"""Make what must be there before istiod starts, once.

The CA (with `--ca-secret`, a Secret in the layout of Istio's `cacerts`; its root's key goes into
a second one, NAME-root, to be taken away), the ConfigMap with the roots in istiod's namespace,
and the Secret with istiod's serving certificate. What is there is left as it is, so that the
command may be run again at any time.

Example:

    meshsigner cluster bootstrap --config meshsigner.yaml --ca-secret meshsigner-ca

{exit_codes(Exit.INPUT, Exit.UNAVAILABLE)}
"""

RUN_HELP = f"""Run the controllers alone, without the port for certificates, until SIGTERM.

With `controllers.enabled` the workers of `meshsigner serve` take part in the same election; this is
for who wants them in a process of their own.

Example:

    meshsigner cluster run --config meshsigner.yaml

{exit_codes(Exit.INPUT, Exit.UNAVAILABLE)}
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

ConfigFile = Annotated[Path, typer.Option("--config", help="The YAML file; see docs/config.md.")]


@app.command("bootstrap", help=BOOTSTRAP_HELP)
def bootstrap_command(
    *,
    config: ConfigFile,
    ca_secret: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Secret that holds the CA; it is made when it is not there.",
            show_default="none: the CA in issuer.path",
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            help="Where that Secret is.", show_default="the namespace of controllers.lease"
        ),
    ] = None,
    wait: Annotated[
        timedelta,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            help="How long to wait for the API server and for istiod's namespace.",
        ),
    ] = timedelta(minutes=1),
) -> None:
    """Make what must be there first."""
    from meshsigner.app.bootstrap import CaSecret, bootstrap  # noqa: PLC0415 - only if it is run

    try:
        settings = load_config(config)
        place = namespace or settings.controllers.lease.namespace
        secret = CaSecret(namespace=place, name=ca_secret) if ca_secret else None
        asyncio.run(bootstrap(settings, secret=secret, wait=wait, say=say))
    except ConfigurationError as error:
        fail(Exit.INPUT, f"{config}: the cluster cannot be prepared with this", *error.problems)
    except MeshsignerError as error:
        fail(Exit.UNAVAILABLE, "the cluster cannot be prepared", str(error))


@app.command("run", help=RUN_HELP)
def run(*, config: ConfigFile) -> None:
    """Run the controllers."""
    import uvloop  # noqa: PLC0415 - only where something is run

    from meshsigner.app.controllers_process import ControllersProcess  # noqa: PLC0415 - the same
    from meshsigner.app.life import live  # noqa: PLC0415 - the same

    try:
        uvloop.run(live(ControllersProcess(load_config(config)), None, None))
    except ConfigurationError as error:
        fail(Exit.INPUT, f"{config}: the controllers cannot start with this", *error.problems)
    except MeshsignerError as error:
        fail(Exit.UNAVAILABLE, "the controllers cannot start", str(error))
