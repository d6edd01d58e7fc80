"""Durations, sizes and addresses, as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshsigner.config.fields import Address, parse_duration, render_duration, render_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("500ms", 0.5),
        ("90s", 90),
        ("15m", 900),
        ("24h", 86_400),
        ("1h30m", 5_400),
        ("90d", 7_776_000),
    ],
)
def test_duration_is_the_sum_of_its_parts(text: str, seconds: float) -> None:
    """A duration is the sum of its numbers, each in its unit."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value", ["", "5", 5, 5.0, "-5s", "5 s", "5y", "s", "1.5h", None, "9" * 30 + "d"]
)
def test_duration_without_a_clear_unit_is_refused(value: object) -> None:
    """A bare number, a sign, a fraction or an unknown unit is no duration."""
    with pytest.raises(ValueError, match="a duration"):
        parse_duration(value)


@given(st.integers(min_value=0, max_value=10**12))
def test_durations_are_written_as_they_are_read(milliseconds: int) -> None:
    """What is written of any duration reads back as the same duration."""
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(render_duration(duration)) == duration


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(days=1), "24h"),
        (timedelta(days=90), "90d"),
        (timedelta(minutes=2), "2m"),
        (timedelta(milliseconds=1_500), "1s500ms"),
        (timedelta(days=1, minutes=2), "24h2m"),
    ],
)
def test_durations_are_written_in_the_largest_units(duration: timedelta, text: str) -> None:
    """Hours, minutes and seconds are used as they fit; one day is 24h, as Istio writes it."""
    assert render_duration(duration) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0B"), (1000, "1000B"), (16_384, "16KiB"), (10 * 2**30, "10GiB")]
)
def test_sizes_are_written_in_the_largest_fitting_unit(size: int, text: str) -> None:
    """The unit is the largest binary one that divides."""
    assert render_size(size) == text


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:15012", Address("127.0.0.1", 15012)),
        ("[::1]:0", Address("[::1]", 0)),
        ("localhost:65535", Address("localhost", 65535)),
        (":15012", Address("0.0.0.0", 15012)),  # noqa: S104 - what is tested
    ],
)
def test_address_has_host_and_port(text: str, address: Address) -> None:
    """An address is a host and a port; no host means all IPv4 interfaces."""
    assert Address.parse(text) == address


@pytest.mark.parametrize(
    "value", ["", "localhost", "localhost:", "localhost:65536", "::1:80", "a b:1", 15012]
)
def test_address_without_port_or_with_an_odd_host_is_refused(value: object) -> None:
    """A port must be there, and an IPv6 address stands in brackets."""
    with pytest.raises(ValueError, match="host:port"):
        Address.parse(value)
