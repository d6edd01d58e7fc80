"""Whether the audit finds what must never happen."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.load.audit import audit
from benchmarks.load.calls import Answer, Call, Outcome
from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateResponse

KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
NAMES = [f"spiffe://cluster.local/ns/bench/sa/{number}" for number in range(2)]
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def certificate(key: int, *names: x509.GeneralName, serial: int) -> str:
    """Return a leaf for a key and names, as PEM."""
    builder = x509.CertificateBuilder(
        subject_name=x509.Name([]),
        issuer_name=x509.Name([]),
        public_key=KEYS[key].public_key(),
        serial_number=serial,
        not_valid_before=NOW,
        not_valid_after=NOW + timedelta(hours=1),
    ).add_extension(x509.SubjectAlternativeName(names), critical=True)
    signed = builder.sign(KEYS[0], hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def outcome(caller: int, leaf: str, status: int = 0) -> Outcome:
    """Return a caller's outcome with this leaf in it."""
    message = IstioCertificateResponse(cert_chain=[leaf, "root"]).SerializeToString()
    body = b"\x00" + len(message).to_bytes(4, "big") + message
    call = Call(
        token_block=b"",
        body=b"",
        public_key_der=KEYS[caller]
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        uri_san=NAMES[caller],
    )
    answer = Answer(status=status, message="", body=body, at_ns=1)
    return Outcome(call=call, planned_ns=0, answer=answer)


def uri(number: int) -> x509.UniformResourceIdentifier:
    """Return one of the two identities."""
    return x509.UniformResourceIdentifier(NAMES[number])


def test_everyone_got_their_own() -> None:
    """Right certificates are counted and nothing is complained of."""
    found = audit([outcome(n, certificate(n, uri(n), serial=n + 1)) for n in range(2)])
    assert found.clean
    assert (found.right, found.statuses) == (2, {"OK": 2})


@pytest.mark.parametrize(
    ("leaf", "fault"),
    [
        (certificate(1, uri(1), serial=9), "another's public key"),
        (certificate(1, uri(0), serial=9), "another's public key"),
        (certificate(0, uri(1), serial=9), "another's identity"),
        (certificate(0, uri(0), x509.DNSName("a.example"), serial=9), "another's identity"),
        ("no certificate", "not a certificate chain"),
    ],
)
def test_swapped_certificate_is_found(leaf: str, fault: str) -> None:
    """A certificate that is not exactly the caller's is a fault, by key and by name."""
    found = audit([outcome(0, leaf)])
    assert not found.clean
    assert fault in found.wrong[0]


def test_doubled_serial_is_found() -> None:
    """Two right certificates with one serial are a fault."""
    found = audit([outcome(n, certificate(n, uri(n), serial=7)) for n in range(2)])
    assert "given out twice" in found.wrong[0]


def test_refusal_is_not_clean() -> None:
    """A status other than OK spoils a run, and is counted by its name."""
    found = audit([outcome(0, "", status=8)])
    assert not found.clean
    assert found.statuses == {"RESOURCE_EXHAUSTED": 1}
