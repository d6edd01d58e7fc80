"""What is checked in an answer before anybody uses it."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshsigner.agent.answer import WrongAnswer, check_answer, identities_of, read_answer
from tests.fakes.authority import NOW, Ca, Shape, make_ca, make_key

IDENTITY = "spiffe://cluster.local/ns/bookinfo/sa/productpage"
HOUR = timedelta(hours=1)
KEY, OTHER_KEY = make_key("p256", 1), make_key("p256", 2)
ROOT = make_ca("root")
CA = make_ca("issuing", issuer=ROOT)
OTHER_ROOT = make_ca("other root")
EXPIRED_ROOT = make_ca("expired root", shape=Shape(not_after=NOW - HOUR))
NO_CA = make_ca("no CA", issuer=ROOT, shape=Shape(ca=False))
EXPIRED_CA = make_ca("expired CA", issuer=ROOT, shape=Shape(not_after=NOW - HOUR))
UNDER_EXPIRED_ROOT = make_ca("under the expired root", issuer=EXPIRED_ROOT)
SIGNATURES_ONLY = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])


class Leaf(NamedTuple):
    """What is in a leaf; the defaults make a good one."""

    issuer: Ca = CA
    identities: tuple[str, ...] = (IDENTITY,)
    start: datetime = NOW - HOUR
    end: datetime = NOW + HOUR
    extensions: tuple[x509.ExtensionType, ...] = ()

    @property
    def pem(self) -> str:
        """Issue it."""
        uris = [x509.UniformResourceIdentifier(identity) for identity in self.identities]
        public_key = KEY.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.issuer.certificate.subject)
            .public_key(public_key)
            .serial_number(0xABC)
            .not_valid_before(self.start)
            .not_valid_after(self.end)
        )
        for extension in (*([x509.SubjectAlternativeName(uris)] if uris else []), *self.extensions):
            builder = builder.add_extension(extension, critical=True)
        return builder.sign(self.issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


def _pem(*cas: Ca) -> str:
    return "".join(ca.pem.decode() for ca in cas)


def _usage(*, digital_signature: bool) -> x509.KeyUsage:
    others = ("content_commitment", "data_encipherment", "key_agreement", "key_cert_sign")
    off = dict.fromkeys((*others, "crl_sign", "encipher_only", "decipher_only"), False)
    return x509.KeyUsage(digital_signature=digital_signature, key_encipherment=True, **off)


LEAF = Leaf().pem
GOOD = (LEAF, _pem(CA), _pem(OTHER_ROOT, ROOT))


@pytest.mark.parametrize(
    "chain",
    [
        GOOD,
        (LEAF, _pem(CA), _pem(EXPIRED_ROOT, ROOT)),
        (LEAF, _pem(CA) + _pem(ROOT), _pem(ROOT)),
        (Leaf(issuer=ROOT).pem, _pem(ROOT)),
        (Leaf(extensions=(_usage(digital_signature=True),)).pem, *GOOD[1:]),
    ],
    ids=["usual", "another root has expired", "several in one element", "no intermediate", "usage"],
)
def test_good_answer_passes(chain: tuple[str, ...]) -> None:
    """Own key, own identity, a chain to one of several roots: that is what was asked for."""
    answer = check_answer(chain, KEY.public_key(), IDENTITY, NOW)
    assert identities_of(answer.leaf) == [IDENTITY]
    assert answer == read_answer(chain)


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        ((), "0 elements"),
        ((LEAF,), "1 elements"),
        ((LEAF, "junk", GOOD[2]), "no PEM certificate"),
        ((LEAF, GOOD[1], ""), "no PEM certificate"),
        ((Leaf(identities=("spiffe://cluster.local/ns/a/sa/b",)).pem, *GOOD[1:]), "asked was"),
        ((Leaf(identities=(IDENTITY, IDENTITY)).pem, *GOOD[1:]), "asked was"),
        ((Leaf(identities=()).pem, *GOOD[1:]), "asked was"),
        ((Leaf(end=NOW - timedelta(seconds=1)).pem, *GOOD[1:]), "is not valid now"),
        ((Leaf(start=NOW + timedelta(seconds=1)).pem, *GOOD[1:]), "is not valid now"),
        ((LEAF, _pem(OTHER_ROOT), GOOD[2]), "is not issued by CN=other root"),
        ((LEAF, GOOD[1], _pem(OTHER_ROOT)), "does not end in a root"),
        ((LEAF, GOOD[2]), "does not end in a root"),
        ((Leaf(issuer=NO_CA).pem, _pem(NO_CA), GOOD[2]), "is not a CA certificate"),
        ((Leaf(issuer=EXPIRED_CA).pem, _pem(EXPIRED_CA), GOOD[2]), "expired CA is not valid at"),
        (
            (Leaf(issuer=UNDER_EXPIRED_ROOT).pem, _pem(UNDER_EXPIRED_ROOT), _pem(EXPIRED_ROOT)),
            "expired root is not valid at",
        ),
        (
            (Leaf(extensions=(x509.BasicConstraints(ca=True, path_length=None),)).pem, *GOOD[1:]),
            "is a CA's",
        ),
        (
            (Leaf(extensions=(_usage(digital_signature=False),)).pem, *GOOD[1:]),
            "not for signatures",
        ),
        ((Leaf(extensions=(SIGNATURES_ONLY,)).pem, *GOOD[1:]), "not for both sides"),
    ],
)
def test_wrong_answer_is_told(chain: tuple[str, ...], words: str) -> None:
    """An answer that would fail later in a handshake, or serve somebody else, is refused."""
    with pytest.raises(WrongAnswer, match=words):
        check_answer(chain, KEY.public_key(), IDENTITY, NOW)


def test_statement_67_certificate_for_another_key_is_refused() -> None:
    """A certificate that does not belong to the key never comes together with it."""
    with pytest.raises(WrongAnswer, match="another key"):
        check_answer(GOOD, OTHER_KEY.public_key(), IDENTITY, NOW)


def test_every_difference_is_told() -> None:
    """One look says all that is wrong."""
    chain = (Leaf(identities=(), end=NOW - timedelta(seconds=1)).pem, _pem(OTHER_ROOT))
    with pytest.raises(WrongAnswer) as caught:
        check_answer(chain, OTHER_KEY.public_key(), IDENTITY, NOW)
    assert len(caught.value.differences) == 4


def test_unreadable_extension_is_a_wrong_answer() -> None:
    """A certificate whose extensions cannot be read is refused like any other wrong one."""
    broken = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.19"), b"\x04\x00")
    with pytest.raises(WrongAnswer, match="not a readable certificate"):
        check_answer((Leaf(extensions=(broken,)).pem, *GOOD[1:]), KEY.public_key(), IDENTITY, NOW)


def test_clock_is_the_callers() -> None:
    """Validity is judged at the time that is passed in, to the second."""
    end = NOW + HOUR
    check_answer(GOOD, KEY.public_key(), IDENTITY, end.astimezone(UTC))
    with pytest.raises(WrongAnswer, match="not valid now"):
        check_answer(GOOD, KEY.public_key(), IDENTITY, end + timedelta(seconds=1))


def test_key_of_another_curve_differs() -> None:
    """Keys are compared as keys, not as numbers of one curve."""
    key = ec.generate_private_key(ec.SECP384R1())
    with pytest.raises(WrongAnswer, match="another key"):
        check_answer(GOOD, key.public_key(), IDENTITY, NOW)
