"""Where the inventory is: both kinds of store, and URLs of databases."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from meshsigner.config.inventory import DatabaseUrl, Inventory, InventoryPostgres
from meshsigner.config.problems import render_found
from meshsigner.config.sections import InventorySqlite

SECTION: TypeAdapter[InventorySqlite | InventoryPostgres] = TypeAdapter(Inventory)
FAR = "postgresql://signer@db.example/meshsigner"
NEAR = "postgresql://signer@127.0.0.1,%2Frun%2Fpostgresql,[::1]:5433,localhost/meshsigner"


def _postgres(**values: object) -> InventoryPostgres:
    section = SECTION.validate_python({"type": "postgres", "url": FAR, **values})
    assert isinstance(section, InventoryPostgres)
    return section


def test_section_without_a_type_is_sqlite() -> None:
    """Configurations from before there were two kinds mean what they meant."""
    section = SECTION.validate_python({"path": "a.db", "retention": "1d"})
    assert isinstance(section, InventorySqlite)
    assert str(section.path) == "a.db"


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        (FAR, (("db.example", 5432),)),
        ("postgres://signer@db:1/meshsigner", (("db", 1),)),
        (
            NEAR,
            (
                ("127.0.0.1", 5432),
                ("/run/postgresql", 5432),
                ("::1", 5433),
                ("localhost", 5432),
            ),
        ),
    ],
)
def test_url_is_read(text: str, hosts: tuple[tuple[str, int], ...]) -> None:
    """User, hosts with their ports, and database; written again it is the same place."""
    url = DatabaseUrl.parse(text)
    assert url.hosts == hosts
    assert (url.user, url.database) == ("signer", "meshsigner")
    assert DatabaseUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://signer:secret@db/meshsigner",
        "postgresql://db/meshsigner",
        "postgresql://signer@db/meshsigner?sslmode=disable",
        "postgresql://signer@db",
        "postgresql://signer@db:70000/meshsigner",
        "postgresql://signer@db:0/meshsigner",
        "postgresql://signer@db,/meshsigner",
        "mysql://signer@db/meshsigner",
        "",
        7,
    ],
)
def test_what_is_no_url_of_ours_is_refused(text: object) -> None:
    """A password, options and other programs' URLs are no setting; the problem shows how it is."""
    with pytest.raises(ValueError, match="without a password"):
        DatabaseUrl.parse(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text does anything else."""
    try:
        DatabaseUrl.parse(text)
    except ValueError:
        return


def test_password_in_a_url_is_not_repeated() -> None:
    """A problem does not show what somebody has put into the wrong place."""
    assert "secret" not in render_found("postgresql://signer:hunter2@db/a").replace("a secret", "")
    assert "hunter2" not in render_found("postgresql://signer:hunter2@db/a")


@pytest.mark.parametrize(("url", "mode"), [(FAR, "verify-full"), (NEAR, "disable")])
def test_tls_is_the_default_off_loopback(url: str, mode: str) -> None:
    """Only where no network is between there is none."""
    assert _postgres(url=url).sslmode == mode


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"sslmode": "disable"}, "verify-full or verify-ca"),
        ({"url": f"{NEAR[:-11]},far/meshsigner", "sslmode": "disable"}, "verify-full or verify-ca"),
        ({"key": "k.pem"}, "certificate and key, both or neither"),
        ({"sslmode": "prefer"}, "verify-full"),
        ({"schema_name": 'x"; DROP'}, "lower-case letters"),
        ({"timeout": "11s"}, "500ms to 10s"),
    ],
)
def test_unsafe_or_half_a_section_is_refused(values: dict[str, object], problem: str) -> None:
    """What would be unsafe, or cannot work, is told with what is expected."""
    with pytest.raises(ValidationError, match=problem):
        _postgres(**values)
