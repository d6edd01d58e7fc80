"""Whether one CA may follow another while workloads go on trusting each other.

Pure. A workload learns roots from the last element of its own chain only, so
a root that signs must have been announced before, and a root whose leaves are
still about must stay announced. A change that breaks this needs a restart,
which is a decision of a person.

Source: istio-contract 7.4 and statements 60, 61 of docs/standards.md; istiod
takes a new root only when one bundle is a superset of the other.
"""

from collections.abc import Iterator, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshsigner.trust.pem import describe

Roots = Sequence[x509.Certificate]


def succession_faults(before: Roots, after: Roots) -> Iterator[str]:
    """Say what would cut workloads off if one CA took the place of another.

    Args:
        before: Roots of the CA until now, the one in use first.
        after: Roots of what would follow.
    """
    if _anchor(after[0]) not in {_anchor(root) for root in before}:
        yield (
            f"its root {describe(after[0])} was never announced, so that no workload trusts what "
            "it signs; expected it beside the old root first; put both roots into the bundle, wait "
            "for the longest certificate lifetime, then change the CA (a restart takes it at once)"
        )
    if _anchor(before[0]) not in {_anchor(root) for root in after}:
        yield (
            f"it drops the root {describe(before[0])}, under which certificates are in use; "
            "expected both roots in the bundle; keep the old one for the longest certificate "
            "lifetime (a restart drops it at once)"
        )


def _anchor(root: x509.Certificate) -> tuple[bytes, bytes]:
    """Return what makes a trust anchor: name and key (RFC 5280 6.1.1 d), whatever its validity."""
    key = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return root.subject.public_bytes(), key
