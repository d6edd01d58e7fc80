"""Tests of reading a directory's files as one consistent set."""

import itertools
import os
from pathlib import Path

import pytest

from meshsigner.errors import ConfigurationError
from meshsigner.trust import layout
from meshsigner.trust.findings import Findings
from meshsigner.trust.layout import (
    CACERTS,
    TLS_SECRET,
    check_key_mode,
    expect_closed,
    fingerprint,
    read_directory,
    read_file,
)
from tests.fakes.authority import KubernetesMount, write_files

FILES = dict.fromkeys(CACERTS.names, b"-----x")


def problems_of(path: Path) -> str:
    """Read a file and return what was said."""
    findings = Findings()
    assert read_file(path, findings) is None
    (problem,) = findings.problems
    return problem


def test_layout_names() -> None:
    """Istio's own layout has four files, the TLS secret three."""
    assert CACERTS.names == ("ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem")
    assert TLS_SECRET.names == ("tls.crt", "tls.key", "ca.crt")


def test_pipe_is_not_read(tmp_path: Path) -> None:
    """A named pipe, which would block the reader for good, is refused unread."""
    os.mkfifo(tmp_path / "ca-key.pem")
    assert "is not a regular file" in problems_of(tmp_path / "ca-key.pem")


def test_huge_file_is_not_read(tmp_path: Path) -> None:
    """A file beyond the size of any Secret is refused unread."""
    path = tmp_path / "root-cert.pem"
    path.touch()
    os.truncate(path, layout.MAX_FILE_BYTES + 1)
    assert "holds 1048577 bytes; expected at most 1048576" in problems_of(path)


def test_unreadable_file_names_the_user(tmp_path: Path) -> None:
    """A file that cannot be read says why, and for which user."""
    path = tmp_path / "loop"
    path.symlink_to(path)
    assert f"let user id {os.geteuid()} read it" in problems_of(path)


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o601, 0o620, 0o640, 0o440, 0o610, 0o777])
def test_open_key_is_refused(tmp_path: Path, mode: int) -> None:
    """A key that others or its group may read or write is a problem with the way out."""
    path = tmp_path / "ca-key.pem"
    path.touch()
    path.chmod(mode)
    findings = Findings()
    check_key_mode(path, findings)
    (problem,) = findings.problems
    assert f"has mode {mode:04o}" in problem
    assert f"chmod 600 {path}" in problem


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_closed_key_is_accepted(tmp_path: Path, mode: int) -> None:
    """The owner alone is as it should be."""
    path = tmp_path / "ca-key.pem"
    path.touch()
    path.chmod(mode)
    findings = Findings()
    check_key_mode(path, findings)
    assert findings.problems == []


def test_key_elsewhere_is_held_to_the_same(tmp_path: Path) -> None:
    """A key that is no CA's, such as a client's, must be its owner's alone too."""
    path = tmp_path / "client.key"
    path.touch(mode=0o600)
    expect_closed(path)
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="has mode 0640"):
        expect_closed(path)
    (tmp_path / "..data").symlink_to(tmp_path)  # a Secret's mount
    expect_closed(path)


def test_key_mode_is_checked_outside_a_mount_only(tmp_path: Path) -> None:
    """The same 0644 key is refused in a plain directory, and fine in a Secret mount."""
    plain, mounted = Findings(), Findings()
    directory = write_files(tmp_path / "plain", FILES)
    (directory / "ca-key.pem").chmod(0o644)
    read_directory(directory, plain)
    read_directory(KubernetesMount(tmp_path / "mount").swap(FILES), mounted)
    assert "has mode 0644" in plain.problems[0]
    assert mounted.problems == []


def test_fingerprint_sees_every_kind_of_change(tmp_path: Path) -> None:
    """Writing in place, replacing, removing and replacing the directory all show."""
    directory = write_files(tmp_path / "ca", FILES)
    seen = [fingerprint(directory)]
    (directory / "ca-key.pem").write_bytes(b"-----y")
    seen.append(fingerprint(directory))
    (tmp_path / "fresh").write_bytes(b"-----z")
    (tmp_path / "fresh").replace(directory / "ca-key.pem")
    seen.append(fingerprint(directory))
    (directory / "ca-key.pem").unlink()
    seen.append(fingerprint(directory))
    directory.rename(tmp_path / "old")
    seen.append(fingerprint(directory))
    write_files(directory, FILES)
    seen.append(fingerprint(directory))
    assert len(set(seen)) == len(seen)


def test_swap_in_the_middle_is_read_again(tmp_path: Path) -> None:
    """When the files are swapped while being read, the set is read anew as a whole."""
    mount = KubernetesMount(tmp_path / "mount")
    directory = mount.swap(dict.fromkeys(CACERTS.names, b"old"))
    calls = itertools.count(1)

    def read(path: Path, findings: Findings) -> bytes | None:
        if next(calls) == 3:
            mount.swap(dict.fromkeys(CACERTS.names, b"new"))
        return read_file(path, findings)

    findings = Findings()
    contents = read_directory(directory, findings, read)
    assert dict.fromkeys(CACERTS.names, b"new") == contents.data
    assert findings.problems == []


def test_restless_directory_is_given_up(tmp_path: Path) -> None:
    """A directory that changes at every look is a problem, not an endless loop."""
    directory = write_files(tmp_path / "ca", FILES)

    def read(path: Path, findings: Findings) -> bytes | None:
        data = read_file(path, findings)
        path.write_bytes((data or b"") + b"x")
        return data

    findings = Findings()
    assert read_directory(directory, findings, read).data == {}
    assert "keep changing" in findings.problems[0]
