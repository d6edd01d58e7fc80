"""A table of CA directories in which something is wrong, and what is said about it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshsigner.errors import ConfigurationError
from meshsigner.trust.directory import load_directory
from tests.fakes.authority import (
    NOW,
    Ca,
    Shape,
    cacerts,
    make_ca,
    make_key,
    tls_secret,
    with_serial,
    with_sha1,
    write_files,
)

Files = dict[str, bytes]
PEM, PKCS8 = Encoding.PEM, PrivateFormat.PKCS8
ROOT = make_ca("root")
ISSUER = make_ca("issuer", issuer=ROOT)
STRANGER = make_ca("stranger")
YESTERDAY, TOMORROW = NOW - timedelta(days=1), NOW + timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Broken:
    """One row: what is wrong, in which directory, and what must be said."""

    what: str
    make: Callable[[], Files]
    says: tuple[str, ...]


def good(**changed: bytes) -> Files:
    """Return a good directory with some files changed; `ca_key` names ca-key.pem."""
    files = cacerts(ISSUER, chain=[ISSUER, ROOT], roots=[ROOT])
    names = {
        "ca_cert": "ca-cert.pem",
        "ca_key": "ca-key.pem",
        "chain": "cert-chain.pem",
        "roots": "root-cert.pem",
    }
    return files | {names[name]: data for name, data in changed.items()}


def without(name: str) -> Files:
    """Return a good directory with one file missing."""
    return {key: data for key, data in good().items() if key != name}


def shaped(shape: Shape, *, key: str = "p256", root: Ca = ROOT) -> Files:
    """Return a directory whose signing CA has a shape."""
    issuer = make_ca("odd", issuer=root, key=make_key(key), shape=shape)
    return cacerts(issuer, chain=[issuer, root], roots=[root])


def rooted(root: Ca) -> Files:
    """Return a directory with another root above a good CA."""
    issuer = make_ca("issuer", issuer=root)
    return cacerts(issuer, chain=[issuer, root], roots=[root])


def path_too_long() -> Files:
    """Return a CA below one that allows none."""
    upper = make_ca("upper", issuer=ROOT, shape=Shape(path_length=0))
    issuer = make_ca("issuer", issuer=upper)
    return cacerts(issuer, chain=[issuer, upper, ROOT], roots=[ROOT])


def out_of_order() -> Files:
    """Return a chain of three in which the upper two are swapped."""
    upper = make_ca("upper", issuer=ROOT)
    middle = make_ca("middle", issuer=upper)
    issuer = make_ca("issuer", issuer=middle)
    return cacerts(issuer, chain=[issuer, upper, middle], roots=[ROOT])


def misnamed_in_the_middle() -> Files:
    """Return a CA that names another key than that of the intermediate above it."""
    upper = make_ca("upper", issuer=ROOT)
    issuer = make_ca("issuer", issuer=upper, shape=Shape(authority_key_id=b"\x01" * 20))
    return cacerts(issuer, chain=[issuer, upper], roots=[ROOT])


def weakly_signed() -> Files:
    """Return a CA that its root signed with SHA-1."""
    issuer = with_sha1(ISSUER, ROOT)
    return cacerts(issuer, chain=[issuer], roots=[ROOT])


def damaged_certificate() -> bytes:
    """Return PEM in which the certificate's DER is cut in the middle."""
    lines = ISSUER.pem.splitlines(keepends=True)
    return b"".join((*lines[:4], lines[-1]))


