"""Intents in the SQLite inventory: what a costly CA was asked for, until the outcome is known."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from meshsigner.errors import RecordFailed
from meshsigner.inventory.sqlite import SqliteInventory
from meshsigner.model import Intent, Record
from tests.unit.inventory.records import NOW, make_record


def _draft(number: int) -> Record:
    return make_record(
        serial="", issuer="", certificate_der=b"", backend="costly", csr_sha256=f"{number:064x}"
    )


def _intent(number: int) -> Intent:
    at = NOW + timedelta(seconds=number)
    return Intent(token=f"{number:032x}", backend="costly", at=at, draft=_draft(number))


def _issued(at: datetime) -> Record:
    return replace(_draft(1), serial="7f", issuer="aa", certificate_der=b"x", issued_at=at)


def _reopened(path: Path) -> list[Intent]:
    inventory = SqliteInventory(path)
    try:
        return list(inventory.open_intents())
    finally:
        inventory.close()


def test_an_intent_survives_until_it_is_settled(tmp_path: Path) -> None:
    """A noted intent is found whole by the next process, a settled one is not."""
    path = tmp_path / "inventory.db"
    inventory = SqliteInventory(path)
    inventory.note([_intent(1), _intent(2), _intent(3)], [])
    inventory.note([], [_intent(2).token])
    inventory.close()
    assert _reopened(path) == [_intent(1), _intent(3)]


def test_an_intent_whose_certificate_is_recorded_is_not_open(tmp_path: Path) -> None:
    """A crash between a row's commit and its intent's end leaves nothing to find out."""
    path = tmp_path / "inventory.db"
    inventory = SqliteInventory(path)
    inventory.note([_intent(1), _intent(2)], [])
    issued = replace(
        _draft(1),
        serial="7f",
        issuer="aa",
        certificate_der=b"x",
        issued_at=NOW + timedelta(hours=1),
    )
    inventory.write([issued], [])
    inventory.close()
    assert _reopened(path) == [_intent(2)]


def test_an_earlier_certificate_does_not_settle_a_later_intent(tmp_path: Path) -> None:
    """The row that settles is one that was issued after the call."""
    path = tmp_path / "inventory.db"
    inventory = SqliteInventory(path)
    before = replace(
        _draft(1),
        serial="7f",
        issuer="aa",
        certificate_der=b"x",
        issued_at=NOW - timedelta(hours=1),
    )
    inventory.write([before], [])
    inventory.note([_intent(1)], [])
    inventory.close()
    assert _reopened(path) == [_intent(1)]


def test_an_inventory_that_cannot_be_written_says_so_before_the_call(tmp_path: Path) -> None:
    """An intent that is not committed is an error, so that nothing is asked."""
    inventory = SqliteInventory(tmp_path / "missing" / "inventory.db")
    with pytest.raises(RecordFailed):
        inventory.note([_intent(1)], [])
    with pytest.raises(RecordFailed):
        inventory.open_intents()
    inventory.close()
