"""CRLs for Envoy: read, offered, and what is unwise about them said."""

from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs

from meshsigner.agent.crl import CrlFile, InvalidCrl, parse_crls, remarks
from meshsigner.agent.secrets import SecretStore
from meshsigner.spiffe import SpiffeId
from tests.fakes.authority import NOW, Ca, make_ca
from tests.fakes.workload_ca import make_svid

IDENTITY = SpiffeId.parse("spiffe://cluster.local/ns/bookinfo/sa/productpage")
ROOT = make_ca("root")
ISSUER = make_ca("issuing", issuer=ROOT)
DAY = timedelta(days=1)


def _crl(ca: Ca, until: datetime = NOW + DAY) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(NOW - 2 * DAY)
        .next_update(until)
    )
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("pem", "count"),
    [(b"", 0), (b"\n", 0), (_crl(ROOT), 1), (_crl(ROOT) + b"\n" + _crl(ISSUER), 2)],
)
def test_crls_are_read(pem: bytes, count: int) -> None:
    """None, one or several; istiod writes an empty file for none."""
    assert len(parse_crls(pem)) == count


@pytest.mark.parametrize(
    "pem",
    [
        b"junk",
        ROOT.pem,
        _crl(ROOT) + b"junk",
        _crl(ROOT)[:-30],
        b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
    ],
)
def test_what_is_no_crl_is_refused(pem: bytes) -> None:
    """Envoy would refuse the roots together with it, so that it never gets there."""
    with pytest.raises(InvalidCrl):
        parse_crls(pem)


def test_remarks_name_what_would_cut_off_everybody() -> None:
    """Envoy wants a current CRL of every CA; which one is missing or old is said."""
    cas = [ISSUER.certificate, ROOT.certificate]
    complete = parse_crls(_crl(ROOT) + _crl(ISSUER))
    assert list(remarks(complete, cas, NOW)) == []
    assert list(remarks((), cas, NOW)) == []
    (missing,) = remarks(parse_crls(_crl(ROOT)), cas, NOW)
    assert missing == "no CRL of CN=issuing: Envoy refuses every peer under it"
    (ended,) = remarks(parse_crls(_crl(ROOT, NOW - DAY)), cas[1:], NOW)
    assert ended.startswith("the CRL of CN=root ended at 2026-11-23")


def _followed(store: SecretStore) -> CrlFile:
    return CrlFile("productpage", store, lambda: NOW)


def test_bad_file_changes_nothing() -> None:
    """The CRL in use stays, and the log says why."""
    store = SecretStore(IDENTITY, with_crl=True)
    store.take(make_svid(leaf=ISSUER.pem.decode(), roots=ROOT.pem.decode()))
    file = _followed(store)
    file.take(_crl(ROOT))
    before = dict(store.versions)
    with capture_logs() as logs:
        file.take(b"junk")
    assert store.versions == before
    assert logs[0]["event"] == "CRL refused, the one in use is kept"
    file.take(None)
    assert store.versions != before


def test_remarks_are_said_once_for_each_state() -> None:
    """The first certificate brings the CAs to compare with; saying it again would tell nothing."""
    store = SecretStore(IDENTITY, with_crl=True)
    file = _followed(store)
    with capture_logs() as logs:
        file.take(_crl(ROOT))
        leaf = ROOT.pem.decode()  # any certificate: the first is taken for the own
        store.take(make_svid(leaf=leaf + ISSUER.pem.decode(), roots=ROOT.pem.decode()))
        store.take(make_svid(leaf=leaf * 2 + ISSUER.pem.decode(), roots=ROOT.pem.decode()))
    said = [line["remark"] for line in logs if line["event"] == "remark on the CRL"]
    assert said == ["no CRL of CN=issuing: Envoy refuses every peer under it"]


def test_nothing_is_said_of_an_expired_certificates_cas() -> None:
    """Without a certificate there is no chain to compare with; the CRL is offered all the same."""
    store = SecretStore(IDENTITY, with_crl=True)
    store.take(make_svid(leaf=ISSUER.pem.decode(), roots=ROOT.pem.decode()))
    file = _followed(store)
    store.withdraw()
    before = dict(store.versions)
    with capture_logs() as logs:
        file.take(_crl(ISSUER))
    assert store.versions != before
    assert [line["event"] for line in logs] == ["CRL taken"]
