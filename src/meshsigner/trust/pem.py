"""PEM to certificates and keys, strictly: all that is there, and nothing else.

Decides what a file of the trust material may hold. Explanatory text between
blocks is allowed and dropped (RFC 7468 2); a block of another kind, a block
that does not end, a certificate of which any part cannot be read, is not. Who
may sign, and for how long, is judged elsewhere.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from meshsigner.errors import UNREADABLE_X509
from meshsigner.trust.findings import Findings

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

MIN_RSA_BITS = 2_048  # what Istio's clients accept at all
MAX_RSA_BITS = 4_096  # beyond it a signature costs more than the rest of the way together

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----((?:(?!-----).)*)-----END \1-----", re.DOTALL)
# RFC 5958 (PKCS #8), RFC 8017 (PKCS #1), RFC 5915 (SEC 1)
_KEY_LABELS = frozenset({"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PemCertificate:
    """A certificate with its text.

    Attributes:
        certificate: All its parts were read once.
        pem: The block as it stood in the file, lines ending in one newline.
        where: File and place in it, for messages.
    """

    certificate: x509.Certificate
    pem: str
    where: str


@dataclass(frozen=True, slots=True)
class _Block:
    label: str
    text: bytes


def describe(certificate: x509.Certificate) -> str:
    """Name a certificate in a message, safe for a log line."""
    subject = certificate.subject.rfc4514_string()
    return repr(subject[:100]) if subject else "without subject"


def parse_certificates(
    data: bytes,
    path: Path,
    findings: Findings,
) -> tuple[PemCertificate, ...]:
    """Read a file of certificates.

    Args:
        data: Its bytes.
        path: Its name, for messages.
        findings: Gets a problem for everything that is not a readable certificate.

    Returns:
        Those that could be read, in order.
    """
    found = []
    for number, block in enumerate(_split(data, path, findings), start=1):
        where = f"{path}: certificate {number}"
        if block.label != "CERTIFICATE":
            findings.problem(
                path,
                f"block {number} is a {block.label}; expected CERTIFICATE only; move it elsewhere",
            )
            continue
        certificate = _parse_certificate(block, where, findings)
        if certificate is not None:
            pem = block.text.decode("ascii").replace("\r", "") + "\n"
            found.append(PemCertificate(certificate=certificate, pem=pem, where=where))
    return tuple(found)


def _parse_certificate(block: _Block, where: str, findings: Findings) -> x509.Certificate | None:
    try:
        certificate = x509.load_pem_x509_certificate(block.text)
        # The library reads these when asked; what cannot be read must show now.
        _ = (certificate.subject, certificate.issuer, certificate.extensions)
        _ = (certificate.public_key(), certificate.signature_hash_algorithm)
    except UNREADABLE_X509 as error:
        findings.problem(
            where,
            f"cannot be parsed ({_first_line(error)}); expected X.509 as RFC 5280 has it; "
            "write it again",
        )
        return None
    return certificate


def parse_private_key(data: bytes, path: Path, findings: Findings) -> PrivateKey | None:
    """Read a file that holds one private key.

    Args:
        data: Its bytes: PKCS #8, PKCS #1 or SEC 1, not encrypted.
        path: Its name, for messages.
        findings: Gets the problems; none quotes the file.

    Returns:
        An RSA key of 2,048 to 4,096 bits or a P-256 or P-384 key, or None.
    """
    blocks = list(_split(data, path, findings))
    others = [block.label for block in blocks if block.label not in _KEY_LABELS]
    if any(b"ENCRYPTED" in block.text.partition(b"\n\n")[0] for block in blocks):
        findings.problem(
            path,
            "the key is encrypted; expected a plain one, closed by its file mode; decrypt it: "
            "openssl pkey -in encrypted.pem -out key.pem",
        )
    elif others or len(blocks) > 1:
        findings.problem(
            path,
            f"holds {', '.join(block.label for block in blocks)}; expected one private key "
            "(PKCS #8, PKCS #1 or SEC 1) and no other block; remove the rest",
        )
    elif blocks:
        return _load_key(blocks[0], path, findings)
    return None


def _load_key(block: _Block, path: Path, findings: Findings) -> PrivateKey | None:
    try:
        key = load_pem_private_key(block.text, password=None)
    except UNREADABLE_X509 as error:
        findings.problem(
            path,
            f"the key cannot be parsed ({type(error).__name__}); expected PKCS #8, PKCS #1 or "
            "SEC 1; write it again",
        )
        return None
    if isinstance(key, rsa.RSAPrivateKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(
        key.curve,
        ec.SECP256R1 | ec.SECP384R1,
    ):
        return key
    findings.problem(
        path,
        f"is a key of kind {describe_key(key)}; expected RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} "
        "bits, P-256 or P-384; make a CA with such a key (P-256 signs fastest)",
    )
    return None


def describe_key(key: object) -> str:
    """Name a key's kind and size, never the key."""
    kind = type(key).__name__.removesuffix("PrivateKey").removesuffix("PublicKey")
    curve = getattr(key, "curve", None)
    if isinstance(curve, ec.EllipticCurve):
        return curve.name
    size = getattr(key, "key_size", None)
    return kind if size is None else f"{kind} {size}"


def _split(data: bytes, path: Path, findings: Findings) -> Iterator[_Block]:
    """Cut a file into its blocks; what is left over must not look like one."""
    if b"-----BEGIN" not in data:
        kind = "DER" if data.startswith(b"\x30") else "no PEM block"
        findings.problem(path, f"holds {kind}; expected PEM (-----BEGIN ...); convert it")
        return
    if b"-----" in _BLOCK.sub(b"", data):
        findings.problem(path, "holds a cut PEM block; expected whole blocks; write it again")
        return
    for match in _BLOCK.finditer(data):
        yield _Block(match[1].decode("ascii"), match[0])


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
