"""A caller of the service by gRPC for Python, who may show a certificate, act for others and lie.

A request is as ztunnel makes it: a P-256 key, an empty subject, one critical URI.

Source: ztunnel src/tls/csr.rs, src/identity/caclient.rs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509 import (
    CertificateSigningRequestBuilder,
    Name,
    SubjectAlternativeName,
    UniformResourceIdentifier,
    load_pem_x509_certificate,
)

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest, IstioCertificateResponse
from tests.fakes.client_certificates import Made

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
TIMEOUT_S = 20.0
Header = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended.

    Attributes:
        code: gRPC status.
        text: Its text.
        identity: The URI in the certificate, empty without one.
        serial: Its serial number, hex.
        client: The certificate with its key, to be shown the next time.
    """

    code: grpc.StatusCode
    text: str = ""
    identity: str = ""
    serial: str = ""
    client: Made | None = None


def call(
    address: str,
    roots: bytes,
    identity: str,
    *,
    client: Made | None = None,
    headers: Sequence[Header] = (),
) -> Outcome:
    """Ask for a certificate over a connection of its own.

    Args:
        address: host:port.
        roots: PEM of what the server's certificate chains to.
        identity: Whom the CSR names.
        client: What is shown in the handshake.
        headers: Sent along.
    """
    pair = (client.key_pem, client.chain_pem) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(roots, *pair)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(address, credentials, options=options) as channel:
        return call_over(channel, identity, headers)


def call_over(
    channel: grpc.Channel,
    identity: str,
    headers: Sequence[Header] = (),
    *,
    impersonated: str = "",
) -> Outcome:
    """Ask for a certificate over a connection that is there.

    Args:
        channel: The connection.
        identity: Whom the CSR names.
        headers: Sent along.
        impersonated: Whom the caller acts for, as it says in the request's metadata.
    """
    method = channel.unary_unary(
        METHOD,
        IstioCertificateRequest.SerializeToString,
        IstioCertificateResponse.FromString,
    )
    key = ec.generate_private_key(ec.SECP256R1())
    request = IstioCertificateRequest(csr=_csr(identity, key), validity_duration=86_400)
    if impersonated:
        request.metadata["ImpersonatedIdentity"] = impersonated
    try:
        answer = method(request, metadata=tuple(headers), timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        return Outcome(code=error.code(), text=error.details() or "")
    leaf = load_pem_x509_certificate(answer.cert_chain[0].encode())
    names = leaf.extensions.get_extension_for_class(SubjectAlternativeName).value
    return Outcome(
        code=grpc.StatusCode.OK,
        identity=names.get_values_for_type(UniformResourceIdentifier)[0],
        serial=f"{leaf.serial_number:x}",
        client=Made(
            certificate=leaf,
            key_pem=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            chain_pem="".join(answer.cert_chain[:-1]).encode(),
        ),
    )


def _csr(identity: str, key: ec.EllipticCurvePrivateKey) -> str:
    names = SubjectAlternativeName([UniformResourceIdentifier(identity)])
    builder = CertificateSigningRequestBuilder().subject_name(Name([]))
    request = builder.add_extension(names, critical=True)
    return request.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
