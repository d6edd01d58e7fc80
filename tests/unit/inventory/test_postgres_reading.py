"""What is asked of PostgreSQL for a query: values apart from the text, in pages."""

from datetime import timedelta

import pytest

from meshsigner.inventory.postgres_reading import statement
from meshsigner.inventory.query import Query
from tests.unit.inventory.records import NOW


@pytest.mark.parametrize(
    ("query", "where", "order", "values"),
    [
        (Query(), "WHERE TRUE ", "issued_at DESC, id DESC LIMIT $1", []),
        (
            Query(identity="spiffe://a/b", serial="7f"),
            "WHERE identity = $1 AND serial = $2 ",
            "issued_at DESC, id DESC LIMIT $3",
            ["spiffe://a/b", "7f"],
        ),
        (
            Query(expires_from=NOW, expires_until=NOW + timedelta(hours=1)),
            "WHERE not_after >= $1 AND not_after <= $2 ",
            "not_after ASC, id ASC LIMIT $3",
            [NOW, NOW + timedelta(hours=1)],
        ),
        (
            Query(issued_from=NOW),
            "WHERE issued_at >= $1 ",
            "issued_at DESC, id DESC LIMIT $2",
            [NOW],
        ),
    ],
)
def test_query_becomes_a_statement(
    query: Query, where: str, order: str, values: list[object]
) -> None:
    """Each condition has a place for its value; the order is the query's."""
    sql, found = statement(query, None)
    assert where in sql
    assert sql.endswith(f"ORDER BY {order}")
    assert found == values


def test_next_page_begins_where_the_last_ended() -> None:
    """Rows of the same moment are told apart by their id."""
    sql, values = statement(Query(serial="7f"), (NOW, 12))
    assert "AND (issued_at, id) < ($2, $3) " in sql
    assert values == ["7f", NOW, 12]
    sql, _ = statement(Query(expires_until=NOW), (NOW, 12))
    assert "(not_after, id) > ($2, $3) " in sql
