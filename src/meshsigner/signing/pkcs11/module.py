"""A PKCS #11 library in this process: loaded once, whoever uses it.

Decides which threads may call it and when it is initialised anew. python-pkcs11
initialises a module without locking and yet lets other threads run during each
call: two threads then corrupt the module's memory. So either one thread alone
calls it, or it is initialised with locking before a second one does.

Initialising anew ends every session and login of the process, and the numbers
of sessions and keys begin again: whoever holds some must look at `generation`
before each use.

Source: PKCS #11 v2.40 5.4, 2.1 (threads).
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pkcs11
from pkcs11.exceptions import PKCS11Error

if TYPE_CHECKING:
    from pkcs11._pkcs11 import lib as Binding  # noqa: N812 - it is a class

from meshsigner.signing.pkcs11.cryptoki import CallFailed, Cryptoki
from meshsigner.signing.pkcs11.threads import Threads

RESTART_EVERY_S = 30.0  # while others use the module without trouble
ALONE_WAIT_S = 5.0  # until no call is under way

# Whatever goes wrong between us and the device.
DEVICE_FAULTS = (PKCS11Error, CallFailed)

_modules: dict[Path, "Module"] = {}  # the library's own state is the process's, so this is too
_modules_lock = threading.Lock()


class Module:
    """A library, and who uses it.

    Args:
        path: The shared library.
        clock_s: A clock in seconds that only runs forward.

    Attributes:
        thread: The one thread that calls it as long as it is not initialised
            with locking.
        generation: Counts initialisations; 0 before the first.
    """

    def __init__(self, path: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.thread = Threads(1)
        self.generation = 0
        self._path = path
        self._clock_s = clock_s
        self._binding: Binding | None = None
        self._cryptoki: Cryptoki | None = None
        self._locking = False
        self._loading = threading.Lock()
        self._users: dict[object, bool] = {}
        self._restarted_s = -RESTART_EVERY_S
        self._calls = 0
        self._quiet = threading.Condition()

    @classmethod
    def join(cls, path: Path, user: object) -> "Module":
        """Return the process's module at a path; it lives until its last user leaves.

        Args:
            path: The shared library.
            user: Who uses it from now on.
        """
        with _modules_lock:
            module = _modules.setdefault(path.resolve(), cls(path))
            module._users[user] = True  # noqa: SLF001 - of this class
            return module

    def leave(self, user: object) -> None:
        """Stop using it; the last one finalizes it. Called in `thread`."""
        with _modules_lock:
            self._users.pop(user, None)
            if self._users:
                return
            _modules.pop(self._path.resolve(), None)
        if self._cryptoki is not None:
            with self._alone():
                self.generation += 1
                self._cryptoki.end()
        self.thread.end()

    def load(self, *, locking: bool) -> None:
        """Load it and initialise it, unless that is done; any thread may do so first.

        Args:
            locking: True when more than one thread is going to call it.

        Raises:
            ConfigurationError: It is no PKCS #11 module.
            PKCS11Error: It cannot be initialised now.
            CallFailed: Nor can it in this way.
        """
        with self._loading:
            if self._cryptoki is None:
                self._cryptoki = Cryptoki(self._path)
            if self._binding is not None and self._locking >= locking:
                return
            self._binding = self._binding or pkcs11.lib(str(self._path))
            with self._alone():
                self._locking = self._locking or locking
                self._restart()

    @property
    def binding(self) -> "Binding":
        """The library as python-pkcs11 has it.

        Raises:
            PKCS11Error: It is not loaded.
        """
        if self._binding is None:
            raise PKCS11Error("the module could not be initialised")
        return self._binding

    @property
    def cryptoki(self) -> Cryptoki:
        """The library as ctypes has it.

        Raises:
            PKCS11Error: It is not loaded.
        """
        if self._cryptoki is None:
            raise PKCS11Error("the module could not be loaded")
        return self._cryptoki

    @contextmanager
    def calling(self) -> Iterator[int]:
        """Hold the module as it is: it is not initialised anew meanwhile.

        Yields:
            The generation that what is opened now belongs to.
        """
        with self._quiet:
            self._calls += 1
        try:
            yield self.generation
        finally:
            with self._quiet:
                self._calls -= 1
                self._quiet.notify_all()

    def works_for(self, user: object, *, well: bool) -> None:
        """Note whether a user has trouble: one that has none is not disturbed often."""
        self._users[user] = well

    def restart(self, seen: int, user: object) -> None:
        """Initialise it anew, unless somebody did since, or it would disturb others too often.

        A token that came back, or was put in, is often seen only then.

        Args:
            seen: The generation in which the trouble was.
            user: Who has it.

        Raises:
            CallFailed: The module refuses, or a call does not return.
        """
        others_work = any(well for other, well in self._users.items() if other is not user)
        too_soon = self._clock_s() - self._restarted_s < RESTART_EVERY_S
        if self._binding is None or (others_work and too_soon):
            return
        with self._alone():
            if self.generation == seen:
                self._restart()

    def _restart(self) -> None:
        self._restarted_s = self._clock_s()
        self.generation += 1
        self.cryptoki.restart(locking=self._locking)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep everybody else out, once all calls have returned."""
        with self._quiet:
            if not self._quiet.wait_for(lambda: not self._calls, ALONE_WAIT_S):
                raise CallFailed("a call that has not returned", 0)
            yield
