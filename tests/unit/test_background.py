"""Background loops go on until they are stopped."""

import asyncio

from meshsigner.background import Background
from meshsigner.observe.logs import configure


async def test_loop_that_fails_is_taken_up_again() -> None:
    """A bug in a loop is logged with its traceback, and the loop runs again."""
    said: list[bytes] = []
    configure(write=said.append)
    runs: list[int] = []
    again = asyncio.Event()

    async def loop() -> None:
        runs.append(len(runs))
        if len(runs) > 1:
            again.set()
            await asyncio.Event().wait()
        raise RuntimeError("a bug")

    background = Background(loop, pause_s=0.0)
    async with asyncio.timeout(5):
        await again.wait()
    await background.stop()
    assert runs == [0, 1]
    assert b"RuntimeError: a bug" in b"".join(said)


async def test_stop_waits_for_the_loop() -> None:
    """After `stop`, nothing of the loop runs any more."""
    ended = asyncio.Event()

    async def loop() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    background = Background(loop)
    await asyncio.sleep(0)
    await background.stop()
    assert ended.is_set()
