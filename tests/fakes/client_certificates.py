"""Workloads' certificates for tests, good or broken in one way, and the header of a proxy."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshsigner.model import Issuer
from tests.fakes.authority import NOW, Ca, make_ca
from tests.fakes.pipeline import make_issuer

IDENTITY = "spiffe://cluster.local/ns/foo/sa/vm"
_BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What is in a workload's certificate; the defaults make one as we issue it.

    Attributes:
        uris: URI names.
        dns: DNS names.
        ca: basicConstraints CA.
        signs_certificates: keyUsage keyCertSign.
        usages: extendedKeyUsage; None leaves it out.
        not_before: First second.
        not_after: Last second.
    """

    uris: Sequence[str] = (IDENTITY,)
    dns: Sequence[str] = ()
    ca: bool = False
    signs_certificates: bool = False
    usages: Sequence[x509.ObjectIdentifier] | None = _BOTH
    not_before: datetime = NOW - timedelta(hours=1)
    not_after: datetime = NOW + timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A certificate with its key.

    Attributes:
        certificate: The certificate.
        key_pem: Its key.
        chain_pem: The certificate, then whatever was asked to go with it.
    """

    certificate: x509.Certificate
    key_pem: bytes
    chain_pem: bytes

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def serial(self) -> str:
        """Its serial number as the inventory writes it."""
        return f"{self.certificate.serial_number:x}"


def make_leaf(issuer: Ca, leaf: Leaf | None = None, *, chain: Sequence[Ca] = ()) -> Made:
    """Make a workload's certificate.

    Args:
        issuer: Who signs it.
        leaf: What is in it.
        chain: What goes with it.
    """
    leaf, key = leaf or Leaf(), ec.generate_private_key(ec.SECP256R1())
    names = [x509.UniformResourceIdentifier(uri) for uri in leaf.uris]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(leaf.not_before)
        .not_valid_after(leaf.not_after)
        .add_extension(x509.BasicConstraints(ca=leaf.ca, path_length=None), critical=True)
        .add_extension(_usage(leaf), critical=True)
    )
    if leaf.usages is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage(leaf.usages), critical=False)
    if leaf.uris or leaf.dns:
        both = x509.SubjectAlternativeName([*names, *map(x509.DNSName, leaf.dns)])
        builder = builder.add_extension(both, critical=True)
    certificate = builder.sign(issuer.key, hashes.SHA256())
    return Made(
        certificate=certificate,
        key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        chain_pem=certificate.public_bytes(Encoding.PEM) + b"".join(ca.pem for ca in chain),
    )


def _usage(leaf: Leaf) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=leaf.signs_certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


class Mesh:
    """A root, an intermediate that signs, and the issuer value that a server has of them."""

    def __init__(self, name: str = "mesh") -> None:
        self.root = make_ca(f"{name} root")
        self.intermediate = make_ca(f"{name} issuer", issuer=self.root)

    @property
    def issuer(self) -> Issuer:
        """What the server signs with."""
        return self.issuer_of(self.root)

    def issuer_of(self, *roots: Ca) -> Issuer:
        """Return the issuer with another bundle."""
        return make_issuer(
            self.intermediate.certificate,
            intermediates=(self.intermediate.certificate,),
            roots=tuple(root.certificate for root in roots),
        )

    def leaf(self, **changes: Any) -> Made:
        """Make a certificate that comes with its intermediate."""
        leaf = dataclasses.replace(Leaf(), **changes)
        return make_leaf(self.intermediate, leaf, chain=[self.intermediate])


def forwarded(made: Made, **more: str) -> str:
    """Return the header that Envoy writes for a client, `Cert` and `Chain` set.

    Args:
        made: Its certificate.
        more: Further fields, as they are.
    """
    der = made.certificate.public_bytes(Encoding.DER)
    fields = {
        "By": "spiffe://cluster.local/ns/istio-system/sa/proxy",
        "Hash": sha256(der).hexdigest(),
        "Cert": f'"{encode(made.pem)}"',
        "Chain": f'"{encode(made.chain_pem)}"',
    }
    return ";".join(f"{key}={value}" for key, value in (fields | more).items())


def encode(pem: bytes) -> str:
    """Encode PEM as Envoy does.

    Source: Envoy source/common/tls/connection_info_impl_base.cc.
    """
    return quote(pem, safe="-")
