"""Roots and issuer files: what the mesh trusts, and the CA that signs for it.

Reads Istio's `cacerts` layouts, judges them as a whole, follows their changes.
It makes no certificate: that is `signing`'s matter, as is signing itself.
"""

from meshsigner.trust.directory import CaCertificates, CaFiles, load_certificates, load_directory
from meshsigner.trust.watch import IssuerDirectory

__all__ = [
    "CaCertificates",
    "CaFiles",
    "IssuerDirectory",
    "load_certificates",
    "load_directory",
]
