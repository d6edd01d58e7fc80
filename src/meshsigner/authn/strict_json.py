"""JSON as a security decision needs it: one meaning, or none.

Decides what is JSON at all; what the members mean is decided by who reads them.
"""

import json
from typing import Any, NoReturn


class InvalidJson(ValueError):
    """Some bytes are not one JSON object in UTF-8 with distinct member names."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        msg = "a member name is there twice"
        raise ValueError(msg)
    return members


def _no_number(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


_DECODER = json.JSONDecoder(object_pairs_hook=_distinct, parse_constant=_no_number)


def parse_object(data: bytes) -> dict[str, Any]:
    """Read one JSON object.

    Numbers may still be infinite (`1e999`) or huge: who uses one checks its range.

    Args:
        data: UTF-8 without byte-order mark, its size already bounded.

    Raises:
        InvalidJson: Anything else, a member name that is there twice (two
            readers would see two meanings), NaN, or nesting that is too deep.
            The text quotes nothing of the data.

    Source: RFC 8259 4 and 8.1; RFC 7515 5.2 (no duplicate header names).
    """
    try:
        value = _DECODER.decode(data.decode())
    # An error's context would carry the data into a traceback, hence `from None`.
    except (ValueError, RecursionError):
        msg = "not JSON with distinct member names"
        raise InvalidJson(msg) from None
    if not isinstance(value, dict):
        msg = "not a JSON object"
        raise InvalidJson(msg)
    return value
