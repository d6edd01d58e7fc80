"""A worker as its supervisor sees it: a process, a connection, and what it last said."""

import asyncio
import os
import socket
import sys
import time
from contextlib import suppress
from typing import Any, Protocol

from meshsigner.errors import ConfigurationError
from meshsigner.workers.channel import Channel
from meshsigner.workers.messages import NOTHING_SAID, Kind, Message, Report

_MODULE = "meshsigner.workers.worker"


class Process(Protocol):
    """What is used of `asyncio.subprocess.Process`."""

    @property
    def pid(self) -> int:
        """Its process id."""
        ...

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        ...

    def kill(self) -> None:
        """End it at once; ProcessLookupError when it has ended."""
        ...


class Died(Exception):
    """A worker ended before it did what was asked."""


class Child:
    """One worker's process.

    Made by `spawn`.

    Attributes:
        number: Its place.
        report: What it last said of itself.
        serving_s: When it began to serve, None while it has not.
        prepared: Done when all but the port is ready, with the roots of its CA;
            ConfigurationError or `Died` when it never will be.
        serving: Done when it serves, or the same errors.
        left: Done when it takes no more connections.
        gone: Done when the process has ended, with its exit code.
    """

    def __init__(self, number: int, process: Process, channel: Channel, life: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.report = NOTHING_SAID
        self.serving_s: float | None = None
        self.prepared: asyncio.Future[str] = loop.create_future()
        self.serving: asyncio.Future[None] = loop.create_future()
        self.left: asyncio.Future[None] = loop.create_future()
        self.gone: asyncio.Future[int] = loop.create_future()
        self._answer: asyncio.Future[None] | None = None
        self._process = process
        self._channel = channel
        self._life = life
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def spawn(cls, number: int, start: dict[str, Any]) -> "Child":
        """Start a worker's process.

        A fresh interpreter, never a fork: gRPC's threads do not survive one.

        Args:
            number: Its place.
            start: Content of its first message.
        """
        ours, theirs = socket.socketpair()
        life_theirs, life = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", _MODULE),
                *(str(theirs.fileno()), str(life_theirs), str(os.getpid())),
                pass_fds=(theirs.fileno(), life_theirs),
                stdin=asyncio.subprocess.DEVNULL,
            )
        finally:
            theirs.close()
            os.close(life_theirs)
        child = cls(number, process, await Channel.over(ours), life)
        child.tell(Kind.START, number=number, **start)
        return child

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def serves(self) -> bool:
        """Whether it takes connections."""
        return self.serving_s is not None and not self.left.done() and not self.gone.done()

    def tell(self, kind: Kind, **content: Any) -> None:
        """Send it a message."""
        self._channel.send(kind, **content)

    async def ask(self, timeout_s: float) -> bool:
        """Have it report; `report` has the answer, or stays as it was without one.

        Args:
            timeout_s: How long an answer is waited for.

        Returns:
            Whether it has answered.
        """
        if self._answer is None or self._answer.done():
            self._answer = asyncio.get_running_loop().create_future()
            self.tell(Kind.ASK)
        answer = self._answer
        awaited: list[asyncio.Future[Any]] = [answer, self.gone]
        await asyncio.wait(awaited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return answer.done()

    async def within(self, timeout_s: float, step: "asyncio.Future[Any]") -> None:
        """Wait until it has done a step.

        Args:
            timeout_s: How long it may take.
            step: `prepared` or `serving`.

        Raises:
            ConfigurationError: It cannot.
            Died: It has ended, or takes too long.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(step)
        except TimeoutError as error:
            msg = f"worker {self.number} was not ready within {timeout_s:.0f} s"
            raise Died(msg) from error

    def forget(self) -> None:
        """Drop what it said: somebody else remembers what is worth it."""
        self.report = NOTHING_SAID

    def kill(self) -> None:
        """End it at once."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def _listen(self) -> None:
        while (message := await self._channel.receive()) is not None:
            self._take(message)
        code = await self._process.wait()
        self._channel.close()
        os.close(self._life)
        died = Died(f"worker {self.number} ended with {_in_words(code)} before it served")
        self._never(died)
        if not self.left.done():
            self.left.set_result(None)
        self.gone.set_result(code)

    def _never(self, why: Exception) -> None:
        """Tell whoever waits for it to serve that it will not."""
        for waited in (self.prepared, self.serving):
            if not waited.done():
                waited.set_exception(why)
                waited.exception()  # to be told is an offer: nobody may wait

    def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.PREPARED:
                self.prepared.set_result(message.content["roots_pem"])
            case Kind.SERVING:
                self.serving_s = time.monotonic()
                self.serving.set_result(None)
            case Kind.FAILED:
                self._never(ConfigurationError(*message.content["problems"]))
            case Kind.REPORT:
                self.report = Report.from_content(message.content)
                if self._answer is not None and not self._answer.done():
                    self._answer.set_result(None)
            case Kind.LEFT:
                self.left.set_result(None)


def _in_words(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
