"""The values between stages: none can be changed, and none can be built by position."""

import dataclasses
from datetime import timedelta

import pytest

from meshsigner import model
from meshsigner.model import Ask, AuthMethod, Credentials, Issuer, KeyAlgorithm

VALUES = sorted(
    (
        kind
        for kind in vars(model).values()
        if dataclasses.is_dataclass(kind)
        and isinstance(kind, type)
        and kind.__module__ == "meshsigner.model"
    ),
    key=lambda kind: kind.__name__,
)
each_value = pytest.mark.parametrize("kind", VALUES)
COMPARED_BY_OBJECT = {Ask, Issuer}


@each_value
def test_value_is_frozen_and_slotted(kind: type) -> None:
    """No stage can change a value or hang a field on it."""
    parameters = kind.__dataclass_params__  # type: ignore[attr-defined] # dataclass' own record
    assert parameters.frozen
    assert "__slots__" in vars(kind)


@each_value
def test_value_takes_keywords_only(kind: type) -> None:
    """Two fields of one type cannot be swapped in silence."""
    assert all(field.kw_only for field in dataclasses.fields(kind))


@each_value
def test_every_field_is_explained(kind: type) -> None:
    """The class docstring names each field."""
    text = kind.__doc__ or ""
    missing = [f.name for f in dataclasses.fields(kind) if f"{f.name}:" not in text]
    assert missing == []


@each_value
def test_equality_is_by_value_except_where_said(kind: type) -> None:
    """Only a call and an issuer are themselves alone; all other values are what they hold."""
    compares = kind.__dataclass_params__.eq  # type: ignore[attr-defined] # dataclass' own record
    assert compares == (kind not in COMPARED_BY_OBJECT)


def test_all_values_of_the_way_are_looked_at() -> None:
    """The checks above see every value between the wire and the inventory."""
    assert {kind.__name__ for kind in VALUES} >= {
        "Ask",
        "Caller",
        "CertificateRequest",
        "Chain",
        "Credentials",
        "Health",
        "Issuer",
        "Lifetimes",
        "Order",
        "PublicKey",
        "Record",
        "Terms",
        "TrustBundle",
    }


def test_credentials_default_to_nothing_shown_over_tls() -> None:
    """A caller without headers has no token, no cluster, no wish."""
    shown = Credentials(bearer_token=None)
    assert (shown.cluster_id, shown.impersonated_identity, shown.cert_signer) == ("", "", "")
    assert (shown.peer, shown.secure) == ("", True)


def test_two_equal_calls_are_two() -> None:
    """Equal content does not make one call of two: each waits for itself."""

    def ask() -> Ask:
        return Ask(
            credentials=Credentials(bearer_token=None),
            csr_pem=b"",
            asked_lifetime=timedelta(hours=1),
        )

    assert ask() != ask()


def test_words_of_logs_and_records_are_stable() -> None:
    """Dashboards and old rows hold these words."""
    assert {method.value for method in AuthMethod} == {
        "token_review",
        "jwt",
        "client_certificate",
        "forwarded_certificate",
    }
    assert {kind.value for kind in KeyAlgorithm} == {"rsa", "p256", "p384", "ed25519"}
