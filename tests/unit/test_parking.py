"""Parking: one fetch for all that need the same, each resumed once."""

import asyncio

import pytest

from meshsigner.errors import BackendUnavailable, Overloaded
from meshsigner.parking import Parking
from meshsigner.ports import Parked


class _Lot:
    """Notes who was resumed and with what."""

    def __init__(self, capacity: int = 10) -> None:
        self.resumed: list[tuple[str, BaseException | None]] = []
        self.fetched = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None
        self.parking = Parking[str](lambda m, e: self.resumed.append((m, e)), capacity)

    async def _fetch(self) -> None:
        self.fetched += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error

    def park(self, member: str, key: str) -> None:
        self.parking.park(member, Parked(key=key, fetch=self._fetch))

    async def open(self) -> None:
        self.gate.set()
        for _ in range(5):
            await asyncio.sleep(0)


async def test_equal_keys_share_one_fetch() -> None:
    """Three members of one key cost one fetch, another key its own."""
    lot = _Lot()
    for member, key in (("a", "k"), ("b", "k"), ("c", "other"), ("d", "k")):
        lot.park(member, key)
    assert len(lot.parking) == 4
    await lot.open()
    assert lot.fetched == 2
    assert sorted(lot.resumed) == [("a", None), ("b", None), ("c", None), ("d", None)]
    assert len(lot.parking) == 0


async def test_a_failed_fetch_resumes_with_its_error() -> None:
    """Everybody learns why the fetch failed, and a later one is tried afresh."""
    lot = _Lot()
    lot.error = BackendUnavailable("away")
    lot.park("a", "k")
    await lot.open()
    assert lot.resumed == [("a", lot.error)]
    lot.error = None
    lot.park("b", "k")
    await lot.open()
    assert lot.resumed[1:] == [("b", None)]


async def test_no_more_members_wait_than_may() -> None:
    """One more than the capacity is refused, whatever its key."""
    lot = _Lot(capacity=2)
    lot.park("a", "k")
    lot.park("b", "l")
    with pytest.raises(Overloaded, match="parked"):
        lot.park("c", "k")
    await lot.open()
    lot.park("c", "k")
    await lot.open()


async def test_closing_resumes_with_the_cancellation() -> None:
    """Fetches under way are given up; nobody is left waiting."""
    lot = _Lot()
    lot.park("a", "k")
    await asyncio.sleep(0)
    lot.parking.close()
    for _ in range(3):
        await asyncio.sleep(0)
    assert [(m, type(e)) for m, e in lot.resumed] == [("a", asyncio.CancelledError)]
