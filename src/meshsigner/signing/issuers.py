"""Issuers that are put together from certificates, and the roots that others announce.

Whether they may sign is judged by `trust`, with the checks of a CA directory. A
bundle holds the issuer's own roots first, so that `Issuer.not_after` and the
root in use stay what they are, and the mesh's other roots behind them.
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.errors import UNREADABLE_X509, ConfigurationError
from meshsigner.model import Issuer, TrustBundle
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.trust.findings import Findings
from meshsigner.trust.path import CertificationPath, build_path, check_bundle, check_path
from meshsigner.trust.pem import PemCertificate, describe


def issuer_of(
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    *,
    generation: int,
) -> Issuer:
    """Put an issuer together.

    Args:
        chain: From the CA that signs leaves towards the root; not empty; roots
            in it are left out, unless the CA is itself one.
        roots: The root in use first.
        generation: Counts the issuers of one backend.
    """
    intermediates = tuple(certificate for certificate in chain if certificate not in roots)
    return Issuer(
        certificate=chain[0],
        intermediates=intermediates,
        trust_bundle=TrustBundle(certificates=tuple(roots), pem="".join(map(pem_of, roots))),
        chain_pem=tuple(map(pem_of, intermediates)),
        generation=generation,
    )


def checked_issuer(
    chain: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    *,
    where: str,
    generation: int,
    now: datetime,
) -> Issuer:
    """Put an issuer together from what a service says, if it could be a CA of the mesh.

    Args:
        chain: From the CA that signs leaves towards the root; a root at its end is
            left out, and never trusted for standing there.
        roots: What is trusted, the root in use first.
        where: Which service, for messages.
        generation: Counts the issuers of one backend.
        now: Time at which all of them must be valid.

    Raises:
        ConfigurationError: It could not; holds every problem.
    """
    findings = Findings()
    members = [_placed(certificate, f"{where}: chain", findings) for certificate in chain]
    anchors = [_placed(root, f"{where}: root", findings) for root in roots]
    path = _checked_path(members, anchors, now, findings)
    if path is None or findings.problems:
        empty = f"{where}: expected a chain and a root; there is none"
        raise ConfigurationError(*(findings.problems or (empty,)))
    active = path.root.certificate
    above = [member.certificate for member in path.intermediates] or [chain[0]]
    others = [root for root in roots if root != active]
    return issuer_of(above, [active, *others], generation=generation)


def _checked_path(
    members: Sequence[PemCertificate],
    anchors: Sequence[PemCertificate],
    now: datetime,
    findings: Findings,
) -> CertificationPath | None:
    if not members or not anchors or findings.problems:
        return None
    path = build_path(members[0], members, anchors, findings)
    if path is not None:
        check_path(path, now, findings)
        check_bundle(anchors, path.root, now, findings)
    return path


def _placed(certificate: x509.Certificate, where: str, findings: Findings) -> PemCertificate:
    try:
        # The library reads these when asked; what cannot be read must show now.
        _ = (certificate.subject, certificate.issuer, certificate.extensions)
        _ = (certificate.public_key(), certificate.signature_hash_algorithm)
    except UNREADABLE_X509 as error:
        findings.problem(where, f"cannot be read ({type(error).__name__}); issue it again")
    return PemCertificate(certificate=certificate, pem=pem_of(certificate), where=where)


def with_announced(issuer: Issuer, roots: Sequence[x509.Certificate]) -> Issuer:
    """Return the issuer with the mesh's roots behind its own; the same one if it has them.

    Args:
        issuer: Of one backend.
        roots: Of all backends.

    Raises:
        ValueError: It has roots of others already, which nobody could take back.
    """
    own = issuer.trust_bundle
    if own.announced:
        msg = "roots are announced behind an issuer's own, not behind others"
        raise ValueError(msg)
    others = tuple(dict.fromkeys(root for root in roots if root not in own.certificates))
    if not others:
        return issuer
    return Issuer(
        certificate=issuer.certificate,
        intermediates=issuer.intermediates,
        trust_bundle=TrustBundle(
            certificates=(*own.certificates, *others),
            pem=own.pem + "".join(map(pem_of, others)),
            announced=others,
        ),
        chain_pem=issuer.chain_pem,
        generation=issuer.generation,
    )


def pem_of(certificate: x509.Certificate) -> str:
    """Write a certificate as PEM, with one newline at the end."""
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def tell_issuer(backend: str, issuer: Issuer) -> None:
    """Log which issuer a backend signs with from now on.

    Args:
        backend: Its name.
        issuer: The new one.
    """
    get_logger().info(
        Event.BACKEND_ISSUER,
        backend=backend,
        subject=describe(issuer.certificate),
        generation=issuer.generation,
        expires=issuer.not_after.isoformat(),
    )
