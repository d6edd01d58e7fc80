"""Every bound of the wire in one place, and gRPC C-core's words for it.

What strangers can cost is bounded here: handshakes, connections, streams,
headers, message sizes. Each number has its unit and its reason; the tests under
tests/wire name the limit they hold us to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshsigner.rpc.backlog import CHANNELZ_OPTIONS
from meshsigner.rpc.calls import HANDLING_TIME_S
from meshsigner.rpc.door import DoorLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the wire.

    Attributes:
        max_connections: Connections, those in their handshake included. An idle
            one holds about 50 KB.
        handshake_s: TLS and HTTP/2 set-up must be done by then.
        max_streams: Concurrent streams that a client may open on a connection.
        max_calls_per_connection: Calls in flight on a connection; higher only for
            a proxy that carries many callers on one.
        max_calls: Calls in flight in the process.
        max_pending_calls: Calls that gRPC holds while the process is too busy to
            take them; above this it turns some away, above three times as many all.
        handling_s: No call lasts longer (istio-contract statement 17).
        max_message_bytes: The transport refuses larger messages; the CSR itself
            is bounded to 16 KiB behind it.
        soft_header_bytes: Above this gRPC turns away a growing share of calls.
        hard_header_bytes: Above this all.
        min_ping_interval_s: More frequent pings end the connection. Istio's
            clients ping every 30 s, istiod allows every 15 s.
        connection_idle_s: A connection without calls is closed after this; a
            sidecar asks twice a day and ztunnel does not reuse its own.
        connection_age_s: Older ones are closed, so that load spreads (istiod's
            chart: 30 minutes).
        connection_age_grace_s: For calls in flight on one that is too old.
        door: When new connections wait outside.
    """

    max_connections: int = 20_000
    handshake_s: float = 10.0
    max_streams: int = 100
    max_calls_per_connection: int = 100
    max_calls: int = 4_096
    max_pending_calls: int = 1_000
    handling_s: float = HANDLING_TIME_S
    max_message_bytes: int = 64 * 1024
    soft_header_bytes: int = 16 * 1024
    hard_header_bytes: int = 32 * 1024
    min_ping_interval_s: float = 15.0
    connection_idle_s: float = 300.0
    connection_age_s: float = 1_800.0
    connection_age_grace_s: float = 30.0
    door: DoorLimits = field(default_factory=DoorLimits)

    def options(self, *, shares_port: bool = False) -> Sequence[tuple[str, int]]:
        """Return these bounds as gRPC channel arguments.

        SO_REUSEPORT is off unless a supervisor guards the port: with it, a second
        server with another root could share it in silence. Decompression is off:
        Istio's clients never compress, and a small compressed message may hold a
        huge one.

        Args:
            shares_port: Whether other workers of this server listen there too.

        Source: grpc include/grpc/impl/channel_arg_names.h.
        """
        return (
            *CHANNELZ_OPTIONS,
            ("grpc.so_reuseport", int(shares_port)),
            ("grpc.max_allowed_incoming_connections", self.max_connections),
            ("grpc.server_handshake_timeout_ms", _ms(self.handshake_s)),
            ("grpc.max_concurrent_streams", self.max_streams),
            ("grpc.server.max_pending_requests", self.max_pending_calls),
            ("grpc.server.max_pending_requests_hard_limit", 3 * self.max_pending_calls),
            ("grpc.server_max_unrequested_time_in_server", int(self.handling_s)),
            ("grpc.max_receive_message_length", self.max_message_bytes),
            ("grpc.per_message_decompression", 0),
            ("grpc.max_metadata_size", self.soft_header_bytes),
            ("grpc.absolute_max_metadata_size", self.hard_header_bytes),
            ("grpc.http2.min_ping_interval_without_data_ms", _ms(self.min_ping_interval_s)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.max_connection_idle_ms", _ms(self.connection_idle_s)),
            ("grpc.max_connection_age_ms", _ms(self.connection_age_s)),
            ("grpc.max_connection_age_grace_ms", _ms(self.connection_age_grace_s)),
        )


def _ms(seconds: float) -> int:
    return int(seconds * 1_000)
