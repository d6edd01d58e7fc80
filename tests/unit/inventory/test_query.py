"""Queries: which texts are serial numbers, and when expiry gives the order."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsigner.inventory.query import InvalidSerial, Query, parse_serial
from tests.unit.inventory.records import NOW


@pytest.mark.parametrize(
    "text",
    ["4f9b217c0d55e813", "4F9B217C0D55E813", "4F:9B:21:7c:0d:55:e8:13", "0x4f9b217c0d55e813"],
)
def test_serial_is_read_in_any_usual_form(text: str) -> None:
    """Case, colons and a leading 0x do not matter."""
    assert parse_serial(text) == "4f9b217c0d55e813"


def test_leading_zeros_do_not_matter() -> None:
    """Openssl prints a padding byte, the inventory keeps none."""
    assert parse_serial("00:af") == "af"
    assert parse_serial("00") == "0"


@given(st.integers(min_value=0, max_value=2**159))
def test_every_serial_number_is_read_back(number: int) -> None:
    """What a record holds is found by it, as it is and as openssl prints it."""
    octets = number.to_bytes(20)

    assert parse_serial(f"{number:x}") == f"{number:x}"
    assert parse_serial(octets.hex(":").upper()) == f"{number:x}"


@pytest.mark.parametrize(
    "text", ["", "  ", "0x", ":", "xyz", "4f 9b", "-1", "4f\n9b", "\N{FULLWIDTH DIGIT ONE}"]
)
def test_anything_else_is_no_serial(text: str) -> None:
    """A text that is no hexadecimal number is refused, and shown."""
    with pytest.raises(InvalidSerial, match="not a serial number in hexadecimal"):
        parse_serial(text)


def test_only_a_bound_on_expiry_orders_by_expiry() -> None:
    """Either bound on the expiry makes the answer come by expiry."""
    assert Query(expires_from=NOW).by_expiry
    assert Query(expires_until=NOW + timedelta(1)).by_expiry
    assert not Query(issued_from=NOW, identity="x", serial="1", limit=1).by_expiry
