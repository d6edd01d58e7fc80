"""A whole server whose CA key is in a test's HSM: files, configuration, start.

The root is made here, the intermediate's key goes into the token, and the
serving certificate comes from files, for a key in an HSM issues none.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from meshsigner.cli.dev_state import DevState
from meshsigner.cli.dev_tokens import ISSUER
from meshsigner.signing.issuers import pem_of
from meshsigner.signing.making import (
    build_intermediate,
    build_root,
    build_serving,
    new_key,
    render_key,
)
from meshsigner.spiffe import TrustDomain
from tests.conformance.softhsm.token import KEY_LABEL, LABEL, SoftHsm
from tests.fakes.authority import Ca, CaKey
from tests.secret_scan import Secrets
from tests.wire.processes import Running, invoke, running

DOMAIN = TrustDomain.parse("cluster.local")
CONFIG = f"""\
trust_domain: cluster.local
clusters:
  - id: Kubernetes
    authenticators: [{{type: jwks, issuer: "{ISSUER}", jwks_file: .state/jwks.json}}]
backends:
  hsm:
    type: pkcs11
    certificates: certificates
    module: MODULE
    token_label: {LABEL}
    key_label: {KEY_LABEL}
    pin_file: PIN_FILE
    sessions: SESSIONS
listen:
  address: 127.0.0.1:0
  tls: {{type: files, certificate: serving.pem, key: serving-key.pem}}
admin: {{address: "127.0.0.1:0"}}
inventory: {{path: inventory.db}}
workers: WORKERS
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a server runs from.

    Attributes:
        folder: Its directory.
    """

    folder: Path

    @classmethod
    def make(
        cls, folder: Path, hsm: SoftHsm, key: CaKey, *, sessions: int = 1, workers: int = 1
    ) -> "Place":
        """Write everything; the key is in the token already.

        Args:
            folder: Where.
            hsm: The token.
            key: The CA's.
            sessions: Of the backend.
            workers: Of the server.
        """
        folder.mkdir(exist_ok=True)
        now = datetime.now(UTC)
        DevState(folder / ".state").prepare(now)
        state = folder / ".state"
        root = load_ca(state / "root-cert.pem", state / "ca" / "root-key.pem")
        _write_certificates(folder / "certificates", root, key)
        write_serving(folder, root, names=("serving.pem", "serving-key.pem"))
        changes = {
            "MODULE": str(hsm.module),
            "PIN_FILE": str(hsm.pin_file),
            "SESSIONS": str(sessions),
            "WORKERS": str(workers),
        }
        text = CONFIG
        for name, value in changes.items():
            text = text.replace(name, value)
        (folder / "meshsigner.yaml").write_text(text)
        who = ("--namespace", "shop", "--service-account", "cart")
        (folder / "token").write_text(invoke("dev", "token", *who, cwd=folder).stdout)
        return cls(folder=folder)

    def serve(self, secrets: Secrets) -> AbstractContextManager[Running]:
        """Run the server."""
        where = ("serve", "--config", "meshsigner.yaml")
        return running(*where, cwd=self.folder, secrets=secrets)


def load_ca(certificate: Path, key: Path) -> Ca:
    """Read a CA from two files."""
    found = load_pem_private_key(key.read_bytes(), None)
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    return Ca(certificate=load_pem_x509_certificate(certificate.read_bytes()), key=found)


def make_root(folder: Path) -> Ca:
    """Make a root that lives for years, in root.pem and root.key."""
    now, key = datetime.now(UTC), new_key()
    root = build_root(key, trust_domain=DOMAIN, now=now, lifetime=timedelta(days=3650))
    (folder / "root.pem").write_text(pem_of(root))
    (folder / "root.key").touch(mode=0o600)
    (folder / "root.key").write_bytes(render_key(key))
    return Ca(certificate=root, key=key)


def _write_certificates(directory: Path, root: Ca, key: CaKey) -> None:
    certificate = build_intermediate(
        key,
        root=root.certificate,
        root_key=root.key,
        trust_domain=DOMAIN,
        now=datetime.now(UTC),
        lifetime=timedelta(days=30),
    )
    directory.mkdir()
    (directory / "ca-cert.pem").write_text(pem_of(certificate))
    (directory / "cert-chain.pem").write_text(pem_of(certificate))
    (directory / "root-cert.pem").write_text(pem_of(root.certificate))


def write_serving(folder: Path, root: Ca, *, names: tuple[str, str]) -> None:
    """Write a serving certificate for loopback under a root, and its key.

    Args:
        folder: Where.
        root: Its issuer.
        names: Of the two files.
    """
    now, key = datetime.now(UTC), new_key()
    leaf = build_serving(
        key.public_key(),
        issuer=root.certificate,
        issuer_key=root.key,
        names=["localhost", IPv4Address("127.0.0.1")],
        validity=(now - timedelta(minutes=5), now + timedelta(days=1)),
    )
    certificate_file, key_file = (folder / name for name in names)
    certificate_file.write_text(pem_of(leaf))
    key_file.touch(mode=0o600)
    key_file.write_bytes(render_key(key))
