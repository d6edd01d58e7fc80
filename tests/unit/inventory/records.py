"""Records for the tests of the inventory: one with plain values, and any at all."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from hypothesis import strategies as st

from meshsigner.model import Record

NOW = datetime(2026, 11, 24, 12, 0, 0, 123_456, tzinfo=UTC)
_SERIALS = count(0x4F9B_217C_0D55_E813)

_PLAIN = Record(
    serial="0",
    identity="spiffe://cluster.local/ns/bookinfo/sa/productpage",
    cluster="Kubernetes",
    namespace="bookinfo",
    pod_name="productpage-v1-6d4cf56db6-x2x4k",
    pod_uid="0f3c1d2e-4b5a-4c6d-8e7f-0a1b2c3d4e5f",
    node_name="node-7.example",
    credential_id="5f0a9a7e-6f0c-4b8e-9d5f-1f2e3d4c5b6a",
    impersonator="",
    auth_method="jwt",
    issuer="ab" * 32,
    backend="embedded",
    public_key_sha256="cd" * 32,
    csr_sha256="ef" * 32,
    not_before=NOW - timedelta(minutes=2),
    not_after=NOW + timedelta(days=1),
    policy_generation=1,
    client_address="ipv4:127.0.0.1:41000",
    issued_at=NOW,
    delivered=True,
    certificate_der=b"\x30\x82" + b"\x5a" * 700,
)


def make_record(**changes: Any) -> Record:
    """Make a record that differs from the plain one, with a serial of its own."""
    return replace(_PLAIN, **{"serial": f"{next(_SERIALS):x}", **changes})


def make_records(number: int, **changes: Any) -> list[Record]:
    """Make some records."""
    return [make_record(**changes) for _ in range(number)]


def any_record() -> st.SearchStrategy[Record]:
    """Any record that the type allows and UTF-8 can carry; its serial is its own."""
    times = st.datetimes(timezones=st.just(UTC))
    texts = [name for name, value in _fields().items() if isinstance(value, str)]
    return st.builds(
        make_record,
        **{name: st.text(max_size=80) for name in texts if name != "serial"},
        not_before=times,
        not_after=times,
        issued_at=times,
        policy_generation=st.integers(0, 2**63 - 1),
        delivered=st.booleans(),
        certificate_der=st.binary(max_size=2_000),
    )


def _fields() -> dict[str, object]:
    return {name: getattr(_PLAIN, name) for name in Record.__slots__}
