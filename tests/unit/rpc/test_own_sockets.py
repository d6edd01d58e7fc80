"""This process's sockets on its port: steered, shut to newcomers, closed."""

import os
import socket
from collections.abc import Iterator

import pytest

from meshsigner.rpc.own_sockets import (
    close_connections,
    listeners,
    steer,
    steer_freely,
    stop_listening,
)

CONNECTIONS = 60


def _listener(port: int = 0) -> socket.socket:
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    one.bind(("127.0.0.1", port))
    one.listen(CONNECTIONS)
    one.settimeout(0)
    return one


@pytest.fixture
def group() -> Iterator[list[socket.socket]]:
    """Return three listeners on one port, in the order in which they joined."""
    first = _listener()
    members = [first, *(_listener(first.getsockname()[1]) for _ in range(2))]
    yield members
    for one in members:
        one.close()


def _connect(port: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS)]


def _accepted(members: list[socket.socket]) -> list[int]:
    """Connect many times, and count what each listener gets."""
    clients = _connect(members[0].getsockname()[1])
    counts = []
    for one in members:
        servers = []
        try:
            while True:
                servers.append(one.accept()[0])
        except BlockingIOError:
            counts.append(len(servers))
        for accepted in servers:
            accepted.close()
    for client in clients:
        client.close()
    return counts


def test_steered_connections_go_to_the_named_members_alone(group: list[socket.socket]) -> None:
    """A worker that ends gets no new connection, each of the others gets some."""
    steer(group[0].getsockname()[1], [0, 2])
    first, second, third = _accepted(group)
    assert second == 0
    assert first > 0
    assert third > 0
    assert first + third == CONNECTIONS


def test_steering_ends(group: list[socket.socket]) -> None:
    """Afterwards the kernel spreads connections over all again."""
    port = group[0].getsockname()[1]
    steer(port, [1])
    assert _accepted(group) == [0, CONNECTIONS, 0]
    steer_freely(port)
    assert all(count > 0 for count in _accepted(group))


def test_last_member_takes_the_place_of_one_that_leaves(group: list[socket.socket]) -> None:
    """The order that `steer` speaks of is the kernel's: the last one fills the gap."""
    group.pop(0).close()
    steer(group[0].getsockname()[1], [0])
    assert _accepted(group) == [0, CONNECTIONS]


def test_members_that_are_no_more_do_no_harm(group: list[socket.socket]) -> None:
    """Every connection finds a listener, though the program names one that has gone."""
    steer(group[0].getsockname()[1], [2])
    group.pop(1).close()
    assert sum(_accepted(group)) == CONNECTIONS


def test_steering_freely_without_a_program_does_nothing(group: list[socket.socket]) -> None:
    """To end what never began is no error."""
    steer_freely(group[0].getsockname()[1])
    assert sum(_accepted(group)) == CONNECTIONS


def test_no_more_newcomers() -> None:
    """After listening has stopped connections are refused, and those that are there live on."""
    with _listener() as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as client:
            server, _ = listener.accept()
            stop_listening(address[1])
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            client.sendall(b"still here")
            assert server.recv(32) == b"still here"
            server.close()


def test_connections_are_closed() -> None:
    """Each connection ends for the client in order, and the listener stays."""
    with _listener() as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as client:
            server, _ = listener.accept()
            assert close_connections(address[1]) == 1
            assert client.recv(1) == b""
            server.close()
        socket.create_connection(address).close()


def test_sockets_of_other_ports_are_left_alone() -> None:
    """What a process has open elsewhere is none of this."""
    with (
        _listener() as listener,
        _listener() as other,
        socket.create_connection(other.getsockname()) as client,
    ):
        server, _ = other.accept()
        assert close_connections(listener.getsockname()[1]) == 0
        client.sendall(b"untouched")
        assert server.recv(32) == b"untouched"
        server.close()


def test_a_copy_leaves_the_listener_as_it_is(group: list[socket.socket]) -> None:
    """Whoever accepts on the first is not made to wait there: to block is a property of both."""
    copies = listeners(group[0].getsockname()[1])
    assert len(copies) == len(group)
    for one in (*copies, *group):
        assert not os.get_blocking(one.fileno())
        assert not os.get_inheritable(one.fileno())
    for copy in copies:
        copy.close()
