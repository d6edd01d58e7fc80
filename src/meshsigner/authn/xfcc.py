"""Reads `x-forwarded-client-cert`, in which a TLS-terminating proxy says who its client is.

Decides what the header says when it is one element as Envoy writes it; anything
else is refused as a whole. The identity is taken from the certificate in `Cert`
alone: Envoy writes `URI` and `DNS` as they stand in the certificate, without
escapes, so that a client could write further fields into them. Which header is
read at all, and whether its certificate holds, is decided in `mtls`.

Source: Envoy documentation, configuration/http/http_conn_man/headers
(x-forwarded-client-cert), source/common/http/conn_manager_utility.cc.
"""

import re
from collections.abc import Iterator, Sequence
from urllib.parse import unquote_to_bytes

from cryptography.hazmat.primitives import hashes

from meshsigner.authn.client_chain import parse_chain
from meshsigner.errors import Unauthenticated

# A value in quotes, in which a backslash escapes; or one without, up to the next separator.
_PAIR = re.compile(r'([A-Za-z]{1,16})=(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^",;]*))')
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_URL_ENCODED = re.compile(r"[A-Za-z0-9._~/:@!$'()*+=%-]+")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse_forwarded(values: Sequence[str]) -> bytes:
    """Return the certificate chain that a proxy forwards.

    Args:
        values: Every value of the header, in order; at least one.

    Returns:
        PEM, leaf first.

    Raises:
        Unauthenticated: Several elements, a field that stands twice, no
            certificate, or fields that contradict each other.
    """
    if len(values) != 1:
        raise Unauthenticated("several x-forwarded-client-cert headers; the proxy must set it anew")
    fields = _fields(values[0])
    if "Cert" not in fields:
        raise Unauthenticated("x-forwarded-client-cert without Cert; the proxy must forward it")
    leaf_pem = _decode(fields["Cert"])
    chain_pem = _decode(fields["Chain"]) if fields.get("Chain") else b""
    _check_agreement(leaf_pem, chain_pem, fields.get("Hash"))
    return chain_pem or leaf_pem


def _fields(element: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in _pairs(element):
        if key in found:
            raise Unauthenticated(f"x-forwarded-client-cert says {key} twice")
        found[key] = value
    return found


def _pairs(element: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of the one element there may be."""
    position = 0
    while True:
        match = _PAIR.match(element, position)
        if match is None:
            raise Unauthenticated("x-forwarded-client-cert that cannot be read")
        key, quoted, plain = match.groups()
        yield key, plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
        position = match.end() + 1
        separator = element[match.end() : position]
        if not separator:
            return
        if separator != ";":
            raise Unauthenticated("x-forwarded-client-cert with more than one element")


def _decode(value: str) -> bytes:
    """Undo the URL encoding; a plus sign is itself, for PEM is full of them."""
    if not _URL_ENCODED.fullmatch(value) or _BAD_ESCAPE.search(value):
        raise Unauthenticated("x-forwarded-client-cert with a certificate that is not URL-encoded")
    return unquote_to_bytes(value)


def _check_agreement(leaf_pem: bytes, chain_pem: bytes, sha256: str | None) -> None:
    """Refuse a header whose fields are of different clients."""
    leaf, *more = parse_chain(leaf_pem)
    if more:
        raise Unauthenticated("x-forwarded-client-cert with several certificates in Cert")
    if chain_pem and parse_chain(chain_pem)[0] != leaf:
        raise Unauthenticated("x-forwarded-client-cert whose Chain begins with another certificate")
    if sha256 is not None and sha256.lower() != leaf.fingerprint(hashes.SHA256()).hex():
        raise Unauthenticated("x-forwarded-client-cert whose Hash is another certificate's")
