"""Tests of the table from OpenBao's answers to our errors."""

import json

import pytest

from meshsigner.errors import BackendRefused, BackendUnavailable, Overloaded
from meshsigner.signing.openbao.answers import Answer, check_answer, said

PATH = "pki/sign/workloads"


def answer(status: int, *errors: str, **more: str) -> Answer:
    """Return an answer that says no."""
    return Answer(status=status, body=json.dumps({"errors": list(errors)}).encode(), **more)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (404, "check mount"),
        (412, "not yet seen"),
        (472, "disaster-recovery"),
        (473, "performance standby"),
        (501, "not initialised"),
        (503, "sealed or without a leader"),
        (403, "denies it to a fresh login"),
    ],
)
def test_nothing_was_done(status: int, text: str) -> None:
    """These come before any engine: unavailable, and certainly nothing was issued."""
    with pytest.raises(BackendUnavailable, match=text) as raised:
        check_answer(answer(status, "x"), PATH, maybe_issued=True)
    assert not raised.value.maybe_issued


@pytest.mark.parametrize("status", [500, 502, 504, 405, 599])
@pytest.mark.parametrize("maybe_issued", [True, False])
def test_unclear_ends_may_have_issued(status: int, *, maybe_issued: bool) -> None:
    """What ended inside or on the way may have issued, where that costs something."""
    with pytest.raises(BackendUnavailable) as raised:
        check_answer(answer(status), PATH, maybe_issued=maybe_issued)
    assert raised.value.maybe_issued is maybe_issued


@pytest.mark.parametrize(("header", "seconds"), [("", None), ("3", 3.0), ("Wed, 25 Nov", None)])
def test_quota_is_overload(header: str, seconds: float | None) -> None:
    """A 429 is overload, for as long as Retry-After says if it is there."""
    with pytest.raises(Overloaded) as raised:
        check_answer(answer(429, "quota", retry_after=header), PATH, maybe_issued=True)
    assert raised.value.retry_after_s == seconds


@pytest.mark.parametrize(
    ("said_by_server", "advice"),
    [
        ("unknown role: x", "role is missing"),
        ("signing key not found", "key is missing"),
        ("TTL ... beyond the expiration of the CA certificate at ...", "renew the CA"),
        ("not_after_bound is set to forbid. not_after cannot be provided.", "validity: ttl"),
    ],
)
def test_our_configuration_meets_every_order(said_by_server: str, advice: str) -> None:
    """A 400 that every order would get is unavailable, so that another backend is tried."""
    with pytest.raises(BackendUnavailable, match=advice):
        check_answer(answer(400, said_by_server), PATH, maybe_issued=True)


def test_other_bad_requests_are_the_order_s() -> None:
    """Any other 400 is a no to this order."""
    with pytest.raises(BackendRefused, match="not valid for this role"):
        check_answer(answer(400, "URI ... not valid for this role"), PATH, maybe_issued=True)


def test_redirect_is_not_followed() -> None:
    """A standby that sends us elsewhere gets no token there."""
    found = answer(307, location="https://elsewhere.example/v1/x")
    with pytest.raises(BackendUnavailable, match="redirects are not followed"):
        check_answer(found, PATH, maybe_issued=False)


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"[" * 100_000, b"\xff"])
@pytest.mark.parametrize("maybe_issued", [True, False])
def test_good_status_with_a_bad_body_is_no_answer(body: bytes, *, maybe_issued: bool) -> None:
    """A 200 that is no JSON object may have issued something that nobody can read."""
    with pytest.raises(BackendUnavailable) as raised:
        check_answer(Answer(status=200, body=body), PATH, maybe_issued=maybe_issued)
    assert raised.value.maybe_issued is maybe_issued


def test_good_answers_are_returned() -> None:
    """A JSON object comes back as it is, an empty answer as an empty one."""
    assert check_answer(Answer(status=200, body=b'{"a": 1}'), PATH, maybe_issued=True) == {"a": 1}
    assert check_answer(Answer(status=204, body=b""), PATH, maybe_issued=True) == {}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "HTTP 400"),
        (b'{"errors": 7}', "HTTP 400"),
        (b'{"errors": ["a", "b\\nc"]}', "a; b c"),
        (b"[1]", "HTTP 400"),
        (json.dumps({"errors": ["x" * 1_000]}).encode(), "x" * 300),
    ],
)
def test_words_of_the_server_are_cut_and_on_one_line(body: bytes, text: str) -> None:
    """What is repeated of a server is short, printable and nothing but its own words."""
    assert said(Answer(status=400, body=body)) == text
