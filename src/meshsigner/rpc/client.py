"""One call of CreateCertificate, as Istio's agent makes it: for the operator's client.

Talks to any server of Istio's CA API over TLS. Key, CSR, files and words are
left to `cli`; no retry is made here, so that a refusal is seen as it is.

Source: istio security/pkg/nodeagent/caclient/providers/citadel/client.go.
"""

from dataclasses import dataclass

import grpc

from meshsigner._proto.istio.v1.auth.ca_pb2 import (
    IstioCertificateRequest,
    IstioCertificateResponse,
)

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"


class CallFailed(Exception):
    """The server, or the way to it, answered with an error.

    Attributes:
        code: Name of the gRPC status, for example `UNAUTHENTICATED`.
        text: What came with it.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Which CA is asked.

    Attributes:
        address: `host:port`.
        roots_pem: Roots that its serving certificate must chain to.
        name: Name that the serving certificate must bear; empty for the host.
        timeout_s: Longest wait for an answer, seconds.
    """

    address: str
    roots_pem: bytes
    name: str = ""
    timeout_s: float = 15.0


async def create_certificate(
    server: Server,
    *,
    token: str,
    cluster_id: str,
    csr_pem: str,
    lifetime_s: int,
) -> tuple[str, ...]:
    """Ask for a certificate.

    Args:
        server: Whom to ask.
        token: The caller's bearer token; empty sends none.
        cluster_id: Value of the `clusterid` header.
        csr_pem: The CSR.
        lifetime_s: Wished lifetime, seconds.

    Returns:
        The elements of `cert_chain`: leaf first, roots last.

    Raises:
        CallFailed: Any status but OK.
    """
    request = IstioCertificateRequest(csr=csr_pem, validity_duration=lifetime_s)
    request.metadata.update({"CertSigner": ""})
    metadata = [("clusterid", cluster_id)]
    if token:
        metadata.insert(0, ("authorization", f"Bearer {token}"))
    credentials = grpc.ssl_channel_credentials(root_certificates=server.roots_pem)
    options = [("grpc.ssl_target_name_override", server.name)] if server.name else []
    async with grpc.aio.secure_channel(server.address, credentials, options=options) as channel:
        call = channel.unary_unary(
            METHOD,
            request_serializer=IstioCertificateRequest.SerializeToString,
            response_deserializer=IstioCertificateResponse.FromString,
        )
        try:
            response = await call(request, metadata=metadata, timeout=server.timeout_s)
        except grpc.aio.AioRpcError as error:
            raise CallFailed(error.code().name, error.details() or "") from error
    return tuple(response.cert_chain)
