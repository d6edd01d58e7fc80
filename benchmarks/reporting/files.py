"""Where a run's results go: a JSON file, and a page beside it that needs nothing else."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def save_run(directory: Path, data: dict[str, Any]) -> Path:
    """Write a run's results and its page; return the JSON file."""
    directory.mkdir(parents=True, exist_ok=True)
    server = data["server"].get("name", "server")
    stem = f"{data['scenario']}-{server}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    file = directory / f"{stem}.json"
    file.write_text(json.dumps(data, indent=1) + "\n")
    return file


def load_run(file: Path) -> dict[str, Any]:
    """Return a run's results.

    Raises:
        ValueError: It is not such a file.
    """
    data: dict[str, Any] = json.loads(file.read_text())
    if not isinstance(data, dict) or "stretches" not in data:
        raise ValueError(
            f"{file} is not a benchmark's result: expected a JSON object with stretches"
        )
    return data
