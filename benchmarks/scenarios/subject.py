"""The seam for servers under test: how one is started, where it listens, what it costs.

Whoever can say these things can be put under every load: `meshsigner serve` and others.
A server is known by its command line, its port, its processes and its files, never by
its code.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.load.client import Server
from benchmarks.scenarios.mesh import Mesh


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a server is started from.

    Args:
        directory: Its own, for configuration, state and logs; kept over restarts.
        mesh: CA, token issuer, trust.
        workers: How many processes (or threads) do its work.
        cores: CPUs that it may use; none: all.
        port: Where it must listen; 0 lets it choose.
        settings: Sections of its own configuration to replace.
    """

    directory: Path
    mesh: Mesh
    workers: int
    cores: tuple[int, ...]
    port: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)


class Inventory(Protocol):
    """What a server has written down."""

    def recorded(self) -> Iterator[tuple[int, bytes]]:
        """Yield each row's serial number and the SHA-256 of its certificate's DER."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A server that answers.

    Args:
        name: For the report.
        server: Where it is and how to know it.
        pid: Of its first process; all of its descendants count with it. None for a
            server whose processes are not here.
        metrics_url: Where its metrics are, in Prometheus' text format; empty: nowhere.
        inventory: What it has written down; None if it writes nothing down.
        settings: What it was started with, for the report.
        ready_after_s: Time from its start until it said that it was ready.
    """

    name: str
    server: Server
    pid: int | None
    metrics_url: str = ""
    inventory: Inventory | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    ready_after_s: float = 0.0


class Subject(Protocol):
    """A kind of server to be measured."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    def running(self, setup: Setup) -> AbstractContextManager[Running]:
        """Run one for the length of a block.

        Raises:
            ServerFailedError: It did not start.
        """
        ...
