"""What a development server shows once it answers: a certificate, and what to try next."""

import shutil
import sys
from datetime import UTC, datetime, timedelta

from meshsigner.agent.answer import WrongAnswer
from meshsigner.agent.ca_client import CallFailed
from meshsigner.agent.ca_client import Server as Target
from meshsigner.agent.keys import KeyType
from meshsigner.app.life import Lives
from meshsigner.cli.answer import describe_answer, serial_of
from meshsigner.cli.client import Issued, Wish, obtain
from meshsigner.cli.dev_state import CLUSTER_ID, TRUST_DOMAIN, DevState
from meshsigner.cli.dev_tokens import TokenIssuer, TokenWish
from meshsigner.cli.exits import Exit
from meshsigner.cli.request import explain
from meshsigner.cli.terminal import fail, note, say, say_fields, say_heading
from meshsigner.cli.token import parse_token

_NAMESPACE, _ACCOUNT = "bookinfo", "productpage"  # of Istio's sample application


class Demo:
    """Shows a development server at work.

    Args:
        state: Its state directory.
        tokens: Its token issuer.
        sends_csr: Whether a certificate is asked for, or only what to try is shown.
    """

    def __init__(self, state: DevState, tokens: TokenIssuer, *, sends_csr: bool) -> None:
        self._state = state
        self._tokens = tokens
        self._sends_csr = sends_csr

    async def show(self, server: Lives) -> None:
        """Show it.

        Args:
            server: The server, ready.

        Raises:
            typer.Exit: There was no certificate; the reason has been told.
        """
        say_heading(f"Serving on {server.address}, probes and metrics on {server.admin_address}")
        if self._sends_csr:
            issued = await self._obtain(server)
            say_heading("A sidecar's certificate")
            record = ("record", f"{self._state.inventory}; the first command below shows it")
            say_fields([*describe_answer(issued.chain, issued.call_s), record])
        self._show_commands(server, serial_of(issued.chain) if self._sends_csr else "")

    async def _obtain(self, server: Lives) -> Issued:
        """Ask as a sidecar does."""
        wish = TokenWish(
            namespace=_NAMESPACE,
            service_account=_ACCOUNT,
            audiences=("istio-ca",),
            lifetime=timedelta(hours=1),
            pod=f"{_ACCOUNT}-0",
        )
        token = parse_token(self._tokens.issue(wish, datetime.now(UTC)))
        target = Target(address=server.address, roots_pem=self._state.root_cert.read_bytes())
        try:
            return await obtain(
                Wish(
                    server=target,
                    token=token,
                    identity=f"spiffe://{TRUST_DOMAIN}/ns/{_NAMESPACE}/sa/{_ACCOUNT}",
                    key_type=KeyType.RSA2048,
                    lifetime=timedelta(hours=24),
                    cluster_id=CLUSTER_ID,
                ),
                note,
            )
        except CallFailed as failed:
            explain(failed, token)
        except WrongAnswer as wrong:
            fail(Exit.WRONG_ANSWER, f"the server's answer is wrong: {wrong}")

    def _show_commands(self, server: Lives, serial: str) -> None:
        state = self._state
        directory = f" --state-dir {state.directory}" if str(state.directory) != ".state" else ""
        which = f"show {serial}" if serial else "list"
        files = " --token-file token --out certs"
        say_heading("Next, in another terminal")
        me = "meshsigner" if shutil.which("meshsigner") else _how_it_was_called()
        for command in (
            f"{me} inventory {which}{directory}",
            f"{me} dev token{directory} --namespace default --service-account me > token",
            f"{me} request --server {server.address} --root {state.root_cert}{files}",
            f"curl http://{server.admin_address}/healthz/ready",
        ):
            say(f"  {command}")
        say("Ctrl-C ends the server; its state stays.")


def _how_it_was_called() -> str:
    return "python -m meshsigner" if sys.argv[0].endswith("__main__.py") else sys.argv[0]
