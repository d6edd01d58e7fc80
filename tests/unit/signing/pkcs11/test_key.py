"""Tests of a key on a token in trouble, over a module and sessions in memory.

What real modules do is tested with SoftHSM2 (tests/conformance/softhsm).
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pkcs11.exceptions import DeviceError, SessionHandleInvalid

from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.signing.pkcs11.key import Pkcs11Key
from meshsigner.signing.pkcs11.module import Module
from meshsigner.signing.pkcs11.opening import OpenKey
from meshsigner.signing.pkcs11.threads import Threads

PATIENCE_S = 5.0


class FakeModule(Module):
    """A module without a library: it counts how often it was initialised."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere.so"))
        self.restarts = 0

    def load(self, *, locking: bool) -> None:
        """Be loaded."""
        del locking
        self.generation = max(self.generation, 1)

    def restart(self, seen: int, user: object) -> None:
        """Be initialised anew."""
        del user
        if seen == self.generation:
            self.restarts += 1
            self.generation += 1


class FakeSession(OpenKey):
    """A session in a test's world; a signature is the message backwards."""

    def __init__(self, world: "World") -> None:
        self.generation = world.module.generation
        self.closed = False
        self._world = world

    def sign(self, message: bytes) -> bytes:
        """Sign, or break as the world tells."""
        self._world.signed.append(message)
        self._world.gate.wait(PATIENCE_S)
        if self._world.sign_faults:
            raise self._world.sign_faults.pop(0)
        return message[::-1]

    def probe(self) -> None:
        """Be there."""
        if self._world.probe_faults:
            raise self._world.probe_faults.pop(0)

    def close(self) -> None:
        """Be closed."""
        self.closed = True


class World:
    """A token, and the key under test on it."""

    def __init__(self, sessions: int = 1) -> None:
        self.module = FakeModule()
        self.threads = Threads(sessions)
        self.sessions: list[FakeSession] = []
        self.signed: list[bytes] = []
        self.sign_faults: list[Exception] = []
        self.probe_faults: list[Exception] = []
        self.open_faults: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.key = Pkcs11Key(
            name="hsm",
            module=self.module,
            user=self,
            threads=self.threads,
            open_session=self._open,
            stuck_s=0.2,
        )

    def _open(self) -> OpenKey:
        if self.open_faults:
            raise self.open_faults.pop(0)
        self.sessions.append(FakeSession(self))
        return self.sessions[-1]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Return a token with one session."""
    world = World()
    yield world
    world.gate.set()
    world.threads.end()
    world.module.thread.end()


def messages(count: int) -> list[bytes]:
    """Return different messages."""
    return [b"message %d" % number for number in range(count)]


@pytest.mark.parametrize("sessions", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 5, 16])
async def test_each_message_gets_its_own_signature(sessions: int, count: int) -> None:
    """However a batch is shared out, the answers come in the order of the messages."""
    world = World(sessions)
    asked = messages(count)
    assert await world.key.sign_batch(asked) == [message[::-1] for message in asked]
    assert len(world.sessions) <= sessions
    world.threads.end()
    world.module.thread.end()


async def test_broken_session_is_opened_again_and_the_message_signed(world: World) -> None:
    """One device error costs nobody an answer: nobody saw the signature that was lost."""
    await world.key.revive()
    world.sign_faults = [SessionHandleInvalid()]
    assert await world.key.sign_batch([b"ab"]) == [b"ba"]
    assert world.key.trouble == ""
    assert len(world.sessions) == 2
    assert world.sessions[0].closed
    assert world.module.restarts == 0


async def test_second_error_is_told_and_the_rest_not_tried(world: World) -> None:
    """When the new session breaks too, this message and those behind it are unavailable."""
    await world.key.revive()
    world.sign_faults = [DeviceError(), DeviceError()]
    found = await world.key.sign_batch(messages(5))
    assert all(isinstance(one, BackendUnavailable) for one in found)
    assert len(world.signed) == 2
    assert "DeviceError" in world.key.trouble


async def test_key_in_trouble_answers_from_memory_until_it_is_back(world: World) -> None:
    """Callers do not hammer a device that is away; `revive` ends it."""
    await world.key.revive()
    world.sign_faults = [DeviceError(), DeviceError()]
    await world.key.sign_batch([b"ab"])
    for _ in range(10):
        with pytest.raises(BackendUnavailable, match="DeviceError"):
            await world.key.sign_batch([b"ab"])
    assert len(world.signed) == 2
    await world.key.revive()
    assert await world.key.sign_batch([b"ab"]) == [b"ba"]


async def test_module_is_initialised_anew_where_a_session_does_not_open(world: World) -> None:
    """What a new session does not mend a new initialisation may."""
    world.open_faults = [DeviceError()]
    await world.key.revive()
    assert world.module.restarts == 1
    assert world.key.trouble == ""


async def test_session_of_an_older_generation_is_neither_used_nor_closed(world: World) -> None:
    """Its number may be somebody else's by now."""
    await world.key.revive()
    (old,) = world.sessions
    world.module.restart(world.module.generation, world)
    assert await world.key.sign_batch([b"ab"]) == [b"ba"]
    assert len(world.sessions) == 2
    assert not old.closed


async def test_refused_key_is_told_as_that(world: World) -> None:
    """A key that may not be used is a wrong configuration, not a device in trouble."""
    world.open_faults = [ConfigurationError("the key is EXTRACTABLE")]
    with pytest.raises(ConfigurationError):
        await world.key.revive()
    assert world.key.trouble == "the key is EXTRACTABLE"
    assert world.module.restarts == 0


async def test_probe_finds_what_nobody_noticed(world: World) -> None:
    """A session lost while nobody asked is opened again, or told."""
    await world.key.revive()
    world.probe_faults = [SessionHandleInvalid()]
    await world.key.probe()
    assert (world.key.trouble, len(world.sessions)) == ("", 2)
    world.probe_faults = [DeviceError() for _ in range(9)]
    with pytest.raises(BackendUnavailable):
        await world.key.probe()
    assert "DeviceError" in world.key.trouble


async def test_caller_who_left_is_not_signed_for(world: World) -> None:
    """Of a batch whose caller is gone nothing more is signed than what is under way."""
    await world.key.revive()
    world.gate.clear()
    batch = asyncio.create_task(world.key.sign_batch(messages(10)))
    while not world.signed:
        await asyncio.sleep(0.005)
    batch.cancel()
    await asyncio.gather(batch, return_exceptions=True)
    world.gate.set()
    await world.key.sign_batch([b"ab"])
    assert len(world.signed) == 2


async def test_hanging_call_is_told_while_it_hangs(world: World) -> None:
    """A call that does not return makes trouble by itself, and its return ends it."""
    await world.key.revive()
    world.gate.clear()
    hanging = asyncio.create_task(world.key.sign_batch([b"ab"]))
    while not world.key.trouble:
        await asyncio.sleep(0.01)
    assert "has not answered for" in world.key.trouble
    for attempt in (world.key.sign_batch([b"cd"]), world.key.revive()):
        with pytest.raises(BackendUnavailable, match="has not answered"):
            await attempt
    world.gate.set()
    assert await hanging == [b"ba"]
    assert world.key.trouble == ""


async def test_close_ends_every_session(world: World) -> None:
    """After the end nothing is open, and nothing is signed."""
    await world.key.revive()
    await world.key.aclose()
    assert all(session.closed for session in world.sessions)
    with pytest.raises(BackendUnavailable, match="closed"):
        await world.key.sign_batch([b"ab"])
