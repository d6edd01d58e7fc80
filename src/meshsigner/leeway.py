"""What validity a remote CA may give instead of the one that was ordered.

Some CAs count from the moment of issue, or cap a certificate at an end of
their own. What is tolerated becomes part of the order, so that all that
follows, the check, the record and the line in the log, tells what was really
given; it never ends later than was decided.

Source: docs/backends.md; RFC 5280 4.1.2.5.
"""

from dataclasses import replace
from datetime import datetime

from cryptography import x509

from meshsigner.errors import UNREADABLE_X509, WrongCertificate
from meshsigner.model import Chain, Leeway, Order


def settle_validity(chain: Chain, order: Order, leeway: Leeway, now: datetime) -> Order:
    """Take the validity that a remote CA gave into the order, where that is tolerated.

    Args:
        chain: What it returned; everything else in it is `check_issued`'s matter.
        order: What it was asked for.
        leeway: How far its NotBefore and NotAfter may differ.
        now: The time: a CA may begin a certificate at its issue, never after it.

    Returns:
        The same order, or one on the terms that were really given.

    Raises:
        WrongCertificate: They differ by more, or the certificate cannot be read.
    """
    try:
        leaf = x509.load_der_x509_certificate(chain.leaf_der)
        not_before, not_after = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    except UNREADABLE_X509 as cause:
        raise WrongCertificate(("not a readable certificate",)) from cause
    terms = order.terms
    if (not_before, not_after) == (terms.not_before, terms.not_after):
        return order
    begins = terms.not_before
    if leeway.backdate and begins - leeway.backdate <= not_before <= now:
        begins = not_before
    ends = terms.not_after
    if leeway.shorten and not_before < not_after < ends:
        ends = not_after
    given = {"not before": (not_before, begins), "not after": (not_after, ends)}
    differences = tuple(
        f"{field} is {is_:%Y-%m-%d %H:%M:%S}Z, ordered was {may_be:%Y-%m-%d %H:%M:%S}Z"
        for field, (is_, may_be) in given.items()
        if is_ != may_be
    )
    if differences:
        raise WrongCertificate(differences)
    return replace(order, terms=replace(terms, not_before=not_before, not_after=not_after))
