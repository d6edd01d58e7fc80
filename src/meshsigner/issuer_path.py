"""Whether an issuer's certificates lead to a root of its bundle, time apart.

Decides that each is a CA, may have as many CAs below it as there are, and is
signed by the next. When they are valid is `verify`'s matter.

Source: RFC 5280 6.1; docs/standards.md 8, 33.
"""

import itertools
from collections.abc import Iterator

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from meshsigner.model import Issuer


def name_of(certificate: x509.Certificate) -> str:
    """Return a certificate's subject for a message."""
    return certificate.subject.rfc4514_string() or "the certificate without subject"


def path_faults(issuer: Issuer) -> list[str]:
    """Name every fault of the path from the issuer to a root, time apart."""
    roots = issuer.trust_bundle.certificates
    path = issuer.intermediates or (issuer.certificate,)
    if not roots:
        return ["there is no root certificate"]
    if path[0] != issuer.certificate:
        return ["the chain does not start with the issuer"]
    return [
        *(fault for depth, ca in enumerate(path) for fault in _ca_faults(ca, below=depth)),
        *_signature_faults(path, roots),
    ]


def _signature_faults(
    path: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...]
) -> Iterator[str]:
    """Name every link of a path that the next one, or a root at its end, did not sign."""
    for certificate, above in itertools.pairwise(path):
        if not _signed_by(certificate, above):
            yield f"{name_of(certificate)} is not signed by {name_of(above)}"
    if path[-1] not in roots and not any(_signed_by(path[-1], root) for root in roots):
        yield f"{name_of(path[-1])} is not signed by any root of the bundle"


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _ca_faults(certificate: x509.Certificate, *, below: int) -> Iterator[str]:
    """Name what keeps a certificate from being a CA above `below` other CAs."""
    values = {extension.oid: extension.value for extension in certificate.extensions}
    constraints = values.get(ExtensionOID.BASIC_CONSTRAINTS)
    usage = values.get(ExtensionOID.KEY_USAGE)
    if constraints is None or not constraints.ca:
        yield f"{name_of(certificate)} is not a CA certificate"
    elif constraints.path_length is not None and constraints.path_length < below:
        yield f"{name_of(certificate)} allows {constraints.path_length} CAs below it, not {below}"
    if usage is not None and not usage.key_cert_sign:
        yield f"{name_of(certificate)} may not sign certificates"
