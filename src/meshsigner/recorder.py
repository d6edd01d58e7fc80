"""Writes issued certificates down before anybody gets them.

Sole owner of the inventory. All that has finished while a commit was under way
goes into the next one: a group commit whose size grows with the load by
itself. The commit runs in the recorder's own thread, the event loop goes on.
What cannot be written is not handed out; nothing is ever dropped.

Source: docs/ARCHITECTURE.md, invariant 3.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import lru_cache

from cryptography.hazmat.primitives import hashes

from meshsigner.errors import RecordFailed
from meshsigner.model import Chain, Health, Intent, Issuer, Order, Record
from meshsigner.observe.metrics import Metrics
from meshsigner.ports import Inventory

PROBE_INTERVAL_S = 5.0  # how old the word on a writable store may be
Settle = Callable[[RecordFailed | None], None]


class Recorder:
    """Commits outcomes in groups, then tells each submitter.

    Args:
        inventory: The store; from now on used by this recorder's thread only.
        metrics: Counts commits.
    """

    def __init__(self, inventory: Inventory, metrics: Metrics) -> None:
        self._inventory = inventory
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._pending: list[tuple[Sequence[Record], Settle]] = []
        self._undelivered: list[str] = []
        self._settled: list[str] = []
        self._commit: asyncio.Future[None] | None = None
        self._freed: Callable[[], None] = lambda: None
        self._fault: RecordFailed | None = RecordFailed("the store has not been tried yet")
        self._probes: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """True while a commit is under way: what is submitted now waits for it."""
        return self._commit is not None

    def tell_when_free(self, freed: Callable[[], None]) -> None:
        """Have somebody told each time that no commit is under way any more."""
        self._freed = freed

    async def start(self) -> None:
        """Prove the store, and keep proving it while nothing is written.

        One that is away for now is no error: `health` says so until it is back.

        Raises:
            RecordFailed: It cannot be written.
        """
        await self.probe()
        if self._fault is not None and not self._fault.may_pass:
            raise self._fault
        self._probes = asyncio.create_task(self._keep_probing())

    def submit(self, records: Sequence[Record], settle: Settle) -> None:
        """Have rows committed with the next group.

        Args:
            records: New rows.
            settle: Called in the event loop: with None once they are safe, or
                with why they are not.
        """
        self._pending.append((records, settle))
        self._start_commit()

    def undelivered(self, serial: str) -> None:
        """Note with the next group that nobody took a recorded certificate."""
        self._undelivered.append(serial)
        self._start_commit()

    async def intend(self, intents: Sequence[Intent]) -> None:
        """Commit that a remote CA is about to be asked, before it is.

        Args:
            intents: Of one call.

        Raises:
            RecordFailed: They are not in the store: nothing may be asked.
        """
        await self._note(intents)

    def settle(self, token: str) -> None:
        """Note with the next commit of intents that the outcome of one is known."""
        self._settled.append(token)

    async def open_intents(self) -> Sequence[Intent]:
        """Return the intents that an earlier process left open.

        Raises:
            RecordFailed: They cannot be read.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._inventory.open_intents)

    async def _note(self, intents: Sequence[Intent]) -> None:
        settled, self._settled = self._settled, []
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._inventory.note, intents, settled)
        except RecordFailed:
            self._settled += settled
            self._metrics.commit_failed()
            raise

    def health(self) -> Health:
        """Say whether the store can be written."""
        if self._fault is None:
            return self._inventory.health()
        return Health(name="inventory", ready=False, detail=str(self._fault))

    async def probe(self) -> None:
        """Try the store; `health` tells the result."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._inventory.probe)
        except RecordFailed as fault:
            self._fault = fault
        else:
            self._fault = None

    async def close(self) -> None:
        """Commit what is left, then release the store."""
        if self._probes is not None:
            self._probes.cancel()
        while self._commit is not None:
            await asyncio.wait([self._commit])
            await asyncio.sleep(0)  # let the commit's own callback run first
        if self._settled:
            with suppress(RecordFailed):  # they are found settled by their rows at the next start
                await self._note(())
        await asyncio.get_running_loop().run_in_executor(self._thread, self._inventory.close)
        self._thread.shutdown()

    async def _keep_probing(self) -> None:
        while True:
            await asyncio.sleep(PROBE_INTERVAL_S)
            if self._commit is None:
                await self.probe()

    def _start_commit(self) -> None:
        if self._commit is not None:
            return
        group, self._pending = self._pending, []
        undelivered, self._undelivered = self._undelivered, []
        records = [record for records, _ in group for record in records]
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        self._commit = loop.run_in_executor(
            self._thread, self._inventory.write, records, undelivered
        )
        self._commit.add_done_callback(
            lambda done: self._committed(done, group, len(records), started)
        )

    def _committed(
        self,
        done: asyncio.Future[None],
        group: list[tuple[Sequence[Record], Settle]],
        records: int,
        started: float,
    ) -> None:
        self._commit = None
        if self._pending or self._undelivered:
            self._start_commit()  # the thread works while the callers are told
        self._fault = _as_record_failed(done.exception())
        if self._fault is None:
            seconds = time.perf_counter() - started
            self._metrics.commit_done(records=records, seconds=seconds)
        else:
            self._metrics.commit_failed()
        for _, settle in group:
            settle(self._fault)
        if self._commit is None:
            self._freed()


def _as_record_failed(error: BaseException | None) -> RecordFailed | None:
    """Take a bug in a store for a store that cannot write: rows come first."""
    if error is None or isinstance(error, RecordFailed):
        return error
    fault = RecordFailed(f"the store failed: {error!r}")
    fault.__cause__ = error
    return fault


@lru_cache(maxsize=16)
def _fingerprint(issuer: Issuer) -> str:
    return issuer.certificate.fingerprint(hashes.SHA256()).hex()


def make_record(order: Order, chain: Chain, now: datetime, *, delivered: bool) -> Record:
    """Write down all that is known of an issued certificate.

    Args:
        order: What was ordered.
        chain: What was signed, and checked.
        now: When.
        delivered: False when nobody waits for it any more.
    """
    caller, terms, key = order.caller, order.terms, order.request.public_key
    acts_for_another = caller.identity != terms.identity
    return Record(
        serial=f"{chain.serial:x}",
        identity=terms.identity.uri,
        cluster=caller.cluster,
        namespace=terms.identity.namespace,
        pod_name=caller.pod_name,
        pod_uid=caller.pod_uid,
        node_name=caller.node_name,
        credential_id=caller.credential_id,
        impersonator=caller.identity.uri if acts_for_another else "",
        auth_method=caller.auth_method.value,
        issuer=_fingerprint(chain.issuer),
        backend=chain.backend,
        public_key_sha256=key.sha256.hex(),
        csr_sha256=order.request.csr_sha256.hex(),
        not_before=terms.not_before,
        not_after=terms.not_after,
        policy_generation=terms.policy_generation,
        client_address=order.peer,
        issued_at=now,
        delivered=delivered,
        certificate_der=chain.leaf_der,
    )


def make_draft(order: Order, backend: str, now: datetime) -> Record:
    """Write down what is known of a certificate before a remote CA is asked for it.

    Args:
        order: What is ordered.
        backend: Who is asked.
        now: When.
    """
    nothing = Chain(leaf_der=b"", issuer=order.issuer, serial=0, backend=backend)
    record = make_record(order, nothing, now, delivered=False)
    return replace(record, serial="", issuer="")
