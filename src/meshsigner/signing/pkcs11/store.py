"""One CA key on one token, as `signing.keyed` wants it: found, checked, kept within reach.

Decides when a key that is away is tried again: every second, and a session
that nobody used for a while is looked at, so that readiness is the truth. What
a key does in trouble is `key`'s matter.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from meshsigner.background import Background
from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.model import Health
from meshsigner.signing.keyed import CaPublicKey
from meshsigner.signing.pkcs11.key import Pkcs11Key
from meshsigner.signing.pkcs11.module import DEVICE_FAULTS, Module
from meshsigner.signing.pkcs11.opening import OpenKey, Place, open_key
from meshsigner.signing.pkcs11.pin import PinGuard
from meshsigner.signing.pkcs11.threads import Threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often what is looked at, seconds.

    Attributes:
        revive_every_s: Between two attempts at a key that is away.
        probe_every_s: Between two looks at a session that nobody uses.
        stuck_s: From when on a call is taken for one that never returns.
    """

    revive_every_s: float = 1.0
    probe_every_s: float = 10.0
    stuck_s: float = 5.0


class Pkcs11Store:
    """Holds one CA key on one token.

    Args:
        name: Of the backend, for logs.
        module: Path of the HSM's PKCS #11 library.
        place: Where the key is.
        pin: Logs in.
        sessions: How many sessions sign at once, each in a thread of its own; 1
            calls the module from one thread only.
        pace: How often what is looked at.
    """

    def __init__(
        self,
        *,
        name: str,
        module: Path,
        place: Place,
        pin: PinGuard,
        sessions: int = 1,
        pace: Pace | None = None,
    ) -> None:
        self._name = name
        self._path = module
        self._place = place
        self._pin = pin
        self._locking = sessions > 1
        self._sessions = sessions
        self._pace = pace or Pace()
        self._module: Module | None = None
        self._threads: Threads | None = None
        self._key: Pkcs11Key | None = None
        self._background: Background | None = None

    async def start(self) -> None:
        """Join the process's module; whether the HSM answers shows when the key is looked for."""
        self._module = Module.join(self._path, self)
        self._threads = Threads(self._sessions) if self._locking else self._module.thread
        self._background = Background(self._tend)

    async def aclose(self) -> None:
        """Close the sessions and leave the module; what hangs is left to the process's end."""
        if self._background is not None:
            await self._background.stop()
        module, threads = self._module, self._threads
        if module is None or threads is None:
            return
        with suppress(BackendUnavailable, TimeoutError, *DEVICE_FAULTS):
            if self._key is not None:
                await self._key.aclose()
            async with asyncio.timeout(self._pace.stuck_s):
                await module.thread.run(partial(module.leave, self))
        if threads is not module.thread:
            threads.end()

    async def find_key(self, public_key: CaPublicKey) -> Pkcs11Key:
        """Find the key of a CA certificate, and check it.

        Raises:
            ConfigurationError: The module is none, or the key is another one or
                may not be used.
            BackendUnavailable: It cannot be reached now.
        """
        if self._module is None or self._threads is None:
            raise BackendUnavailable("the backend was not started")
        key = Pkcs11Key(
            name=self._name,
            module=self._module,
            user=self,
            threads=self._threads,
            open_session=partial(self._open, self._module, public_key),
            stuck_s=self._pace.stuck_s,
        )
        await key.revive()
        before, self._key = self._key, key
        if before is not None:
            with suppress(BackendUnavailable):
                await before.aclose()
        return key

    def health(self, now: datetime) -> Health:
        """Say whether the key can sign."""
        del now
        trouble = "its key was not found yet" if self._key is None else self._key.trouble
        detail = f"HSM token with {self._place.token}, key with {self._place.key}"
        if trouble:
            detail += f": {trouble}"
        return Health(name=f"backend/{self._name}", ready=not trouble, detail=detail)

    def _open(self, module: Module, public_key: CaPublicKey) -> OpenKey:
        return open_key(module, self._place, self._pin, public_key)

    async def _tend(self) -> None:
        """Bring back a key that is away; look whether one that nobody uses is still there."""
        while True:
            await asyncio.sleep(self._pace.revive_every_s)
            key = self._key
            with suppress(BackendUnavailable, ConfigurationError):
                if key is not None and key.trouble:
                    await key.revive()
                elif key is not None and key.idle_s() >= self._pace.probe_every_s:
                    await key.probe()
