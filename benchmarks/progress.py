"""What a person sees while it runs: preparations and loads as bars, on standard error."""

from collections.abc import Callable
from itertools import count
from typing import Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

_STEPS_A_MOVE: Final = 64


class Display:
    """Bars for stages and loads; a context manager.

    Args:
        console: Where they are drawn.
    """

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            refresh_per_second=4,
        )
        self._load: TaskID | None = None

    def __enter__(self) -> Self:
        """Begin to draw."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they are."""
        self._end_load()
        self._progress.stop()

    def stage(self, name: str, size: int) -> Callable[[], None]:
        """Show a stage as a bar; returns what moves it, seldom, for the driver's sake."""
        task = self._progress.add_task(name, total=size, note="")
        numbers = count(1)

        def step() -> None:
            number = next(numbers)
            if number % _STEPS_A_MOVE == 0 or number == size:
                self._progress.update(task, completed=number)

        return step

    def begin(self, name: str, expected: int) -> None:
        """Show a load; `expected` is 0 where nobody knows how many answers will come."""
        self._end_load()
        self._load = self._progress.add_task(name, total=expected or None, note="")

    def moved(self, done: int, granted: int) -> None:
        """Move the load's bar."""
        if self._load is not None:
            note = f"{granted} certificates" if granted != done else ""
            self._progress.update(self._load, completed=done, note=note)

    def _end_load(self) -> None:
        """Stop the last load's clock."""
        if self._load is not None:
            self._progress.stop_task(self._load)
