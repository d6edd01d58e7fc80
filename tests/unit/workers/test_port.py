"""A port is one server's."""

import os
import socket
from contextlib import ExitStack

import pytest

from meshsigner.config.fields import Address
from meshsigner.errors import ConfigurationError
from meshsigner.workers.port import ReservedPort

FREE = Address("127.0.0.1", 0)


def _joined(address: Address) -> socket.socket:
    worker = socket.socket()
    worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    worker.bind((address.host, address.port))
    worker.listen()
    return worker


def test_workers_join_and_nobody_else() -> None:
    """A worker may listen on a reserved port; another server may not, before or after that."""
    reserved = ReservedPort(FREE)
    with ExitStack() as workers:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=rf"\(process {os.getpid()}\) listens"):
                ReservedPort(reserved.address)
            workers.enter_context(_joined(reserved.address))
    reserved.release()
    ReservedPort(reserved.address).release()


def test_reserved_port_takes_no_connections() -> None:
    """Until a worker listens, connections are refused rather than left to wait."""
    reserved = ReservedPort(FREE)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((reserved.address.host, reserved.address.port))
    reserved.release()


def test_somebody_who_shares_is_found() -> None:
    """A listener that would let others join, too, keeps a server out: it may have another root."""
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        with pytest.raises(ConfigurationError, match="listens there; stop it, or set another"):
            ReservedPort(Address("127.0.0.1", stranger.getsockname()[1]))


def test_connections_that_linger_are_no_obstacle() -> None:
    """A server may start while connections of an earlier one have not quite ended."""
    with socket.create_server(("127.0.0.1", 0)) as earlier:
        port = earlier.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = earlier.accept()
        accepted.close()  # closed first here: this side keeps the pair for a minute
        assert client.recv(1) == b""
        client.close()
    ReservedPort(Address("127.0.0.1", port)).release()


def test_address_of_another_machine() -> None:
    """What cannot be bound is told in the same words."""
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:15012"):
        ReservedPort(Address("192.0.2.1", 15012))
