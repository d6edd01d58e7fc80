"""Certificates out of OpenBao's answers, strictly.

Decides whether an answer's fields are what the documentation says; whether a
certificate is the one that was ordered is `verify`'s matter, and whether a
chain may be trusted `trust`'s.

Source: OpenBao API documentation, PKI: sign/:name, issuer/:ref/json.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509

from meshsigner.errors import UNREADABLE_X509, BackendUnavailable

MAX_CHAIN = 10  # certificates; more is no chain of a CA


def certificate_of(data: Mapping[str, Any], field: str, path: str) -> x509.Certificate:
    """Read one certificate of an answer.

    Raises:
        BackendUnavailable: It is not there or cannot be read: no usable answer.
    """
    (found,) = _parse([data.get(field)], field, path)
    return found


def chain_of(data: Mapping[str, Any], path: str) -> tuple[x509.Certificate, ...]:
    """Read the chain above a leaf, the CA that signs leaves first.

    The root's place is left to the reader: OpenBao puts the self-signed root at
    the end when it knows it.

    Raises:
        BackendUnavailable: There is none or it cannot be read.
    """
    chain = data.get("ca_chain")
    if not isinstance(chain, list) or not chain:
        chain = [data.get("issuing_ca")]
    return _parse(chain, "ca_chain", path)


def self_signed(chain: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return those of a chain that name themselves as their issuer: its root, if it holds one."""
    return tuple(c for c in chain if c.issuer == c.subject)


def _parse(pems: Sequence[object], field: str, path: str) -> tuple[x509.Certificate, ...]:
    if len(pems) > MAX_CHAIN:
        raise BackendUnavailable(f"{path}: {field} of {len(pems)} certificates")
    try:
        return tuple(x509.load_pem_x509_certificate(str(pem).encode()) for pem in pems)
    except UNREADABLE_X509 as error:
        text = f"{path}: an answer whose {field} is no certificate"
        raise BackendUnavailable(text) from error
