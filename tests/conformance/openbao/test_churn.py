"""Callers without a pause while OpenBao is sealed, throttled, restarted, cut off.

Short form: each fault once; with --soak five minutes of faults in random order. Whatever happens:
no certificate without a row, none that is wrong, every caller answered within ten seconds with a
code that Istio's agent retries, and certificates again within five seconds of a fault's end.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from tests.conformance.openbao.mounts import Mesh
from tests.conformance.openbao.proxy import Proxy, proxy_before
from tests.conformance.openbao.served import Answer, Served, served
from tests.conformance.openbao.test_way import KINDS, roots_of, settings_of

CALLERS = 12
PAUSE_S = 0.1  # of each caller between two calls
FAULT_S = 1.5
SETTLED_S = 0.5
SOAK_S = 300.0
ANSWERED_WITHIN_S = 10.0
BACK_WITHIN_S = 5.0
# What Istio's agent tries again. Source: istio security/pkg/nodeagent/cache, pkg/security/retry.go.
RETRIED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
}
Fault = Callable[["Scene"], Awaitable[None]]


@dataclass(slots=True, kw_only=True)
class Scene:
    """A server, its OpenBao, and all that callers got.

    Attributes:
        mesh: OpenBao's mounts.
        proxy: Between the two.
        server: The server.
        answers: Every answer so far.
        ended: For each fault its name and how long callers then waited for certificates, seconds.
        callers: Those who call.
        silent: Nobody calls any more.
    """

    mesh: Mesh
    proxy: Proxy
    server: Served
    answers: list[Answer] = field(default_factory=list)
    ended: list[tuple[str, float]] = field(default_factory=list)
    callers: list["asyncio.Task[None]"] = field(default_factory=list)
    silent: bool = False

    async def call_on(self, number: int) -> None:
        """Be one caller, until all fall silent."""
        while not self.silent:
            self.answers.append(await self.server.ask(number))
            number += CALLERS
            await asyncio.sleep(PAUSE_S)

    async def hush(self) -> None:
        """Let callers have their last answer."""
        self.silent = True
        await asyncio.gather(*self.callers)

    async def suffer(self, fault: Fault) -> None:
        """Let a fault happen and end, and wait until callers get certificates again."""
        await fault(self)
        ended_s = time.monotonic()
        while not any(a.sent_s > ended_s and a.code is grpc.StatusCode.OK for a in self.answers):
            await asyncio.sleep(0.01)
            if time.monotonic() - ended_s > 2 * BACK_WITHIN_S:
                break
        self.ended.append((fault.__name__, time.monotonic() - ended_s))
        await asyncio.sleep(SETTLED_S)


async def sealed(scene: Scene) -> None:
    """Seal it and unseal it."""
    await asyncio.to_thread(scene.mesh.bao.seal)
    await asyncio.sleep(FAULT_S)
    await asyncio.to_thread(scene.mesh.bao.unseal)


async def token_revoked(scene: Scene) -> None:
    """Revoke the token, and put another one there."""
    path = scene.mesh.folder / "token"
    document = {"token": path.read_text()}
    await asyncio.to_thread(scene.mesh.bao.write, "auth/token/revoke", document)
    await asyncio.sleep(FAULT_S)
    await asyncio.to_thread(scene.mesh.token_file)


async def throttled(scene: Scene) -> None:
    """Allow one request a second."""
    quota = f"sys/quotas/rate-limit/{scene.mesh.name}"
    document = {"path": "", "rate": 1, "interval": "1s"}
    await asyncio.to_thread(scene.mesh.bao.write, quota, document)
    await asyncio.sleep(FAULT_S)
    await asyncio.to_thread(_lift, scene.mesh, quota)


def _lift(mesh: Mesh, quota: str) -> None:
    """Delete a quota that holds for its own deletion, too."""
    while mesh.bao.ask("DELETE", quota).status == 429:
        time.sleep(0.2)


async def restarted(scene: Scene) -> None:
    """Stop it, start it and unseal it."""
    bao = scene.mesh.bao
    await asyncio.to_thread(bao.stop)
    await asyncio.to_thread(bao.start)
    await asyncio.to_thread(bao.unseal)


async def cut_off(scene: Scene) -> None:
    """Break every connection and each new one."""
    scene.proxy.cut()
    await asyncio.sleep(FAULT_S)
    scene.proxy.heal()


async def hanging(scene: Scene) -> None:
    """Keep connections open and let nothing through."""
    scene.proxy.hang()
    await asyncio.sleep(FAULT_S)
    scene.proxy.heal()


async def answers_lost(scene: Scene) -> None:
    """Let requests through and lose their answers."""
    scene.proxy.swallow_answers = True
    await asyncio.sleep(FAULT_S)
    scene.proxy.heal()


FAULTS: tuple[Fault, ...] = (
    sealed,
    token_revoked,
    throttled,
    restarted,
    cut_off,
    hanging,
    answers_lost,
)


@asynccontextmanager
async def churning(mesh: Mesh, kind: str, folder: Path) -> AsyncIterator[Scene]:
    """Have callers call without end, over a server whose OpenBao is behind a proxy."""
    async with proxy_before(mesh.bao.address) as proxy:
        changes = {"address": f"https://{proxy.address}", "timeout": "3s"}
        if kind == "openbao_intermediate":
            changes |= {"lifetime": "2m", "renew_at": "0.1"}
        settings = settings_of(mesh, kind, **changes)
        async with served(folder, {"corporate": settings}) as server:
            scene = Scene(mesh=mesh, proxy=proxy, server=server)
            callers = [asyncio.create_task(scene.call_on(number)) for number in range(CALLERS)]
            scene.callers = callers
            try:
                await asyncio.sleep(SETTLED_S)
                yield scene
            finally:
                for caller in callers:
                    caller.cancel()
                await asyncio.gather(*callers, return_exceptions=True)


@pytest.mark.parametrize("kind", KINDS)
async def test_churn(
    own_mesh: Mesh, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """Nothing is issued without a row, nothing wrong; every caller is told something useful."""
    soak = request.config.getoption("--soak")
    async with churning(own_mesh, kind, tmp_path / "server") as scene:
        ends_s = time.monotonic() + (SOAK_S if soak else 0.0)
        for fault in FAULTS:
            await scene.suffer(fault)
        while time.monotonic() < ends_s:
            await scene.suffer(random.choice(FAULTS))  # noqa: S311 # no secret
        await scene.hush()
        rows = await asyncio.to_thread(scene.server.recorded)
    roots = roots_of(own_mesh, kind)
    issued = [answer for answer in scene.answers if answer.code is grpc.StatusCode.OK]
    refused = [answer for answer in scene.answers if answer.code is not grpc.StatusCode.OK]
    await asyncio.to_thread(_look_at, issued, rows, roots)
    assert {answer.code for answer in refused} <= RETRIED
    assert max(answer.took_s for answer in scene.answers) < ANSWERED_WITHIN_S
    assert [one for one in scene.ended if one[1] > BACK_WITHIN_S] == []
    assert len(issued) > len(FAULTS) * CALLERS
    if kind == "openbao_intermediate":
        assert refused == []  # no fault of the CA above reaches a caller


def _look_at(
    issued: Sequence[Answer], rows: Container[int], roots: Sequence[x509.Certificate]
) -> None:
    missing = [answer for answer in issued if answer.leaf.serial_number not in rows]
    assert missing == []
    wrong = [faults for answer in issued if (faults := answer.faults(roots))]
    assert wrong == []
