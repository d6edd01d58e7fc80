"""Invariant 3 through a crash: whatever a caller holds is in the inventory.

The server is killed by SIGKILL while about a thousand requests are in flight: when so many answers
have arrived, and at the very moment of a write to the inventory's log or of its fsync. Every
certificate that reached a client must be found afterwards, and the same state must serve again.
"""

import grpc
import pytest
from cryptography import x509

from tests.conformance.inventory import recorded_certificates
from tests.conformance.load import Answer, Ask, burst, connections, make_asks
from tests.conformance.server import Installation, RunningServer, running, start
from tests.conformance.syscalls import killing_at

IDENTITY = "spiffe://cluster.local/ns/foo/sa/bar"
REQUESTS = 1_000
CONNECTIONS = 16
DEATH_TIMEOUT_S = 10.0
# After how many answers the server dies: at once, early, and in the middle of the burst.
KILL_AFTER = (1, 100, 400)
# At which of its system calls it dies; a burst has some 25 commits of some 80 writes to the log.
KILL_AT = (("pwrite64", 200), ("pwrite64", 700), ("fdatasync", 3), ("fdatasync", 8))
ALLOWED = {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}


class Killer:
    """Kills a server after so many certificates have arrived.

    Args:
        server: The server to kill.
        after: Number of certificates.
    """

    def __init__(self, server: RunningServer, after: int) -> None:
        self._server = server
        self._left = after
        self.done = False

    def __call__(self, answer: Answer) -> None:
        """Count an answer; the last one that is waited for kills."""
        self._left -= bool(answer.chain)
        if self._left <= 0 and not self.done:
            self.done = True
            self._server.kill()


@pytest.fixture(scope="module")
def asks(server: RunningServer) -> list[Ask]:
    """Make the requests once; each test puts in its own server's token."""
    del server  # made after the shared server, so that no test waits for keys while one starts
    return make_asks(IDENTITY, "", REQUESTS)


def _with_token(asks: list[Ask], installation: Installation) -> list[Ask]:
    token = installation.token("bar", "--pod", "bar-0")
    return [Ask(csr_pem=ask.csr_pem, token=token) for ask in asks]


def _received(answers: list[Answer]) -> dict[int, x509.Certificate]:
    """Return the certificates that came, by serial number."""
    return {answer.leaf.serial_number: answer.leaf for answer in answers if answer.chain}


def _check_nothing_is_lost(installation: Installation, answers: list[Answer]) -> None:
    """Check that the burst was cut in the middle and that what came is in the inventory."""
    received = _received(answers)
    assert 0 < len(received) < REQUESTS, "the crash was not in the middle of the burst"
    assert {answer.code for answer in answers} <= ALLOWED
    assert received.items() <= recorded_certificates(installation).items()


async def _crash(
    installation: Installation, asks: list[Ask], after: int, *, listen: str | None = None
) -> list[Answer]:
    """Serve, be killed in the middle, and return what the clients got."""
    server = start(installation, listen=listen)
    killer = Killer(server, after)
    try:
        async with connections(server.listen, installation, CONNECTIONS) as channels:
            return await burst(channels, asks, killer)
    finally:
        if not killer.done:
            server.kill()


@pytest.mark.parametrize("after", KILL_AFTER)
async def test_every_received_certificate_survives_a_crash(
    installation: Installation, asks: list[Ask], after: int
) -> None:
    """After kill -9 the inventory holds, byte for byte, what any client has received."""
    with running(installation):
        mine = _with_token(asks, installation)
    answers = await _crash(installation, mine, after)
    _check_nothing_is_lost(installation, answers)


@pytest.mark.parametrize(("name", "count"), KILL_AT)
async def test_crash_within_a_commit_loses_nothing_received(
    installation: Installation, asks: list[Ask], name: str, count: int
) -> None:
    """Killed as it enters a write to the log or its fsync, the server has not yet answered."""
    server = start(installation)
    try:
        mine = _with_token(asks, installation)
        async with connections(server.listen, installation, CONNECTIONS) as channels:
            with killing_at(server.process.pid, name, count):
                answers = await burst(channels, mine)
        server.process.wait(DEATH_TIMEOUT_S)
    finally:
        server.stop()
    _check_nothing_is_lost(installation, answers)


async def test_same_state_serves_after_crashes(installation: Installation, asks: list[Ask]) -> None:
    """Crash after crash, state and port serve: same root, old rows, old token, new serials."""
    with running(installation) as server:
        mine, listen = _with_token(asks, installation), server.listen
    root = installation.root.read_bytes()
    received: dict[int, x509.Certificate] = {}
    for _ in range(3):
        answers = await _crash(installation, mine[:200], 20, listen=listen)
        received |= _received(answers)
    with running(installation, listen=listen):
        async with connections(listen, installation) as channels:
            (last,) = await burst(channels, mine[:1])
    assert last.code is grpc.StatusCode.OK, last.details
    assert last.leaf.serial_number not in received
    assert installation.root.read_bytes() == root == last.chain[-1].encode()
    assert received.items() <= recorded_certificates(installation).items()
