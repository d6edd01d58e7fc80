"""`meshsigner inventory`: which certificates were issued, to whom, and on which grounds.

Turns what a person types into a `Query`, and records into words, JSON and PEM.
Reads what servers write, files or a database, running or not; changes nothing.
"""

import json as json_format
import ssl
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from meshsigner.cli.exits import Exit
from meshsigner.cli.options import duration
from meshsigner.cli.terminal import fail, note, say, say_fields, say_heading
from meshsigner.config import load_config
from meshsigner.errors import ConfigurationError
from meshsigner.inventory.query import InvalidSerial, Query, Unreadable, parse_serial
from meshsigner.inventory.whole import WholeInventory
from meshsigner.model import Record
from meshsigner.spiffe import InvalidSpiffeId, SpiffeId

if TYPE_CHECKING:
    from meshsigner.app.stores import Reader

HELP = "Read which certificates were issued: to whom, when, and on which grounds."

# As grep does it: 1 is no error, there just is nothing.
NOTHING_FOUND = 1

LIST_HELP = """List issued certificates, newest first.

All options that are given must hold. With `--expiring-within`, what expires soonest comes first.

Examples:

    meshsigner inventory list --identity spiffe://cluster.local/ns/bookinfo/sa/productpage

    meshsigner inventory list --since 2h --json

    meshsigner inventory list --config /etc/meshsigner/config.yaml

Exit codes: 0 done, also when nothing matches; 2 wrong command line; 3 the inventory cannot be read.
"""

SHOW_HELP = """Show all that is recorded of one certificate, and the certificate itself.

Serial numbers are unique per issuer only: should several issuers have used this one, all are shown.

Example:

    meshsigner inventory show 4F:9B:21:7C:0D:55:E8:13

Exit codes: 0 found; 1 no certificate with that serial number is recorded; 2 wrong command line;
3 the inventory cannot be read.
"""

_TABLE_LIMIT = 50  # rows that a person gets unasked
_TABLE_ROWS = 200  # rows measured and drawn at once; a heading a table
_UNBROKEN = 1_000  # columns, where no terminal sets a width

_LABELS = {
    "serial": "serial number",
    "identity": "identity",
    "not_before": "valid from",
    "not_after": "valid until",
    "issued_at": "issued",
    "delivered": "delivered",
    "auth_method": "proven by",
    "cluster": "cluster",
    "namespace": "namespace",
    "pod_name": "pod",
    "pod_uid": "pod UID",
    "node_name": "node",
    "credential_id": "token id (jti)",
    "impersonator": "asked for by",
    "client_address": "client address",
    "backend": "signed by backend",
    "issuer": "issuer, SHA-256",
    "public_key_sha256": "public key, SHA-256",
    "csr_sha256": "CSR, SHA-256",
    "policy_generation": "policy generation",
}

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")


def _moment(text: str) -> datetime:
    """Read a time, or how long ago it was."""
    now = datetime.now(UTC)
    try:
        return now - duration(text)
    except (typer.BadParameter, OverflowError):
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        msg = f"{text!r} is neither a time (2026-11-24T12:00:00Z) nor a duration (90s, 15m, 2h, 7d)"
        raise typer.BadParameter(msg) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _identity(text: str) -> str:
    try:
        return str(SpiffeId.parse(text))
    except InvalidSpiffeId as error:
        raise typer.BadParameter(str(error)) from error


def _serial(text: str) -> str:
    try:
        return parse_serial(text)
    except InvalidSerial as error:
        raise typer.BadParameter(str(error)) from error


StateDir = Annotated[
    Path,
    typer.Option("--state-dir", help="Directory with the inventory of `dev run`."),
]
Database = Annotated[
    Path | None,
    typer.Option(
        help="The database file, as inventory.path of the configuration names it.",
        show_default="inventory.db in the state directory",
    ),
]
ServerConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="The server's configuration file, whose `inventory` is read: files or PostgreSQL.",
        show_default="none, the state directory's",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON array, a line for each certificate."),
]


@app.command("list", help=LIST_HELP)
def list_certificates(
    *,
    state_dir: StateDir = Path(".state"),
    database: Database = None,
    config: ServerConfig = None,
    identity: Annotated[
        str | None,
        typer.Option(parser=_identity, metavar="SPIFFE_ID", help="Issued to this identity."),
    ] = None,
    serial: Annotated[
        str | None,
        typer.Option(parser=_serial, metavar="HEX", help="With this serial number."),
    ] = None,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=_moment, metavar="TIME|DURATION", help="Issued since then, or not longer ago."
        ),
    ] = None,
    expiring_within: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="DURATION", help="Still valid, and no more by then."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help="At most so many; 0 for all.", show_default="50, with --json all"),
    ] = None,
    certificates: Annotated[
        bool, typer.Option("--certificates", help="With --json: add each certificate as PEM.")
    ] = False,
    json: Json = False,
) -> None:
    """List certificates."""
    query = Query(identity=identity, serial=serial, issued_from=since)
    query = _expiring(query, expiring_within)
    with _inventory(state_dir, database, config) as reader:
        if json:
            _print_json(reader.find(replace(query, limit=limit or None)), with_pem=certificates)
        else:
            _print_tables(reader, query, _TABLE_LIMIT if limit is None else limit)


