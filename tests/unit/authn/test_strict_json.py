"""One JSON object with one meaning, or a refusal."""

import pytest

from meshsigner.authn.strict_json import InvalidJson, parse_object


def test_an_object_comes_back_as_it_is() -> None:
    """Members keep their names, values and nesting."""
    data = '{"a": [1, 2.5, true, null], "ü": {"a": "é"}}'.encode()
    assert parse_object(data) == {"a": [1, 2.5, True, None], "ü": {"a": "é"}}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1",
        b'"text"',
        b"null",
        b"{",
        b"{} {}",
        b"{'a': 1}",
        b'{"a": 1, "a": 1}',
        b'{"b": {"a": 1, "a": 2}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32-le"),
        b'{"a": "\x00"}',
        b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a": ' + b"9" * 5000 + b"}",
    ],
)
def test_anything_else_is_refused_without_quoting_it(data: bytes) -> None:
    """Other values, names that are there twice, other encodings and endless nesting are refused."""
    with pytest.raises(InvalidJson) as caught:
        parse_object(data)
    assert str(caught.value) in {"not JSON with distinct member names", "not a JSON object"}
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
