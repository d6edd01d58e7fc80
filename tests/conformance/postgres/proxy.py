"""A way to a server that breaks at the worst moment: the question arrives, its answer does not."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_CHUNK = 65_536


class Proxy:
    """Passes bytes on between clients and a server, until it is told to swallow answers.

    Args:
        port: Where the server listens on loopback.

    Attributes:
        port: Where clients connect.
        swallowed: Set once an answer was withheld and its connection cut.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.swallowed = threading.Event()
        self._left: int | None = None
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def swallow_answers(self, *, after: int) -> None:
        """Withhold what the server says once, and cut that connection.

        Args:
            after: How often it may speak before.
        """
        self._left = after

    def close(self) -> None:
        """Take no more connections, and cut all that there are."""
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in (self._listener, *self._ends):
            end.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._ends += [client, server]
                self._start(self._pass_on, client, server, False)  # noqa: FBT003 - a thread's argument
                self._start(self._pass_on, server, client, True)  # noqa: FBT003 - the same

    def _is_swallowed(self) -> bool:
        if self._left is None:
            return False
        self._left -= 1
        if self._left >= 0:
            return False
        self._left = None
        self.swallowed.set()
        return True

    def _pass_on(self, there: socket.socket, back: socket.socket, answers: bool) -> None:  # noqa: FBT001
        with suppress(OSError):
            while data := there.recv(_CHUNK):
                if answers and self._is_swallowed():
                    break
                back.sendall(data)
        for end in (there, back):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    """Have a proxy for the length of a block."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
