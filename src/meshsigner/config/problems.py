"""Puts what is wrong with a configuration into words.

Turns pydantic's findings into sentences that say where, what was found, what
was expected and what to do. A value that looks like a secret is not repeated.
"""

import os
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from meshsigner.config.model import (
    LEVEL_SEPARATOR,
    Settings,
    holds_kinds,
    prefix_of,
    sections_at,
    tag_of,
)
from meshsigner.config.source import Source

Location = tuple[int | str, ...]

_SHOWN_CHARACTERS = 60
_SECRET_MARKS = re.compile(r"-----BEGIN|eyJ|://[^/@\s]*:[^@\s]*@")  # the last: URL with password


def describe(error: ValidationError, source: Source, whole: type[Settings]) -> list[str]:
    """Write one sentence for each finding, in the order of the settings.

    Args:
        error: What pydantic found.
        source: The file that was read, to name its lines.
        whole: What it should have been.
    """
    return [
        _sentence(found, source, whole)
        for found in error.errors(include_url=False)
        if not _is_echo(found)
    ]


def _is_echo(found: ErrorDetails) -> bool:
    """Tell what follows from another finding: an emptied list, a default that had to wait."""
    emptied = found["type"] == "too_short" and bool(found["input"])
    return emptied or found["type"] == "default_factory_not_called"


def _sentence(found: ErrorDetails, source: Source, whole: type[Settings]) -> str:
    place = _without_tags(found["loc"], whole)
    where = f"{render_place(place)} ({_origin(place, source, whole)})"
    words = _WORDS.get(found["type"], _wrong_value)
    return f"{where}: {words(found, whole)}"


def render_place(place: Location) -> str:
    """Write a place as people do, `clusters[0].id`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "the whole file"


def _without_tags(location: Location, whole: type[Settings]) -> Location:
    """Leave out the values of `type` that pydantic puts into a place."""
    place: list[int | str] = []
    for i, part in enumerate(location):
        if not _is_tag(location, i, whole):
            place.append(part)
    return tuple(place)


def _is_tag(location: Location, i: int, whole: type[Settings]) -> bool:
    """Tell whether a part of a place is a value of `type`: behind a kind's name it always is."""
    if _holds_kinds(location, i - 1, whole):
        return False
    if _holds_kinds(location, i - 2, whole):
        return True
    here, part = sections_at(location[:i], whole), location[i]
    return any(tag_of(section) == part for section in here) and not any(
        part in section.model_fields for section in here
    )


def _holds_kinds(location: Location, i: int, whole: type[Settings]) -> bool:
    return i >= 0 and holds_kinds(sections_at(location[:i], whole), str(location[i]))


def _origin(place: Location, source: Source, whole: type[Settings]) -> str:
    """Name the variable that said it, else the line of the file."""
    if not place:  # several sections do not go together
        return source.line_of(place)
    names = [
        prefix_of(whole) + LEVEL_SEPARATOR.join(str(part).upper() for part in place[:end])
        for end in range(len(place), 0, -1)
    ]
    said = [name for name in names if name in os.environ]
    said += [name for name in os.environ if name.startswith(names[0] + LEVEL_SEPARATOR)]
    return f"environment variable {said[0]}" if said else source.line_of(place)


def render_found(value: object) -> str:
    """Show a value in a problem, shortened, and not at all if it looks like a secret."""
    text = repr(value)
    if _SECRET_MARKS.search(text):
        return "something that looks like a secret"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def _missing(found: ErrorDetails, whole: type[Settings]) -> str:
    *parent, name = found["loc"]
    descriptions = [
        section.model_fields[name].description
        for section in sections_at(tuple(parent), whole)
        if isinstance(name, str) and name in section.model_fields
    ]
    meaning = f" ({descriptions[0]})" if descriptions and descriptions[0] else ""
    return f"not set; it has no default{meaning}; add it"


def _unknown(found: ErrorDetails, whole: type[Settings]) -> str:
    *parent, name = found["loc"]
    known = sorted({key for s in sections_at(tuple(parent), whole) for key in s.model_fields})
    close = get_close_matches(str(name), known, n=1)
    advice = f"did you mean {close[0]}?" if close else "remove it"
    return f"unknown key; expected one of {', '.join(known)}; {advice}"


def _unknown_type(found: ErrorDetails, whole: type[Settings]) -> str:
    allowed = " or ".join(str(tag_of(section)) for section in sections_at(found["loc"], whole))
    given = found["input"].get("type") if isinstance(found["input"], Mapping) else found["input"]
    return f"found type {render_found(given)}; expected type {allowed}; choose one"


def _wrong_value(found: ErrorDetails, _whole: type[Settings]) -> str:
    return f"found {render_found(found['input'])}; expected {_expected(found)}; correct it"


def _expected(found: ErrorDetails) -> str:
    context: Mapping[str, Any] = found.get("ctx", {})
    match found["type"]:
        case "value_error":
            return str(context["error"])
        case "too_short":
            return "at least one"
        case "bool_parsing" | "bool_type":
            return "true or false"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "keys with values"
        case "tuple_type" | "list_type" | "frozen_set_type" | "set_type":
            return "a list"
    return found["msg"].removeprefix("Input should be ").removeprefix("a valid ")


def _broken_rule(found: ErrorDetails, whole: type[Settings]) -> str:
    if isinstance(found["input"], Mapping | list | tuple):
        return f"expected {_expected(found)}; change one of them"
    return _wrong_value(found, whole)


_WORDS: Mapping[str, Callable[[ErrorDetails, type[Settings]], str]] = {
    "missing": _missing,
    "extra_forbidden": _unknown,
    "union_tag_invalid": _unknown_type,
    "union_tag_not_found": _unknown_type,
    "value_error": _broken_rule,
}
