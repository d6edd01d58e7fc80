"""The agent's process: what it is started with, what it leaves out, how it fails to start."""

import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from meshsigner.agent.ca_client import CaSettings
from meshsigner.agent.settings import AgentSettings, WorkloadSettings
from meshsigner.observe.logs import LogFormat
from meshsigner.sidecar import CANNOT_START, Plan
from meshsigner.spiffe import SpiffeId

LEFT_OUT = ("typer", "pydantic", "pydantic_settings", "yaml", "aiohttp", "watchfiles", "joserfc")


def _plan(socket: Path) -> Plan:
    workload = WorkloadSettings(
        name="productpage",
        identity=SpiffeId.parse("spiffe://cluster.local/ns/bookinfo/sa/productpage"),
        token_file=Path("token"),
        socket=socket,
    )
    ca = CaSettings(address="127.0.0.1:9", root_file=Path("root.pem"))
    return Plan(
        settings=AgentSettings(ca=ca, workloads=(workload,)),
        source="agent.yaml",
        log_format=LogFormat.JSON,
        log_level=20,
    )


def test_plan_survives_the_way_into_the_new_process(tmp_path: Path) -> None:
    """Everything in it can be handed over."""
    plan = _plan(tmp_path / "socket")
    assert pickle.loads(pickle.dumps(plan)) == plan  # noqa: S301 - just made


def test_libraries_of_the_command_line_are_left_out() -> None:
    """They would cost every sidecar a third of its memory."""
    loaded = f"print([name for name in {LEFT_OUT!r} if name in sys.modules])"
    code = f"import sys, meshsigner.sidecar; {loaded}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_agent_that_cannot_start_says_why(tmp_path: Path) -> None:
    """In words on standard error, with the code for wrong input."""
    (tmp_path / "socket").write_text("in the way")
    with tempfile.TemporaryFile() as file:
        pickle.dump(_plan(tmp_path / "socket"), file)
        file.seek(0)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "meshsigner.sidecar", str(file.fileno())],
            pass_fds=[file.fileno()],
            env={**os.environ, "GRPC_VERBOSITY": "NONE"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == CANNOT_START
    assert "error: agent.yaml: the agent cannot start with this" in done.stderr
    assert "socket is no socket; remove it, or choose another path" in done.stderr
