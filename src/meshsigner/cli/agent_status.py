"""How `meshsigner agent status` asks an agent what it has, and tells a person."""

import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

_ANSWER_S = 5.0


def ask(path: Path) -> Mapping[str, Any]:
    """Ask a running agent.

    Args:
        path: Its status socket.

    Raises:
        OSError: Nobody answers there.
        ValueError: Something else answers.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_ANSWER_S)
        connection.connect(str(path))
        with connection.makefile("rb") as answer:
            document: Mapping[str, Any] = json.loads(answer.read())
    return document


def render_status(document: Mapping[str, Any]) -> str:
    """Put an agent's status into words.

    Args:
        document: What it told.
    """
    return "\n".join(line for workload in document["workloads"] for line in _workload(workload))


def _workload(workload: Mapping[str, Any]) -> Iterator[str]:
    yield f"{workload['name']}: {workload['identity']}"
    yield f"  socket        {workload['socket']}"
    if workload["serial"] is None:
        yield "  certificate   none yet"
    else:
        yield f"  certificate   serial {workload['serial']}"
        yield f"  valid         {workload['not_before']} to {workload['not_after']}"
    yield f"  next renewal  {workload['next_renewal']}"
    if workload["last_failure"]:
        yield f"  last failure  {workload['last_failure']}"
    width = max(len(secret["name"]) for secret in workload["secrets"])
    yield f"  {'secret':<{width}}  {'version':<16}  streams"
    for secret in workload["secrets"]:
        version = secret["version"] or "-"
        yield f"  {secret['name']:<{width}}  {version:<16}  {secret['subscribers']}"
