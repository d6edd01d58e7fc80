"""What an API server's answer about a token means, case by case."""

from typing import Any

import pytest

from meshsigner.authn.reviews import DoubtfulRefusal, Reviewed, UnclearReview, read_review
from meshsigner.errors import BackendUnavailable, Unauthenticated
from tests.fakes.kubernetes_api import authenticated, refused

ASKED = ("istio-ca",)


def test_a_pod_is_recognised() -> None:
    """Account, pod, node and credential come from the answer, `JTI=` cut off."""
    status = authenticated(
        credential_id="JTI=b6b5", pod_name="bar-0", pod_uid="uid-1", node_name="node-1"
    )
    assert read_review(status, ASKED) == Reviewed(
        namespace="foo",
        service_account="bar",
        credential_id="b6b5",
        pod_name="bar-0",
        pod_uid="uid-1",
        node_name="node-1",
    )


@pytest.mark.parametrize("extra", [None, {}, "absent"])
def test_a_token_need_not_be_bound_to_a_pod(extra: object) -> None:
    """Without extra members the names stay empty."""
    status = authenticated()
    status["user"]["extra"] = {} if extra is None else extra
    if extra == "absent":
        del status["user"]["extra"]
    found = read_review(status, ASKED)
    assert (found.pod_name, found.pod_uid, found.node_name, found.credential_id) == ("",) * 4


def test_a_server_that_refuses_says_why() -> None:
    """An error without `authenticated` is a refusal; so is an error beside it."""
    text = "[invalid bearer token, service account token has expired]"
    for status in [
        refused(),
        refused("[invalid bearer token, service account token has been invalidated]"),
        {"authenticated": False, "error": text},
        {**authenticated(), "error": text},
    ]:
        with pytest.raises(Unauthenticated, match="the API server refuses the token"):
            read_review(status, ASKED)


@pytest.mark.parametrize("error", ["x", "etcdserver: request timed out", 7, ["invalid"], True])
def test_statement_16_an_unknown_error_is_our_fault(error: object) -> None:
    """Only known texts refuse; another one is quoted for the log, cut and escaped."""
    for status in [{"user": {}, "error": error}, {**authenticated(), "error": error}]:
        with pytest.raises(UnclearReview, match="unknown error") as caught:
            read_review(status, ASKED)
        assert not isinstance(caught.value, Unauthenticated)
    with pytest.raises(UnclearReview) as caught:
        read_review({"error": "\n" * 5_000}, ASKED)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_a_pod_that_is_not_found_is_a_doubtful_refusal() -> None:
    """The server says the same when its store is away, so somebody must ask about that."""
    text = "[invalid bearer token, service account token has been invalidated]"
    with pytest.raises(DoubtfulRefusal):
        read_review(refused(text), ASKED)
    with pytest.raises(Unauthenticated) as caught:
        read_review(refused(), ASKED)
    assert not isinstance(caught.value, DoubtfulRefusal)


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"user": {}},
        {"authenticated": False},
        {"authenticated": None},
        {"authenticated": "true"},
        {"authenticated": 1},
        {"authenticated": False, "error": ""},
    ],
)
def test_an_answer_without_a_verdict_is_our_fault(status: dict[str, Any]) -> None:
    """Neither yes nor a reasoned no: somebody between us and the server is broken."""
    with pytest.raises(BackendUnavailable, match="without a verdict"):
        read_review(status, ASKED)


@pytest.mark.parametrize("audiences", [[], None, ["vault"], ["ISTIO-CA"]])
def test_statement_36_status_audiences_must_intersect(audiences: list[str] | None) -> None:
    """A server that names none of the audiences asked for has not checked them."""
    status = {**authenticated(), "audiences": audiences}
    with pytest.raises(Unauthenticated, match="none of the audiences"):
        read_review(status, ASKED)
    del status["audiences"]
    with pytest.raises(Unauthenticated, match="none of the audiences"):
        read_review(status, ASKED)


def test_one_of_several_audiences_is_enough() -> None:
    """The server names those that the token and the question have in common."""
    assert read_review(authenticated(audiences=["b"]), ("a", "b")).namespace == "foo"


@pytest.mark.parametrize(
    "groups",
    [[], ["system:authenticated"], ["system:serviceaccounts:foo"], ["system:SERVICEACCOUNTS"]],
)
def test_statement_35_the_group_of_service_accounts_is_required(groups: list[str]) -> None:
    """Users and nodes are no workloads, whatever their name looks like."""
    with pytest.raises(Unauthenticated, match="not a service account's token"):
        read_review(authenticated(groups=groups), ASKED)


@pytest.mark.parametrize(
    "username",
    [
        "alice",
        "system:serviceaccount:foo",
        "system:serviceaccount:foo:bar:baz",
        "system:serviceaccount::bar",
        "system:serviceaccount:foo:",
        "system:node:foo:bar",
        "",
    ],
)
def test_statement_35_the_username_has_four_parts(username: str) -> None:
    """Five parts, three parts and other users are refused."""
    with pytest.raises(Unauthenticated, match="not system:serviceaccount"):
        read_review(authenticated(username), ASKED)
    status = authenticated()
    del status["user"]["username"]
    with pytest.raises(Unauthenticated, match="not system:serviceaccount"):
        read_review(status, ASKED)


@pytest.mark.parametrize(
    "broken",
    [
        {"user": None},
        {"user": "alice"},
        {"user": {"groups": "system:serviceaccounts"}},
        {"user": {"groups": [1]}},
        {"audiences": "istio-ca"},
        {"audiences": [None]},
    ],
)
def test_an_answer_of_another_form_is_our_fault(broken: dict[str, Any]) -> None:
    """A yes that cannot be read proves nobody and blames nobody."""
    with pytest.raises(BackendUnavailable, match="a token review "):
        read_review({**authenticated(), **broken}, ASKED)


@pytest.mark.parametrize("value", ["pod-1", [1], ["a b"], ["x" * 254], ["\udc80"], [["a"]]])
def test_extra_members_are_names(value: object) -> None:
    """What could not stand in a record is not taken."""
    status = authenticated()
    status["user"]["extra"] = {"authentication.kubernetes.io/pod-name": value}
    with pytest.raises(BackendUnavailable, match="a token review "):
        read_review(status, ASKED)
    status["user"]["extra"] = "pod-1"
    with pytest.raises(BackendUnavailable, match="extra of another form"):
        read_review(status, ASKED)


def test_a_name_may_have_253_characters() -> None:
    """As long as an object's name in Kubernetes can be."""
    assert read_review(authenticated(pod_name="x" * 253), ASKED).pod_name == "x" * 253


def test_of_several_values_the_first_counts() -> None:
    """As istiod reads them; an empty list is no value."""
    status = authenticated()
    name = "authentication.kubernetes.io/pod-name"
    status["user"]["extra"] = {name: ["a", "b"]}
    assert read_review(status, ASKED).pod_name == "a"
    status["user"]["extra"] = {name: []}
    assert read_review(status, ASKED).pod_name == ""
