"""Tests of the threads that may call a module: errors come back, the abandoned is left out."""

import asyncio
import threading

import pytest

from meshsigner.signing.pkcs11.threads import Threads


async def test_result_and_error_come_back() -> None:
    """Whoever waits gets what the job returned or raised."""
    threads = Threads(1)
    assert await threads.run(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0)
    assert await threads.run(lambda: 8) == 8
    threads.end()


async def test_one_thread_does_one_job_after_the_other() -> None:
    """With one thread no two jobs ever run at once: that is what protects a module."""
    threads, inside, most = Threads(1), [0], [0]

    def job() -> str:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        inside[0] -= 1
        return threading.current_thread().name

    names = await asyncio.gather(*(threads.run(job) for _ in range(50)))
    assert set(names) == {"pkcs11-0"}
    assert most == [1]
    threads.end()


async def test_job_that_nobody_waits_for_is_left_out() -> None:
    """A job that was cancelled before its turn is not done."""
    threads, gate, done = Threads(1), threading.Event(), []
    first = asyncio.create_task(threads.run(gate.wait))
    second = asyncio.create_task(threads.run(lambda: done.append("second")))
    await asyncio.sleep(0.01)
    second.cancel()
    await asyncio.sleep(0.01)
    gate.set()
    await first
    await threads.run(lambda: done.append("third"))
    assert done == ["third"]
    threads.end()


async def test_stuck_time_counts_only_while_no_thread_is_free() -> None:
    """One hanging call of two leaves a thread to work with; with the second, time counts."""
    now_s, gate = [100.0], threading.Event()
    threads = Threads(2, clock_s=lambda: now_s[0])
    assert threads.stuck_s() == 0
    first = asyncio.create_task(threads.run(gate.wait))
    await asyncio.sleep(0.02)
    now_s[0] = 110.0
    assert threads.stuck_s() == 0
    second = asyncio.create_task(threads.run(gate.wait))
    await asyncio.sleep(0.02)
    now_s[0] = 113.0
    assert threads.stuck_s() == 3.0
    gate.set()
    await asyncio.gather(first, second)
    assert threads.stuck_s() == 0
    threads.end()