KEY = ISSUER.key
SECRET = BestAvailableEncryption(b"secret")
TABLE = (
    Broken("no file at all", dict, ("holds no CA", "expected ca-cert.pem, ca-key.pem")),
    Broken(
        "only foreign files",
        lambda: {"readme.txt": b"hello"},
        ("holds no CA", "tls.crt, tls.key, ca.crt"),
    ),
    Broken(
        "both layouts",
        lambda: good() | tls_secret([ISSUER], roots=[ROOT]),
        ("holds both layouts", "remove one set"),
    ),
    Broken("no ca-cert.pem", lambda: without("ca-cert.pem"), ("ca-cert.pem: is missing",)),
    Broken("no ca-key.pem", lambda: without("ca-key.pem"), ("ca-key.pem: is missing",)),
    Broken("no cert-chain.pem", lambda: without("cert-chain.pem"), ("cert-chain.pem: is missing",)),
    Broken("no root-cert.pem", lambda: without("root-cert.pem"), ("root-cert.pem: is missing",)),
    Broken(
        "no ca.crt",
        lambda: {k: v for k, v in tls_secret([ISSUER], roots=[ROOT]).items() if k != "ca.crt"},
        ("ca.crt: is missing",),
    ),
    Broken("empty key", lambda: good(ca_key=b""), ("ca-key.pem: is empty",)),
    Broken("blank chain", lambda: good(chain=b"\n \n"), ("cert-chain.pem: is empty",)),
    Broken(
        "half a certificate",
        lambda: good(ca_cert=ISSUER.pem[:200]),
        ("ca-cert.pem: holds a cut PEM block", "write it again"),
    ),
    Broken(
        "half a second root",
        lambda: good(roots=ROOT.pem + STRANGER.pem[:200]),
        ("root-cert.pem: holds a cut PEM block",),
    ),
    Broken(
        "a block that begins twice",
        lambda: good(roots=ROOT.pem[:200] + b"\n" + ROOT.pem),
        ("root-cert.pem: holds a cut PEM block",),
    ),
    Broken(
        "half a key",
        lambda: good(ca_key=ISSUER.key_pem()[:100]),
        ("ca-key.pem: holds a cut PEM block",),
    ),
    Broken(
        "DER certificate",
        lambda: good(ca_cert=ISSUER.certificate.public_bytes(Encoding.DER)),
        ("ca-cert.pem: holds DER; expected PEM",),
    ),
    Broken(
        "no PEM",
        lambda: good(roots=b"see the wiki"),
        ("root-cert.pem: holds no PEM block; expected PEM",),
    ),
    Broken(
        "damaged DER in a certificate",
        lambda: good(chain=damaged_certificate() + ROOT.pem),
        ("cert-chain.pem: certificate 1: cannot be parsed",),
    ),
    Broken(
        "damaged DER in the key",
        lambda: good(ca_key=b"-----BEGIN PRIVATE KEY-----\nMAAA\n-----END PRIVATE KEY-----\n"),
        ("ca-key.pem: the key cannot be parsed", "expected PKCS #8, PKCS #1 or SEC 1"),
    ),
    Broken(
        "encrypted PKCS #8 key",
        lambda: good(ca_key=KEY.private_bytes(PEM, PKCS8, SECRET)),
        ("ca-key.pem: the key is encrypted", "openssl pkey"),
    ),
    Broken(
        "encrypted SEC 1 key",
        lambda: good(
            ca_key=KEY.private_bytes(PEM, PrivateFormat.TraditionalOpenSSL, SECRET),
        ),
        ("ca-key.pem: the key is encrypted",),
    ),
    Broken(
        "EC PARAMETERS before the key",
        lambda: good(
            ca_key=b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
            + ISSUER.key_pem(PrivateFormat.TraditionalOpenSSL),
        ),
        ("ca-key.pem: holds EC PARAMETERS, EC PRIVATE KEY; expected one private key",),
    ),
    Broken(
        "two keys",
        lambda: good(ca_key=ISSUER.key_pem() + ROOT.key_pem()),
        ("ca-key.pem: holds PRIVATE KEY, PRIVATE KEY; expected one private key",),
    ),
    Broken(
        "a certificate for a key",
        lambda: good(ca_key=ISSUER.pem),
        ("ca-key.pem: holds CERTIFICATE; expected one private key",),
    ),
    Broken(
        "a key beside the certificate",
        lambda: good(ca_cert=ISSUER.pem + ISSUER.key_pem()),
        ("ca-cert.pem: block 2 is a PRIVATE KEY; expected CERTIFICATE only",),
    ),
    Broken(
        "two certificates in ca-cert.pem",
        lambda: good(ca_cert=ISSUER.pem + ROOT.pem),
        ("ca-cert.pem: holds 2 certificates; expected the signing CA alone",),
    ),
    Broken(
        "another's key",
        lambda: good(ca_key=STRANGER.key_pem()),
        ("ca-key.pem: is no key of 'CN=issuer' in ca-cert.pem",),
    ),
    Broken(
        "a key of another kind than the certificate",
        lambda: good(ca_key=Ca(certificate=ROOT.certificate, key=make_key("rsa2048")).key_pem()),
        ("(RSA 2048 beside secp256r1)",),
    ),
    Broken(
        "P-521",
        lambda: shaped(Shape(), key="p521"),
        ("ca-key.pem: is a key of kind secp521r1; expected RSA of 2048 to 4096",),
    ),
    Broken(
        "RSA of 1,024 bits",
        lambda: shaped(Shape(), key="rsa1024"),
        ("is a key of kind RSA 1024", "has an RSA key of 1024 bits; expected at least 2048"),
    ),
    Broken(
        "Ed25519",
        lambda: good(
            ca_key=ed25519.Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, NoEncryption()),
        ),
        ("is a key of kind Ed25519; expected RSA",),
    ),
    Broken(
        "no CA certificate",
        lambda: shaped(Shape(ca=False)),
        ("'CN=odd' is not a CA certificate; expected basicConstraints CA:TRUE",),
    ),
    Broken(
        "no basicConstraints",
        lambda: shaped(Shape(ca=None)),
        ("'CN=odd' is not a CA certificate",),
    ),
    Broken(
        "no keyCertSign",
        lambda: shaped(Shape(cert_sign=False)),
        ("'CN=odd' may not sign certificates; expected keyUsage keyCertSign",),
    ),
    Broken(
        "no keyUsage in an intermediate",
        lambda: shaped(Shape(cert_sign=None)),
        ("'CN=odd' may not sign certificates",),
    ),
    Broken(
        "server certificates only",
        lambda: shaped(Shape(extended_usage=(ExtendedKeyUsageOID.SERVER_AUTH,))),
        ("'CN=odd' restricts extendedKeyUsage", "serverAuth and clientAuth"),
    ),
    Broken(
        "an unknown critical extension",
        lambda: shaped(Shape(unknown_critical=True)),
        ("has the critical extension 1.3.6.1.4.1.55555.1, which clients refuse",),
    ),
    Broken(
        "expired CA",
        lambda: shaped(Shape(not_before=NOW - timedelta(days=9), not_after=YESTERDAY)),
        ("'CN=odd' expired at 2026-11-23 12:00:00Z; expected one that is valid at 2026-11-24",),
    ),
    Broken(
        "CA of the future",
        lambda: shaped(Shape(not_before=TOMORROW)),
        ("'CN=odd' is not valid before 2026-11-25 12:00:00Z", "clock"),
    ),
    Broken(
        "expired root",
        lambda: rooted(
            make_ca("old", shape=Shape(not_before=NOW - timedelta(days=9), not_after=YESTERDAY)),
        ),
        ("root-cert.pem: certificate 1: 'CN=old' expired at 2026-11-23",),
    ),
    Broken(
        "path length 0 above another CA",
        path_too_long,
        ("'CN=upper' has path length 0; expected at least 1",),
    ),
    Broken(
        "root with path length 0",
        lambda: rooted(make_ca("short", shape=Shape(path_length=0))),
        ("'CN=short' has path length 0; expected at least 1",),
    ),
    Broken(
        "the root first in the chain",
        lambda: good(chain=ROOT.pem + ISSUER.pem),
        ("cert-chain.pem: certificate 2: stands after the root; expected nothing there",),
    ),
    Broken(
        "chain in disorder",
        out_of_order,
        ("'CN=upper' did not issue the certificate before it, 'CN=issuer'; expected 'CN=middle'",),
    ),
    Broken(
        "something above the root",
        lambda: good(chain=ISSUER.pem + ROOT.pem + STRANGER.pem),
        ("cert-chain.pem: certificate 3: stands after the root",),
    ),
    Broken(
        "the root is not in the bundle",
        lambda: good(roots=STRANGER.pem),
        ("'CN=root' is a root, but not of the bundle ('CN=stranger')",),
    ),
    Broken(
        "an intermediate is missing",
        lambda: cacerts(
            (low := make_ca("low", issuer=ISSUER)),
            chain=[low],
            roots=[ROOT],
        ),
        ("no root of the bundle ('CN=root') issued it; its issuer is 'CN=issuer'",),
    ),
    Broken(
        "a root of the right name and another key",
        lambda: good(roots=make_ca("root").pem, chain=ISSUER.pem),
        ("no root of the bundle ('CN=root') issued it; its issuer is 'CN=root'",),
    ),
    Broken(
        "an intermediate in the bundle",
        lambda: good(roots=ROOT.pem + ISSUER.pem, chain=ISSUER.pem),
        ("root-cert.pem: certificate 2: 'CN=issuer' is no root, for it is issued by 'CN=root'",),
    ),
    Broken(
        "a leaf in the bundle",
        lambda: good(roots=ROOT.pem + make_ca("leaf", shape=Shape(ca=False)).pem),
        ("root-cert.pem: certificate 2: 'CN=leaf' is not a CA certificate",),
    ),
    Broken(
        "another authority key id",
        lambda: shaped(Shape(authority_key_id=b"\x01" * 20)),
        ("no root of the bundle",),
    ),
    Broken(
        "another authority key id below an intermediate",
        misnamed_in_the_middle,
        ("names another authority key identifier than the subject key identifier of 'CN=upper'",),
    ),
    Broken(
        "a root that another key signed",
        lambda: good(roots=ROOT.pem + make_ca("root", issuer=ROOT).pem),
        ("root-cert.pem: certificate 2: 'CN=root' is not signed by its own key",),
    ),
    Broken(
        "signed with SHA-1",
        weakly_signed,
        ("'CN=issuer' is signed with sha1; expected SHA-256 or better",),
    ),
)


