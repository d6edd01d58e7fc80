"""A key on a token that signs in batches, in as many sessions as threads use it.

Decides what happens when the device has trouble. A session that broke is
opened once more at once and the message signed again, for a signature that
nobody saw is no certificate. If that fails, callers are told within
microseconds until `revive`, which `store` calls in the background, has the
key back.

Source: PKCS #11 v2.40 5.1 (return values), 2.1.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from meshsigner.errors import BackendUnavailable, ConfigurationError, MeshsignerError
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.signing.pkcs11.cryptoki import CallFailed
from meshsigner.signing.pkcs11.module import DEVICE_FAULTS, Module
from meshsigner.signing.pkcs11.opening import OpenKey
from meshsigner.signing.pkcs11.scheme import Malformed
from meshsigner.signing.pkcs11.threads import Threads

T = TypeVar("T")
_FAULTS = (*DEVICE_FAULTS, Malformed)


class Pkcs11Key:
    """One key, in one session for each thread that uses it.

    Args:
        name: Of the backend, for logs.
        module: The library.
        user: Who uses it, for `Module`.
        threads: May call it.
        open_session: Opens a session with the key, checked; called in a thread
            that holds the module. May raise what `opening.open_key` raises.
        stuck_s: From when on a call is taken for one that never returns, seconds.
    """

    def __init__(
        self,
        *,
        name: str,
        module: Module,
        user: object,
        threads: Threads,
        open_session: Callable[[], OpenKey],
        stuck_s: float,
    ) -> None:
        self._name = name
        self._module = module
        self._user = user
        self._threads = threads
        self._open_session = open_session
        self._stuck_s = stuck_s
        self._lost = ""
        self._own = threading.local()
        self._opened: list[OpenKey] = []
        self._used_s = 0.0

    @property
    def trouble(self) -> str:
        """Why it cannot sign now, in words; empty while it can."""
        stuck_s = self._threads.stuck_s()
        if stuck_s > self._stuck_s:
            return f"the HSM has not answered for {stuck_s:.0f} s"
        return self._lost

    def idle_s(self) -> float:
        """Return for how long nobody asked for anything, seconds."""
        return asyncio.get_running_loop().time() - self._used_s

    async def sign_batch(self, messages: Sequence[bytes]) -> Sequence[bytes | MeshsignerError]:
        """Sign messages, shared out to all sessions.

        Raises:
            BackendUnavailable: The key is away, and was before.
        """
        trouble = self.trouble
        if trouble:
            raise BackendUnavailable(trouble)
        self._used_s = asyncio.get_running_loop().time()
        shares = min(self._threads.count, len(messages))
        unwanted = threading.Event()
        parts = [messages[number::shares] for number in range(shares)]
        try:
            jobs = (self._threads.run(partial(self._sign, part, unwanted)) for part in parts)
            signed = await asyncio.gather(*jobs)
        finally:
            unwanted.set()  # whoever waited may have left: the rest is not worth a signature
        return [signed[place % shares][place // shares] for place in range(len(messages))]

    async def revive(self) -> None:
        """Open a session anew, and the module if that helps.

        Raises:
            BackendUnavailable: The key is still away.
            ConfigurationError: What is there may not be used.
        """
        await self._run(self._revive)

    async def probe(self) -> None:
        """Look whether the session is still there; a lost one is opened anew.

        Raises:
            BackendUnavailable: The key is away.
            ConfigurationError: What is there now may not be used.
        """
        self._used_s = asyncio.get_running_loop().time()
        await self._run(partial(self._use, _probe_with))

    async def aclose(self) -> None:
        """Close its sessions.

        Raises:
            BackendUnavailable: The HSM does not answer; they are left to the process's end.
        """
        self._lost = "closed"
        await self._run(self._close)

    async def _run(self, job: Callable[[], object]) -> None:
        if self._threads.stuck_s() > self._stuck_s:
            raise BackendUnavailable(self.trouble)
        try:
            async with asyncio.timeout(self._stuck_s):
                await self._threads.run(job)
        except TimeoutError as error:
            text = f"the HSM has not answered for {self._stuck_s:.0f} s"
            raise BackendUnavailable(text) from error

    # --- in a thread of `threads` --------------------------------------------

    def _sign(
        self, messages: Sequence[bytes], unwanted: threading.Event
    ) -> list[bytes | MeshsignerError]:
        signed: list[bytes] = []
        try:
            self._use(partial(_sign_on, messages=messages, signed=signed, unwanted=unwanted))
            reason = "nobody waits any more"
        except (BackendUnavailable, ConfigurationError) as error:
            reason = str(error)
        left = len(messages) - len(signed)
        return [*signed, *(BackendUnavailable(reason) for _ in range(left))]

    def _use(self, call: Callable[[OpenKey], T]) -> T:
        """Use this thread's session; when it broke, once more with a new one."""
        try:
            return self._try(call)
        except _FAULTS as error:
            self._lose(describe_fault(error))
        self._revive()
        try:
            return self._try(call)
        except _FAULTS as error:
            self._lose(describe_fault(error))
            raise BackendUnavailable(self._lost) from error

    def _try(self, call: Callable[[OpenKey], T]) -> T:
        with self._module.calling() as generation:
            opened: OpenKey | None = getattr(self._own, "opened", None)
            if opened is None or opened.generation != generation:
                opened = self._own.opened = self._open_session()
                self._opened.append(opened)
            return call(opened)

    def _revive(self) -> None:
        self._drop()
        try:
            self._module.load(locking=self._threads.count > 1)
            seen = self._module.generation
            try:
                self._try(_probe_with)
            except _FAULTS:
                self._module.restart(seen, self._user)
                self._try(_probe_with)
        except _FAULTS as error:
            self._lose(describe_fault(error))
            raise BackendUnavailable(self._lost) from error
        except (BackendUnavailable, ConfigurationError) as error:
            self._lose(str(error))
            raise
        self._find()

    def _lose(self, why: str) -> None:
        """Say once that the key is away, and close what this thread has of it."""
        self._drop()
        if why != self._lost:
            get_logger().error(Event.SIGNING_KEY_LOST, backend=self._name, cause=why)
        self._lost = why
        self._module.works_for(self._user, well=False)

    def _find(self) -> None:
        if self._lost:
            get_logger().info(Event.SIGNING_KEY_BACK, backend=self._name)
        self._lost = ""
        self._module.works_for(self._user, well=True)

    def _drop(self) -> None:
        opened: OpenKey | None = self._own.__dict__.pop("opened", None)
        if opened is not None:
            self._opened.remove(opened)
            self._end(opened)

    def _end(self, opened: OpenKey) -> None:
        """Close a session of this generation; the number of another may be somebody's by now."""
        with self._module.calling() as generation:
            if opened.generation == generation:
                opened.close()

    def _close(self) -> None:
        while self._opened:
            self._end(self._opened.pop())


def _sign_on(
    opened: OpenKey, *, messages: Sequence[bytes], signed: list[bytes], unwanted: threading.Event
) -> None:
    """Sign what is not signed yet, until the session breaks or nobody waits any more."""
    for message in messages[len(signed) :]:
        if unwanted.is_set():
            return
        signed.append(opened.sign(message))


def _probe_with(opened: OpenKey) -> None:
    opened.probe()


def describe_fault(error: Exception) -> str:
    """Put a device's fault into words: the standard's own name for it, and its text."""
    if isinstance(error, CallFailed):
        return f"the HSM's module failed: {error}"
    text = str(error)
    return f"the HSM answered {type(error).__name__}" + (f" ({text})" if text else "")
