"""Taking a socket's path: from nobody who answers, with the mode that is meant."""

import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meshsigner.errors import ConfigurationError
from meshsigner.unix_socket import (
    MAX_PATH_BYTES,
    OPEN_MODE,
    PRIVATE_MODE,
    answers,
    is_open_to_all,
    listening_socket,
    make_own,
    make_private,
    take,
)

GROUP = os.getegid()


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [OPEN_MODE, PRIVATE_MODE])
def test_socket_has_its_mode_whatever_the_umask(tmp_path: Path, mode: int, mask: int) -> None:
    """0666 for Envoy, 0600 for ourselves, from the first moment on."""
    with _umask(mask):
        listener, _ = take(tmp_path / "socket", mode, listening_socket)
        with listener:
            assert _mode(tmp_path / "socket") == mode
            assert os.umask(mask) == mask


def test_directory_is_made_with_istios_mode(tmp_path: Path) -> None:
    """A directory that is not there is made, 0750."""
    with _umask(0o022):
        listener, _ = take(tmp_path / "a" / "socket", OPEN_MODE, listening_socket)
    listener.close()
    assert _mode(tmp_path / "a") == 0o750


def test_stale_socket_is_taken_over(tmp_path: Path) -> None:
    """What an agent left behind that was killed is no obstacle."""
    path = tmp_path / "socket"
    listening_socket(path).close()
    assert path.exists()
    assert not answers(path)
    listener, _ = take(path, OPEN_MODE, listening_socket)
    with listener:
        assert answers(path)


def test_socket_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """Who answers keeps the socket, and the second agent says so."""
    path = tmp_path / "socket"
    with listening_socket(path):
        inode = path.stat().st_ino
        with pytest.raises(ConfigurationError, match="another process answers at"):
            take(path, OPEN_MODE, listening_socket)
        assert path.stat().st_ino == inode


def test_busy_socket_counts_as_answering(tmp_path: Path) -> None:
    """A listener whose queue is full is alive."""
    path = tmp_path / "socket"
    with listening_socket(path) as listener:
        listener.listen(0)
        waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2)]
        for client in waiting:
            client.setblocking(False)  # noqa: FBT003 - the library's own signature
            client.connect_ex(str(path))
        assert answers(path)
        for client in waiting:
            client.close()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_what_is_no_socket_is_never_removed(tmp_path: Path, kind: str) -> None:
    """A mistyped path costs nobody a file."""
    path, other = tmp_path / "path", tmp_path / "other"
    other.write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to(other)
    with pytest.raises(ConfigurationError, match="is no socket"):
        take(path, OPEN_MODE, listening_socket)
    assert path.exists()
    assert other.read_text() == "precious"


def test_long_path_is_told_before_the_kernel_cuts_it(tmp_path: Path) -> None:
    """A path that no socket can have is refused in words."""
    path = tmp_path / ("x" * MAX_PATH_BYTES)
    with pytest.raises(ConfigurationError, match="at most 107 bytes"):
        take(path, OPEN_MODE, listening_socket)


def test_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """Path and reason stand in the problem."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot listen on .*: "):
        take(tmp_path / "file" / "socket", OPEN_MODE, listening_socket)


def test_two_agents_at_once_take_one_socket(tmp_path: Path) -> None:
    """Neither takes the other's new socket for a stale one: one has it, the other is told."""
    path = tmp_path / "socket"
    listening_socket(path).close()
    outcomes: list[object] = []

    def start() -> None:
        try:
            outcomes.append(take(path, OPEN_MODE, listening_socket)[0])
        except ConfigurationError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (listener,) = [outcome for outcome in outcomes if isinstance(outcome, socket.socket)]
    assert len(outcomes) == 8
    assert answers(path)
    listener.close()


def test_released_socket_is_gone_and_anothers_is_not(tmp_path: Path) -> None:
    """At its end an agent removes its own socket, never its successor's."""
    path = tmp_path / "socket"
    listener, taken = take(path, OPEN_MODE, listening_socket)
    listener.close()
    taken.release()
    assert not path.exists()
    taken.release()
    with listening_socket(path):
        if path.stat().st_ino != taken.inode:
            taken.release()
            assert path.exists()


