"""Reads typed members of JSON objects that a stranger wrote.

Decides what is a text, a name that may stand in a log or a record, and a time.
What a member means is decided by who reads it. Refusals name the member and
never quote its value.
"""

import re
from collections.abc import Mapping
from typing import Any

from meshsigner.errors import Unauthenticated

MAX_NAME_BYTES = 253  # Kubernetes: an object's name is at most a DNS subdomain
MAX_TIME_S = 253_402_300_800  # year 10000: `datetime` ends before

_VISIBLE = re.compile(r"[!-~]+")


def read_text(members: Mapping[str, Any], name: str) -> str:
    """Read a text that is not empty.

    Raises:
        Unauthenticated: It is missing, empty or of another type.
    """
    value = members.get(name)
    if not isinstance(value, str) or not value:
        raise Unauthenticated(f"{name} is missing or not a text")
    return value


def read_name(members: Mapping[str, Any], name: str) -> str:
    """Read a text that may go into a log, a record or a look-up.

    Raises:
        Unauthenticated: It is no text, or longer than 253 characters, or holds
            anything but visible ASCII.
    """
    value = read_text(members, name)
    if len(value) > MAX_NAME_BYTES or not _VISIBLE.fullmatch(value):
        raise Unauthenticated(f"{name} is not at most 253 visible characters")
    return value


def read_seconds(members: Mapping[str, Any], name: str) -> float:
    """Read a NumericDate (RFC 7519 2): seconds since the epoch.

    Raises:
        Unauthenticated: It is missing, of another type, or no time that a
            calendar could hold.
    """
    value: Any = members.get(name)
    # bool is an int in Python; infinity fails the comparison
    if type(value) not in {int, float} or not 0 <= value < MAX_TIME_S:
        raise Unauthenticated(f"{name} is missing or not a time")
    return float(value)


def read_object(members: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Read an object.

    Raises:
        Unauthenticated: It is missing or of another type.
    """
    value = members.get(name)
    if not isinstance(value, dict):
        raise Unauthenticated(f"{name} is missing or not an object")
    return value
