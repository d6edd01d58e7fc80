"""`meshsigner backends`, `check-config --connect`: which backends there are, and what they say.

Decides how kinds, their settings and what was found out are shown. Reaching a
backend is its kind's own matter; nothing is changed there.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from meshsigner.cli.exits import Exit, exit_codes
from meshsigner.cli.options import Json
from meshsigner.cli.terminal import fail, say, say_json
from meshsigner.config import Config, load_config
from meshsigner.config.backends import Installed, SettingsKind, installed_kinds
from meshsigner.errors import ConfigurationError

HELP = f"""List the kinds of signing backends that are installed, with their options.

With a configuration, each of its backends is reached and what is there, or missing, is said in
words: as `meshsigner check-config --connect` does.

Example:

    meshsigner backends
    meshsigner backends --config meshsigner.yaml

{exit_codes(Exit.INPUT)}
"""

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A configuration whose backends are reached.")
]
TryPin = Annotated[
    bool,
    typer.Option(
        "--try-pin", help="Try a PIN or password that is locked after a few wrong tries, once."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A kind that is installed.

    Attributes:
        type: Value of `type`.
        package: What brings it.
        summary: One line.
        options: What each setting is.
    """

    type: str
    package: str
    summary: str
    options: dict[str, str]


def backends(*, config: ConfigFile = None, try_pin: TryPin = False, json: Json = False) -> None:
    """List the kinds, or reach the backends of a configuration."""
    if config is not None:
        show_examined(_load(config), try_pin=try_pin, json=json)
        return
    kinds = [_described(kind) for _, kind in sorted(installed_kinds().items())]
    if json:
        say_json([asdict(kind) for kind in kinds])
        return
    for kind in kinds:
        say(f"{kind.type}: {kind.summary} ({kind.package})")
        for name, what in kind.options.items():
            say(f"    {name}: {what}")


def show_examined(config: Config, *, try_pin: bool, json: bool) -> None:
    """Reach every backend of a configuration and say what is there.

    Args:
        config: The settings.
        try_pin: True where a secret that locks may be tried.
        json: True writes JSON.
    """
    from meshsigner.app.examination import examine_all  # noqa: PLC0415 - help answers without it

    found = asyncio.run(examine_all(config, try_pin=try_pin))
    if json:
        say_json([asdict(one) for one in found])
    else:
        for one in found:
            say(f"{one.name} ({one.type}): {'can sign' if one.ready else 'CANNOT SIGN'}")
            for finding in one.findings:
                say(f"    {finding}")
    if not all(one.ready for one in found):
        raise typer.Exit(Exit.INPUT)


def _load(path: Path) -> Config:
    try:
        return load_config(path)
    except ConfigurationError as error:
        fail(Exit.INPUT, f"{path} is not a configuration", *error.problems)


def _described(installed: Installed) -> Described:
    try:
        kind = installed.load()
    except (ImportError, AttributeError) as error:
        summary, options = f"CANNOT BE LOADED: {error}", {}
    else:
        summary, options = kind.summary, dict(_options(kind))
    return Described(
        type=installed.type, package=installed.distribution, summary=summary, options=options
    )


def _options(kind: SettingsKind) -> Iterator[tuple[str, str]]:
    for name, field in kind.settings.model_fields.items():
        if name != "type":
            yield name, f"{field.description or ''}{' (required)' if field.is_required() else ''}"
