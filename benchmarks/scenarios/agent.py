"""What the agent costs: memory at rest, CPU of a rotation, pushes, and the way to Envoy.

Every process is one that a user would start, but for the way to Envoy, where the agent's parts run
here with stamps (`agent_envoy`). The agent has one core, its CA and its callers the other.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
import yaml
from rich.table import Table

from benchmarks.load.report import Spread, machine, spread, table
from benchmarks.scenarios.agent_envoy import stamped_agent
from benchmarks.scenarios.agent_streams import subscribed
from benchmarks.scenarios.processes import cpu_time, on_core, resident_bytes
from examples.envoy.processes import Part, Stage, free_port, is_ok
from meshsigner.agent.ca_client import CaSettings

_IDENTITY: Final = "spiffe://cluster.local/ns/bench/sa/agent"
_BACKDATE: Final = {"MESHSIGNER_POLICY__BACKDATE": "1s"}
_LIFETIME_S: Final = 10
_AGENT_CORE: Final = 0
_SETTLE_S: Final = 3.0
_OBTAINED: Final = '"event":"certificate obtained"'
_FIRST_SECRETS: Final = 2  # certificate and roots

_MIB: Final = 2**20
GOALS: Final = {"idle_above_bare_mib": 60.0, "answer_to_ack_p50_ms": 10.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPlan:
    """How much to measure.

    Args:
        starts: Starts of the agent and of bare Python whose memory is looked at.
        workloads: Workloads of the agent whose rotations are counted.
        rotation_s: How long they are counted, seconds.
        streams: Streams that are pushed to.
        pushes: How often all of them are.
        rotations: Rotations from the CA's answer to Envoy's acknowledgement.
    """

    starts: int
    workloads: int
    rotation_s: float
    streams: int
    pushes: int
    rotations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentResults:
    """What was measured.

    Args:
        plan: How much.
        bare_mib: Resident memory of Python with grpcio that serves nothing.
        idle_mib: Resident memory of an agent with a certificate.
        rotations: How many rotations were counted.
        rotation_cpu_ms: The agent's CPU for one: key, CSR, connection, call, checks.
        pushes_per_s: Pushes that arrived per second when all streams got one.
        push_cpu_us: The agent's CPU for one push and its acknowledgement.
        answer_to_ack_ms: From the CA's answer to Envoy's acknowledgement.
    """

    plan: AgentPlan
    bare_mib: Spread
    idle_mib: Spread
    rotations: int
    rotation_cpu_ms: float
    pushes_per_s: Spread
    push_cpu_us: Spread
    answer_to_ack_ms: tuple[float, ...]

    @property
    def idle_above_bare_mib(self) -> float:
        """What the agent needs beyond bare Python with grpcio."""
        return self.idle_mib.median - self.bare_mib.median

    @property
    def answer_to_ack_p50_ms(self) -> float:
        """The middle of all rotations."""
        return statistics.median(self.answer_to_ack_ms)

    @property
    def answer_to_ack_p99_ms(self) -> float:
        """What one in a hundred exceeds."""
        return statistics.quantiles(self.answer_to_ack_ms, n=100)[98]


class Bench:
    """The processes of one run.

    Args:
        stage: Starts them.
        plan: How much to measure.
    """

    def __init__(self, stage: Stage, plan: AgentPlan) -> None:
        self._stage = stage
        self._plan = plan
        self._ca = f"127.0.0.1:{free_port()}"
        self._state = stage.directory / "state"
        self._roots = stage.directory / "roots.pem"
        self._token = stage.directory / "token"

    def run(self) -> AgentResults:
        """Measure everything."""
        self._start_ca()
        bare = spread([self._bare_mib(number) for number in range(self._plan.starts)])
        idle = spread([self._idle_mib(number) for number in range(self._plan.starts)])
        rotations, cpu_ms = self._rotation_cpu()
        pushes = uvloop.run(self._pushes())
        return AgentResults(
            plan=self._plan,
            bare_mib=bare,
            idle_mib=idle,
            rotations=rotations,
            rotation_cpu_ms=cpu_ms,
            pushes_per_s=spread([per_s for per_s, _ in pushes]),
            push_cpu_us=spread([cpu_us for _, cpu_us in pushes]),
            answer_to_ack_ms=tuple(uvloop.run(self._answers_to_acks())),
        )

    def _start_ca(self) -> None:
        meshsigner, admin = str(self._stage.meshsigner), free_port()
        where = ("--listen", self._ca, "--admin", f"127.0.0.1:{admin}")
        command = [meshsigner, "dev", "run", "--state-dir", str(self._state), *where]
        server = self._stage.start("ca", command, _BACKDATE)
        server.wait(lambda: is_ok(admin, "/healthz/ready"))
        who = ("--namespace", "bench", "--service-account", "agent")
        token = [meshsigner, "dev", "token", "--state-dir", str(self._state), *who]
        self._token.write_bytes(subprocess.check_output(token))
        self._roots.write_bytes((self._state / "root-cert.pem").read_bytes())

    def _start_agent(self, name: str, workloads: Sequence[dict[str, Any]], **more: Any) -> Part:
        """Start an agent on its core, and wait until every workload has a certificate."""
        usual = {"identity": _IDENTITY, "token_file": str(self._token)}
        document = {
            "ca": {"address": self._ca, "root_file": str(self._roots)},
            "workloads": [usual | workload for workload in workloads],
            "logging": {"format": "json"},
            **more,
        }
        config = self._stage.directory / f"{name}.yaml"
        config.write_text(yaml.safe_dump(document))
        command = [str(self._stage.meshsigner), "agent", "run", "--config", str(config)]
        with on_core(_AGENT_CORE):
            agent = self._stage.start(name, command)
        agent.wait(lambda: _obtained(agent) >= len(workloads))
        return agent

    def _bare_mib(self, number: int) -> float:
        socket = self._stage.directory / f"bare-{number}"
        command = [sys.executable, "-m", "benchmarks.micro.bare_grpc", str(socket)]
        bare = self._stage.start(f"bare-{number}", command)
        bare.wait(socket.exists)
        return _memory_then_stop(bare)

    def _idle_mib(self, number: int) -> float:
        name = f"idle-{number}"
        workload = {"socket": str(self._stage.directory / name / "socket")}
        return _memory_then_stop(self._start_agent(name, [workload]))

    def _rotation_cpu(self) -> tuple[int, float]:
        """Return how many rotations were counted, and the CPU of one in ms."""
        directory = self._stage.directory
        shared = {"path": str(directory / "shared"), "directory": str(directory / "own")}
        workloads = [
            {"name": f"w{number}", "user": 1 + number, "lifetime": f"{_LIFETIME_S}s"}
            for number in range(self._plan.workloads)
        ]
        agent = self._start_agent("rotating", workloads, shared_socket=shared)
        count, cpu = _obtained(agent), cpu_time(agent.process.pid)
        time.sleep(self._plan.rotation_s)
        rotations = _obtained(agent) - count
        used = cpu_time(agent.process.pid) - cpu
        agent.stop()
        return rotations, used.total_s / rotations * 1e3

    async def _pushes(self) -> list[tuple[float, float]]:
        """Return for each push to all streams: pushes per second, CPU of one in us."""
        socket = self._stage.directory / "streams" / "socket"
        renewal = {"on_root_change": True, "spread": "0s"}
        agent = self._start_agent("streams", [{"socket": str(socket)}], renewal=renewal)
        pid, streams = agent.process.pid, self._plan.streams
        found = []
        async with subscribed(socket, streams) as subscribers:
            await asyncio.sleep(_SETTLE_S)
            for _ in range(self._plan.pushes):
                cpu = cpu_time(pid)
                self._renew()
                took_s = await subscribers.all_have_it()
                await asyncio.sleep(1)  # for what is done after the last push
                found.append((streams / took_s, (cpu_time(pid) - cpu).total_s / streams * 1e6))
        agent.stop()
        return found

    def _renew(self) -> None:
        """Let the agent renew at once: its CA's root file is another."""
        fresh = self._roots.with_suffix(".new")
        fresh.write_bytes(self._roots.read_bytes() + b"\n")
        os.replace(fresh, self._roots)  # noqa: PTH105 - rename(2)

    async def _answers_to_acks(self) -> list[float]:
        """Return for each rotation the ms from the CA's answer to Envoy's acknowledgement."""
        socket = self._stage.directory / "stamped"
        ca = CaSettings(address=self._ca, root_file=self._roots)
        async with stamped_agent(
            ca, identity=_IDENTITY, token_file=self._token, socket=socket
        ) as agent:
            values = {"ADMIN_PORT": free_port(), "MTLS_PORT": free_port()}
            told = {**values, "CLIENT_ID": _IDENTITY, "SOCKET": socket}
            self._stage.start_envoy("envoy", "server.yaml", told)
            await agent.settle(_FIRST_SECRETS)
            return [await agent.rotate() * 1e3 for _ in range(self._plan.rotations)]


