"""The one picture of a run that a README has room for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.reporting.charts import draw_summary


def draw_picture(data: Mapping[str, Any], stretch: str) -> str:
    """Return the SVG of one stretch.

    Args:
        data: A run's results.
        stretch: The stretch's name; empty takes the last one.

    Raises:
        ValueError: There is no such stretch.
    """
    found = [one for one in data["stretches"] if one["name"] == stretch or not stretch]
    if not found:
        names = ", ".join(one["name"] for one in data["stretches"])
        raise ValueError(f"no stretch {stretch!r}; there are: {names}")
    return draw_summary([("", found[-1])])


def save_picture(file: Path, data: Mapping[str, Any], stretch: str = "") -> None:
    """Write the picture of a stretch; see `draw_picture`."""
    picture = draw_picture(data, stretch)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(picture)