@pytest.mark.parametrize("broken", TABLE, ids=lambda row: row.what)
def test_broken_directory_is_told_in_words(tmp_path: Path, broken: Broken) -> None:
    """Nothing is taken of a broken directory; the problem says where, what and what to do."""
    directory = write_files(tmp_path / "ca", broken.make())
    with pytest.raises(ConfigurationError) as caught:
        load_directory(directory, generation=1, now=NOW)
    text = "\n".join(caught.value.problems)
    for part in broken.says:
        assert part in text
    assert all(problem.startswith(str(directory)) for problem in caught.value.problems)
    assert "PRIVATE KEY-----" not in text


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@pytest.mark.parametrize(("octet", "sign"), [(0xF5, "-"), (0x80, "-")])
@pytest.mark.parametrize("place", ["in use", "beside"])
def test_statement_10_negative_serial_is_refused(
    tmp_path: Path, octet: int, sign: str, place: str
) -> None:
    """A root with a negative serial number is refused: ztunnel cannot parse the bundle."""
    root = with_serial(make_ca("minus"), octet)
    files = rooted(root) if place == "in use" else good(roots=ROOT.pem + root.pem)
    with pytest.raises(ConfigurationError, match=f"has serial number {sign}"):
        load_directory(write_files(tmp_path / "ca", files), generation=1, now=NOW)


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    """A path to nothing is told as such."""
    with pytest.raises(ConfigurationError, match=r"cannot be listed \(No such file or directory\)"):
        load_directory(tmp_path / "nowhere", generation=1, now=NOW)


def test_key_of_a_broken_pair_is_p256() -> None:
    """The table's own CA has the key kind that its rows take for granted."""
    assert isinstance(ISSUER.key.public_key(), ec.EllipticCurvePublicKey)
