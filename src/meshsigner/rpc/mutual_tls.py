"""TLS that demands a client certificate under the mesh's roots of the moment.

Decides what the handshake asks for; whose certificate is good for what is
decided in `authn`, call by call. grpcio knows no "verify if given", so that
this is a listener of its own.

Source: grpc.dynamic_ssl_server_credentials; istio pkg/spiffe/spiffe.go.
"""

from collections.abc import Callable

import grpc

from meshsigner.rpc.serving_certificate import ServingCertificate, ServingPair


class MutualTls:
    """Credentials of a listener that knows its clients by their certificates.

    Args:
        certificate: What the server presents, kept fresh by somebody else.
        roots_pem: Returns the mesh's roots; empty while there are none, and then
            no client is let in. Called in gRPC's threads too.
    """

    def __init__(self, certificate: ServingCertificate, roots_pem: Callable[[], str]) -> None:
        self._certificate = certificate
        self._roots_pem = roots_pem
        self._handed: tuple[ServingPair, str] = self._current()

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that always follow certificate and roots."""
        self._handed = self._current()
        return grpc.dynamic_ssl_server_credentials(
            _for_grpc(*self._handed),
            self._fetch,  # type: ignore[arg-type]  # None means "unchanged", which the stubs forgot
            require_client_authentication=True,
        )

    def _current(self) -> tuple[ServingPair, str]:
        return self._certificate.pair, self._roots_pem()

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Hand what is new to gRPC, once; it asks in each handshake, from threads of its own."""
        current = self._current()
        if current == self._handed:
            return None
        self._handed = current
        return _for_grpc(*current)


def _for_grpc(pair: ServingPair, roots_pem: str) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(pair.key_pem, pair.chain_pem)], roots_pem.encode()
    )
