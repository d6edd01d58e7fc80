"""`meshsigner inventory`: what a person types, sees, and can pipe into another program."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from typer.testing import CliRunner, Result

from meshsigner.cli.inventory import app
from meshsigner.inventory.columns import COLUMNS
from meshsigner.inventory.sqlite import SqliteInventory
from meshsigner.model import Record
from tests.fakes.pipeline import make_ca_certificate
from tests.unit.inventory.records import make_record

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
Run = Callable[..., Result]


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[SqliteInventory]:
    """The inventory of a server that runs."""
    inventory = SqliteInventory(tmp_path / "inventory.db")
    inventory.probe()
    yield inventory
    inventory.close()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a command on that inventory."""

    def run(command: str, *options: str) -> Result:
        arguments = [command, "--state-dir", str(tmp_path), *options]
        return CliRunner(env={"TERM": "dumb", "COLUMNS": "200"}).invoke(app, arguments)

    return run


def _listed(run: Run, *options: str) -> list[str]:
    """The serial numbers of a list."""
    return [row["serial"] for row in json.loads(run("list", "--json", *options).stdout)]


def test_list_as_json_has_every_field_but_the_certificate(
    inventory: SqliteInventory, run: Run
) -> None:
    """One object a certificate, with every field of the record, times in RFC 3339."""
    record = make_record(issued_at=datetime(2026, 11, 24, 12, 0, 0, 5, tzinfo=UTC))
    inventory.write([record], [record.serial])
    [row] = json.loads(run("list", "--json").stdout)

    assert list(COLUMNS)[:-1] == list(row)
    assert row["issued_at"] == "2026-11-24T12:00:00.000005Z"
    assert row["delivered"] is False
    assert record.identity == row["identity"]


def test_json_is_one_array_an_object_a_line(inventory: SqliteInventory, run: Run) -> None:
    """The array suits a parser, its lines suit grep."""
    inventory.write([make_record() for _ in range(3)], [])
    first, *objects, last = run("list", "--json").stdout.splitlines()

    assert [first, last] == ["[", "]"]
    assert len([json.loads(line.rstrip(",")) for line in objects]) == 3


@pytest.mark.usefixtures("inventory")
def test_json_of_nothing_is_an_empty_array(run: Run) -> None:
    """To list nothing is no failure."""
    result = run("list", "--json")

    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


def test_json_has_the_certificates_when_asked(inventory: SqliteInventory, run: Run) -> None:
    """Certificates come as PEM, and are the ones that were recorded."""
    certificate, record = _with_certificate()
    inventory.write([record], [])
    [row] = json.loads(run("list", "--json", "--certificates").stdout)

    assert certificate == x509.load_pem_x509_certificate(row["certificate"].encode())


def test_json_lists_all_unless_limited(inventory: SqliteInventory, run: Run) -> None:
    """A program gets everything, or as much as it asks for, the newest first."""
    records = [make_record(issued_at=NOW + n * HOUR) for n in range(60)]
    inventory.write(records, [])
    newest_first = [record.serial for record in reversed(records)]

    assert newest_first == _listed(run)
    assert newest_first == _listed(run, "--limit", "0")
    assert newest_first[:7] == _listed(run, "--limit", "7")


def test_table_says_when_there_is_more(inventory: SqliteInventory, run: Run) -> None:
    """A person gets fifty, and is told how to get the rest; the note stays out of the result."""
    inventory.write([make_record() for _ in range(51)], [])
    result = run("list")
    assert len(result.stdout.splitlines()) == 51  # with the heading
    assert "50 shown, there are more: --limit 0 shows all" in result.stderr

    result = run("list", "--limit", "0")
    assert len(result.stdout.splitlines()) == 52
    assert result.stderr == ""


def test_table_has_what_a_person_looks_for(inventory: SqliteInventory, run: Run) -> None:
    """Serial number, identity, pod, times and delivery stand in one unbroken line."""
    record = make_record(
        identity="spiffe://cluster.local/ns/bookinfo/sa/" + "a" * 100,
        issued_at=NOW,
        not_after=NOW + 5 * HOUR + HOUR / 2,
    )
    inventory.write([record], [record.serial])
    line = run("list").stdout.splitlines()[1]

    for text in (record.serial, record.identity, record.pod_name, "(in 5h)"):
        assert text in line
    assert line.rstrip().endswith("no")


@pytest.mark.usefixtures("inventory")
def test_empty_list_is_said(run: Run) -> None:
    """A list without a certificate says so, and is no failure."""
    result = run("list", "--identity", "spiffe://td/absent")

    assert (result.exit_code, result.stdout) == (0, "")
    assert "no certificate matches" in result.stderr


def test_filters_choose(inventory: SqliteInventory, run: Run) -> None:
    """Each option chooses, and together they choose what fits all."""
    old = make_record(identity="spiffe://td/a", issued_at=NOW - 3 * HOUR, not_after=NOW + 9 * HOUR)
    new = make_record(identity="spiffe://td/a", issued_at=NOW - HOUR, not_after=NOW + 2 * HOUR)
    other = make_record(identity="spiffe://td/b", issued_at=NOW, not_after=NOW + HOUR)
    gone = make_record(identity="spiffe://td/b", issued_at=NOW - 9 * HOUR, not_after=NOW - HOUR)
    inventory.write([old, new, other, gone], [])

    assert [new.serial, old.serial] == _listed(run, "--identity", "spiffe://td/a")
    assert [old.serial] == _listed(run, "--serial", "00:" + old.serial.upper())
    assert [other.serial, new.serial] == _listed(run, "--since", "2h")
    assert [other.serial] == _listed(run, "--since", NOW.isoformat())
    assert [other.serial, new.serial] == _listed(run, "--expiring-within", "3h")
    assert [new.serial] == _listed(run, "--expiring-within", "3h", "--identity", "spiffe://td/a")


