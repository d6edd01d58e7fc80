"""Istio's names for our counts."""

import time
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.errors import MeshsignerError
from meshsigner.observe.istio_metrics import SIGN_ERRORS
from meshsigner.observe.metrics import Metrics, reasons
from tests.fakes.pipeline import NOW, make_ca_certificate, make_issuer

KEY = ec.generate_private_key(ec.SECP256R1())


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"citadel_server_{name}", labels)


def test_counts_under_istiods_names() -> None:
    """Every call is a CSR; successes, authentication failures and bad CSRs are told apart."""
    metrics = Metrics()
    ended = {"ok": 5, "unauthenticated": 2, "impersonation_refused": 1, "invalid_csr": 3}
    metrics.calls_ended(ended=ended, issued={}, seconds=[])
    assert _value(metrics, "csr_count") == 11
    assert _value(metrics, "success_cert_issuance_count") == 5
    assert _value(metrics, "authentication_failure_count") == 3
    assert _value(metrics, "csr_parsing_err_count") == 3
    assert _value(metrics, "id_extraction_err_count") == 0


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("san_not_allowed", "CSR_ERROR"),
        ("invalid_lifetime", "TTL_ERROR"),
        ("not_ready", "CA_NOT_READY"),
        ("backend_unavailable", "CERT_GEN_ERROR"),
        ("internal", "UNKNOWN"),
    ],
)
def test_errors_of_signing_have_istiods_kinds(reason: str, kind: str) -> None:
    """The label `error` speaks istiod's words."""
    metrics = Metrics()
    metrics.calls_ended(ended={reason: 2}, issued={}, seconds=[])
    assert _value(metrics, "csr_sign_err_count", error=kind) == 2


def test_every_kind_is_one_of_ours() -> None:
    """The map names no reason that does not exist."""
    assert set(SIGN_ERRORS) <= {*reasons(MeshsignerError)}


def test_no_expiry_before_there_is_an_issuer() -> None:
    """An alert on expiry does not fire for a server that has not loaded its CA yet."""
    assert _value(Metrics(), "root_cert_expiry_timestamp") is None


def test_expiry_is_the_first_to_come() -> None:
    """Of several roots, and of issuer and intermediates, the first that expires is shown."""
    soon, late = NOW + timedelta(days=10), NOW + timedelta(days=900)
    root = make_ca_certificate(KEY, "root", not_after=late)
    next_root = make_ca_certificate(KEY, "next", not_after=NOW + timedelta(days=30))
    upper = make_ca_certificate(KEY, "upper", signed_by=(root, KEY), not_after=soon)
    lower = make_ca_certificate(KEY, "lower", signed_by=(upper, KEY), not_after=late)
    metrics = Metrics()
    roots = (root, next_root)
    metrics.issuer_in_use(make_issuer(lower, intermediates=(lower, upper), roots=roots))
    assert _value(metrics, "root_cert_expiry_timestamp") == (NOW + timedelta(days=30)).timestamp()
    assert _value(metrics, "cert_chain_expiry_timestamp") == soon.timestamp()
    left = _value(metrics, "cert_chain_expiry_seconds")
    assert left == pytest.approx(soon.timestamp() - time.time(), abs=5)
