"""The list of denied certificates."""

import os
from pathlib import Path

import pytest

from meshsigner.authn.client_chain import check_chain
from meshsigner.authn.denied import MAX_FILE_BYTES, Denials, DenyList, parse_denials
from meshsigner.errors import ConfigurationError
from tests.fakes.authority import NOW
from tests.fakes.client_certificates import IDENTITY, Mesh

_MESH = Mesh()
_FOUND = check_chain(_MESH.leaf().chain_pem, _MESH.issuer, NOW)


def _colons(text: str) -> str:
    text = text.zfill(len(text) + len(text) % 2).upper()
    return ":".join(text[i : i + 2] for i in range(0, len(text), 2))


@pytest.mark.parametrize(
    "entry",
    [
        _FOUND.serial,
        _colons(_FOUND.serial),
        f"00{_FOUND.serial}"[-40:],
        _FOUND.sha256,
        _colons(_FOUND.sha256),
        IDENTITY,
    ],
)
def test_each_kind_of_entry_denies(entry: str) -> None:
    """Serial number, fingerprint and identity, as openssl and the inventory write them."""
    assert parse_denials(f"# stolen\n\n  {entry}  # vm 7\n", "list").match(_FOUND)


def test_others_are_not_denied() -> None:
    """What is not on the list passes."""
    assert not parse_denials("1234\nspiffe://cluster.local/ns/foo/sa/v\n", "list").match(_FOUND)
    assert not Denials().match(_FOUND)


def test_every_bad_line_is_told() -> None:
    """A list is taken whole, or its faults are told by line."""
    with pytest.raises(ConfigurationError) as refused:
        parse_denials("12\nnonsense\nspiffe://x\n", "/etc/denied")
    assert [problem.partition(":")[0] for problem in refused.value.problems] == [
        "/etc/denied, line 2",
        "/etc/denied, line 3",
    ]


def test_a_changed_file_is_taken(tmp_path: Path) -> None:
    """At the next look."""
    path = tmp_path / "denied"
    path.write_text("")
    denied = DenyList(path)
    assert not denied.current.match(_FOUND)
    path.write_text(_FOUND.serial)
    denied.reload()
    assert denied.current.match(_FOUND)
    assert denied.health().detail == "1 denied"


@pytest.mark.parametrize("content", [b"nonsense", b"\xff", b"0" * (MAX_FILE_BYTES + 1), None])
def test_a_bad_file_denies_no_fewer(tmp_path: Path, content: bytes | None) -> None:
    """The list in use stays while what lies in its place is bad or gone, and health says so."""
    path = tmp_path / "denied"
    path.write_text(IDENTITY)
    denied = DenyList(path)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    denied.reload()
    assert denied.current.match(_FOUND)
    assert "refused" in denied.health().detail
    path.write_text("")
    denied.reload()
    assert denied.health().detail == "0 denied"


def test_no_list_to_begin_with_is_an_error(tmp_path: Path) -> None:
    """A server that should deny does not start with nothing denied."""
    with pytest.raises(ConfigurationError, match=os.fspath(tmp_path)):
        DenyList(tmp_path / "denied")


async def test_without_a_file_nobody_is_denied() -> None:
    """And nothing is followed."""
    denied = DenyList(None)
    await denied.start()
    denied.reload()
    await denied.aclose()
    assert not denied.current
