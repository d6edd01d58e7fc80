"""Tests of a module's rules, over a library in memory: who may call, when it begins anew."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from pkcs11.exceptions import PKCS11Error

from meshsigner.errors import ConfigurationError
from meshsigner.signing.pkcs11 import module as module_file
from meshsigner.signing.pkcs11.cryptoki import CallFailed
from meshsigner.signing.pkcs11.module import Module

PATH = Path("/nowhere/hsm.so")


class FakeCryptoki:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.restarts: list[bool] = []
        self.ends = 0

    def restart(self, *, locking: bool) -> None:
        """Be initialised."""
        self.restarts.append(locking)

    def end(self) -> None:
        """Be finalized."""
        self.ends += 1


@pytest.fixture
def module() -> Iterator[Module]:
    """Return a module as if its library had been loaded, at second 100."""
    module = Module(PATH, clock_s=lambda: 100.0)
    module._cryptoki = cast("Any", FakeCryptoki())
    module._binding = cast("Any", object())
    module.generation = 1
    yield module
    module.thread.end()


def restarts(module: Module) -> list[bool]:
    """Return with which locking it was initialised anew."""
    return cast("FakeCryptoki", module._cryptoki).restarts


def test_one_user_may_begin_anew_each_time(module: Module) -> None:
    """Who is alone disturbs nobody; each time is a generation of its own."""
    me = object()
    module.works_for(me, well=False)
    module.restart(1, me)
    module.restart(2, me)
    assert (restarts(module), module.generation) == ([False, False], 3)


def test_trouble_of_an_older_generation_is_over(module: Module) -> None:
    """What somebody else mended meanwhile is not mended again."""
    module.restart(1, object())
    module.restart(1, object())
    assert (len(restarts(module)), module.generation) == (1, 2)


def test_others_without_trouble_are_disturbed_seldom(module: Module) -> None:
    """A backend whose token is away may not end the sessions of another each second."""
    me, other = object(), object()
    now_s = [100.0]
    module._clock_s = lambda: now_s[0]
    module.works_for(other, well=True)
    module.restart(1, me)
    module.restart(2, me)
    assert module.generation == 2
    now_s[0] += module_file.RESTART_EVERY_S
    module.restart(2, me)
    assert module.generation == 3
    module.works_for(other, well=False)
    module.restart(3, me)
    assert module.generation == 4


def test_begins_anew_only_once_no_call_is_under_way(module: Module) -> None:
    """A call never sees the module change beneath it."""
    inside, leave = threading.Event(), threading.Event()
    seen: list[int] = []

    def call() -> None:
        with module.calling() as generation:
            inside.set()
            leave.wait(5.0)
            seen.extend((generation, module.generation))

    caller = threading.Thread(target=call)
    caller.start()
    inside.wait(5.0)
    other = threading.Thread(target=lambda: module.restart(1, object()))
    other.start()
    other.join(0.05)
    assert (other.is_alive(), module.generation) == (True, 1)
    leave.set()
    caller.join(5.0)
    other.join(5.0)
    assert (seen, module.generation) == ([1, 1], 2)


def test_call_that_hangs_keeps_it_from_beginning_anew(
    module: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Finalizing beneath a call could crash the process: better to fail."""
    monkeypatch.setattr(module_file, "ALONE_WAIT_S", 0.01)
    with module.calling(), pytest.raises(CallFailed, match="has not returned"):
        module.restart(1, object())
    assert module.generation == 1


def test_last_user_finalizes_it() -> None:
    """All users of a path share one module; the next after the last has a new one."""
    one, other = object(), object()
    shared = Module.join(PATH, one)
    assert Module.join(PATH, other) is shared
    library = FakeCryptoki()
    shared._cryptoki = cast("Any", library)
    shared.leave(one)
    assert library.ends == 0
    shared.leave(other)
    assert library.ends == 1
    fresh = Module.join(PATH, one)
    assert fresh is not shared
    fresh.leave(one)


def test_file_that_is_no_library_is_refused() -> None:
    """A wrong path is a wrong configuration, and what is not loaded answers as a device."""
    module = Module(PATH)
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        module.load(locking=False)
    for part in ("binding", "cryptoki"):
        with pytest.raises(PKCS11Error):
            getattr(module, part)
    module.thread.end()
