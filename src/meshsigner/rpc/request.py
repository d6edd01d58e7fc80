"""What a call says, read from its message and headers; nothing here is believed.

Turns wire forms into model values. It bounds the CSR's size before anybody is
authenticated, for a comparison of lengths costs nothing; the CSR is parsed by
others, after authentication (istio-contract: authentication comes first).
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest
from meshsigner.errors import InvalidCsr
from meshsigner.model import Credentials

MAX_CSR_BYTES = 16 * 1024  # Istio's own CSRs are 0.5 to 1.1 KiB; RSA-4096 needs 1.8 KiB
# What a Go Duration holds, in seconds; istiod's arithmetic overflows beyond it
# to a negative lifetime, which means the default.
# Source: istio security/pkg/server/ca/server.go CreateCertificate.
MAX_ASKED_LIFETIME_S = 9_223_372_036

_BEARER = "Bearer "


def parse_message(data: bytes) -> IstioCertificateRequest:
    """Read the request message.

    Args:
        data: Its protobuf serialisation.

    Raises:
        InvalidCsr: It is not one.
    """
    try:
        return IstioCertificateRequest.FromString(data)
    except DecodeError as error:
        detail = "the request message is not valid protobuf"
        raise InvalidCsr(detail) from error


def csr_pem(message: IstioCertificateRequest) -> bytes:
    """Return the CSR as it came, its size bounded.

    Args:
        message: The request.

    Raises:
        InvalidCsr: It is larger than 16 KiB.
    """
    pem = message.csr.encode()
    if len(pem) > MAX_CSR_BYTES:
        detail = "certificate signing request is larger than 16 KiB"
        raise InvalidCsr(detail)
    return pem


def asked_lifetime(seconds: int) -> timedelta | None:
    """Return the lifetime that a caller wishes.

    Args:
        seconds: `validity_duration` as sent.

    Returns:
        None for the default: nothing or a negative number was asked, or more
        than istiod can count.
    """
    if 0 < seconds <= MAX_ASKED_LIFETIME_S:
        return timedelta(seconds=seconds)
    return None


def credentials(
    message: IstioCertificateRequest,
    headers: Iterable[tuple[str, str | bytes]],
    *,
    peer: str,
    secure: bool,
) -> Credentials:
    """Gather what a caller shows.

    Args:
        message: The request; its metadata may be absent, hold unknown keys or
            values that are no strings: what is no string counts as empty.
        headers: The call's metadata, in order.
        peer: The client's address.
        secure: True when the transport is TLS.

    Source: istio pkg/security/security.go ExtractBearerToken; kubeauth
    kube_jwt.go ExtractClusterID (one value, or none counts).
    """
    token: str | None = None
    clusters: list[str] = []
    for name, value in headers:
        if name == "authorization":
            if token is None and isinstance(value, str) and value.startswith(_BEARER):
                token = value.removeprefix(_BEARER)
        elif name == "clusterid" and isinstance(value, str):
            clusters.append(value)
    extra = message.metadata.fields
    return Credentials(
        bearer_token=token,
        cluster_id=clusters[0] if len(clusters) == 1 else "",
        impersonated_identity=_text(extra, "ImpersonatedIdentity"),
        cert_signer=_text(extra, "CertSigner"),
        peer=peer,
        secure=secure,
    )


def _text(extra: Mapping[str, Value], key: str) -> str:
    value = extra.get(key)
    return "" if value is None else value.string_value
