"""Starts `meshsigner agent run` as a person does, reads its log and its status, and ends it.

What a test demands of it is decided there. Only processes that were started here are ended.
"""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
STATUS_TIMEOUT_S = 60.0
POLL_S = 0.05
LOG_TAIL = 4_000  # characters

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentPlan:
    """What an agent is started with.

    Attributes:
        name: For its files.
        command: The `meshsigner` command.
        directory: Gets its configuration and its log.
        ca: host:port of the CA.
        roots: PEM file with the roots of the CA's serving certificate.
        workloads: Items of `workloads`, as its configuration has them.
        more: Further settings.
        instead: A program that is run in place of `meshsigner agent run`.
    """

    name: str
    command: Path
    directory: Path
    ca: str
    roots: Path
    workloads: Sequence[Mapping[str, Any]]
    more: Mapping[str, Any] = field(default_factory=dict)
    instead: Sequence[str] = ()

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.directory / f"{self.name}.yaml"

    @property
    def log(self) -> Path:
        """File that gets its output, over restarts."""
        return self.directory / f"{self.name}.log"

    def write(self) -> None:
        """Write the configuration."""
        document = {
            "ca": {"address": self.ca, "root_file": os.fspath(self.roots)},
            "workloads": [dict(workload) for workload in self.workloads],
            "status_socket": os.fspath(self.directory / f"{self.name}.status"),
            "logging": {"format": "json"},
            **self.more,
        }
        self.config.write_text(yaml.safe_dump(document))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningAgent:
    """An agent that runs.

    Attributes:
        plan: What it was started with.
        process: The process.
        begins: Where its own lines begin in the log, bytes.
    """

    plan: AgentPlan
    process: "subprocess.Popen[bytes]"
    begins: int

    def lines(self, event: str | None = None) -> list[Line]:
        """Return what it has logged so far, all of it or one event.

        Raises:
            json.JSONDecodeError: A line is no JSON: something has written past the log.
        """
        text = self.plan.log.read_bytes()[self.begins :].decode()
        whole, _, _ = text.rpartition("\n")  # a last line may be half there
        found = [json.loads(line) for line in whole.splitlines()]
        return [line for line in found if event is None or line.get("event") == event]

    def wait_for(self, event: str, count: int = 1, timeout_s: float = READY_TIMEOUT_S) -> Line:
        """Wait until an event was logged so many times, and return its last line.

        Raises:
            AssertionError: It was not, or the agent ended; the text holds the end of its log.
        """
        self.wait(lambda: len(self.lines(event)) >= count, f"{event} ({count})", timeout_s)
        return self.lines(event)[-1]

    def wait(
        self, reached: Callable[[], bool], what: str, timeout_s: float = READY_TIMEOUT_S
    ) -> None:
        """Wait for a state of this agent.

        Raises:
            AssertionError: It was not reached, or the agent ended.
        """
        deadline = time.monotonic() + timeout_s
        while not reached():
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                tail = self.plan.log.read_text()[-LOG_TAIL:]
                msg = f"{self.plan.name}: no {what} (exit status {ended}):\n{tail}"
                raise AssertionError(msg)
            time.sleep(POLL_S)

    def status(self) -> list[Mapping[str, Any]]:
        """Return what `meshsigner agent status` says of each workload."""
        asked = ("agent", "status", "--config", os.fspath(self.plan.config), "--json")
        done = subprocess.run(
            [self.plan.command, *asked],
            check=True,
            capture_output=True,
            text=True,
            timeout=STATUS_TIMEOUT_S,
        )
        workloads: list[Mapping[str, Any]] = json.loads(done.stdout)["workloads"]
        return workloads

    def serial(self, workload: str = "default") -> str:
        """Return the serial number of the certificate that it obtained last, lower-case hex."""
        mine = [one for one in self.lines("certificate obtained") if one["workload"] == workload]
        return str(mine[-1]["serial"]) if mine else ""

    def kill(self) -> None:
        """End it by SIGKILL, as a crash or the kernel would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(STOP_TIMEOUT_S)

    def stop(self) -> int:
        """Ask it to end by SIGTERM and return its exit status."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


def start(plan: AgentPlan) -> RunningAgent:
    """Start an agent and wait until its sockets are there; certificates may not be."""
    plan.write()
    with plan.log.open("ab") as output:
        begins = output.tell()
        process = subprocess.Popen(
            [*(plan.instead or (plan.command, "agent", "run")), "--config", plan.config],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    agent = RunningAgent(plan=plan, process=process, begins=begins)
    agent.wait_for("serving secrets")
    return agent


@contextlib.contextmanager
def running(plan: AgentPlan) -> Iterator[RunningAgent]:
    """Have an agent for the length of a block and end it kindly after that, if it still runs.

    Raises:
        AssertionError: It did not end well when asked to.
    """
    agent = start(plan)
    try:
        yield agent
    finally:
        status = agent.stop()
    if status not in {0, -signal.SIGKILL}:
        msg = f"{plan.name} ended with {status}:\n{plan.log.read_text()[-LOG_TAIL:]}"
        raise AssertionError(msg)
