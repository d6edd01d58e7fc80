"""One process on one core: what a certificate costs in empty calls, and what callers wait.

The unit is an empty call: the same RPC shell answering constant bytes to the same
requests, measured in the same round, because absolute figures of a shared machine mean
little. Everything that a user gets is on: records, logs, metrics, TLS.
"""

import asyncio
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.load.audit import Audit, audit
from benchmarks.load.calls import Call, Outcome
from benchmarks.load.driver import OnProgress, run_closed, run_lone
from benchmarks.load.keys import KeyType
from benchmarks.load.report import Latency, latency
from benchmarks.micro.fsync import FsyncProbe
from benchmarks.scenarios import servers
from benchmarks.scenarios.material import KEY_TYPES, Material, OnStage, Plan, prepare
from benchmarks.scenarios.processes import on_core, resident_bytes
from benchmarks.scenarios.sample import Sample, Target, take_sample, warm_target
from benchmarks.scenarios.serving import write_serving_pair

_SERVER_CORE: Final = 0
_DRIVER_CORE: Final = 1
_IDLE_S: Final = 2.0
_LONE_GROUP: Final = 20
_REST_S: Final = 0.02
_LONE_TIMEOUT_S: Final = 15.0
_GRPC_FRAME_BYTES: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Lone:
    """Calls with nothing else under way, beside the disk's own time.

    Args:
        latency: What a caller saw who sent one after the other.
        rested: What one saw whose call came after a rest of 20 ms, when the caches
            and the disk had been somebody else's.
        fsync_ms: Each of the probe's durable appends, measured between the calls.
        audit: What the answers are worth.
    """

    latency: Latency
    rested: Latency
    fsync_ms: list[float]
    audit: Audit


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All that was measured.

    Args:
        plan: How much was asked for.
        first_start_s: Start to ready with nothing there.
        restart_s: Start to ready on the state of before.
        idle_bytes: Resident memory of each server process before any call.
        loaded_bytes: The same after all calls.
        samples: The rounds.
        lone: The lone calls.
    """

    plan: Plan
    first_start_s: float
    restart_s: float
    idle_bytes: list[int]
    loaded_bytes: list[int]
    samples: list[Sample]
    lone: Lone


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    """The two servers of a round, side by side."""

    empty: Target
    real: Target
    in_flight: int

    async def round(
        self, number: int, calls: dict[KeyType, list[Call]], step: OnProgress
    ) -> list[Sample]:
        """Return one sample of each case; the empty server gets the RSA calls."""
        cases = [("empty", self.empty, calls["rsa2048"])]
        cases += [(kind, self.real, calls[kind]) for kind in KEY_TYPES]
        return [
            await take_sample(
                target, case, number, batch, in_flight=self.in_flight, on_progress=step
            )
            for case, target, batch in cases
        ]

    def close(self) -> None:
        """Close all connections."""
        for connection in (*self.empty.connections, *self.real.connections):
            connection.close()


def run(plan: Plan, work: Path, cache: Path, on_stage: OnStage) -> Results:
    """Measure everything once.

    Args:
        plan: How much to measure.
        work: Directory for the servers' states and logs, on a real disk; emptied first.
        cache: Where the RSA keys stay between runs.
        on_stage: Told what goes on.

    Raises:
        ServerFailedError: A server did not start, or refused the very first call.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    state, log = work / "state", work / "meshsigner.log"
    started = on_stage("first start, restart", 2)
    with servers.meshsigner(state, log, _SERVER_CORE) as running:
        started()
        first_start_s = running.ready_after_s
    with servers.meshsigner(state, log, _SERVER_CORE) as running:
        started()
        time.sleep(_IDLE_S)
        idle = resident_bytes(running.process.pid)
        material = prepare(plan, servers.development_issuer(state), cache, on_stage)
        samples, lone = _measure(plan, work, running, material, on_stage)
        loaded = resident_bytes(running.process.pid)
    return Results(
        plan=plan,
        first_start_s=first_start_s,
        restart_s=running.ready_after_s,
        idle_bytes=idle,
        loaded_bytes=loaded,
        samples=samples,
        lone=lone,
    )


def _measure(
    plan: Plan, work: Path, running: servers.Running, material: Material, on_stage: OnStage
) -> tuple[list[Sample], Lone]:
    key, chain = write_serving_pair(work, servers.NAME)
    answer = work / "answer"
    with on_core(_DRIVER_CORE), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answer.write_bytes(runner.run(_one_answer(running, material.first)))
        with servers.empty_server(work, key, chain, answer, _SERVER_CORE) as empty:
            samples = runner.run(_rounds(plan, empty, running, material, on_stage))
        lone = runner.run(_lone_calls(work / "state", running, material.lone, on_stage))
    return samples, lone


async def _one_answer(running: servers.Running, calls: list[Call]) -> bytes:
    """Return a real answer's message, for the empty server to repeat."""
    target = await warm_target(running, 1, certificates=True)
    outcomes = await run_closed(target.connections, calls, in_flight=1, timeout_s=_LONE_TIMEOUT_S)
    target.connections[0].close()
    found = audit(outcomes)
    if not found.clean:
        raise servers.ServerFailedError(f"the first call failed: {found}")
    return outcomes[0].answer.body[_GRPC_FRAME_BYTES:]


async def _rounds(
    plan: Plan,
    empty: servers.Running,
    running: servers.Running,
    material: Material,
    on_stage: OnStage,
) -> list[Sample]:
    bench = _Bench(
        empty=await warm_target(empty, plan.connections, certificates=False),
        real=await warm_target(running, plan.connections, certificates=True),
        in_flight=plan.in_flight,
    )
    await bench.round(0, material.warm_up, on_stage("warm-up", 3 * plan.warm_up))
    samples = []
    for number, calls in enumerate(material.rounds):
        step = on_stage(f"round {number + 1} of {plan.rounds}", 3 * plan.calls)
        samples += await bench.round(number, calls, step)
    bench.close()
    return samples


async def _lone_calls(
    directory: Path, running: servers.Running, calls: list[Call], on_stage: OnStage
) -> Lone:
    step = on_stage("lone calls", len(calls))
    probe = FsyncProbe(directory / "fsync-probe")
    target = await warm_target(running, 1, certificates=True)
    outcomes: list[Outcome] = []
    rested: list[Outcome] = []
    fsync_ms = []
    for start in range(0, len(calls), _LONE_GROUP):
        group = calls[start : start + _LONE_GROUP]
        pause_s, kept = (_REST_S, rested) if start // _LONE_GROUP % 3 == 2 else (0.0, outcomes)
        kept += await run_lone(
            target.connections[0], group, pause_s=pause_s, timeout_s=_LONE_TIMEOUT_S
        )
        fsync_ms += [probe.measure_s() * 1e3 for _ in group]
        for _ in group:
            step()
    target.connections[0].close()
    probe.close()
    return Lone(
        latency=latency(outcomes),
        rested=latency(rested),
        fsync_ms=fsync_ms,
        audit=audit(outcomes + rested),
    )
