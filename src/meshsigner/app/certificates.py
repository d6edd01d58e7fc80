"""Who is believed for a certificate: from the configuration's section to parts of the server.

Nothing is started here.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from meshsigner.app.place import Place
from meshsigner.authn.denied import DenyList
from meshsigner.authn.mtls import CertificateAuthenticator, CertificateRules
from meshsigner.config.client_certificates import (
    ClientCertificates,
    ForwardedMutualTls,
    ForwardedUnix,
)
from meshsigner.errors import NotReady
from meshsigner.model import Issuer
from meshsigner.ports import Authenticator, Backend
from meshsigner.rpc.mutual_tls import MutualTls
from meshsigner.rpc.serving_certificate import ServingCertificate
from meshsigner.rpc.side import TcpPlace, UnixPlace
from meshsigner.spiffe import TrustDomain


class MeshRoots:
    """The roots under which clients' certificates are looked at: those that are handed out.

    Args:
        backends: Whatever signs; each announces the roots of all.
        clock: Returns the time, UTC.
    """

    def __init__(self, backends: Sequence[Backend], clock: Callable[[], datetime]) -> None:
        self._backends = backends
        self._clock = clock

    def issuer(self, now: datetime) -> Issuer:
        """Return an issuer with the roots of the moment.

        Raises:
            NotReady: No backend has any.
        """
        for backend in self._backends:
            try:
                return backend.issuer(now)
            except NotReady:
                continue
        raise NotReady("no backend has its roots yet")

    def pem(self) -> str:
        """Return the roots of the moment for a handshake; none while there are none."""
        try:
            return self.issuer(self._clock()).trust_bundle.pem
        except NotReady:
            return ""


def certificate_authenticator_of(
    section: ClientCertificates,
    *,
    roots: MeshRoots,
    trust_domains: frozenset[TrustDomain],
    denied: DenyList,
    tokens: Authenticator,
) -> CertificateAuthenticator:
    """Return what proves callers by certificate, and by token where they show none.

    Args:
        section: The settings.
        roots: What chains must end in.
        trust_domains: Those that the server certifies.
        denied: Certificates that do not count.
        tokens: Proves the others.
    """
    proxy = section.forwarded.proxy if isinstance(section.forwarded, ForwardedMutualTls) else None
    rules = CertificateRules(
        trust_domains=trust_domains,
        namespaces=frozenset(section.namespaces) if section.namespaces else None,
        proxy=proxy,
    )
    return CertificateAuthenticator(issuer=roots.issuer, rules=rules, denied=denied, tokens=tokens)


def places_of(
    section: ClientCertificates,
    *,
    roots: MeshRoots,
    certificate: ServingCertificate,
    place: Place | None,
) -> Sequence[TcpPlace | UnixPlace]:
    """Return where clients show certificates.

    Args:
        section: The settings.
        roots: What the handshake demands.
        certificate: What the server presents.
        place: The worker's place; None for a server that is one process.
    """
    credentials = MutualTls(certificate, roots.pem).credentials
    places: list[TcpPlace | UnixPlace] = []
    if section.mutual_tls is not None:
        listen = str(section.mutual_tls.address)
        places.append(TcpPlace(listen=listen, credentials=credentials))
    match section.forwarded:
        case ForwardedUnix(socket=socket):
            places.append(UnixPlace(path=_own_path(socket, place)))
        case ForwardedMutualTls(address=address):
            places.append(
                TcpPlace(listen=str(address), credentials=credentials, believes_proxy=True)
            )
    return places


def _own_path(socket: Path, place: Place | None) -> Path:
    """Return the worker's own socket: unlike a port, a path is not shared."""
    return socket if place is None else socket.with_name(f"{socket.name}.{place.number}")
