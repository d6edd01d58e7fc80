"""What is a text, a name, a time and an object in what a stranger wrote."""

from typing import Any

import pytest

from meshsigner.authn.members import (
    read_name,
    read_object,
    read_seconds,
    read_text,
)
from meshsigner.errors import Unauthenticated


def test_members_of_the_right_type_come_back() -> None:
    """Texts, names, times and objects are returned as they are, times as seconds."""
    members: dict[str, Any] = {"text": "ä b", "name": "!~", "time": 1, "part": 0.5, "object": {}}
    assert read_text(members, "text") == "ä b"
    assert read_name(members, "name") == "!~"
    assert read_seconds(members, "time") == 1.0
    assert read_seconds(members, "part") == 0.5
    assert read_object(members, "object") == {}


@pytest.mark.parametrize("value", [None, "", 1, True, ["a"], {"a": 1}])
def test_a_text_is_a_text(value: object) -> None:
    """Nothing, an empty one and other types are refused by the member's name."""
    for read in (read_text, read_name):
        with pytest.raises(Unauthenticated, match=r"^x is missing or not a text$"):
            read({"x": value}, "x")
        with pytest.raises(Unauthenticated, match=r"^x is missing or not a text$"):
            read({}, "x")


def test_a_name_is_visible_and_bounded() -> None:
    """253 visible ASCII characters pass; one more, or one that is invisible, does not."""
    assert read_name({"x": "a" * 253}, "x") == "a" * 253
    visible = {chr(n) for n in range(0x21, 0x7F)}
    for letter in map(chr, range(0x180)):
        if letter in visible:
            assert read_name({"x": letter}, "x") == letter
        else:
            with pytest.raises(Unauthenticated, match="253 visible characters"):
                read_name({"x": letter}, "x")
    with pytest.raises(Unauthenticated, match="253 visible characters"):
        read_name({"x": "a" * 254}, "x")


def test_a_time_is_between_1970_and_10000() -> None:
    """The ends of the range, and what is no number."""
    assert read_seconds({"x": 0}, "x") == 0.0
    assert read_seconds({"x": 253_402_300_799}, "x") == 253_402_300_799
    bad: list[object] = [
        None,
        -1,
        -0.1,
        253_402_300_800,
        float("inf"),
        float("nan"),
        True,
        "1",
        [1],
        {},
    ]
    for value in bad:
        with pytest.raises(Unauthenticated, match=r"^x is missing or not a time$"):
            read_seconds({"x": value}, "x")


@pytest.mark.parametrize("value", [None, [], "a", 1])
def test_an_object_is_an_object(value: object) -> None:
    """Other types are refused."""
    with pytest.raises(Unauthenticated, match=r"^x is missing or not an object$"):
        read_object({"x": value}, "x")
