"""What a server has counted: its metrics page, read like any scraper reads it."""

import urllib.request
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """A reading of all counters and of the sums and counts of histograms.

    Args:
        values: By name with labels, exactly as the page writes them.
    """

    values: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, port: int) -> "Counted":
        """Read the metrics page of a server on loopback.

        Raises:
            OSError: Nobody answers there.
        """
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return cls.parse(answer.read().decode())

    @classmethod
    def parse(cls, page: str) -> "Counted":
        """Take a page in Prometheus' text format apart; time stamps are not expected."""
        lines = [line for line in page.splitlines() if line and not line.startswith("#")]
        return cls(values={name: float(value) for name, _, value in map(_split, lines)})

    def since(self, earlier: "Counted") -> "Counted":
        """Return what was counted between two readings."""
        before = earlier.values
        return Counted(values={k: v - before.get(k, 0.0) for k, v in self.values.items()})

    def mean(self, histogram: str) -> float:
        """Return the mean of what a histogram observed, 0 if nothing was."""
        count = self.values.get(f"{histogram}_count", 0.0)
        return self.values[f"{histogram}_sum"] / count if count else 0.0

    def total(self, counter: str) -> float:
        """Return a counter's sum over all its labels."""
        return sum(
            value for name, value in self.values.items() if name.partition("{")[0] == counter
        )


def _split(line: str) -> tuple[str, str, str]:
    return line.rpartition(" ")
