"""The shape of every dataclass in words, decisions and authentication."""

import dataclasses
import importlib
import pkgutil

import pytest

import meshsigner.authn

MODULES = [
    *(f"meshsigner.{unit}" for unit in ("model", "spiffe", "csr", "policy", "profile", "verify")),
    *(
        f"meshsigner.authn.{module.name}"
        for module in pkgutil.iter_modules(meshsigner.authn.__path__)
    ),
]
# Identities are made in one way only, by `parse` or `of`; they may be built by position.
BY_POSITION = {"TrustDomain", "SpiffeId", "WorkloadId"}


def _dataclasses(module: str) -> list[type]:
    found = vars(importlib.import_module(module)).values()
    return [
        kind
        for kind in found
        if isinstance(kind, type) and kind.__module__ == module and dataclasses.is_dataclass(kind)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_values_are_frozen_slotted_and_keyword_only(module: str) -> None:
    """No value can be changed, grow a field, or have two fields swapped."""
    for kind in _dataclasses(module):
        assert kind.__dataclass_params__.frozen, kind  # type: ignore[attr-defined] # its record
        assert "__slots__" in vars(kind), kind
        by_keyword = all(field.kw_only for field in dataclasses.fields(kind))
        assert by_keyword == (kind.__name__ not in BY_POSITION), kind


def test_values_are_looked_at() -> None:
    """The check above sees values in every layer that it is for."""
    seen = {kind.__name__ for module in MODULES for kind in _dataclasses(module)}
    assert {"Order", "WorkloadId", "Policy", "Template", "TokenRules"} <= seen
