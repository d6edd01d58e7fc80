"""How the database is entered: TLS to the name that was asked for, passwords from files alone."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from meshsigner.errors import RecordFailed
from meshsigner.inventory.postgres import PostgresInventory
from meshsigner.inventory.postgres_server import PostgresServer
from tests.conformance.kubernetes.authority import ClusterAuthority
from tests.conformance.postgres.database import Database, databases, identity
from tests.secret_scan import Secrets
from tests.unit.inventory.records import make_records

PASSWORD = "correct horse battery"  # of these tests' own server
# Whoever is no administrator must use TLS, and show a password or a certificate.
ENTRY = """
hostssl all signer 127.0.0.0/8 scram-sha-256
hostssl all certified 127.0.0.0/8 cert
host all admin 127.0.0.0/8 trust
"""
Enter = Callable[..., PostgresInventory]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> ClusterAuthority:
    """Return the CA of the server's certificate, which names localhost and 127.0.0.1."""
    return ClusterAuthority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def guarded(authority: ClusterAuthority) -> Iterator[Database]:
    """Run a server that wants TLS and a proof."""
    with databases() as (database,):
        database.initialise()
        database.sql(f"ALTER ROLE signer PASSWORD '{PASSWORD}'")
        database.sql("CREATE ROLE certified LOGIN IN ROLE signer")
        database.stop()
        certificate, key = authority.serving()
        for source, name in ((certificate, "tls.crt"), (key, "tls.key"), (authority.roots, "ca")):
            shutil.copy(source, database.root / name)
            os.chown(database.root / name, *identity())
        (database.data / "pg_hba.conf").write_text(ENTRY)
        database.settings = {
            "ssl": "on",
            "ssl_cert_file": str(database.root / "tls.crt"),
            "ssl_key_file": str(database.root / "tls.key"),
            "ssl_ca_file": str(database.root / "ca"),
        }
        database.start()
        yield database


@pytest.fixture
def enter(guarded: Database, authority: ClusterAuthority, tmp_path: Path) -> Iterator[Enter]:
    """Make inventories that enter as they should, unless told otherwise."""
    password_file = tmp_path / "password"
    password_file.write_text(f"{PASSWORD}\n")
    usual: dict[str, Any] = {
        "hosts": (("localhost", guarded.port),),
        "user": "signer",
        "database": "meshsigner",
        "schema": "meshsigner",
        "password_file": password_file,
        "ca_file": authority.roots,
    }
    made: list[PostgresInventory] = []

    def make(**changes: Any) -> PostgresInventory:
        made.append(PostgresInventory(PostgresServer(**(usual | changes))))
        return made[-1]

    yield make
    for inventory in made:
        inventory.close()


def test_right_name_and_password_enter(enter: Enter, guarded: Database) -> None:
    """The connection is TLS, to a host that its certificate names."""
    enter().write(make_records(1), [])
    used = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
    assert guarded.sql(f"{used} WHERE usename = 'signer'") == "t"


def test_new_password_is_read_at_the_next_connection(
    enter: Enter, guarded: Database, tmp_path: Path
) -> None:
    """A password may change in the file while the server runs."""
    inventory = enter()
    inventory.write(make_records(1), [])
    guarded.sql("ALTER ROLE signer PASSWORD 'another one'")
    try:
        (tmp_path / "password").write_text("another one")
        guarded.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename='signer'")
        inventory.write(make_records(1), [])
    finally:
        guarded.sql(f"ALTER ROLE signer PASSWORD '{PASSWORD}'")


def test_certificate_of_ours_enters(enter: Enter, authority: ClusterAuthority) -> None:
    """Where the server wants a client certificate, no password is needed."""
    enter().probe()  # the tables are signer's
    certificate, key = authority.client("certified")
    enter(user="certified", password_file=None, certificate_file=certificate, key_file=key).write(
        make_records(1), []
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hosts": (("127.0.0.2", 0),)}, "its certificate is refused .IP address mismatch"),
        ({"ca_file": None}, "its certificate is refused .*certificate"),
        ({"ssl_mode": "disable"}, "it refuses this user"),
        ({"password_file": None}, "it refuses the password|it refuses this user"),
        ({"password_file": Path("/nonexistent")}, "/nonexistent: cannot be read"),
        ({"database": "other"}, "there is no such database: create it"),
        ({"ca_file": Path("/nonexistent")}, "/nonexistent: cannot be used for TLS"),
    ],
)
def test_wrong_entry_is_refused_in_words(
    enter: Enter, guarded: Database, changes: dict[str, Any], words: str
) -> None:
    """What no waiting mends keeps a server from starting, and says what to do."""
    if "hosts" in changes:
        changes = {"hosts": (("127.0.0.2", guarded.port),)}
    with pytest.raises(RecordFailed, match=words) as caught:
        enter(**changes).probe()
    assert not caught.value.may_pass


def test_wrong_password_is_not_told(enter: Enter, tmp_path: Path, no_secrets: Secrets) -> None:
    """Neither the password nor a piece of it is in the error."""
    (tmp_path / "wrong").write_text(no_secrets.register("wrong horse battery"))
    with pytest.raises(RecordFailed, match="it refuses the password") as caught:
        enter(password_file=tmp_path / "wrong").probe()
    no_secrets.saw(f"{caught.value} {caught.value.__cause__!r}")


def test_name_may_differ_where_it_is_said(enter: Enter, guarded: Database) -> None:
    """`verify-ca` compares no name; the chain must be ours all the same."""
    elsewhere = (("127.0.0.2", guarded.port),)
    enter(hosts=elsewhere, ssl_mode="verify-ca").probe()
    with pytest.raises(RecordFailed, match="its certificate is refused"):
        enter(hosts=elsewhere, ssl_mode="verify-ca", ca_file=None).probe()


def test_server_without_tls_is_refused(enter: Enter, database: Database) -> None:
    """Nothing is sent to a server that answers no to TLS."""
    with (
        closing(enter(hosts=(("localhost", database.port),))) as inventory,
        pytest.raises(RecordFailed, match="it speaks no TLS") as caught,
    ):
        inventory.probe()
    assert not caught.value.may_pass
