"""What a trust domain, a SPIFFE ID and a workload identity is, case by case."""

import dataclasses
import string
from collections.abc import Callable

import pytest

from meshsigner.spiffe import (
    InvalidSpiffeId,
    SpiffeId,
    TrustDomain,
    WorkloadId,
)

LOCAL = TrustDomain.parse("cluster.local")
EVERY_BYTE = [chr(n) for n in range(256)]
PATH_LETTERS = frozenset(string.ascii_letters + string.digits + "._-")
DOMAIN_LETTERS = frozenset(string.ascii_lowercase + string.digits + "._-")


@pytest.mark.parametrize("text", ["cluster.local", "a", "td-1_x.example", "1", "."])
def test_trust_domain_is_kept_as_written(text: str) -> None:
    """A trust domain of allowed characters comes back unchanged."""
    assert str(TrustDomain.parse(text)) == text
    assert TrustDomain.parse(text).name == text


def test_every_letter_outside_the_set_is_refused_in_a_trust_domain() -> None:
    """Of all single bytes just the documented ones, and `@` for `.`, make a trust domain."""
    accepted = set()
    for letter in EVERY_BYTE:
        try:
            TrustDomain.parse(f"a{letter}b")
        except InvalidSpiffeId:
            continue
        accepted.add(letter)
    assert accepted == DOMAIN_LETTERS | {"@"}


@pytest.mark.parametrize("text", ["", "a\n", "\na", "\uff41", "é", "a b", "spiffe://a", "a/b", "*"])
def test_what_is_no_trust_domain_is_refused(text: str) -> None:
    """Empty, padded, foreign or structured texts are no trust domain."""
    with pytest.raises(InvalidSpiffeId, match="not a trust domain"):
        TrustDomain.parse(text)


def test_trust_domain_of_255_bytes_is_the_longest() -> None:
    """255 bytes are allowed and 256 are not."""
    assert TrustDomain.parse("a" * 255).name == "a" * 255
    with pytest.raises(InvalidSpiffeId):
        TrustDomain.parse("a" * 256)


LONG = "!" * 5_000
LONG_SEGMENT = "b" * 99
SHORTENED = "spiffe://a/" + "b" * 69
FORM = "not of the form spiffe://<td>/ns/<ns>/sa/<sa>"


@pytest.mark.parametrize(
    ("refuse", "told"),
    [
        (lambda: TrustDomain.parse(LONG), f"not a trust domain: {'!' * 80!r}"),
        (lambda: SpiffeId.parse(LONG[:2_000]), f"not a SPIFFE ID: {'!' * 80!r}"),
        (lambda: WorkloadId.of(LOCAL, LONG, "a"), f"not a namespace: {'!' * 80!r}"),
        (lambda: WorkloadId.of(LOCAL, "a", LONG), f"not a service account: {'!' * 80!r}"),
        (
            lambda: WorkloadId.parse(f"spiffe://a/{'b' * 99}"),
            f"{FORM}: {'spiffe://a/' + 'b' * 69!r}",
        ),
    ],
)
def test_a_refusal_shows_at_most_80_characters(refuse: Callable[[], object], told: str) -> None:
    """A long hostile text does not flood the log through the error."""
    with pytest.raises(InvalidSpiffeId) as refusal:
        refuse()
    assert str(refusal.value) == told


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("spiffe://example.org/a", "/a"),
        ("spiffe://example.org/ns/x/sa/y", "/ns/x/sa/y"),
        ("spiffe://example.org/A.b-C_9", "/A.b-C_9"),
        ("spiffe://example.org/...", "/..."),
        ("spiffe://example.org/.a", "/.a"),
    ],
)
def test_spiffe_id_is_split_into_trust_domain_and_path(text: str, path: str) -> None:
    """A well-formed ID is read, and written again as it was."""
    spiffe_id = SpiffeId.parse(text)
    assert (str(spiffe_id.trust_domain), spiffe_id.path) == ("example.org", path)
    assert str(spiffe_id) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "spiffe:///a",
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.org//a",
        "spiffe://example.org/a/",
        "spiffe://example.org/a//b",
        "spiffe://example.org/.",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/a\n",
        "spiffe://example.org/a\x00",
        "spiffe://example.org/a?b",
        "spiffe://example.org/a#b",
        "spiffe://example.org/%61",
        "spiffe://example.org/é",
        "spiffe://example.org:8443/a",
        "spiffe://user@example.org/a",
        "spiffe://Example.org/a",
        "SPIFFE://example.org/a",
        "http://example.org/a",
        "example.org/a",
        " spiffe://example.org/a",
        "spiffe://spiffe://example.org/a",
    ],
)
def test_what_is_no_spiffe_id_is_refused(text: str) -> None:
    """Other schemes, no path, dot segments, ports, queries, escapes: none is an ID."""
    with pytest.raises(InvalidSpiffeId):
        SpiffeId.parse(text)


