"""`meshsigner dev`: a server on embedded defaults, and tokens for it. For development only."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from meshsigner.cli.dev_state import DevState
from meshsigner.cli.dev_tokens import TokenIssuer, TokenWish
from meshsigner.cli.exits import Exit, exit_codes
from meshsigner.cli.options import Json, StateDir, address, duration
from meshsigner.cli.terminal import fail, say_json, warn
from meshsigner.cli.token import parse_token
from meshsigner.config.fields import Address
from meshsigner.errors import ConfigurationError
from meshsigner.spiffe import InvalidSpiffeId, TrustDomain, WorkloadId

HELP = "Run a server on embedded defaults, and make tokens for it: for development."

TOKEN_HELP = f"""Print a service account's token, of the exact shape that Kubernetes issues.

It is signed by the development key in the state directory, which only `dev run` servers believe.

Example:

    meshsigner dev token --namespace bookinfo --service-account productpage > token

{exit_codes(Exit.INPUT)}
"""

RUN_HELP = f"""Run a server that makes everything it needs, until Ctrl-C.

CA, serving certificate, token issuer and inventory are kept in the state directory, across
restarts. Trust domain cluster.local, cluster id Kubernetes. The token issuer is for development
alone: whoever can read the state directory can be any workload. Other settings can be given in the
environment, for example MESHSIGNER_POLICY__DEFAULT_LIFETIME=1h.

Example:

    meshsigner dev run --demo

{exit_codes(Exit.INPUT, Exit.REFUSED, Exit.UNAVAILABLE, Exit.WRONG_ANSWER)}
"""

ListenOption = Annotated[
    Address,
    typer.Option(
        parser=address,
        metavar="HOST:PORT",
        show_default="127.0.0.1:15012",
        help="Where workloads ask; port 0 takes a free one.",
    ),
]
AdminOption = Annotated[
    Address,
    typer.Option(
        parser=address,
        metavar="HOST:PORT",
        show_default="127.0.0.1:15014",
        help="Where probes and Prometheus ask; port 0 takes a free one.",
    ),
]
CaDirOption = Annotated[
    Path | None,
    typer.Option(
        help="Directory with a CA in Istio's cacerts layout.", show_default="a self-made one"
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Worker processes under a supervisor.",
        show_default="one process, no supervisor",
    ),
]
DemoOption = Annotated[
    bool, typer.Option("--demo", help="Send it a sidecar's CSR, and show what comes back.")
]
NamespaceOption = Annotated[str, typer.Option(help="The account's namespace.")]
ServiceAccountOption = Annotated[str, typer.Option(help="The account's name.")]
AudienceOption = Annotated[
    list[str] | None,
    typer.Option(help="Whom the token is for; may be repeated.", show_default="istio-ca"),
]
TtlOption = Annotated[
    timedelta,
    typer.Option(
        parser=duration,
        metavar="DURATION",
        show_default="1h",
        help="How long it is valid; negative makes one that has expired (--ttl=-5m).",
    ),
]
PodOption = Annotated[
    str | None,
    typer.Option(
        help="The pod it is bound to; an empty name makes one that is bound to none.",
        show_default="the account's name with -0",
    ),
]

_LISTEN = Address("127.0.0.1", 15012)
_ADMIN = Address("127.0.0.1", 15014)

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@app.command("run", help=RUN_HELP)
def run(
    *,
    state_dir: StateDir = Path(".state"),
    listen: ListenOption = _LISTEN,
    admin: AdminOption = _ADMIN,
    ca_dir: CaDirOption = None,
    workers: WorkersOption = None,
    demo: DemoOption = False,
) -> None:
    """Prepare the state directory, then serve from it."""
    # The server's libraries are only loaded where a server is started.
    from meshsigner.app.process import run as run_server  # noqa: PLC0415
    from meshsigner.cli.demo import Demo  # noqa: PLC0415
    from meshsigner.workers.process import supervise  # noqa: PLC0415

    state = DevState(state_dir, ca_dir)
    try:
        tokens = state.prepare(datetime.now(UTC))
        warn(
            f"Development server: its token issuer ({state.token_issuer_key}) makes anybody any "
            "workload. Never use it, or this state, for a mesh."
        )
        show = Demo(state, tokens, sends_csr=demo).show
        if workers is None:
            run_server(state.config(listen, admin), ready=show)
        else:
            supervise(state.config(listen, admin, workers), ready=show)
    except ConfigurationError as error:
        fail(Exit.INPUT, "the server cannot start", *error.problems)


@app.command("token", help=TOKEN_HELP)
def token(
    *,
    namespace: NamespaceOption,
    service_account: ServiceAccountOption,
    state_dir: StateDir = Path(".state"),
    audience: AudienceOption = None,
    ttl: TtlOption = timedelta(hours=1),
    pod: PodOption = None,
    json: Json = False,
) -> None:
    """Sign a token with the development key."""
    wish = TokenWish(
        namespace=namespace,
        service_account=service_account,
        audiences=tuple(audience or ("istio-ca",)),
        lifetime=ttl,
        pod=f"{service_account}-0" if pod is None else pod,
    )
    _check_names(wish)
    text = _issuer(state_dir).issue(wish, datetime.now(UTC))
    if json:
        say_json(_as_json(text))
    else:
        typer.echo(text)


def _as_json(text: str) -> dict[str, object]:
    token = parse_token(text)
    return {
        "token": text,
        "namespace": token.namespace,
        "service_account": token.service_account,
        "audiences": list(token.audiences),
        "expires": token.expires.isoformat() if token.expires else None,
    }


def _check_names(wish: TokenWish) -> None:
    """Refuse names that no Kubernetes object can have."""
    try:
        WorkloadId.of(TrustDomain("cluster.local"), wish.namespace, wish.service_account)
    except InvalidSpiffeId as error:
        raise typer.BadParameter(str(error)) from error


def _issuer(state_dir: Path) -> TokenIssuer:
    state = DevState(state_dir)
    if not state.token_issuer_key.exists():
        fail(
            Exit.INPUT,
            f"no development token issuer in {state_dir}",
            f"Start a server there first: meshsigner dev run --state-dir {state_dir}",
        )
    try:
        return TokenIssuer.load(state.token_issuer_key)
    except (OSError, ValueError) as error:
        fail(Exit.INPUT, f"cannot use {state.token_issuer_key}: {error}")
