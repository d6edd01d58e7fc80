"""`meshsigner request`: ask any CA of Istio's kind for a certificate, as an operator."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from cryptography import x509

from meshsigner.agent.answer import WrongAnswer
from meshsigner.agent.ca_client import CallFailed, Server
from meshsigner.agent.keys import KeyType
from meshsigner.cli.answer import answer_as_json, describe_answer
from meshsigner.cli.client import Issued, Wish, obtain
from meshsigner.cli.exits import Exit, exit_codes
from meshsigner.cli.options import Json, duration
from meshsigner.cli.refusals import advice_for
from meshsigner.cli.terminal import fail, note, say_fields, say_heading, say_json
from meshsigner.cli.token import NoToken, Token, read_token
from meshsigner.cli.workload import write_secret
from meshsigner.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain, WorkloadId

ISTIO_AUDIENCE = "istio-ca"  # Istio's global.sds.token.aud

HELP = f"""Ask a server for a workload certificate, as istio-agent does, and show each step.

Example:

    meshsigner request --server 127.0.0.1:15012 --root .state/root-cert.pem --token-file token

{exit_codes(Exit.INPUT, Exit.REFUSED, Exit.UNAVAILABLE, Exit.WRONG_ANSWER)}
"""


ServerOption = Annotated[str, typer.Option(help="The CA, HOST:PORT.")]
RootOption = Annotated[Path, typer.Option(help="PEM file: roots of the server's certificate.")]
TokenFileOption = Annotated[Path, typer.Option(help="File with the service account's token.")]
IdentityOption = Annotated[
    str, typer.Option(help="SPIFFE ID for the CSR.", show_default="from the token")
]
TrustDomainOption = Annotated[
    str, typer.Option(help="Trust domain of the identity that is made from the token.")
]
ClusterIdOption = Annotated[str, typer.Option(help="The token's cluster.")]
ServerNameOption = Annotated[
    str,
    typer.Option(
        help="Name in the server's certificate, if it is dialled by another one.",
        show_default="the host of --server",
    ),
]
KeyTypeOption = Annotated[KeyType, typer.Option(help="Kind of the new key.")]
TtlOption = Annotated[
    timedelta,
    typer.Option(parser=duration, metavar="DURATION", show_default="24h", help="Wished lifetime."),
]
OutOption = Annotated[
    Path | None,
    typer.Option(help="Directory for key.pem (mode 0600), cert-chain.pem and root-cert.pem."),
]


def request(
    *,
    server: ServerOption,
    root: RootOption,
    token_file: TokenFileOption,
    identity: IdentityOption = "",
    trust_domain: TrustDomainOption = "cluster.local",
    cluster_id: ClusterIdOption = "Kubernetes",
    server_name: ServerNameOption = "",
    key_type: KeyTypeOption = KeyType.RSA2048,
    ttl: TtlOption = timedelta(hours=24),
    out: OutOption = None,
    json: Json = False,
) -> None:
    """Make key and CSR, ask once, check the answer, write the files."""
    token = _read_token(token_file)
    wish = Wish(
        server=Server(address=server, roots_pem=_read_root(root), name=server_name),
        token=token,
        identity=_identity(identity, token, trust_domain),
        key_type=key_type,
        lifetime=ttl,
        cluster_id=cluster_id,
    )
    issued = _obtain(wish)
    files = _write(out, issued)
    if json:
        say_json({**answer_as_json(issued.chain, issued.call_s), "files": list(map(str, files))})
        return
    say_heading("Certificate issued")
    written = [("written", str(file)) for file in files]
    say_fields([*describe_answer(issued.chain, issued.call_s), *written])


def _read_token(path: Path) -> Token:
    try:
        return read_token(path)
    except NoToken as error:
        fail(Exit.INPUT, str(error))


def _read_root(path: Path) -> bytes:
    try:
        pem = path.read_bytes()
        x509.load_pem_x509_certificates(pem)
    except OSError as error:
        fail(Exit.INPUT, f"cannot read the root file {path}: {error.strerror}")
    except ValueError:
        fail(Exit.INPUT, f"{path} holds no PEM certificates", "Pass the mesh's root-cert.pem.")
    return pem


def _identity(asked: str, token: Token, trust_domain: str) -> str:
    """Return the SPIFFE ID for the CSR: the asked one, else the token's."""
    try:
        if asked:
            return str(SpiffeId.parse(asked))
        domain = TrustDomain.parse(trust_domain)
        return WorkloadId.of(domain, token.namespace, token.service_account).uri
    except InvalidSpiffeId as error:
        fail(Exit.INPUT, f"no identity for the CSR: {error}", "Pass one with --identity.")


def _obtain(wish: Wish) -> Issued:
    try:
        return asyncio.run(obtain(wish, note))
    except CallFailed as failed:
        explain(failed, wish.token)
    except WrongAnswer as wrong:
        fail(Exit.WRONG_ANSWER, f"the server's answer is wrong: {wrong}", "Do not use it.")


def explain(failed: CallFailed, token: Token) -> NoReturn:
    """Say in words why there is no certificate, and end the command.

    Args:
        failed: The server's answer.
        token: What was shown to it.

    Raises:
        typer.Exit: Always.
    """
    advice = advice_for(failed.code, failed.text)
    hints = (
        token.hints(datetime.now(UTC), ISTIO_AUDIENCE) if failed.code == "UNAUTHENTICATED" else []
    )
    fail(advice.exit_code, f"{failed.code}: {failed.text}", advice.meaning, *hints, advice.remedy)


def _write(directory: Path | None, issued: Issued) -> tuple[Path, ...]:
    if directory is None:
        note("nothing is written: pass --out DIR to keep key and certificate")
        return ()
    try:
        return write_secret(directory, issued.key_pem, issued.chain)
    except OSError as error:
        fail(Exit.INPUT, f"cannot write into {directory}: {error.strerror}")
