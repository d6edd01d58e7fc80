"""Writes the configuration down: all settings (docs/config.md) and what is in effect."""

from collections.abc import Iterator
from typing import get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from meshsigner.config.model import (
    ENVIRONMENT_PREFIX,
    LEVEL_SEPARATOR,
    Config,
    Settings,
    sections_in,
    tag_of,
)

_ENV_POLICY = f"{ENVIRONMENT_PREFIX}POLICY{LEVEL_SEPARATOR}"
_HEAD = f"""\
# Configuration

Made by `make docs` from the models in `src/meshsigner/config`; a test compares it. Do not edit.

One YAML file, given to `meshsigner serve --config FILE`, and the environment, which wins over the
file. `meshsigner check-config FILE` says all problems at once and prints what is in effect.

* **Unknown keys are errors**, in the file and in the environment.
* **Durations** are whole numbers with units: `500ms`, `90s`, `15m`, `24h`, `1h30m`, `90d`.
* **Sizes** are bytes, or take a unit: `16KiB`, `10GiB`.
* **Secrets are paths** of files, never values; each file is read anew when it changes.
* **Relative paths** start at the working directory of the server.
* **Environment**: `{ENVIRONMENT_PREFIX}`, then the place in upper case, levels parted by
  `{LEVEL_SEPARATOR}`: `{_ENV_POLICY}DEFAULT_LIFETIME=12h`. A list is written as JSON and
  replaces the file's: `{_ENV_POLICY}KEY_ALGORITHMS=["p256"]`.
* **Reload**: `SIGHUP` takes `policy` and the logging level anew, and looks at all files at once.
  Under `meshsigner serve` it also takes `clusters`, `remote_clusters`, `limits`, `listen.tls` and
  `workers`, by replacing workers one after the other; no call is lost by that. `trust_domain`,
  `issuer`, `backends`, `inventory`, `controllers`, `admin`, `client_certificates` and
  `listen.address` need a restart. A bad configuration is refused as a whole and logged; the old
  one stays.
"""


def render_effective(config: Settings) -> str:
    """Write a configuration as YAML, defaults and environment included; it holds no secrets."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, width=100)
    return text


def render_reference() -> str:
    """Write docs/config.md."""
    return _HEAD + "".join(render_sections(Config))


def render_sections(whole: type[Settings]) -> Iterator[str]:
    """Write the tables of every section of a configuration."""
    yield from _render_section("", whole, whole.__doc__ or "")


def _render_section(place: str, section: type[BaseModel], meaning: str) -> Iterator[str]:
    tag = tag_of(section)
    heading = f"`{place}`" if place else "All sections"
    yield f"\n## {heading}{f', type {tag}' if tag else ''}\n\n{_first_line(meaning)}\n\n"
    yield "| key | what | default |\n|---|---|---|\n"
    for name, field in section.model_fields.items():
        yield f"| `{name}` | {_what(field)} | {_default(field)} |\n"
    for name, field in section.model_fields.items():
        path = ".".join(filter(None, (place, name))) + _ending(field)
        for inner in sections_in(field.annotation):
            yield from _render_section(path, inner, inner.__doc__ or "")


def _ending(field: FieldInfo) -> str:
    origin = get_origin(field.annotation)
    return "[]" if origin is tuple else ".NAME" if origin is dict else ""


def _first_line(text: str) -> str:
    return text.strip().split("\n", maxsplit=1)[0]


def _what(field: FieldInfo) -> str:
    return (field.description or "").split(" Default: ")[0].replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    _, _, told = (field.description or "").partition("Default: ")
    return told.rstrip(".").replace("|", "\\|") or "as below"
