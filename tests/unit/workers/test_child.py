"""A worker as its supervisor sees it."""

import re

import pytest

from meshsigner.errors import ConfigurationError
from meshsigner.model import Health
from meshsigner.workers.child import Died
from meshsigner.workers.messages import NOTHING_SAID, Kind, Report
from tests.fakes.workers import FakeWorker

REPORT = Report(
    parts=(Health(name="issuer", ready=True, detail="root"),), families=(), roots_pem="x"
)


async def test_way_to_service() -> None:
    """A worker prepares, serves, leaves the port and is gone; each step can be waited for."""
    worker = await FakeWorker.start()
    child = worker.child
    worker.channel.send(Kind.PREPARED, roots_pem="x")
    assert await child.prepared == "x"
    assert not child.serves
    worker.channel.send(Kind.SERVING)
    await child.within(5, child.serving)
    served = child.serves
    worker.channel.send(Kind.LEFT)
    await child.left
    assert (served, child.serves) == (True, False)
    worker.end(0)
    assert await child.gone == 0


async def test_worker_that_cannot_start() -> None:
    """Its problems reach whoever waits for it to be prepared or to serve."""
    worker = await FakeWorker.start()
    worker.channel.send(Kind.FAILED, problems=["no CA", "no disk"])
    for step in (worker.child.prepared, worker.child.serving):
        with pytest.raises(ConfigurationError) as failed:
            await worker.child.within(5, step)
        assert failed.value.problems == ("no CA", "no disk")
    worker.end(0)
    await worker.child.gone


@pytest.mark.parametrize(("code", "words"), [(1, "exit code 1"), (-9, "signal 9")])
async def test_worker_that_dies_without_a_word(code: int, words: str) -> None:
    """Whoever waits is told how it ended."""
    worker = await FakeWorker.start(3)
    worker.end(code)
    with pytest.raises(Died, match=re.escape(f"worker 3 ended with {words} before it served")):
        await worker.child.within(5, worker.child.serving)
    assert await worker.child.gone == code


async def test_worker_that_takes_too_long() -> None:
    """Nobody waits longer than they said, and the worker may still come."""
    worker = await FakeWorker.start()
    with pytest.raises(Died, match="not ready within 0 s"):
        await worker.child.within(0.01, worker.child.prepared)
    worker.channel.send(Kind.PREPARED, roots_pem="")
    await worker.child.within(5, worker.child.prepared)
    worker.end(0)
    await worker.child.gone


async def test_report_is_the_last_one_heard() -> None:
    """An answer replaces the report; without one the last stays, and that is told."""
    worker = await FakeWorker.serving()
    child = worker.child
    worker.report = REPORT
    assert await child.ask(5)
    assert child.report == REPORT
    worker.speaks.clear()
    assert not await child.ask(0.01)
    assert child.report == REPORT
    child.forget()
    assert child.report == NOTHING_SAID
    worker.end(0)
    await child.gone


async def test_questions_of_several_share_one_answer() -> None:
    """Two who ask at once are both answered."""
    worker = await FakeWorker.serving()
    assert await worker.child.ask(5)
    worker.child.kill()
    assert await worker.child.gone == -9
    assert not await worker.child.ask(5)
    worker.child.kill()  # a second time does no harm
