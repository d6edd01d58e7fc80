"""Kinds of command-line values that several commands take."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from meshsigner.config.fields import Address, parse_duration


def duration(text: str | timedelta) -> timedelta:
    """Read a duration; a minus sign in front makes it negative.

    Args:
        text: As typed, or an option's default as it is.

    Raises:
        typer.BadParameter: It is none.
    """
    if isinstance(text, timedelta):
        return text
    try:
        value = parse_duration(text.removeprefix("-"))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not {error}") from error
    return -value if text.startswith("-") else value


def address(text: str | Address) -> Address:
    """Read `host:port`.

    Args:
        text: As typed, or an option's default as it is.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        return Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not {error}") from error


StateDir = Annotated[
    Path,
    typer.Option("--state-dir", help="Directory with all that `dev run` made for itself."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of words.")]
