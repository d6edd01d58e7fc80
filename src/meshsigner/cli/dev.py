"""`meshsigner dev`: a server on embedded defaults, and tokens for it. For development only."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from meshsigner.cli.dev_state import DevState
from meshsigner.cli.dev_tokens import TokenIssuer, TokenWish
from meshsigner.cli.exits import Exit, exit_codes
from meshsigner.cli.options import Json, StateDir, duration
from meshsigner.cli.terminal import fail, say_json
from meshsigner.cli.token import parse_token
from meshsigner.spiffe import InvalidSpiffeId, TrustDomain, WorkloadId

HELP = "Run a server on embedded defaults, and make tokens for it: for development."

TOKEN_HELP = f"""Print a service account's token, of the exact shape that Kubernetes issues.

It is signed by the development key in the state directory, which only `dev run` servers believe.

Example:

    meshsigner dev token --namespace bookinfo --service-account productpage > token

{exit_codes(Exit.INPUT)}
"""

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


@app.command("token", help=TOKEN_HELP)
def token(
    *,
    namespace: Annotated[str, typer.Option(help="The account's namespace.")],
    service_account: Annotated[str, typer.Option(help="The account's name.")],
    state_dir: StateDir = Path(".state"),
    audience: Annotated[
        list[str] | None,
        typer.Option(help="Whom the token is for; may be repeated.", show_default="istio-ca"),
    ] = None,
    ttl: Annotated[
        timedelta,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            show_default="1h",
            help="How long it is valid; negative makes one that has expired (--ttl=-5m).",
        ),
    ] = timedelta(hours=1),
    pod: Annotated[
        str | None,
        typer.Option(
            help="The pod it is bound to; an empty name makes one that is bound to none.",
            show_default="the account's name with -0",
        ),
    ] = None,
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
