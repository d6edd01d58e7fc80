"""Calls that wait for something to be fetched: a key set, a token review.

Decides that calls which need the same thing share one fetch, how many may wait,
and that each is asked exactly once more. What is fetched, and how, is the
authenticator's.

Source: docs/ARCHITECTURE.md, "Parked calls".
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from meshsigner.errors import Overloaded
from meshsigner.ports import Parked

Member = TypeVar("Member")


class Parking(Generic[Member]):
    """Where members wait for a fetch.

    Args:
        resume: Called for each member when its fetch has ended: with None, or
            with the error it ended in.
        capacity: Most members that wait.
    """

    def __init__(
        self, resume: Callable[[Member, BaseException | None], None], capacity: int
    ) -> None:
        self._resume = resume
        self._capacity = capacity
        self._waiting: dict[Hashable, list[Member]] = {}
        self._fetches: set[asyncio.Task[None]] = set()
        self._count = 0

    def __len__(self) -> int:
        """Count the members that wait."""
        return self._count

    def park(self, member: Member, parked: Parked) -> None:
        """Let a member wait; start the fetch unless it is under way.

        Raises:
            Overloaded: Too many wait.
        """
        if self._count >= self._capacity:
            raise Overloaded("parked")
        self._count += 1
        companions = self._waiting.setdefault(parked.key, [])
        companions.append(member)
        if len(companions) == 1:
            fetch = asyncio.ensure_future(parked.fetch())
            self._fetches.add(fetch)
            fetch.add_done_callback(lambda done: self._fetched(parked.key, done))

    def close(self) -> None:
        """Give up every fetch; their members are resumed with the cancellation."""
        for fetch in self._fetches:
            fetch.cancel()

    def _fetched(self, key: Hashable, done: asyncio.Task[None]) -> None:
        self._fetches.discard(done)
        error = asyncio.CancelledError() if done.cancelled() else done.exception()
        members = self._waiting.pop(key)
        self._count -= len(members)
        for member in members:
            self._resume(member, error)
