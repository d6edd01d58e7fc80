"""What a kind of backend gives: the one object behind an entry point.

A backend is found through the entry-point group `meshsigner.backends`: the
entry point's name is the value of `type` in the configuration, and its object
is a `BackendKind`. A package of somebody else adds one without a change here
(docs/backends.md, examples/third_party_backend). The module that holds the
object is imported whenever a configuration names the type or the kinds are
listed: libraries of the backend are imported inside `open` and `examine`, so
that who lists kinds needs none of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from cryptography import x509

from meshsigner.config.fields import Section
from meshsigner.observe.metrics import Metrics
from meshsigner.ports import Signer
from meshsigner.spiffe import TrustDomain

SettingsType = type[Section]

__all__ = ["BackendKind", "Finding", "SettingsType", "Signer", "Surroundings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a backend gets of the server that it works in.

    Attributes:
        clock: Returns the time, UTC.
        trust_domain: Of the mesh.
        metrics: The process's figures.
        directory: A directory of this backend's own for what it wants to keep;
            it may not exist yet. Backends with a path in their settings don't need it.
        announced: Roots that this server's other workers hand out, the one in
            use first: a backend's first issuer may only follow on these. Empty
            at the first start.
        try_pin: For `examine`: True where a secret may be tried that is locked
            after a few wrong tries (`check-config --connect --try-pin`).
    """

    clock: Callable[[], datetime]
    trust_domain: TrustDomain
    metrics: Metrics
    directory: Path
    announced: tuple[x509.Certificate, ...] = ()
    try_pin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that `examine` found out.

    Attributes:
        good: False when the backend could not sign because of it.
        text: A sentence: what was tried and found; when it is not good also what
            was expected and what to do.
    """

    good: bool
    text: str


class BackendKind(Protocol):
    """A kind of backend.

    Attributes:
        type: Value of `type` in the configuration; the entry point's name.
        summary: One line for `meshsigner backends` and docs/config.md.
        settings: Its section of the configuration. It has a field `type:
            Literal[...]`, its docstring and the descriptions of its fields are
            the documentation.
    """

    type: str
    summary: str
    settings: SettingsType

    def open(self, name: str, settings: Any, surroundings: Surroundings) -> Signer:
        """Make the backend; its `start` reaches it.

        Args:
            name: Its name in configuration, logs, metrics and inventory.
            settings: A checked value of `settings`.
            surroundings: The server around it.

        Raises:
            ConfigurationError: It can never work as it is configured; holds
                every problem that shows without asking it.
        """
        ...

    async def examine(self, settings: Any, surroundings: Surroundings) -> Sequence[Finding]:
        """Try to reach it and say in words what is there and what is missing.

        Never changes anything there but what a login leaves behind.

        Args:
            settings: A checked value of `settings`.
            surroundings: The server that would be around it.

        Raises:
            ConfigurationError: It can never work as it is configured.
        """
        ...