def test_time_without_a_zone_is_utc(inventory: SqliteInventory, run: Run) -> None:
    """Times are UTC unless they say otherwise, as in all that is printed."""
    at_noon = make_record(issued_at=datetime(2026, 11, 24, 12, tzinfo=UTC))
    inventory.write([at_noon], [])

    assert [at_noon.serial] == _listed(run, "--since", "2026-11-24T12:00:00")
    assert [at_noon.serial] == _listed(run, "--since", "2026-11-24T13:00:00+01:00")
    assert _listed(run, "--since", "2026-11-24T12:00:01Z") == []


@pytest.mark.usefixtures("inventory")
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--serial", "xyz"], "not a serial number in hexadecimal"),
        (["--identity", "foo/bar"], "not a SPIFFE ID"),
        (["--since", "yesterday"], "neither a time"),
        (["--since", "999999d"], "neither a time"),
        (["--expiring-within", "soon"], "is not a duration"),
        (["--expiring-within", "9999999d"], "past the year 9999"),
        (["--limit", "-1"], "Invalid value for '--limit'"),
    ],
)
def test_wrong_option_is_wrong_usage(run: Run, options: list[str], problem: str) -> None:
    """A value that is none ends the command with code 2 and says what is expected."""
    result = run("list", *options)

    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.replace("│", " ").split())


def _with_certificate() -> tuple[x509.Certificate, Record]:
    certificate = make_ca_certificate(ec.generate_private_key(ec.SECP256R1()), "test")
    der = certificate.public_bytes(Encoding.DER)
    return certificate, make_record(certificate_der=der, not_after=NOW + HOUR, issued_at=NOW - HOUR)


def test_show_prints_everything_in_words(inventory: SqliteInventory, run: Run) -> None:
    """Every field of the record is there, and the certificate, ready to be copied."""
    certificate, record = _with_certificate()
    inventory.write([record], [])
    result = run("show", record.serial)

    assert result.exit_code == 0
    for name in COLUMNS[:-1]:
        value = getattr(record, name)
        if isinstance(value, str):
            assert value in result.stdout, name
    assert "issued" in result.stdout
    assert "(1h ago)" in result.stdout
    pem = result.stdout[result.stdout.index("-----BEGIN") :].encode()
    assert certificate == x509.load_pem_x509_certificate(pem)


def test_show_as_json_has_the_certificate(inventory: SqliteInventory, run: Run) -> None:
    """A program gets the same as with list, with the certificate."""
    certificate, record = _with_certificate()
    inventory.write([record, make_record()], [])
    [row] = json.loads(run("show", record.serial, "--json").stdout)

    assert record.serial == row["serial"]
    assert certificate == x509.load_pem_x509_certificate(row["certificate"].encode())


def test_show_tells_apart_what_issuers_numbered_alike(inventory: SqliteInventory, run: Run) -> None:
    """Two certificates of one serial number are both shown, each with its issuer."""
    first = make_record(issuer="aa" * 32)
    second = make_record(issuer="bb" * 32, serial=first.serial)
    inventory.write([first, second], [])
    output = run("show", first.serial).stdout

    assert "aa" * 32 in output
    assert "bb" * 32 in output


@pytest.mark.usefixtures("inventory")
def test_show_of_an_unknown_serial_ends_with_1(run: Run) -> None:
    """Nothing found is told apart from all failures."""
    result = run("show", "af")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no certificate with the serial number af is recorded" in result.stderr

    result = run("show", "af", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (1, [])


def test_record_cannot_steer_the_terminal(inventory: SqliteInventory, run: Run) -> None:
    """Control characters and markup in a record are shown, not obeyed."""
    record = make_record(pod_name="\x1b[2J[red]pod\n", node_name="\x07node[/]")
    inventory.write([record], [])

    for output in (run("list").stdout, run("show", record.serial).stdout):
        assert "\\x1b[2J[red]pod\\n" in output
        assert "\x1b" not in output
    assert "\\x07node[/]" in run("show", record.serial).stdout


def test_inventory_that_cannot_be_read_ends_with_3(tmp_path: Path, run: Run) -> None:
    """No file, and one of another program: code 3, which file, and what is wrong."""
    database = tmp_path / "inventory.db"
    for command in (["list"], ["list", "--json"], ["show", "af"]):
        result = run(*command)
        assert result.exit_code == 3
        assert f"{database}: there is no such file" in result.stderr
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE songs (title)")

    result = run("list")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "another program" in result.stderr


def test_database_can_be_named_itself(inventory: SqliteInventory, tmp_path: Path) -> None:
    """A production server's file is named as in its configuration; it wins over --state-dir."""
    record = make_record()
    inventory.write([record], [])
    path = str(tmp_path / "inventory.db")
    result = CliRunner().invoke(app, ["list", "--json", "--database", path, "--state-dir", "/none"])

    assert [record.serial] == [row["serial"] for row in json.loads(result.stdout)]


@pytest.mark.parametrize("command", ["list", "show"])
def test_help_has_an_example_and_the_exit_codes(run: Run, command: str) -> None:
    """Whoever asks for help learns by example, and what a script can rely on."""
    output = " ".join(run(command, "--help").stdout.split())

    assert f"meshsigner inventory {command} " in output
    assert "Exit codes: 0 " in output
    assert "3 the inventory cannot be read." in output
