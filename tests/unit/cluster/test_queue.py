"""Names are looked at once, by one task at a time, and again when need be."""

import asyncio
from collections import Counter

import pytest

from meshsigner.cluster.queue import Queue


async def _run_until_idle(queue: Queue, tasks: int = 3) -> None:
    running = asyncio.create_task(queue.run(tasks))
    async with asyncio.timeout(5):
        while not queue.idle:
            await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_each_is_looked_at_once_in_order() -> None:
    """A name that is added twice before its turn has one."""
    seen: list[str] = []

    async def work(name: str) -> None:
        seen.append(name)

    queue = Queue(work)
    queue.add_all(["b", "a", "b", "c"])
    await _run_until_idle(queue, tasks=1)
    assert seen == ["b", "a", "c"]


async def test_change_during_the_look_brings_another() -> None:
    """A name that is added while it is looked at is looked at once more, never by two."""
    busy, most = 0, 0
    seen: Counter[str] = Counter()

    async def work(name: str) -> None:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        seen[name] += 1
        if seen[name] == 1:
            queue.add(name)
            queue.add(name)
        await asyncio.sleep(0.02)
        busy -= 1

    queue = Queue(work)
    queue.add("a")
    await _run_until_idle(queue)
    assert seen == {"a": 2}
    assert most == 1


async def test_failed_one_is_tried_again_ever_later() -> None:
    """Pauses grow while it fails, others do not wait for it."""
    times: list[float] = []
    others: list[str] = []
    loop = asyncio.get_running_loop()

    async def work(name: str) -> float | None:
        if name != "bad":
            others.append(name)
            return None
        times.append(loop.time())
        return None if len(times) == 3 else 0.0

    queue = Queue(work)
    queue.add_all(["bad", "good"])
    await _run_until_idle(queue)
    assert others == ["good"]
    first, second = times[1] - times[0], times[2] - times[1]
    assert 0.15 < first < second


async def test_bug_ends_the_whole() -> None:
    """What work raises reaches whoever runs the queue: nothing dies in silence."""

    async def work(_name: str) -> None:
        raise RuntimeError("a bug")

    queue = Queue(work)
    queue.add("a")
    with pytest.raises(ExceptionGroup) as caught:
        await queue.run(2)
    assert caught.value.subgroup(RuntimeError)
