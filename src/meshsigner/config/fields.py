"""Kinds of values that a configuration holds, in the form people write them.

Decides how a duration, a size, an address and a name are read and shown
again. What a value is for, and which default it has, is said where it is used.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
)

from meshsigner.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain

_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]+(ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+)(ms|s|m|h|d)")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]*):([0-9]{1,5})")
_MAX_PORT = 65_535
_KIB = 1024


class Section(BaseModel):
    """A part of the configuration: read-only, and a key nobody knows is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def parse_duration(value: object) -> timedelta:
    """Read a duration.

    Args:
        value: Whole numbers with units, for example `90s`, `15m`, `24h`, `1h30m`, `90d`.

    Raises:
        ValueError: Anything else; a bare number too, for nobody sees its unit.
    """
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        msg = "a duration with its unit, for example 90s, 15m, 24h or 90d"
        raise ValueError(msg)
    seconds = sum(int(n) * _UNITS_S[unit] for n, unit in _DURATION_PART.findall(value))
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        msg = "a duration shorter than a million years"
        raise ValueError(msg) from None


def render_duration(value: timedelta) -> str:
    """Write a duration as it is read; days only where they are whole and several."""
    days, rest = divmod(value, timedelta(days=1))
    if days > 1 and not rest:
        return f"{days}d"
    text, left = "", round(value.total_seconds() * 1000)
    for unit in ("h", "m", "s", "ms"):
        count, left = divmod(left, round(_UNITS_S[unit] * 1000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def render_size(value: int) -> str:
    """Write a size in the largest binary unit that divides it."""
    for unit, size in (("GiB", _KIB**3), ("MiB", _KIB**2), ("KiB", _KIB)):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return f"{value}B"


def _within(low: timedelta, high: timedelta, value: timedelta) -> timedelta:
    if not low <= value <= high:
        msg = f"a duration from {render_duration(low)} to {render_duration(high)}"
        raise ValueError(msg)
    return value


def duration_from(low: str, high: str) -> tuple[BeforeValidator, AfterValidator, PlainSerializer]:
    """Make the validators of a duration within bounds, both included."""
    return (
        BeforeValidator(parse_duration),
        AfterValidator(partial(_within, parse_duration(low), parse_duration(high))),
        PlainSerializer(render_duration),
    )


def text_like(pattern: str, expected: str) -> AfterValidator:
    """Make the validator of a text.

    Args:
        pattern: Regular expression for the whole text.
        expected: What it allows, in words, for a problem.
    """
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(expected)
        return value

    return AfterValidator(check)


InOrder = PlainSerializer(sorted)  # of a set: shown the same way each time
Size = Annotated[ByteSize, PlainSerializer(render_size)]


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen.

    Attributes:
        host: A name or address; an IPv6 address stands in brackets.
        port: TCP port; 0 lets the system choose.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read `host:port`.

        Raises:
            ValueError: No port, a port over 65535 or a host that is none.
        """
        if isinstance(value, cls):
            return value
        match = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
        if match is None or int(match[2]) > _MAX_PORT:
            msg = "host:port, for example 0.0.0.0:15012 or [::]:15012"
            raise ValueError(msg)
        return cls(match[1] or "0.0.0.0", int(match[2]))  # noqa: S104 - `:15012` means all interfaces

    def __str__(self) -> str:
        """Return `host:port`."""
        return f"{self.host}:{self.port}"


def _trust_domain(value: object) -> TrustDomain:
    if isinstance(value, TrustDomain):
        return value
    try:
        return TrustDomain.parse(value if isinstance(value, str) else "")
    except InvalidSpiffeId:
        msg = "a trust domain in lower case, for example cluster.local"
        raise ValueError(msg) from None


def spiffe_id_like(example: str) -> Callable[[object], SpiffeId]:
    """Return what reads a SPIFFE ID.

    Args:
        example: Shown to who wrote something else.
    """

    def read(value: object) -> SpiffeId:
        if isinstance(value, SpiffeId):
            return value
        try:
            return SpiffeId.parse(value if isinstance(value, str) else "")
        except InvalidSpiffeId:
            msg = f"a SPIFFE ID, for example {example}"
            raise ValueError(msg) from None

    return read


def _path(value: object) -> Path:
    text = str(value) if isinstance(value, str | Path) else ""
    if not text or "\n" in text or "-----BEGIN" in text:
        msg = "the path of a file or directory, never its content"
        raise ValueError(msg)
    return Path(text)


ListenAddress = Annotated[Address, PlainValidator(Address.parse), PlainSerializer(str)]
TrustDomainName = Annotated[TrustDomain, PlainValidator(_trust_domain), PlainSerializer(str)]
FilePath = Annotated[Path, PlainValidator(_path), PlainSerializer(str)]
