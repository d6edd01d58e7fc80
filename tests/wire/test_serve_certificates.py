"""`meshsigner serve` with client certificates: a first token, then renewals, on every listener."""

import asyncio
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import pytest

from meshsigner.cli.dev_state import DevState
from meshsigner.inventory.query import Query
from meshsigner.inventory.whole import WholeInventory
from meshsigner.model import Record
from tests.conformance.caller import Outcome, call, call_over
from tests.conformance.server import free_address
from tests.fakes.client_certificates import Made, forwarded
from tests.secret_scan import Secrets
from tests.wire.processes import Running, invoke, running
from tests.wire.test_serve import CONFIG

_VM = "spiffe://cluster.local/ns/shop/sa/vm"
_PROXY = "spiffe://cluster.local/ns/shop/sa/proxy"


class _Place:
    """A server with two workers, and how to call it."""

    def __init__(self, folder: Path, server: Running) -> None:
        self.folder = folder
        self.server = server
        self.listen = server.address()
        self.roots = (folder / ".state" / "root-cert.pem").read_bytes()

    def first(self, account: str) -> Outcome:
        """Get a first certificate by token."""
        who = ("--namespace", "shop", "--service-account", account)
        token = invoke("dev", "token", *who, cwd=self.folder).stdout.strip()
        bearer = ("authorization", f"Bearer {token}")
        identity, cluster = (
            f"spiffe://cluster.local/ns/shop/sa/{account}",
            ("clusterid", "Kubernetes"),
        )
        return self.ask(self.listen, identity, None, bearer, cluster)

    def ask(
        self, address: str, identity: str, client: Made | None, *headers: tuple[str, str]
    ) -> Outcome:
        return call(address, self.roots, identity, client=client, headers=headers)

    def record(self, outcome: Outcome) -> Record:
        with WholeInventory(self.folder / "inventory.db") as inventory:
            (found,) = [one for one in inventory.find(Query()) if one.serial == outcome.serial]
        return found


@contextmanager
def _served(folder: Path, secrets: Secrets, section: str) -> Iterator[_Place]:
    DevState(folder / ".state").prepare(datetime.now(UTC))
    text = f"{CONFIG}workers: 2\nclient_certificates:\n{section}"
    (folder / "meshsigner.yaml").write_text(text)
    with running("serve", "--config", "meshsigner.yaml", cwd=folder, secrets=secrets) as server:
        yield _Place(folder, server)
        assert server.stop() == 0


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A directory whose name is short enough for sockets in it."""
    with TemporaryDirectory() as name:
        yield Path(name)


async def test_a_certificate_renews_itself_and_its_line_can_be_followed(
    tmp_path: Path, no_secrets: Secrets
) -> None:
    """First by token, then by the last certificate each time; a proxy may forward it instead."""
    mutual, proxied = free_address(), free_address()
    section = (
        f"  mutual_tls: {{address: '{mutual}'}}\n"
        f"  forwarded: {{type: mutual_tls, address: '{proxied}', proxy: '{_PROXY}'}}\n"
    )
    with _served(tmp_path, no_secrets, section) as place:
        await asyncio.to_thread(_renew, place, mutual, proxied)


def _renew(place: _Place, mutual: str, proxied: str) -> None:
    held = place.first("vm")
    for _ in range(6):  # the kernel chooses the worker
        renewed = place.ask(mutual, _VM, held.client)
        assert renewed.identity == _VM, renewed
        found = place.record(renewed)
        assert (found.auth_method, found.credential_id) == ("client_certificate", held.serial)
        held = renewed
    assert held.client is not None
    header = ("x-forwarded-client-cert", forwarded(held.client))
    proxy = place.first("proxy").client
    by_proxy = place.ask(proxied, _VM, proxy, header)
    assert place.record(by_proxy).auth_method == "forwarded_certificate"
    for address, client in ((proxied, held.client), (mutual, proxy)):
        outcome = place.ask(address, _VM, client, header)
        assert outcome.code is not grpc.StatusCode.OK, outcome
    assert place.ask(mutual, _VM, None).code is grpc.StatusCode.UNAVAILABLE


async def test_each_worker_has_a_socket_for_the_proxy(
    tmp_path: Path, sockets: Path, no_secrets: Secrets
) -> None:
    """Both answer, nobody else may enter, and both are gone with the server."""
    section = f"  forwarded: {{type: unix, socket: '{sockets}/xfcc.sock'}}\n"
    paths = [sockets / "xfcc.sock.0", sockets / "xfcc.sock.1"]
    with _served(tmp_path, no_secrets, section) as place:
        assert {stat.S_IMODE(path.lstat().st_mode) for path in paths} == {0o600}
        await asyncio.to_thread(_ask_sockets, place, paths)
    assert not any(path.exists() for path in paths)


def _ask_sockets(place: _Place, paths: list[Path]) -> None:
    client = place.first("vm").client
    assert client is not None
    header = ("x-forwarded-client-cert", forwarded(client))
    for path in paths:
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert call_over(channel, _VM, [header]).identity == _VM
            assert call_over(channel, _VM).code is grpc.StatusCode.UNAUTHENTICATED
