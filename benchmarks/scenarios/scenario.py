"""What a scenario is: a name, what it asks for by default, and what it does in a lab."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.load.keys import KeyType
from benchmarks.scenarios.lab import Lab


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A measurement with a name.

    Args:
        name: Of its command.
        title: One line for reports.
        help: What it does, for its command.
        run: Does it.
        short_s: Length of its stretches in a short form.
        connections: Size of its herd or population by default, 0 if it has none.
        short_connections: The same in a short form.
        csr: Kind of the callers' keys by default: sidecars have RSA-2048, ztunnels P-256.
        workers: Workers by default.
    """

    name: str
    title: str
    help: str
    run: Callable[[Lab], None]
    short_s: float = 5.0
    connections: int = 0
    short_connections: int = 0
    csr: KeyType = "rsa2048"
    workers: int = 1
