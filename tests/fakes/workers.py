"""A worker without a process: what it says and when it ends is the test's decision."""

import asyncio
import os
import socket

from meshsigner.workers.channel import Channel
from meshsigner.workers.child import Child
from meshsigner.workers.messages import Kind, Report

CODE_OF_KILL = -9


class FakeProcess:
    """A process that ends when told to."""

    def __init__(self, worker: "FakeWorker") -> None:
        self.pid = 4_242
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._worker = worker

    async def wait(self) -> int:
        """Return the exit code once there is one."""
        return await self.code

    def kill(self) -> None:
        """End as by SIGKILL."""
        if self.code.done():
            raise ProcessLookupError
        self._worker.end(CODE_OF_KILL)


class FakeWorker:
    """A worker that a test plays.

    Attributes:
        child: It, as its supervisor sees it.
        channel: Its own end.
        report: What it answers when asked.
        speaks: While not set, questions wait for their answer.
    """

    child: Child
    channel: Channel
    answering: "asyncio.Task[None]"

    def __init__(self) -> None:
        self.report = Report(parts=(), families=(), roots_pem="")
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.process = FakeProcess(self)

    @classmethod
    async def start(cls, number: int = 0) -> "FakeWorker":
        """Start one; it answers questions until it ends."""
        worker = cls()
        ours, theirs = socket.socketpair()
        worker.channel = await Channel.over(theirs)
        life = os.open(os.devnull, os.O_RDONLY)
        worker.child = Child(number, worker.process, await Channel.over(ours), life)
        worker.answering = asyncio.create_task(worker._answer())
        return worker

    @classmethod
    async def serving(cls, number: int = 0) -> "FakeWorker":
        """Start one that serves."""
        worker = await cls.start(number)
        worker.channel.send(Kind.PREPARED, roots_pem="")
        worker.channel.send(Kind.SERVING)
        await worker.child.serving
        return worker

    def end(self, code: int) -> None:
        """End with an exit code."""
        self.process.code.set_result(code)
        self.channel.close()

    async def _answer(self) -> None:
        while (message := await self.channel.receive()) is not None:
            if message.kind is Kind.ASK:
                await self.speaks.wait()
                self.channel.send(Kind.REPORT, **self.report.to_content())
