"""The bounds' defaults, and their translation; each is met from outside in tests/wire."""

from meshsigner.rpc.limits import Limits


def test_defaults_are_the_documented_ones() -> None:
    """What the issue and the contract fix is the default."""
    limits = Limits()
    assert limits.handshake_s == 10
    assert limits.handling_s == 10
    assert limits.max_message_bytes == 64 * 1024
    assert (limits.soft_header_bytes, limits.hard_header_bytes) == (16 * 1024, 32 * 1024)
    assert limits.min_ping_interval_s <= 15
    assert limits.connection_age_s == 1_800


def test_times_become_milliseconds() -> None:
    """GRPC counts in milliseconds."""
    options = dict(Limits(handshake_s=0.5, connection_idle_s=60).options())
    assert options["grpc.server_handshake_timeout_ms"] == 500
    assert options["grpc.max_connection_idle_ms"] == 60_000


def test_a_port_is_never_shared() -> None:
    """SO_REUSEPORT is off: two servers on one port would share it in silence."""
    assert dict(Limits().options())["grpc.so_reuseport"] == 0
