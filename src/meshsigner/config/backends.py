"""The section `backends`: which kinds are installed, and how the settings of each are read.

Kinds are found through the entry-point group `meshsigner.backends`; which
settings one takes is its own model, checked here as if it stood in this
package. A kind is imported when a configuration names it, and all of them when
somebody asks which there are: who signs with a directory imports none.

Source: Python packaging, entry points specification.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Protocol

from pydantic import AfterValidator, BaseModel, PlainSerializer, PlainValidator, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from meshsigner.config.fields import Section, text_like

GROUP = "meshsigner.backends"
OWN = "meshsigner"  # the distribution whose kinds docs/config.md describes
SectionType = type[Section]


class SettingsKind(Protocol):
    """What the configuration must know of a kind; `signing.kind.BackendKind` has more.

    Attributes:
        type: Value of `type`.
        summary: One line.
        settings: Its section.
    """

    type: str
    summary: str
    settings: SectionType


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One entry point of the group.

    Attributes:
        type: Its name.
        distribution: The package that brings it, with its version.
        load: Imports it; what that raises is the package's own fault.
    """

    type: str
    distribution: str
    load: Callable[[], SettingsKind]


@cache
def installed_kinds() -> Mapping[str, Installed]:
    """Return every installed kind by its type, without importing any."""
    return {point.name: _installed(point) for point in entry_points(group=GROUP)}


def _installed(point: EntryPoint) -> Installed:
    package = point.dist
    name = f"{package.name} {package.version}" if package is not None else "an unknown package"
    return Installed(type=point.name, distribution=name, load=cache(point.load))


def own_sections() -> list[type[BaseModel]]:
    """Return the sections of the kinds that this package brings, for docs/config.md."""
    own = (k for k in installed_kinds().values() if k.distribution.split(" ")[0] == OWN)
    return [kind.load().settings for kind in sorted(own, key=lambda kind: kind.type)]


def loaded_sections() -> list[type[BaseModel]]:
    """Return the sections of all kinds that can be imported, to name what one may hold."""
    found: list[type[BaseModel]] = []
    for kind in installed_kinds().values():
        with suppress(ImportError, AttributeError):
            found.append(kind.load().settings)
    return found


def read_backend(value: object) -> Section:
    """Check the settings of one backend by the model of its kind.

    Raises:
        ValueError: They are wrong: one problem for each place, the type in the
            place as in any section that is chosen by `type`.
    """
    if isinstance(value, Section):
        return value
    if not isinstance(value, dict):
        msg = "keys with values, `type` among them"
        raise ValueError(msg)  # noqa: TRY004 - pydantic collects ValueError alone
    kind = _kind_of(value.get("type"))
    try:
        return kind.settings.model_validate(value)
    except ValidationError as error:
        raise ValidationError.from_exception_data(
            kind.type, [_placed(kind.type, found) for found in error.errors(include_url=False)]
        ) from None


def _placed(tag: str, found: Any) -> InitErrorDetails:
    placed = InitErrorDetails(
        type=found["type"], loc=(tag, *found["loc"]), input=found["input"], ctx=found.get("ctx", {})
    )
    try:
        ValidationError.from_exception_data(tag, [placed])
    except (KeyError, TypeError):  # a type of error that the model made up itself
        placed["type"] = PydanticCustomError(found["type"], found["msg"].replace("{", "{{"))
    return placed


def _kind_of(tag: object) -> SettingsKind:
    found = installed_kinds().get(tag) if isinstance(tag, str) else None
    if found is None:
        known = ", ".join(sorted(installed_kinds()))
        said = f"type {tag!r} is no installed kind" if tag is not None else "type is missing"
        msg = f"a backend of a kind that `meshsigner backends` lists ({known}); {said}"
        raise ValueError(msg)
    try:
        return found.load()
    except (ImportError, AttributeError) as error:
        msg = (
            f"a kind that can be imported: {tag} of {found.distribution} cannot ({error}); "
            "install what it needs"
        )
        raise ValueError(msg) from error


@dataclass(frozen=True, slots=True)
class KindSections:
    """Marks a field that holds sections of the installed kinds by name, for who describes it."""


def _dump(section: Section) -> dict[str, Any]:
    return section.model_dump(mode="json")


BackendName = Annotated[
    str,
    text_like(
        r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?",
        "a name in lower case with letters, digits, - and _, for example corporate-pki",
    ),
]
BackendSection = Annotated[
    Section, PlainValidator(read_backend), PlainSerializer(_dump), KindSections()
]


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        msg = "each backend once"
        raise ValueError(msg)
    return names


BackendNames = Annotated[tuple[BackendName, ...], AfterValidator(_distinct)]
