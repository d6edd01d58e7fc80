"""Every backend over one mesh's CA: what a server is given to sign with each of them.

A real OpenBao and a SoftHSM2 token are set up for the run. All of them hold the key of the
mesh's own CA, so that one set of roots judges every certificate; only the intermediate is
below a root of OpenBao's. Needs `make servers` and Debian's softhsm2.
"""

import base64
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from benchmarks.scenarios.hsm import MODULE, softhsm_backend
from tests.conformance.openbao.mounts import Mesh as Mounts
from tests.conformance.openbao.mounts import set_up_mesh
from tests.conformance.openbao.server import OpenBao, openbao_server

_AES_KEY_BYTES: Final = 32
_KEY: Final = "mesh-ca"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A backend to measure.

    Args:
        name: For reports.
        settings: Its section of the configuration.
        environment: Variables that it needs.
        batch: Certificates that one call of it may sign.
    """

    name: str
    settings: Mapping[str, object]
    environment: Mapping[str, str] = field(default_factory=dict)
    batch: int = 1

    @contextmanager
    def in_environment(self) -> Iterator[None]:
        """Have its variables for the length of a block."""
        with ExitStack() as undo:
            for name, value in self.environment.items():
                before = os.environ.get(name)
                os.environ[name] = value
                undo.callback(_restore, name, before)
            yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Signers:
    """All backends of a run.

    Args:
        every: In the order of the table.
        roots: Roots beside the mesh's own.
    """

    every: tuple[Signer, ...]
    roots: tuple[x509.Certificate, ...]


@contextmanager
def every_signer(directory: Path, ca: Path) -> Iterator[Signers]:
    """Have every backend for the length of a block.

    Args:
        directory: Gets their files; must not be there yet.
        ca: Directory in the layout of Istio's secret `cacerts`, with the key.
    """
    directory.mkdir()
    with openbao_server(directory / "openbao") as bao:
        mounts = set_up_mesh(bao, "bench", directory)
        _bring_issuer(mounts, ca)
        _bring_key(mounts, ca)
        bao.policy(
            mounts.policy,
            f"{mounts.pki}/*",
            f"{mounts.transit}/*",
            f"{mounts.root}/issuer/default/sign-intermediate",
        )
        yield Signers(every=tuple(_signers(directory, ca, mounts)), roots=(_root(bao, mounts),))


def _signers(directory: Path, ca: Path, mounts: Mounts) -> Iterator[Signer]:
    yield Signer(name="directory", settings={"type": "directory", "path": str(ca)})
    if MODULE.exists():
        for sessions in (1, 2):
            hsm = softhsm_backend(directory / f"hsm-{sessions}", ca, sessions=sessions)
            yield Signer(
                name=f"pkcs11 (SoftHSM2), {sessions} session{'s' * (sessions > 1)}",
                settings=hsm.settings,
                environment=hsm.environment,
                batch=32,
            )
    yield Signer(name="openbao_intermediate", settings=mounts.settings("openbao_intermediate"))
    keyed = {"key": _KEY, "certificates": str(ca)}
    for batch in (1, 100):
        yield Signer(
            name=f"openbao_transit, batch {batch}",
            settings=mounts.settings("openbao_transit", batch=batch, **keyed),
            batch=batch,
        )
    roots = str(ca / "root-cert.pem")
    yield Signer(
        name="openbao_pki",
        settings=mounts.settings("openbao_pki", roots_file=roots, in_flight=16),
    )


def _bring_issuer(mounts: Mounts, ca: Path) -> None:
    """Let the PKI mount sign with the mesh's own CA."""
    names = ("ca-key.pem", "ca-cert.pem")
    bundle = "\n".join((ca / name).read_text() for name in names)
    done = mounts.bao.write(f"{mounts.pki}/config/ca", {"pem_bundle": bundle})
    issuer = mounts.issuer_of_key(done)
    mounts.bao.write(f"{mounts.pki}/config/issuers", {"default": issuer})


def _bring_key(mounts: Mounts, ca: Path) -> None:
    """Let the transit mount hold the CA's key, wrapped on its way as OpenBao demands.

    Source: OpenBao API documentation, transit: import key.
    """
    key = load_pem_private_key((ca / "ca-key.pem").read_bytes(), None)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    wrapping = mounts.bao.read(f"{mounts.transit}/wrapping_key")["public_key"]
    public = load_pem_public_key(str(wrapping).encode())
    if not isinstance(public, rsa.RSAPublicKey):
        raise TypeError("OpenBao's wrapping key is no RSA key")
    secret = os.urandom(_AES_KEY_BYTES)
    digest = hashes.SHA256()
    oaep = padding.OAEP(mgf=padding.MGF1(digest), algorithm=digest, label=None)
    wrapped = public.encrypt(secret, oaep) + keywrap.aes_key_wrap_with_padding(secret, der)
    document = {
        "ciphertext": base64.b64encode(wrapped).decode(),
        "hash_function": "SHA256",
        "type": _type_of(key),
    }
    mounts.bao.write(f"{mounts.transit}/keys/{_KEY}/import", document)


def _type_of(key: object) -> str:
    if isinstance(key, rsa.RSAPrivateKey):
        return f"rsa-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return "ecdsa-p256" if key.key_size == 256 else "ecdsa-p384"
    raise TypeError(f"{type(key).__name__} is no kind of a CA's key")


def _root(bao: OpenBao, mounts: Mounts) -> x509.Certificate:
    pem = bao.read(f"{mounts.root}/issuer/default/json")["certificate"]
    return x509.load_pem_x509_certificate(str(pem).encode())


def _restore(name: str, value: str | None) -> None:
    if value is None:
        del os.environ[name]
    else:
        os.environ[name] = value
