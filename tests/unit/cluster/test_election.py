"""Of several processes one leads, and the next one soon after its end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshsigner.cluster.election import Election, Place
from meshsigner.cluster.term import Term, boot_clock
from meshsigner.kube import BearerToken, Connection, KubernetesApi, TlsFiles
from tests.fakes.http_server import serve
from tests.fakes.kubernetes_objects import KubernetesObjects
from tests.fakes.kubernetes_store import Address
from tests.fakes.serving_tls import TestRoots, server_context

ROOTS = TestRoots()
SERVING = ROOTS.issue("127.0.0.1")
LEASE = Address("/apis/coordination.k8s.io/v1", "leases", "mesh", "lease")
DURATION_S = 1.0  # a whole second is the least that a Lease can say


class Process:
    """A process that takes part, with a clock that a test may set forward."""

    def __init__(self, api: KubernetesApi, name: str) -> None:
        """Begin without a term."""
        self.terms: list[Term] = []
        self.heard: list[str] = []
        self.ahead_s = 0.0
        place = Place(namespace="mesh", name="lease", me=name, duration_s=DURATION_S)
        self.election = Election(
            api,
            place,
            lead=self._lead,
            notes=lambda: f"noted by {name}",
            heard=self.heard.append,
            clock=lambda: boot_clock() + self.ahead_s,
        )
        self.running = asyncio.create_task(self.election.run())

    async def _lead(self, term: Term) -> None:
        self.terms.append(term)
        await asyncio.Event().wait()

    @property
    def leads(self) -> bool:
        """Whether its last term goes on."""
        return bool(self.terms) and self.terms[-1].is_valid()

    async def end(self) -> None:
        """End as a process does that was told to."""
        self.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.running


@asynccontextmanager
async def _election(
    tmp_path: Path, *names: str
) -> AsyncIterator[tuple[KubernetesObjects, list[Process]]]:
    server = KubernetesObjects()
    async with serve(server.http, server_context(SERVING, tmp_path)):
        connection = Connection(
            server=server.http.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken("reviewer")
        )
        apis = [KubernetesApi(connection, timeout_s=1.0) for _ in names]
        processes = [Process(api, name) for api, name in zip(apis, names, strict=True)]
        try:
            yield server, processes
        finally:
            for process in processes:
                process.running.cancel()
            await asyncio.gather(*(p.running for p in processes), return_exceptions=True)
            for api in apis:
                await api.aclose()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(5):
        while not holds():
            await asyncio.sleep(0.01)


async def test_one_of_all_leads(tmp_path: Path) -> None:
    """Whoever is first; the others hear its notes and know its name."""
    async with _election(tmp_path, "a", "b", "c") as (server, processes):
        await until(lambda: any(one.leads for one in processes))
        await until(lambda: all(f"noted by {_leader(processes)}" in p.heard for p in processes[1:]))
        await asyncio.sleep(2 * DURATION_S)
        leading = [one for one in processes if one.leads]
        assert len(leading) == 1
        assert len(leading[0].terms) == 1
        held = server.store.get(LEASE)["spec"]["holderIdentity"]
        assert {one.election.leader for one in processes} == {held}


def _leader(processes: list[Process]) -> str:
    return next(one.election.leader for one in processes if one.leads)


async def test_next_one_follows_a_leader_that_ended(tmp_path: Path) -> None:
    """It gives the lease back, and goes on from its notes."""
    async with _election(tmp_path, "a", "b") as (server, processes):
        await until(lambda: any(one.leads for one in processes))
        first, second = sorted(processes, key=lambda one: not one.leads)
        await until(lambda: bool(second.heard[-1:] and second.heard[-1]))
        await first.end()
        assert server.store.get(LEASE)["spec"]["holderIdentity"] == ""
        assert not first.leads
        await until(lambda: second.leads)
        assert second.heard[-1].startswith("noted by")


async def test_leader_that_slept_past_its_lease_leads_no_more(tmp_path: Path) -> None:
    """Its clock has gone on: the term is over before it has asked anybody."""
    async with _election(tmp_path, "a") as (_, (process,)):
        await until(lambda: process.leads)
        (term,) = process.terms
        process.ahead_s += DURATION_S
        assert not term.is_valid()
        await until(lambda: len(process.terms) == 2)
        assert process.leads
        assert not term.is_valid()


async def test_leader_without_its_api_server_stops_in_time(tmp_path: Path) -> None:
    """What it cannot renew it does not use longer than nobody else may have it."""
    async with _election(tmp_path, "a") as (server, (process,)):
        await until(lambda: process.leads)
        server.refuse(50, 503)
        await until(lambda: not process.leads)
        await until(lambda: process.election.fault != "")
        assert "503" in process.election.fault


async def test_lease_that_somebody_touched_is_kept(tmp_path: Path) -> None:
    """A label is no other leader: the holder reads the new version and goes on."""
    async with _election(tmp_path, "a") as (server, (process,)):
        await until(lambda: process.leads)
        for number in range(4):
            server.store.merge(LEASE, {"metadata": {"labels": {"touched": str(number)}}})
            await asyncio.sleep(DURATION_S / 3)
        assert process.leads
        assert len(process.terms) == 1


async def test_lease_that_another_took_is_lost(tmp_path: Path) -> None:
    """Whatever the reason: who is not named leads no more."""
    async with _election(tmp_path, "a") as (server, (process,)):
        await until(lambda: process.leads)
        server.store.merge(LEASE, {"spec": {"holderIdentity": "stranger"}})
        await until(lambda: not process.leads)
        assert server.store.get(LEASE)["spec"]["holderIdentity"] == "stranger"
