"""What a call says, read from its message and headers; nothing here is believed.

Turns wire forms into model values. It bounds the CSR's size before anybody is
authenticated, for a comparison of lengths costs nothing; the CSR is parsed by
others, after authentication (istio-contract: authentication comes first).
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Value

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest
from meshsigner.errors import InvalidCsr
from meshsigner.model import MAX_CSR_BYTES, Ask, Chain, Credentials
from meshsigner.rpc.calls import Call
from meshsigner.rpc.proof import Proof

# What a Go Duration holds, in seconds; istiod's arithmetic overflows beyond it
# to a negative lifetime, which means the default.
# Source: istio security/pkg/server/ca/server.go CreateCertificate.
MAX_ASKED_LIFETIME_S = 9_223_372_036

FORWARDED = "x-forwarded-client-cert"
_BEARER = "Bearer "
_BOOKKEEPING_BYTES = 2_048  # what a waiting call holds beside its message


class IncomingCall:
    """A call whose message has come; read and answered in a turn.

    Args:
        call: What is known of the call itself.
        data: The message's bytes.
        headers: The call's metadata, in order.
        proof: What the transport proves.
        encode: Serialises an answer.
    """

    __slots__ = (
        "_call",
        "_data",
        "_encode",
        "_headers",
        "_proof",
        "deadline_s",
        "line",
        "size_bytes",
    )

    def __init__(
        self,
        call: Call,
        data: bytes,
        headers: Iterable[tuple[str, str | bytes]],
        *,
        proof: Proof,
        encode: Callable[[Chain], bytes],
    ) -> None:
        self._call = call
        self._data = data
        self._headers = headers
        self._proof = proof
        self._encode = encode
        self.deadline_s = call.deadline_s
        self.line = call.line
        self.size_bytes = len(data) + _BOOKKEEPING_BYTES

    def read(self) -> Ask:
        """Read what the call says.

        Raises:
            InvalidCsr: Its message is none, or its CSR is too large.
        """
        message = parse_message(self._data)
        self.line["asked_lifetime_s"] = seconds = message.validity_duration
        if not self._proof.believes_proxy and any(name == FORWARDED for name, _ in self._headers):
            self.line["forwarded_ignored"] = True
        return Ask(
            credentials=credentials(
                message, self._headers, peer=self._call.peer, proof=self._proof
            ),
            csr_pem=csr_pem(message),
            asked_lifetime=asked_lifetime(seconds),
        )

    def render(self, chain: Chain) -> tuple[Chain, bytes]:
        """Return the chain, for the report, and the serialised answer."""
        return chain, self._encode(chain)


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
    proof: Proof,
) -> Credentials:
    """Gather what a caller shows.

    Args:
        message: The request; its metadata may be absent, hold unknown keys or
            values that are no strings: what is no string counts as empty.
        headers: The call's metadata, in order.
        peer: The client's address.
        proof: What the transport proves.

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
        secure=proof.secure,
        peer_chain_pem=proof.peer_chain_pem,
        forwarded=_forwarded(headers) if proof.believes_proxy else None,
    )


def _forwarded(headers: Iterable[tuple[str, str | bytes]]) -> tuple[str, ...]:
    """Return what a proxy says of its client, every value of it."""
    return tuple(str(value) for name, value in headers if name == FORWARDED)


def _text(extra: Mapping[str, Value], key: str) -> str:
    value = extra.get(key)
    return "" if value is None else value.string_value
