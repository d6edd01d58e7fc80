"""What the backends of a configuration say when they are reached, before a server is started.

Reaching a backend is its kind's own matter; that one does not answer is a
finding like any other.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from meshsigner.app.signers import kind_of, surroundings_of
from meshsigner.config import Config
from meshsigner.config.sections import IssuerDirectory as DirectorySettings
from meshsigner.errors import MeshsignerError
from meshsigner.observe.metrics import Metrics
from meshsigner.signing.directory_kind import DIRECTORY, SELF_MADE
from meshsigner.signing.embedded import DEFAULT_NAME
from meshsigner.signing.kind import Finding, Surroundings

EXAMINATION_S = 30.0  # of one backend; a CA that is away is told as such


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found out about one backend.

    Attributes:
        name: The backend's.
        type: Its kind.
        ready: True when nothing keeps it from signing.
        findings: What was tried and found.
    """

    name: str
    type: str
    ready: bool
    findings: tuple[str, ...]


async def examine_all(config: Config, *, try_pin: bool) -> list[Examined]:
    """Reach every backend of a configuration, and change nothing there.

    Args:
        config: The settings.
        try_pin: True where a secret that locks may be tried.
    """
    return [
        await _examine(name, tag, _surroundings(config, name, try_pin=try_pin), config)
        for name, tag in _named(config)
    ]


def _named(config: Config) -> Iterator[tuple[str, str]]:
    if config.issuer is not None:
        yield DEFAULT_NAME, config.issuer.type
    for name, settings in config.backends.items():
        yield name, kind_of(settings).type


def _surroundings(config: Config, name: str, *, try_pin: bool) -> Surroundings:
    return surroundings_of(
        config, name, clock=lambda: datetime.now(UTC), metrics=Metrics(), try_pin=try_pin
    )


async def _examine(name: str, tag: str, around: Surroundings, config: Config) -> Examined:
    """Let a kind examine its backend; what keeps it from that is a finding too."""
    try:
        async with asyncio.timeout(EXAMINATION_S):
            findings = await _findings(name, around, config)
    except MeshsignerError as error:
        findings = [Finding(good=False, text=line) for line in str(error).splitlines()]
    except TimeoutError:
        text = f"no answer within {EXAMINATION_S:.0f} s; check the address, and that it is up"
        findings = [Finding(good=False, text=text)]
    return Examined(
        name=name,
        type=tag,
        ready=all(finding.good for finding in findings),
        findings=tuple(f"{'ok' if f.good else 'PROBLEM'}: {f.text}" for f in findings),
    )


async def _findings(name: str, around: Surroundings, config: Config) -> list[Finding]:
    if config.issuer is None:
        settings = config.backends[name]
        return list(await kind_of(settings).examine(settings, around))
    if isinstance(config.issuer, DirectorySettings):
        return list(await DIRECTORY.examine(config.issuer, around))
    return list(await SELF_MADE.examine(config.issuer, around))