def _obtained(agent: Part) -> int:
    return agent.log.read_text().count(_OBTAINED)


def _memory_then_stop(part: Part) -> float:
    time.sleep(_SETTLE_S)
    (resident,) = resident_bytes(part.process.pid)
    part.stop()
    return resident / _MIB


def run(plan: AgentPlan, directory: Path, meshsigner: Path, envoy: Path) -> AgentResults:
    """Measure.

    Args:
        plan: How much.
        directory: Gets sockets, files and logs; its path must be short.
        meshsigner: The command.
        envoy: Envoy's command.

    Raises:
        PartFailedError: A process did not start.
    """
    stage = Stage(meshsigner=meshsigner, envoy=envoy, directory=directory)
    with stage.parts:
        return Bench(stage, plan).run()


def as_data(results: AgentResults) -> dict[str, Any]:
    """Return everything, for a file."""
    return {
        "machine": machine(),
        "plan": asdict(results.plan),
        "bare_mib": asdict(results.bare_mib),
        "idle_mib": asdict(results.idle_mib),
        "idle_above_bare_mib": results.idle_above_bare_mib,
        "rotations": results.rotations,
        "rotation_cpu_ms": results.rotation_cpu_ms,
        "pushes_per_s": asdict(results.pushes_per_s),
        "push_cpu_us": asdict(results.push_cpu_us),
        "answer_to_ack_p50_ms": results.answer_to_ack_p50_ms,
        "answer_to_ack_p99_ms": results.answer_to_ack_p99_ms,
        "answer_to_ack_ms": list(results.answer_to_ack_ms),
        "goals": GOALS,
    }


def figures(results: AgentResults) -> Table:
    """Return the figures for the eye."""
    rows = [
        ("bare Python with grpcio, MiB", f"{results.bare_mib}", ""),
        ("agent at rest, MiB", f"{results.idle_mib}", ""),
        ("above bare, MiB", f"{results.idle_above_bare_mib:.1f}", "at most 60"),
        (f"CPU of a rotation, ms ({results.rotations})", f"{results.rotation_cpu_ms:.2f}", ""),
        (f"pushes/s to {results.plan.streams} streams", f"{results.pushes_per_s}", ""),
        ("CPU of a push, us", f"{results.push_cpu_us}", ""),
        ("CA's answer to ACK, p50 ms", f"{results.answer_to_ack_p50_ms:.2f}", "at most 10"),
        ("CA's answer to ACK, p99 ms", f"{results.answer_to_ack_p99_ms:.2f}", ""),
    ]
    return table("agent: median (lowest to highest)", ["figure", "measured", "goal"], rows)
