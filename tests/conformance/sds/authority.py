"""A CA in the test's own hands: changed as an operator would, its keys there to revoke and forge.

The server reads it from a directory as Kubernetes mounts it; the agents read the roots of the CA's
serving certificate from a file. Which change is made when is the tests' matter.
"""

import os
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.fakes.authority import Ca, KubernetesMount, Shape, cacerts, make_ca

_DAY = timedelta(days=1)


def new_ca(name: str, issuer: Ca | None = None) -> Ca:
    """Make a CA that is valid now.

    Args:
        name: Its common name.
        issuer: Who signs it; None makes a root.
    """
    now = datetime.now(UTC)
    return make_ca(
        name, issuer=issuer, shape=Shape(not_before=now - _DAY, not_after=now + 30 * _DAY)
    )


class Authority:
    """A directory with the CA that signs now, and the file with the roots for its clients.

    Args:
        directory: Gets both.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ca"
        self.roots = directory / "roots.pem"
        self._mount = KubernetesMount(self.path)

    def show(self, issuer: Ca, roots: Sequence[Ca]) -> None:
        """Let a CA sign from now on.

        The server's own certificate follows within half a minute, so that who drops a root drops
        it from the agents' file later than here.

        Args:
            issuer: The CA, signed by the first root.
            roots: The trust bundle.
        """
        self._mount.swap(cacerts(issuer, chain=[issuer], roots=roots))

    def publish(self, roots: Sequence[Ca]) -> None:
        """Tell the agents which roots the CA's serving certificate may have, at one stroke."""
        fresh = self.roots.with_suffix(".new")
        fresh.write_bytes(b"".join(root.pem for root in roots))
        os.replace(fresh, self.roots)  # noqa: PTH105 - rename(2)


def write_leaf(path: Path, issuer: Ca, identity: str) -> Path:
    """Write key, leaf and issuer into one file, as a thief of a CA's key would.

    Args:
        path: The file.
        issuer: Signs it.
        identity: Its SPIFFE ID.
    """
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
        .add_extension(names, critical=True)
        .sign(issuer.key, hashes.SHA256())
    )
    key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(key_pem + leaf.public_bytes(Encoding.PEM) + issuer.pem)
    return path


def build_crl(ca: Ca, revoked: Sequence[int] = ()) -> bytes:
    """Build a CRL that is current for an hour.

    Args:
        ca: Whose.
        revoked: Serial numbers.
    """
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(now - timedelta(minutes=1))
        .next_update(now + timedelta(hours=1))
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(ca.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def answered(address: str, certificate: Path) -> bool:
    """Tell whether a server answers a client with this certificate.

    The server's own is not looked at.

    Args:
        address: host:port of an mTLS listener.
        certificate: PEM file with key and chain.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate)
    host, _, port = address.rpartition(":")
    request = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    try:
        with (
            socket.create_connection((host, int(port)), timeout=20) as plain,
            context.wrap_socket(plain) as secured,
        ):
            secured.sendall(request)
            return secured.recv(64).startswith(b"HTTP/1.1 200")
    except ssl.SSLError:
        return False
