"""How the certificates of a CA directory hang together: issuer, intermediates, root.

Decides whether they form one path from the certificate that signs leaves to a
root of the bundle, in the order in which Istio's clients get it, and which
root that is. What each must be by itself is `authority`'s matter.

Source: istio security/pkg/server/ca/server.go (order of the answer); RFC 5280
6.1; docs/standards.md 5, 7, 8.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from meshsigner.trust.authority import (
    authority_faults,
    ca_faults,
    extension_of,
    is_self_signed,
    serial_faults,
    validity_faults,
)
from meshsigner.trust.findings import Findings
from meshsigner.trust.pem import PemCertificate, describe


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificationPath:
    """One way from the issuer of leaves to a trust anchor.

    Attributes:
        intermediates: From the issuer towards the root, which is excluded; empty
            when the issuer is itself a root.
        root: The root in use: of several that fit, the one that lasts longest.
    """

    intermediates: tuple[PemCertificate, ...]
    root: PemCertificate


def build_path(
    issuer: PemCertificate,
    chain: Sequence[PemCertificate],
    roots: Sequence[PemCertificate],
    findings: Findings,
) -> CertificationPath | None:
    """Find the path of an issuer to a root.

    Args:
        issuer: Signs the leaves.
        chain: The chain file, upwards; it may leave out the issuer, and end with the root.
        roots: The bundle.
        findings: Gets each fault.

    Returns:
        The path, or None when there is none.
    """
    listed = chain[0].certificate == issuer.certificate
    if not listed:  # often the file holds what stands above; clients need the CA itself as well
        findings.warn(
            chain[0].where,
            f"is not the signing CA, {describe(issuer.certificate)}, which is put before it; "
            "istiod would leave it out",
        )
    whole = (issuer, *chain[listed:])
    anchors = [root.certificate for root in roots]
    below = [*itertools.takewhile(lambda member: member.certificate not in anchors, whole)]
    for member in whole[len(below) + 1 :]:
        findings.problem(member.where, "stands after the root; expected nothing there; remove it")
    for child, parent in itertools.pairwise(below):
        _check_link(child, parent, findings)
    root = _find_root(below[-1] if below else issuer, roots, findings)
    return None if root is None else CertificationPath(intermediates=tuple(below), root=root)


def _check_link(child: PemCertificate, parent: PemCertificate, findings: Findings) -> None:
    if not issued_by(child.certificate, parent.certificate):
        findings.problem(
            parent.where,
            f"{describe(parent.certificate)} did not issue the certificate before it, "
            f"{describe(child.certificate)}; expected "
            f"{child.certificate.issuer.rfc4514_string()!r}; put the chain in order",
        )
    elif not _key_ids_agree(child.certificate, parent.certificate):
        findings.problem(
            child.where,
            f"names another authority key identifier than the subject key identifier of "
            f"{describe(parent.certificate)}, so that OpenSSL refuses the chain; issue it again",
        )


def _find_root(
    top: PemCertificate,
    roots: Sequence[PemCertificate],
    findings: Findings,
) -> PemCertificate | None:
    fitting = [
        root
        for root in roots
        if top.certificate == root.certificate
        or (
            issued_by(top.certificate, root.certificate)
            and _key_ids_agree(top.certificate, root.certificate)
        )
    ]
    if fitting:
        return max(fitting, key=lambda root: root.certificate.not_valid_after_utc)
    known = ", ".join(describe(root.certificate) for root in roots)
    if is_self_signed(top.certificate):
        text = f"{describe(top.certificate)} is a root, but not of the bundle ({known})"
    else:
        issuer = top.certificate.issuer.rfc4514_string()
        text = f"no root of the bundle ({known}) issued it; its issuer is {issuer!r}"
    findings.problem(
        top.where,
        f"{text}; expected a chain that ends in a root of the bundle; add what is missing",
    )
    return None


def check_path(path: CertificationPath, now: datetime, findings: Findings) -> None:
    """Check every certificate of a path at its place.

    Args:
        path: From the issuer to the root.
        now: Time at which all of them must be valid.
        findings: Gets each fault, and a remark where the issuer outlives its path.
    """
    members = path.intermediates
    for depth, member in enumerate((*members, path.root)):
        faults = authority_faults(member.certificate, below=depth, now=now)
        findings.problem(member.where, *faults)
    whole = (*members, path.root)
    for above in whole[1:]:
        if above.certificate.not_valid_after_utc < whole[0].certificate.not_valid_after_utc:
            remark = f"{describe(above.certificate)} expires before the signing CA"
            findings.warn(above.where, remark)


def check_bundle(
    roots: Sequence[PemCertificate],
    in_use: PemCertificate | None,
    now: datetime,
    findings: Findings,
) -> None:
    """Check the roots that are handed out beside the one in use.

    Args:
        roots: The bundle.
        in_use: The root in use, which is checked with its path; None when there is none.
        now: Time at which the others should be valid.
        findings: Gets problems, and remarks on what is only useless.
    """
    for root in roots:
        findings.problem(root.where, *_root_faults(root.certificate))
        if root is not in_use:
            findings.problem(root.where, *serial_faults(root.certificate))
            findings.problem(root.where, *ca_faults(root.certificate, below=0))
            findings.warn(root.where, *validity_faults(root.certificate, now))
    if in_use is not None and in_use is not roots[0]:
        findings.warn(in_use.where, "is the root in use, but not first: istiod watches the first")


def _root_faults(certificate: x509.Certificate) -> Iterator[str]:
    if not is_self_signed(certificate):
        yield (
            f"{describe(certificate)} is no root, for it is issued by "
            f"{certificate.issuer.rfc4514_string()!r}; expected self-signed roots only; move it to "
            "the chain"
        )
    elif not issued_by(certificate, certificate):
        yield f"{describe(certificate)} is not signed by its own key; expected a root; replace it"


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether names and signature make one certificate the issuer of another."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _key_ids_agree(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    authority = extension_of(certificate, x509.AuthorityKeyIdentifier)
    subject = extension_of(issuer, x509.SubjectKeyIdentifier)
    if authority is None or authority.key_identifier is None or subject is None:
        return True
    return authority.key_identifier == subject.digest
