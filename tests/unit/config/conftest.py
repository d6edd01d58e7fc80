"""What the tests of the configuration share."""

import os
from collections.abc import Callable

import pytest
import yaml

from meshsigner.config import Config, parse_config
from meshsigner.errors import ConfigurationError

SMALLEST = """\
trust_domain: cluster.local
clusters:
  - id: Kubernetes
listen:
  tls: {type: issuer, dns_names: [meshsigner.meshsigner.svc]}
issuer:
  type: directory
  path: /etc/meshsigner/ca
"""


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide variables of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith("MESHSIGNER_"):
            monkeypatch.delenv(name)


@pytest.fixture
def smallest() -> str:
    """Return the smallest configuration that is complete."""
    return SMALLEST


@pytest.fixture
def load() -> Callable[..., Config]:
    """Return a function that reads the smallest configuration with changed sections."""

    def load(**changes: object) -> Config:
        return parse_config(
            yaml.safe_dump({**yaml.safe_load(SMALLEST), **changes}), name="test.yaml"
        )

    return load


@pytest.fixture
def problems(load: Callable[..., Config]) -> Callable[..., tuple[str, ...]]:
    """Return a function that lists the problems of the smallest configuration with changes."""

    def problems(**changes: object) -> tuple[str, ...]:
        with pytest.raises(ConfigurationError) as caught:
            load(**changes)
        return caught.value.problems

    return problems
