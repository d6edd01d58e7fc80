"""docs/config.md and the effective configuration, made from the models."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from meshsigner.config import Config, parse_config
from meshsigner.config.model import sections_in
from meshsigner.config.reference import render_effective, render_reference

DOCS = Path(__file__).parents[3] / "docs"


def _fields(
    section: type[BaseModel], place: str = ""
) -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    for name, field in section.model_fields.items():
        yield f"{place}{name}", section, field
        for inner in sections_in(field.annotation):
            yield from _fields(inner, f"{place}{name}.")


FIELDS = {place: (section, field) for place, section, field in _fields(Config)}


def test_config_page_is_in_step_with_the_models() -> None:
    """docs/config.md is what the models say; `make docs` writes it."""
    assert (DOCS / "config.md").read_text() == render_reference()


@pytest.mark.parametrize("place", FIELDS)
def test_field_has_a_default_or_is_an_identity_secret_or_choice(place: str) -> None:
    """Only identities, secrets and the choice between kinds must be said."""
    _, field = FIELDS[place]
    must_be_said = {
        "trust_domain",
        "clusters",
        "clusters.id",
        "clusters.authenticators.issuer",
        "remote_clusters.allowed",
        "remote_clusters.allowed.id",
        "remote_clusters.allowed.trust_domain",
        "remote_clusters.allowed.namespaces",
        "remote_clusters.allowed.authenticators.issuer",
        "inventory.url",
        "issuer.path",
        "policy.signers.backends",
        "client_certificates.forwarded.proxy",
        "listen",
        "listen.tls",
        "listen.tls.certificate",
        "listen.tls.key",
        "listen.tls.dns_names",
    }
    name = place.rpartition(".")[2]
    elsewhere = place.startswith("backends.")  # where the CA is, and who we are there
    assert field.is_required() <= (place in must_be_said or name == "type" or elsewhere)


@pytest.mark.parametrize("place", FIELDS)
def test_described_default_is_the_real_one(place: str) -> None:
    """A description says what a field is for, and its default starts with the real value."""
    section, field = FIELDS[place]
    what, _, told = (field.description or "").partition("Default: ")
    assert what
    if field.default is PydanticUndefined or sections_in(field.annotation):
        return
    name = place.rpartition(".")[2]
    unset = section.model_construct(**{name: field.get_default()})
    value = unset.model_dump(mode="json", include={name}, warnings=False)[name]
    assert told.startswith(_as_text(value)), (value, told)


def _as_text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(sorted(value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def test_effective_configuration_reads_back_the_same(smallest: str) -> None:
    """What check-config prints is itself a configuration, with the same meaning."""
    config = parse_config(smallest)
    assert parse_config(render_effective(config)) == config


def test_effective_configuration_holds_environment_and_defaults(
    load: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What check-config prints is what a server would take, whatever said so."""
    monkeypatch.setenv("MESHSIGNER_LIMITS__HANDLING", "5s")
    text = render_effective(load())
    assert "handling: 5s" in text
    assert "backdate: 2m" in text