@app.command("show", help=SHOW_HELP)
def show(
    serial: Annotated[
        str, typer.Argument(parser=_serial, metavar="SERIAL", help="In hexadecimal, colons or not.")
    ],
    *,
    state_dir: StateDir = Path(".state"),
    database: Database = None,
    config: ServerConfig = None,
    json: Json = False,
) -> None:
    """Show one certificate."""
    with _inventory(state_dir, database, config) as reader:
        found = list(reader.find(Query(serial=serial)))
    if json:
        _print_json(found, with_pem=True)
    for record in () if json else found:
        _print_words(record)
    if not found:
        note(f"no certificate with the serial number {serial} is recorded")
        raise typer.Exit(NOTHING_FOUND)


def _expiring(query: Query, within: timedelta | None) -> Query:
    if within is None:
        return query
    now = datetime.now(UTC)
    try:
        return replace(query, expires_from=now, expires_until=now + within)
    except OverflowError as error:
        msg = "--expiring-within reaches past the year 9999"
        raise typer.BadParameter(msg) from error


@contextmanager
def _inventory(state_dir: Path, database: Path | None, config: Path | None) -> Iterator["Reader"]:
    if database is not None and config is not None:
        raise typer.BadParameter("--database and --config exclude each other")
    try:
        with _reader(database or state_dir / "inventory.db", config) as reader:
            yield reader
    except ConfigurationError as error:
        fail(Exit.INPUT, *error.problems)
    except Unreadable as error:
        fail(Exit.INPUT, str(error))


def _reader(database: Path, config: Path | None) -> "Reader":
    if config is None:
        return WholeInventory(database)
    from meshsigner.app.stores import reader_of  # noqa: PLC0415 - help answers without it

    return reader_of(load_config(config))


def _print_json(records: Iterable[Record], *, with_pem: bool) -> None:
    """Print an array without holding it: one object a line."""
    before = "[\n"
    for record in records:
        typer.echo(before + json_format.dumps(_as_json(record, with_pem=with_pem)), nl=False)
        before = ",\n"
    typer.echo("[]" if before == "[\n" else "\n]")


def _as_json(record: Record, *, with_pem: bool) -> dict[str, object]:
    values = asdict(record)
    der = values.pop("certificate_der")
    for name, value in values.items():
        if isinstance(value, datetime):
            values[name] = _time(value)
    return values | ({"certificate": ssl.DER_cert_to_PEM_cert(der)} if with_pem else {})


def _print_tables(reader: "Reader", query: Query, limit: int) -> None:
    # one more than is shown tells whether there are more
    records = reader.find(replace(query, limit=limit + 1 if limit else None))
    shown = islice(records, limit or None)
    # a terminal's width is respected; elsewhere lines stay whole, for grep
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _UNBROKEN)
    total = 0
    while page := list(islice(shown, _TABLE_ROWS)):
        console.print(_table(page, datetime.now(UTC)))
        total += len(page)
    if total == 0:
        note("no certificate matches")
    elif next(records, None) is not None:
        note(f"{total} shown, there are more: --limit 0 shows all")


def _table(records: Sequence[Record], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("serial number", no_wrap=True)  # it is there to be copied
    for heading in ("identity", "pod", "issued", "valid until", "delivered"):
        table.add_column(heading, overflow="fold")
    for record in records:
        cells = (
            record.serial,
            record.identity,
            record.pod_name,
            f"{record.issued_at:%Y-%m-%d %H:%M:%SZ}",
            f"{record.not_after:%Y-%m-%d %H:%M:%SZ} ({_distance(record.not_after, now)})",
            "yes" if record.delivered else "no",
        )
        table.add_row(*(Text(_printable(cell)) for cell in cells))
    return table


def _print_words(record: Record) -> None:
    now = datetime.now(UTC)
    say_heading(f"Certificate {record.serial}")
    say_fields((label, _in_words(getattr(record, name), now)) for name, label in _LABELS.items())
    say()
    say(ssl.DER_cert_to_PEM_cert(record.certificate_der).rstrip())


def _in_words(value: object, now: datetime) -> str:
    if isinstance(value, datetime):
        return f"{_time(value)} ({_distance(value, now)})"
    if isinstance(value, bool):
        return "yes" if value else "no: the caller had gone before the answer"
    return _printable(str(value)) or "-"


def _time(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def _distance(moment: datetime, now: datetime) -> str:
    """Say how far away a time is, in its largest whole unit."""
    seconds = int((moment - now).total_seconds())
    count, unit = next(
        (abs(seconds) // size, unit)
        for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
        if abs(seconds) >= size or size == 1
    )
    return f"in {count}{unit}" if seconds > 0 else f"{count}{unit} ago"


def _printable(text: str) -> str:
    """Show control characters as escapes: a record must not steer the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
