"""What is in istiod's Secret, and what of it is believed."""

import base64
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.cluster.serving_secret import (
    ANCHOR,
    Target,
    istiod_names,
    make_secret,
    read_secret,
)
from meshsigner.signing.making import build_serving, render_certificate
from tests.fakes.pipeline import NOW, make_ca_certificate

TARGET = Target(namespace="istio-system", name="istiod-tls", names=("istiod.istio-system.svc",))
KEY = ec.generate_private_key(ec.SECP256R1())
ROOT = make_ca_certificate(KEY, "mesh")


class Certificates:
    """A root that issues."""

    def root(self) -> x509.Certificate:
        """Return it."""
        return ROOT

    def roots_pem(self) -> str:
        """Return it as text."""
        return render_certificate(ROOT).decode()

    def issue(
        self, public_key: ec.EllipticCurvePublicKey, names: Sequence[str], now: datetime
    ) -> bytes:
        """Issue for a day."""
        leaf = build_serving(
            public_key,
            issuer=ROOT,
            issuer_key=KEY,
            names=names,
            validity=(now, now + timedelta(days=1)),
        )
        return render_certificate(leaf)

    def will_do(self, chain: bytes, names: Sequence[str], now: datetime) -> bool:
        """Take anything."""
        return bool(chain and names and now)


def test_statement_56_each_revision_has_its_name() -> None:
    """`istiod-REVISION.NAMESPACE.svc` for each, and the names without one always."""
    plain = istiod_names("istio-system", ())
    assert plain == tuple(
        f"{host}.istio-system.svc" for host in ("istiod", "istiod-remote", "istio-pilot")
    )
    assert istiod_names("istio-system", ("default", "canary", "1-30")) == (
        *plain,
        "istiod-canary.istio-system.svc",
        "istiod-1-30.istio-system.svc",
    )


def test_secret_is_read_as_it_was_made() -> None:
    """Chain, end, roots and the root's id arrive; the key is nowhere but in it."""
    made = make_secret(TARGET, Certificates(), NOW, "anchor")
    assert made["type"] == "kubernetes.io/tls"
    assert made["metadata"]["annotations"] == {ANCHOR: "anchor"}
    made["metadata"]["resourceVersion"] = "7"
    kept = read_secret(made)
    assert kept.version == "7"
    assert kept.ends == NOW + timedelta(days=1)
    assert kept.anchor == "anchor"
    assert kept.roots.decode() == Certificates().roots_pem()
    assert "PRIVATE" not in repr(kept)


@pytest.mark.parametrize("name", ["tls.key", "tls.crt"])
@pytest.mark.parametrize("content", [None, "", "bm9uc2Vuc2U=", "no base64"])
def test_secret_whose_halves_do_not_fit_has_no_end(name: str, content: str | None) -> None:
    """What somebody has broken is issued anew, whatever it is."""
    made = make_secret(TARGET, Certificates(), NOW, "anchor")
    made["metadata"]["resourceVersion"] = "7"
    made["data"][name] = content
    assert read_secret(made).ends is None


def test_key_of_another_certificate_does_not_fit() -> None:
    """Istiod would not serve with it."""
    made, other = (make_secret(TARGET, Certificates(), NOW, "anchor") for _ in range(2))
    made["metadata"]["resourceVersion"] = "7"
    made["data"]["tls.key"] = other["data"]["tls.key"]
    assert base64.b64decode(made["data"]["tls.key"]).startswith(b"-----BEGIN")
    assert read_secret(made).ends is None
