"""Identities: reading and writing are inverse, and nothing undocumented is raised."""

import string

from hypothesis import given
from hypothesis import strategies as st

from meshsigner.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain, WorkloadId

DOMAINS = st.text(string.ascii_lowercase + string.digits + "._-", min_size=1, max_size=255)
SEGMENTS = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=60).filter(
    lambda s: s not in {".", ".."},
)
LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
ANY_TEXT = st.text() | st.builds("spiffe://{}/{}".format, st.text(), st.text())


@given(domain=DOMAINS, segments=st.lists(SEGMENTS, min_size=1, max_size=20))
def test_parse_undoes_format(domain: str, segments: list[str]) -> None:
    """Every ID made of allowed parts is read and written back byte for byte."""
    text = f"spiffe://{domain}/{'/'.join(segments)}"
    spiffe_id = SpiffeId.parse(text)
    assert str(spiffe_id) == text
    assert spiffe_id == SpiffeId.parse(str(spiffe_id))


@given(domain=DOMAINS, namespace=LABELS, labels=st.lists(LABELS, min_size=1, max_size=3))
def test_workload_identity_survives_the_wire(
    domain: str,
    namespace: str,
    labels: list[str],
) -> None:
    """What `of` names, `parse` reads as the same value."""
    workload = WorkloadId.of(TrustDomain.parse(domain), namespace, ".".join(labels))
    assert WorkloadId.parse(workload.uri) == workload


@given(text=ANY_TEXT)
def test_any_text_is_an_identity_or_refused(text: str) -> None:
    """No text raises anything but InvalidSpiffeId, and what is read is what was written."""
    for kind in (SpiffeId, WorkloadId):
        try:
            value = kind.parse(text)
        except InvalidSpiffeId:
            continue
        assert str(value) == text


@given(text=st.text(max_size=300))
def test_any_text_is_a_trust_domain_or_refused(text: str) -> None:
    """A trust domain that is read differs from its text in `@` alone."""
    try:
        domain = TrustDomain.parse(text)
    except InvalidSpiffeId:
        return
    assert domain.name == text.replace("@", ".")
    assert TrustDomain.parse(domain.name) == domain


@given(left=ANY_TEXT, right=ANY_TEXT)
def test_two_texts_never_name_one_workload(left: str, right: str) -> None:
    """Different texts that are both read are different identities."""
    try:
        one, other = SpiffeId.parse(left), SpiffeId.parse(right)
    except InvalidSpiffeId:
        return
    assert (one == other) == (left == right)
