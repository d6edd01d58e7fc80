"""Makes a `Config` from a file and the environment, or says all that is wrong with them."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from meshsigner.config.model import ENVIRONMENT_PREFIX, LEVEL_SEPARATOR, Config
from meshsigner.config.problems import describe
from meshsigner.config.source import Source, parse_source, read_source
from meshsigner.errors import ConfigurationError

# Kubernetes tells every pod about the Services of its namespace in variables
# named after them, and a Service of this server is likely called `meshsigner`.
_KUBERNETES_SERVICE = re.compile(
    r"MESHSIGNER_([A-Z0-9_]+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)",
)


def load_config(path: Path) -> Config:
    """Read a configuration; the environment wins over the file.

    Args:
        path: The YAML file.

    Raises:
        ConfigurationError: All problems of file and environment.
    """
    return _check(read_source(path))


def parse_config(text: str, *, name: str = "configuration") -> Config:
    """Read a configuration from text; the environment wins over it.

    Args:
        text: YAML.
        name: How the text is called in problems.

    Raises:
        ConfigurationError: All problems of text and environment.
    """
    return _check(parse_source(name, text))


def build_config(values: Mapping[str, Any], *, name: str) -> Config:
    """Make a configuration of values; the environment wins over them.

    Args:
        values: As a file would hold them.
        name: How they are called in problems.

    Raises:
        ConfigurationError: All problems of values and environment.
    """
    return _check(Source(name=name, values=dict(values), root=None))


def _check(source: Source) -> Config:
    problems = _foreign_variables()
    try:
        config = Config(**source.values)
    except ValidationError as error:
        raise ConfigurationError(*problems, *describe(error, source)) from None
    if problems:
        raise ConfigurationError(*problems)
    return config


def _foreign_variables() -> list[str]:
    """List variables with our prefix that mean nothing to us: most likely misspelt."""
    problems = []
    for name in sorted(os.environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or _KUBERNETES_SERVICE.fullmatch(name):
            continue
        section = name.removeprefix(ENVIRONMENT_PREFIX).split(LEVEL_SEPARATOR)[0].lower()
        if section not in Config.model_fields:
            known = ", ".join(sorted(Config.model_fields))
            problems.append(
                f"environment variable {name}: no setting {section}; expected {ENVIRONMENT_PREFIX} "
                f"and one of {known}, levels parted by {LEVEL_SEPARATOR}; rename or unset it",
            )
    return problems