def test_failed_bind_leaves_nothing_open(tmp_path: Path) -> None:
    """A path in a directory that is not there cannot be bound."""
    with pytest.raises(FileNotFoundError):
        listening_socket(tmp_path / "missing" / "socket")


def test_private_directory_is_made_for_its_group_alone(tmp_path: Path) -> None:
    """Only the workload's group gets in, and even it cannot replace the socket."""
    directory = tmp_path / "productpage"
    make_private(directory, GROUP)
    assert (_mode(directory), directory.stat().st_gid) == (0o750, GROUP)
    make_private(directory, GROUP)
    assert not is_open_to_all(directory)


@pytest.mark.parametrize(
    ("mode", "words"),
    [(0o755, "mode 0755"), (0o770, "mode 0770"), (0o751, "mode 0751"), (0o752, "mode 0752")],
)
def test_directory_that_lets_others_in_is_refused(tmp_path: Path, mode: int, words: str) -> None:
    """The agent does not start beside other workloads when they could reach each other's keys."""
    make_private(tmp_path / "a", GROUP)
    (tmp_path / "a").chmod(mode)
    with pytest.raises(ConfigurationError, match=f"{words}.*chmod 0750"):
        make_private(tmp_path / "a", GROUP)


def test_directory_of_another_group_is_refused(tmp_path: Path) -> None:
    """The group that gets in must be the workload's."""
    make_private(tmp_path / "a", GROUP)
    with pytest.raises(ConfigurationError, match=f"belongs to group {GROUP}, expected"):
        make_private(tmp_path / "a", GROUP + 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory to another user")
def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its owner could put another socket there, and hand out keys of their own choice."""
    make_private(tmp_path / "a", GROUP)
    os.chown(tmp_path / "a", 1000, -1)
    with pytest.raises(ConfigurationError, match="belongs to user 1000, who could replace"):
        make_private(tmp_path / "a", GROUP)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory to another group")
def test_directory_is_given_to_the_group(tmp_path: Path) -> None:
    """A group that the agent is no member of gets in all the same."""
    make_private(tmp_path / "a", GROUP + 4242)
    assert (tmp_path / "a").stat().st_gid == GROUP + 4242


def test_link_in_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    """A link's target may be anywhere tomorrow."""
    make_private(tmp_path / "a", GROUP)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ConfigurationError, match="not a link"):
        make_private(tmp_path / "b", GROUP)


def test_directory_below_one_that_all_may_write_is_refused(tmp_path: Path) -> None:
    """Who may rename the directory may put a socket of their own in its place."""
    make_private(tmp_path / "open" / "a", GROUP)
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(ConfigurationError, match="every user may write into"):
        make_private(tmp_path / "open" / "a", GROUP)
    (tmp_path / "open").chmod(0o1777)  # as /tmp: nobody may rename what is another's
    make_private(tmp_path / "open" / "a", GROUP)


def test_directory_that_cannot_be_given_away_is_told(tmp_path: Path) -> None:
    """A file in the way, or a group that this user may not give to, is said in words."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot keep .* for group"):
        make_private(tmp_path / "file" / "a", GROUP)


def test_own_directory_is_the_agents_alone(tmp_path: Path) -> None:
    """Private sockets lie where no other user gets in."""
    directory = tmp_path / "a" / "b"
    make_own(directory)
    assert _mode(directory) == 0o700
    make_own(directory)
    directory.chmod(0o750)
    with pytest.raises(ConfigurationError, match=r"alone \(mode 0700\)"):
        make_own(directory)


def test_own_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in the way is said in words."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot make"):
        make_own(tmp_path / "file" / "a")


def test_directory_open_to_all_is_known(tmp_path: Path) -> None:
    """Who starts an agent beside one workload is warned when everybody can get in."""
    tmp_path.chmod(0o755)
    assert is_open_to_all(tmp_path)
    tmp_path.chmod(0o750)
    assert not is_open_to_all(tmp_path)
    assert not is_open_to_all(tmp_path / "missing")
