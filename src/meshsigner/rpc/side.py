"""Listeners beside the first: for clients with certificates, and for a proxy in front of us.

Decides how a place is taken and given back. Every listener is a gRPC server of
its own, so that a call's listener says what its transport proves; bounds, calls
in flight and log are one for all. When to do what is decided in `server`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc import aio

from meshsigner.errors import ConfigurationError
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.rpc import own_sockets
from meshsigner.rpc.port_holder import port_holder
from meshsigner.rpc.proof import Proof, Proves, always, of_client
from meshsigner.unix_socket import PRIVATE_MODE, Taken, take


@dataclass(frozen=True, slots=True, kw_only=True)
class TcpPlace:
    """A port whose clients must show a certificate.

    Attributes:
        listen: `address:port`; port 0 takes a free one.
        credentials: Makes the credentials that demand it.
        believes_proxy: Its client is a proxy that says who its own client is.
    """

    listen: str
    credentials: Callable[[], grpc.ServerCredentials]
    believes_proxy: bool = False

    @property
    def proves(self) -> Proves:
        """What it proves of a call."""
        return of_client(believes_proxy=self.believes_proxy)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixPlace:
    """A Unix socket of mode 0600: whoever may enter it is the proxy.

    Attributes:
        path: Where.
    """

    path: Path

    @property
    def proves(self) -> Proves:
        """What it proves of a call."""
        return always(Proof(secure=True, believes_proxy=True))


class SideListener:
    """A place taken.

    Args:
        place: Where, and for whom.
        server: Serves there; not started.

    Attributes:
        where: Port or path.

    Raises:
        ConfigurationError: It cannot be had; names who has it where possible.
    """

    def __init__(self, place: TcpPlace | UnixPlace, server: aio.Server) -> None:
        self._server = server
        self._taken: Taken | None = None
        self.where: own_sockets.Place
        if isinstance(place, UnixPlace):
            _, self._taken = take(place.path, PRIVATE_MODE, self._bind_path)
            self.where = str(place.path)
        else:
            self.where = bind_port(server, place.listen, place.credentials())

    def _bind_path(self, path: Path) -> None:
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise ConfigurationError(f"cannot listen on {path}; choose another path") from error

    async def start(self) -> None:
        """Serve."""
        await self._server.start()
        get_logger().info(Event.SERVING, listen=str(self.where))

    def stop_listening(self) -> None:
        """Refuse new connections."""
        own_sockets.stop_listening(self.where)
        if self._taken is not None:
            self._taken.release()

    async def stop(self, grace_s: float) -> None:
        """Close all connections, then end.

        Args:
            grace_s: For answers that are on their way, seconds.
        """
        own_sockets.close_connections(self.where)
        await self._server.stop(grace_s)


def bind_port(server: aio.Server, listen: str, credentials: grpc.ServerCredentials | None) -> int:
    """Take a TCP port for a server.

    Args:
        server: Not started.
        listen: `address:port`; port 0 takes a free one.
        credentials: None serves without TLS.

    Returns:
        The port.

    Raises:
        ConfigurationError: The address cannot be had; names who has it.
    """
    try:
        if credentials is None:
            return server.add_insecure_port(listen)
        return server.add_secure_port(listen, credentials)
    except RuntimeError as error:
        port = listen.rpartition(":")[2]
        holder = port_holder(int(port)) if port.isdecimal() else None
        msg = (
            f"cannot listen on {listen}: "
            f"{f'{holder} listens there' if holder else 'the port is taken or not ours'}; "
            "stop it, or set another port"
        )
        raise ConfigurationError(msg) from error
