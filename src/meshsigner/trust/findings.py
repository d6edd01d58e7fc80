"""What a look at CA files brings to light, gathered until all of it is told at once.

Decides nothing: the readers and checks of this package add to it, and
`load_directory` raises what has come together. A sentence says where, what was
found, what was expected and what to do; key material is never part of one.
"""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """A list that grows while files are read and checked.

    Attributes:
        problems: Each keeps the CA from being taken.
        warnings: Works, but somebody should know.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def problem(self, where: Path | str, *texts: str) -> None:
        """Add faults of one place."""
        self.problems.extend(f"{where}: {text}" for text in texts)

    def warn(self, where: Path | str, *texts: str) -> None:
        """Add remarks on one place."""
        self.warnings.extend(f"{where}: {text}" for text in texts)

    def add(self, other: "Findings") -> None:
        """Add all that another look found."""
        self.problems.extend(other.problems)
        self.warnings.extend(other.warnings)
