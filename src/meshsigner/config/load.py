"""Makes a `Config` from a file and the environment, or says all that is wrong with them."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from meshsigner.config.model import (
    AGENT_PREFIX,
    LEVEL_SEPARATOR,
    Config,
    Settings,
    prefix_of,
)
from meshsigner.config.problems import describe
from meshsigner.config.source import Source, parse_source, read_source
from meshsigner.errors import ConfigurationError

SettingsT = TypeVar("SettingsT", bound=Settings)

# Kubernetes tells every pod about the Services of its namespace in variables
# named after them, and a Service of this server is likely called `meshsigner`.
_KUBERNETES_SERVICE = re.compile(
    r"MESHSIGNER_([A-Z0-9_]+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)",
)


def load_config(path: Path) -> Config:
    """Read a server's configuration; the environment wins over the file.

    Args:
        path: The YAML file.

    Raises:
        ConfigurationError: All problems of file and environment.
    """
    return check(read_source(path), Config)


def parse_config(text: str, *, name: str = "configuration") -> Config:
    """Read a server's configuration from text; the environment wins over it.

    Args:
        text: YAML.
        name: How the text is called in problems.

    Raises:
        ConfigurationError: All problems of text and environment.
    """
    return check(parse_source(name, text), Config)


def build_config(values: Mapping[str, Any], *, name: str) -> Config:
    """Make a server's configuration of values; the environment wins over them.

    Args:
        values: As a file would hold them.
        name: How they are called in problems.

    Raises:
        ConfigurationError: All problems of values and environment.
    """
    return check(Source(name=name, values=dict(values), root=None), Config)


def check(source: Source, whole: type[SettingsT]) -> SettingsT:
    """Make a configuration of a file that was read and of the environment.

    Args:
        source: The file.
        whole: Which configuration.

    Raises:
        ConfigurationError: All problems of both.
    """
    problems = _foreign_variables(whole)
    try:
        config = whole(**source.values)
    except ValidationError as error:
        raise ConfigurationError(*problems, *describe(error, source, whole)) from None
    if problems:
        raise ConfigurationError(*problems)
    return config


def _foreign_variables(whole: type[Settings]) -> list[str]:
    """List variables with our prefix that mean nothing to us: most likely misspelt."""
    problems = []
    prefix, known = prefix_of(whole), ", ".join(sorted(whole.model_fields))
    for name in sorted(os.environ):
        others = name.startswith(AGENT_PREFIX) and prefix != AGENT_PREFIX
        if not name.startswith(prefix) or others or _KUBERNETES_SERVICE.fullmatch(name):
            continue
        section = name.removeprefix(prefix).split(LEVEL_SEPARATOR)[0].lower()
        if section not in whole.model_fields:
            problems.append(
                f"environment variable {name}: no setting {section}; expected {prefix} "
                f"and one of {known}, levels parted by {LEVEL_SEPARATOR}; rename or unset it",
            )
    return problems
