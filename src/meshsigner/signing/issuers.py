"""Issuers that are put together from certificates, and the roots that others announce.

Decides nothing about trust: `verify` and `trust` judge what is made here. A
bundle holds the issuer's own roots first, so that `Issuer.not_after` and the
root in use stay what they are, and the mesh's other roots behind them.
"""

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.model import Issuer, TrustBundle


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


def with_announced(issuer: Issuer, roots: Sequence[x509.Certificate]) -> Issuer:
    """Return the issuer with the mesh's roots behind its own; the same one if it has them.

    Args:
        issuer: Of one backend.
        roots: Of all backends.
    """
    own = issuer.trust_bundle
    others = tuple(dict.fromkeys(root for root in roots if root not in own.certificates))
    if not others:
        return issuer
    return Issuer(
        certificate=issuer.certificate,
        intermediates=issuer.intermediates,
        trust_bundle=TrustBundle(
            certificates=(*own.certificates, *others),
            pem=own.pem + "".join(map(pem_of, others)),
        ),
        chain_pem=issuer.chain_pem,
        generation=issuer.generation,
    )


def pem_of(certificate: x509.Certificate) -> str:
    """Write a certificate as PEM, with one newline at the end."""
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
