"""What validity a remote CA may give instead of the ordered one."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from meshsigner.csr import parse_csr
from meshsigner.errors import WrongCertificate
from meshsigner.leeway import settle_validity
from meshsigner.model import Chain, Errand, Leeway, Order
from meshsigner.policy import authorize
from tests.fakes.pipeline import NOW, FakeSigner, make_caller, make_csr, make_policy
from tests.fakes.remote_ca import Forgery, forge

KEY = ec.generate_private_key(ec.SECP256R1())
SIGNER = FakeSigner(KEY)
REQUEST = parse_csr(make_csr(ec.generate_private_key(ec.SECP256R1())))
LEEWAY = Leeway(backdate=timedelta(minutes=1), shorten=True)
SECONDS = st.integers(-7_200, 7_200).map(lambda s: timedelta(seconds=s))


def _order() -> Order:
    caller = make_caller()
    terms = authorize(
        caller=caller,
        request=REQUEST,
        asked_lifetime=timedelta(hours=24),
        policy=make_policy(),
        now=NOW,
        issuer_not_after=SIGNER.current.not_after,
    )
    return Order(
        caller=caller, request=REQUEST, terms=terms, cert_signer="", issuer=SIGNER.current, peer=""
    )


def _chain(order: Order, before: timedelta, after: timedelta) -> Chain:
    honest = SIGNER.sign(order)
    return forge(honest, Errand(order=order, token="t"), KEY, Forgery(before=before, after=after))


def test_what_was_ordered_leaves_the_order_as_it_is() -> None:
    """An answer with the ordered validity needs no leeway."""
    order = _order()
    assert settle_validity(SIGNER.sign(order), order, Leeway(), NOW) is order


@given(before=SECONDS, after=SECONDS)
def test_what_is_taken_lies_within_the_leeway(before: timedelta, after: timedelta) -> None:
    """Whatever a CA gives: it is taken whole or refused, and never ends later than was ordered."""
    order = _order()
    terms = order.terms
    begins, ends = terms.not_before + before, terms.not_after + after
    allowed = terms.not_before - LEEWAY.backdate <= begins <= NOW and ends <= terms.not_after
    try:
        settled = settle_validity(_chain(order, before, after), order, LEEWAY, NOW)
    except WrongCertificate:
        assert not allowed
    else:
        assert allowed
        assert settled == replace(order, terms=replace(terms, not_before=begins, not_after=ends))


@pytest.mark.parametrize(
    ("leeway", "before", "after"),
    [
        (Leeway(), timedelta(seconds=1), timedelta()),
        (Leeway(), timedelta(), -timedelta(seconds=1)),
        (replace(LEEWAY, shorten=False), timedelta(), -timedelta(seconds=1)),
        (replace(LEEWAY, backdate=timedelta()), timedelta(seconds=30), timedelta()),
        (LEEWAY, timedelta(), timedelta(seconds=1)),
        (LEEWAY, timedelta(minutes=2, seconds=1), timedelta()),
    ],
)
def test_what_no_leeway_covers_is_refused_by_name(
    leeway: Leeway, before: timedelta, after: timedelta
) -> None:
    """A difference that is not tolerated is told with both times."""
    order = _order()
    with pytest.raises(WrongCertificate, match="ordered was"):
        settle_validity(_chain(order, before, after), order, leeway, NOW)


def test_what_cannot_be_read_is_no_certificate() -> None:
    """Bytes that are no certificate are refused as such."""
    order = _order()
    garbage = replace(SIGNER.sign(order), leaf_der=b"junk")
    with pytest.raises(WrongCertificate, match="not a readable certificate"):
        settle_validity(garbage, order, LEEWAY, NOW)
