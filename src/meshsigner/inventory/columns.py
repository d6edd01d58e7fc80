"""What a row of the inventory looks like to any database.

Decides the columns (one a field of `model.Record`, of the same name, in the
same order) and how a value becomes one a database keeps: times are whole
microseconds since 1970 in UTC, a flag is 0 or 1. Knows no SQL.

Source: docs/audit-log.md lists the columns for people.
"""

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta

from meshsigner.model import Record

Value = str | int | bytes
COLUMNS = tuple(field.name for field in fields(Record))
_INDEX = {name: index for index, name in enumerate(COLUMNS)}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_S = 86_400
_SECOND_US = 1_000_000


def to_us(moment: datetime) -> int:
    """Return the microseconds since 1970 of an aware time, exactly.

    Whole numbers only: a float loses microseconds from the year 2255 on.
    """
    span = moment - _EPOCH
    return (span.days * _DAY_S + span.seconds) * _SECOND_US + span.microseconds


def from_us(microseconds: int) -> datetime:
    """Return the UTC time that lies `microseconds` after 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def to_row(record: Record) -> tuple[Value, ...]:
    """Return the values of a record in the order of `COLUMNS`."""
    # Written out, for this runs once a certificate: a loop over the fields
    # costs five times as much.
    return (
        record.serial,
        record.identity,
        record.cluster,
        record.namespace,
        record.pod_name,
        record.pod_uid,
        record.node_name,
        record.credential_id,
        record.impersonator,
        record.auth_method,
        record.issuer,
        record.backend,
        record.public_key_sha256,
        record.csr_sha256,
        to_us(record.not_before),
        to_us(record.not_after),
        record.policy_generation,
        record.client_address,
        to_us(record.issued_at),
        int(record.delivered),
        record.certificate_der,
    )


def from_row(row: Sequence[object]) -> Record:
    """Return the record that a row holds.

    Args:
        row: Values in the order of `COLUMNS`.

    Raises:
        TypeError: A time is no number: somebody else wrote this row.
    """
    values = dict(zip(COLUMNS, row, strict=True))
    for name in ("not_before", "not_after", "issued_at"):
        values[name] = from_us(_number(row[_INDEX[name]]))
    values["delivered"] = bool(values["delivered"])
    return Record(**values)  # type: ignore[arg-type]  # the schema holds the types


def _number(value: object) -> int:
    if not isinstance(value, int):
        msg = f"not a time: {value!r}"
        raise TypeError(msg)
    return value
