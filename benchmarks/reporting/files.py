"""Where a run's results go: a JSON file, and a page beside it that needs nothing else."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.reporting.page import render


def save_run(directory: Path, data: dict[str, Any]) -> Path:
    """Write a run's results and its page; return the JSON file."""
    directory.mkdir(parents=True, exist_ok=True)
    server = data["server"].get("name", "server")
    now = datetime.now(UTC)
    data = data | {"when": f"{now:%Y-%m-%d %H:%M} UTC", "commit": _commit()}
    file = directory / f"{data['scenario']}-{server}-{now:%Y%m%dT%H%M%SZ}.json"
    file.write_text(json.dumps(data, indent=1) + "\n")
    file.with_suffix(".html").write_text(render([(server, data)]))
    return file


def _commit() -> str:
    """Return the commit of the tree, with a mark if it is not what is committed."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def load_run(file: Path) -> dict[str, Any]:
    """Return a run's results.

    Raises:
        ValueError: It is not such a file.
    """
    data = json.loads(file.read_text())
    if not isinstance(data, dict) or "stretches" not in data:
        raise ValueError(
            f"{file} is not a benchmark's result: expected a JSON object with stretches"
        )
    return data
