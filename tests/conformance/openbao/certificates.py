"""CA certificates for keys that are in OpenBao, made by a root of the tests' own."""

from datetime import timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from tests.conformance.openbao.backend import utc_now
from tests.conformance.openbao.mounts import Mesh
from tests.fakes.authority import Ca, Shape, make_ca


@cache
def root() -> Ca:
    """Return the root of this test run."""
    now = utc_now()
    shape = Shape(not_before=now - timedelta(days=1), not_after=now + timedelta(days=3_650))
    return make_ca("root of keys in OpenBao", shape=shape)


def certify(mesh: Mesh, name: str, *, version: str = "1") -> x509.Certificate:
    """Make the CA certificate of a transit key's version."""
    pem = mesh.bao.read(f"{mesh.transit}/keys/{name}")["keys"][version]["public_key"]
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    now = utc_now()
    common_name = x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name} version {version}")
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([common_name]))
        .issuer_name(root().certificate.subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=2))
        .not_valid_after(now + timedelta(days=365))
        .public_key(key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    return builder.sign(root().key, hashes.SHA256())


def write_ca(directory: Path, certificate: x509.Certificate) -> Path:
    """Write a CA's certificates in Istio's layout, without a key."""
    directory.mkdir(exist_ok=True)
    own = certificate.public_bytes(Encoding.PEM)
    files = {
        "ca-cert.pem": own,
        "cert-chain.pem": own + root().pem,
        "root-cert.pem": root().pem,
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return directory


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