def test_every_letter_outside_the_set_is_refused_in_a_path() -> None:
    """Of all single bytes just the documented ones may stand in a path segment."""
    accepted = set()
    for letter in EVERY_BYTE:
        try:
            SpiffeId.parse(f"spiffe://example.org/a{letter}b")
        except InvalidSpiffeId:
            continue
        accepted.add(letter)
    assert accepted == PATH_LETTERS | {"/"}


def test_spiffe_id_of_2048_bytes_is_the_longest() -> None:
    """2,048 bytes are allowed, one more is not, and bytes count, not characters."""
    prefix = "spiffe://example.org/"
    longest = prefix + "a" * (2_048 - len(prefix))
    assert str(SpiffeId.parse(longest)) == longest
    with pytest.raises(InvalidSpiffeId, match="longer than 2048 bytes"):
        SpiffeId.parse(longest + "a")
    with pytest.raises(InvalidSpiffeId, match="longer than 2048 bytes"):
        SpiffeId.parse(prefix + "é" * 1_024)


def test_a_lone_surrogate_is_refused_and_not_raised_as_a_codec_error() -> None:
    """A text that UTF-8 cannot carry is refused like any other."""
    with pytest.raises(InvalidSpiffeId, match="not a SPIFFE ID"):
        SpiffeId.parse("spiffe://example.org/\ud800")


def test_statement_34_identity_has_istios_path_form() -> None:
    """An identity is `spiffe://<td>/ns/<ns>/sa/<sa>`."""
    workload = WorkloadId.of(LOCAL, "bookinfo", "productpage")
    assert workload.uri == "spiffe://cluster.local/ns/bookinfo/sa/productpage"
    assert str(workload) == workload.uri


def test_statement_34_at_sign_in_a_trust_domain_becomes_a_dot() -> None:
    """`@` in the configured trust domain stands for `.` in every identity."""
    workload = WorkloadId.of(TrustDomain.parse("a@b@c"), "ns", "sa")
    assert workload.uri == "spiffe://a.b.c/ns/ns/sa/sa"


@pytest.mark.parametrize("namespace", ["", "A", "-a", "a-", "a.b", "a_b", "a" * 64, "a\n", "a/b"])
def test_what_is_no_namespace_is_refused(namespace: str) -> None:
    """A namespace is a DNS label of at most 63 bytes."""
    with pytest.raises(InvalidSpiffeId, match="not a namespace"):
        WorkloadId.of(LOCAL, namespace, "sa")


@pytest.mark.parametrize(
    "account",
    ["", "A", "-a", "a-", ".a", "a.", "a..b", "a-.b", "a_b", "a" * 254, "a\n", "a/b", "a:b"],
)
def test_what_is_no_service_account_is_refused(account: str) -> None:
    """A service account is a DNS subdomain of at most 253 bytes."""
    with pytest.raises(InvalidSpiffeId, match="not a service account"):
        WorkloadId.of(LOCAL, "ns", account)


@pytest.mark.parametrize(
    ("namespace", "account"),
    [("a", "b"), ("0", "0"), ("a-b", "a.b-c.d"), ("a" * 63, "b" * 253)],
)
def test_names_that_kubernetes_gives_are_accepted(namespace: str, account: str) -> None:
    """The longest and the shortest names of Kubernetes make an identity, and are kept."""
    workload = WorkloadId.of(LOCAL, namespace, account)
    assert (workload.trust_domain, workload.namespace, workload.service_account) == (
        LOCAL,
        namespace,
        account,
    )
    assert WorkloadId.parse(workload.uri) == workload


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://cluster.local/ns/a/sa/b/c",
        "spiffe://cluster.local/ns/a/sa",
        "spiffe://cluster.local/sa/b/ns/a",
        "spiffe://cluster.local/NS/a/SA/b",
        "spiffe://cluster.local/x/ns/a/sa/b",
        "spiffe://cluster.local/a",
    ],
)
def test_another_path_form_is_no_workload_identity(text: str) -> None:
    """A valid SPIFFE ID in another form names no Istio workload."""
    SpiffeId.parse(text)
    with pytest.raises(InvalidSpiffeId, match="not of the form"):
        WorkloadId.parse(text)


def test_a_name_that_kubernetes_could_not_have_given_is_no_workload_identity() -> None:
    """An upper-case namespace is a valid path segment and still no identity."""
    with pytest.raises(InvalidSpiffeId, match="not a namespace"):
        WorkloadId.parse("spiffe://cluster.local/ns/A/sa/b")


@pytest.mark.parametrize(
    "value",
    [
        LOCAL,
        SpiffeId.parse("spiffe://cluster.local/a"),
        WorkloadId.of(LOCAL, "a", "b"),
    ],
)
def test_identities_cannot_be_changed(value: TrustDomain | SpiffeId | WorkloadId) -> None:
    """No field can be set after the check, and none be added."""
    assert not hasattr(value, "__dict__")
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, "x")


def test_equal_identities_are_equal_and_hash_alike() -> None:
    """Two readings of one text are one key in a mapping; another text is another."""
    one, two = (WorkloadId.parse("spiffe://cluster.local/ns/a/sa/b") for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != WorkloadId.parse("spiffe://cluster.local/ns/a/sa/c")
