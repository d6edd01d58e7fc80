"""A steady load through an Envoy from this process: some connections are kept, others are new.

Every request counts: whatever is not a 200 is a failure, nothing is sent again. The load is bounded
in time whoever forgets to stop it.
"""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.conformance.sds.envoy import REQUEST_TIMEOUT_S, Reply, ask, get

KEPT, NEW = "kept", "new"
LONGEST_S = 600.0
_EACH = 2  # connections of either kind at a time
_PAUSE_S = 0.04
_SHOWN_FAILURES = 5


@dataclass(slots=True)
class Load:
    """What a load has seen so far.

    Attributes:
        requests: How many requests of each kind were answered, as they should or not.
        failures: Each failed request in words.
        client_serials: Serial numbers that the client proved itself with on new connections.
        connections: Connections between the Envoys that the kept ones went over.
    """

    requests: dict[str, int] = field(default_factory=lambda: {KEPT: 0, NEW: 0})
    failures: list[str] = field(default_factory=list)
    client_serials: set[str] = field(default_factory=set)
    connections: set[str] = field(default_factory=set)

    def check(self, *, least: int) -> None:
        """Check that nothing failed and that there was something to fail.

        Args:
            least: Requests of each kind that must have been answered.

        Raises:
            AssertionError: A request failed, or there were too few.
        """
        assert not self.failures, (len(self.failures), self.failures[:_SHOWN_FAILURES])
        assert min(self.requests.values()) >= least, self.requests


class _Worker(threading.Thread):
    """Sends requests of one kind until it is told to stop."""

    def __init__(self, address: str, kind: str, load: Load, stop: threading.Event) -> None:
        super().__init__(daemon=True, name=f"load-{kind}")
        self._address = address
        self._kind = kind
        self._load = load
        self._stop_sending = stop

    def run(self) -> None:
        """Send, one request after the other."""
        deadline = time.monotonic() + LONGEST_S
        connection = http.client.HTTPConnection(self._address, timeout=REQUEST_TIMEOUT_S)
        with closing(connection):
            while not self._stop_sending.wait(_PAUSE_S) and time.monotonic() < deadline:
                self._send(connection)

    def _send(self, connection: http.client.HTTPConnection) -> None:
        path = f"/{self._kind}"
        try:
            reply = ask(connection, path) if self._kind == KEPT else get(self._address, path)
            self._note(reply)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self._fail(repr(error))
        self._load.requests[self._kind] += 1  # two threads may lose a count, never a failure

    def _note(self, reply: Reply) -> None:
        if reply.status != http.HTTPStatus.OK:
            self._fail(f"{reply.status} {reply.body}")
        elif self._kind == NEW:
            self._load.client_serials.add(reply.headers["x-client-serial"].lstrip("0"))
        else:
            self._load.connections.add(reply.headers["x-connection"])

    def _fail(self, what: str) -> None:
        self._load.failures.append(f"{datetime.now(UTC):%T.%f} {self._kind}: {what}")


@contextmanager
def running(address: str) -> Iterator[Load]:
    """Send requests of both kinds for the length of a block.

    Args:
        address: host:port of an Envoy's plain listener with routes `/kept` and `/new`.
    """
    load, stop = Load(), threading.Event()
    workers = [_Worker(address, kind, load, stop) for kind in (KEPT, NEW) for _ in range(_EACH)]
    for worker in workers:
        worker.start()
    try:
        yield load
    finally:
        stop.set()
        for worker in workers:
            worker.join(REQUEST_TIMEOUT_S * 2)
