"""A place for a worker is kept filled."""

import asyncio
from typing import cast

import pytest

from meshsigner.errors import ConfigurationError
from meshsigner.observe.names import WorkerEnd
from meshsigner.workers.backoff import Backoff
from meshsigner.workers.child import Child, Died
from meshsigner.workers.post import UNANSWERED, Post
from meshsigner.workers.settings import Settings
from tests.fakes.workers import FakeWorker
from tests.wire.harness import until

SETTINGS = cast("Settings", object())  # handed on, never looked into


class _Place:
    """A post, and whoever is hired for it."""

    def __init__(self, *refusals: Exception) -> None:
        self.refusals = list(refusals)
        self.workers: list[FakeWorker] = []
        self.ended: list[WorkerEnd] = []
        self.hired_with: list[Settings] = []

    async def open(self) -> "_Place":
        self.workers.append(await FakeWorker.serving(7))
        self.post = Post(
            self.workers[0].child,
            SETTINGS,
            hire=self._hire,
            ended=lambda _, how: self.ended.append(how),
            backoff=Backoff(lambda: 0.0),
            answer_s=0.02,
        )
        return self

    async def _hire(self, number: int, settings: Settings) -> Child:
        if self.refusals:
            raise self.refusals.pop(0)
        self.hired_with.append(settings)
        self.workers.append(await FakeWorker.serving(number))
        return self.workers[-1].child

    async def close(self) -> None:
        self.post.give_up()
        for worker in self.workers:
            if not worker.process.code.done():
                worker.end(0)
            await worker.child.gone


async def test_worker_that_crashes_is_succeeded() -> None:
    """Another takes its place, under the settings of that moment, and the end is counted."""
    place = await _Place().open()
    newer = place.post.settings = cast("Settings", object())
    place.workers[0].end(1)
    await until(lambda: len(place.workers) == 2)
    await until(lambda: place.post.standing().serving)
    assert place.post.child is place.workers[1].child
    assert place.ended == [WorkerEnd.CRASHED]
    assert place.hired_with == [newer]
    await place.close()


@pytest.mark.parametrize("refusal", [ConfigurationError("no CA there"), Died("ended with 1")])
async def test_successor_that_cannot_start_is_tried_again(refusal: Exception) -> None:
    """The place tells why it is empty, and is filled once that is possible."""
    place = await _Place(refusal, refusal).open()
    place.workers[0].end(1)
    await until(lambda: str(refusal) in place.post.standing().detail)
    assert not place.post.standing().serving
    await until(lambda: place.post.standing().serving)
    assert place.ended == [WorkerEnd.CRASHED]
    await place.close()


async def test_worker_that_does_not_answer_is_killed() -> None:
    """A worker that is silent time and again hangs: it is killed and succeeded."""
    place = await _Place().open()
    place.workers[0].speaks.clear()
    for _ in range(UNANSWERED - 1):
        await place.post.check()
    assert not place.workers[0].process.code.done()
    await place.post.check()
    await until(lambda: place.post.standing().serving and len(place.workers) == 2)
    assert place.ended == [WorkerEnd.HUNG]
    await place.close()


async def test_worker_that_answers_in_between_lives_on() -> None:
    """Silence counts only in a row: a slow moment kills nobody."""
    place = await _Place().open()
    worker = place.workers[0]
    for _ in range(2):
        worker.speaks.clear()
        place.post._answer_s = 0.02
        for _ in range(UNANSWERED - 1):
            await place.post.check()
        worker.speaks.set()
        place.post._answer_s = 10
        await place.post.check()
    assert not worker.process.code.done()
    await place.close()


async def test_place_that_is_given_up_stays_empty() -> None:
    """Who ends there was asked to: nobody follows."""
    place = await _Place().open()
    place.post.give_up()
    place.workers[0].end(0)
    await until(lambda: place.ended == [WorkerEnd.REPLACED])
    await asyncio.sleep(0.2)
    assert len(place.workers) == 1


async def test_place_that_is_given_up_while_empty() -> None:
    """A search for a successor ends when none is wanted any more."""
    place = await _Place(*[Died("ended with 1")] * 50).open()
    place.workers[0].end(1)
    await until(lambda: len(place.refusals) < 50)
    place.post.give_up()
    left = len(place.refusals)
    await asyncio.sleep(0.5)
    assert len(place.refusals) >= left - 1
    assert len(place.workers) == 1
