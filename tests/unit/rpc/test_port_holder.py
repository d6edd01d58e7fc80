"""Who listens on a port."""

import os
import socket
from pathlib import Path

from meshsigner.rpc.port_holder import port_holder


def test_own_listener_is_found() -> None:
    """A socket of this process is named with its process id."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = port_holder(listener.getsockname()[1])
    assert found is not None
    assert f"(process {os.getpid()})" in found


def test_a_free_port_has_no_holder() -> None:
    """Nobody is named for a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert port_holder(port) is None


def test_a_connection_is_no_listener() -> None:
    """A socket that is connected from a port does not hold it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        assert port_holder(client.getsockname()[1]) is None


def test_without_proc_nothing_is_known(tmp_path: Path) -> None:
    """On a system without /proc the answer is that nobody is known."""
    assert port_holder(80, tmp_path) is None


def test_a_holder_of_somebody_else(tmp_path: Path) -> None:
    """A listener whose process cannot be looked into is not named."""
    (tmp_path / "net").mkdir()
    row = "0: 0100007F:0050 00000000:0000 0A 0:0 0:0 0 1000 0 4242 1"
    (tmp_path / "net" / "tcp").write_text(f"header\n {row}\n")
    (tmp_path / "17").mkdir()
    assert port_holder(80, tmp_path) is None
