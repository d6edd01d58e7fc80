"""Header blocks of a CreateCertificate call and of its answer (RFC 7541, gRPC over HTTP/2).

Pure. Request blocks are made before the run and hold for any connection: the
headers that all calls share stand in the dynamic table after a connection's first
call, as with Istio's clients; the token is a literal that no table keeps. The driver
announces a table of size 0 for answers, so that equal blocks have equal bytes and
are decoded once.
"""

from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from hpack import Decoder, Encoder, NeverIndexedHeaderTuple

PATH: Final = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

OK: Final = 0
CANCELLED: Final = 1
UNKNOWN: Final = 2
RESOURCE_EXHAUSTED: Final = 8
INTERNAL: Final = 13
UNAVAILABLE: Final = 14

STATUS_NAMES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)

# gRPC over HTTP/2, "Errors": REFUSED_STREAM was not processed, CANCEL is the peer's
# word for a cancelled call, ENHANCE_YOUR_CALM is a limit; the rest is INTERNAL.
_RST_STATUS: Final = {0x7: UNAVAILABLE, 0x8: CANCELLED, 0xB: RESOURCE_EXHAUSTED}


class SharedHeaders(NamedTuple):
    """The headers that all calls to one server have in common.

    Args:
        first: Block for a connection's first call; it fills the peer's dynamic table.
        later: Block for every later call; it refers to that table.
    """

    first: bytes
    later: bytes


class Head(NamedTuple):
    """What a header block of the answer says.

    Args:
        http_status: The `:status`, None in trailers.
        grpc_status: The call's status, None before the trailers.
        message: The `grpc-message`, decoded; empty if there is none.
    """

    http_status: int | None
    grpc_status: int | None
    message: str


@lru_cache(maxsize=64)
def shared_headers(authority: str, cluster_id: str = "Kubernetes") -> SharedHeaders:
    """Return the blocks for calls to `authority`, with the headers istio-agent sends."""
    fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":path", PATH),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("user-agent", "meshsigner-bench"),
        ("te", "trailers"),
        ("clusterid", cluster_id),
    ]
    encoder = Encoder()
    return SharedHeaders(encoder.encode(fields), encoder.encode(fields))


def token_block(token: str) -> bytes:
    """Return the block of one call's `authorization` header."""
    field = NeverIndexedHeaderTuple("authorization", f"Bearer {token}")
    return Encoder().encode([field])


@lru_cache(maxsize=1024)
def decode_head(block: bytes) -> Head:
    """Return what an answer's header block says.

    Holds only for peers that keep to our SETTINGS_HEADER_TABLE_SIZE of 0: then a
    block means the same on every connection and at any time.
    """
    fields = dict(Decoder().decode(block, raw=True))
    http, grpc = fields.get(b":status"), fields.get(b"grpc-status")
    return Head(
        http_status=None if http is None else int(http),
        grpc_status=None if grpc is None else int(grpc),
        message=unquote(fields.get(b"grpc-message", b"")),
    )


def status_of_reset(error_code: int) -> int:
    """Return the gRPC status for a stream that the peer ended by RST_STREAM."""
    return _RST_STATUS.get(error_code, INTERNAL)


def status_name(status: int) -> str:
    """Return the status in words, the number itself for one that gRPC doesn't define."""
    return STATUS_NAMES[status] if 0 <= status < len(STATUS_NAMES) else str(status)
