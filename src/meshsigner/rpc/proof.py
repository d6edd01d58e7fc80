"""What a listener's transport proves about a call, before anything in it is read.

A property of the listener, but for the client's certificate, which is one of
the connection. Whether a certificate is worth anything is decided in `authn`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the transport proves.

    Attributes:
        secure: The call came over TLS, or over a socket that only a proxy may
            enter which ended TLS itself.
        believes_proxy: The peer is a proxy that may say who its client is.
        peer_chain_pem: The peer's certificate, whose key it has shown, and what
            it sent along; empty where none is asked for.
    """

    secure: bool
    believes_proxy: bool = False
    peer_chain_pem: bytes = field(default=b"", repr=False)


class Connected(Protocol):
    """What is used of gRPC's context of a call."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what the handshake found out."""
        ...


Proves = Callable[[Connected], Proof]


def always(proof: Proof) -> Proves:
    """Say the same of every call."""
    return lambda _: proof


def of_client(*, believes_proxy: bool) -> Proves:
    """Say which certificate the client has shown.

    Args:
        believes_proxy: The client is a proxy.
    """
    return lambda connected: Proof(
        secure=True,
        believes_proxy=believes_proxy,
        peer_chain_pem=peer_chain(connected.auth_context()),
    )


def peer_chain(context: Mapping[str, Iterable[bytes]]) -> bytes:
    """Return the peer's certificates, leaf first; the rest comes as one text, without the leaf.

    Source: grpc include/grpc/grpc_security_constants.h.
    """
    return b"".join(
        pem for key in ("x509_pem_cert", "x509_pem_cert_chain") for pem in context.get(key, ())
    )
