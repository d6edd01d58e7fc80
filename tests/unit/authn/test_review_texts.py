"""Which texts of an API server refuse a token, and which tell of a fault of its own."""

import pytest

from meshsigner.authn.review_texts import Meaning, meaning_of

# As kube-apiserver 1.34 said them in tests/conformance/kubernetes, and older ones in its source.
REFUSALS = [
    "invalid bearer token",
    "[invalid bearer token, service account token has expired]",
    "[invalid bearer token, service account token is not valid yet]",
    "[invalid bearer token, service account token is issued in the future]",
    "[invalid bearer token, go-jose/go-jose: error in cryptographic primitive]",
    "[invalid bearer token, square/go-jose: error in cryptographic primitive]",
    "[invalid bearer token, invalid signature, no keys found]",
    (
        '[invalid bearer token, token audiences ["other"] is invalid for the target audiences '
        '["istio-ca"]]'
    ),
    (
        '[invalid bearer token, token audiences ["a" "b, c"] is invalid for the target audiences '
        '["istio-ca" "x"], service account token has expired]'
    ),
    '[invalid bearer token, serviceaccounts "gone" not found]',
    "[invalid bearer token, service account UID (4c0c9791-b23c) does not match claim (023588c9)]",
    (
        "[invalid bearer token, pod UID (e7fe7c84-4bf9) does not match service account pod ref "
        "claim (032aa9fe)]"
    ),
    "[invalid bearer token, node UID (e7) does not match service account node ref claim (03)]",
    "[invalid bearer token, service account foo/bar.baz has been deleted]",
    "[invalid bearer token, service account token claims could not be validated: aud]",
]
FAULTS = [
    "x",
    "Unauthorized",
    "etcdserver: request timed out",
    "context deadline exceeded",
    "[invalid bearer token, context deadline exceeded]",
    "[invalid bearer token, etcdserver: leader changed]",
    "[invalid bearer token, the server was unable to return a response in the time allotted]",
    '[invalid bearer token, serviceaccounts "gone" is forbidden]',
    "[invalid bearer token, oidc: authenticator not initialized]",
    "[invalid bearer token, service account token has expired, context deadline exceeded]",
    "[context deadline exceeded, invalid bearer token]",
    "[invalid bearer token]",
    "invalid bearer token, service account token has expired",
    "invalid bearer token ",
    "invalid bearer token\n",
    "Invalid bearer token",
    "[invalid bearer token, service account token has expired",
    '[invalid bearer token, token audiences ["' + "a" * 2_000 + '"] is invalid for the target '
    'audiences ["istio-ca"]]',
]
GONE = "service account token has been invalidated"


@pytest.mark.parametrize("text", REFUSALS)
def test_statement_35_a_known_text_refuses(text: str) -> None:
    """Each text that API servers have for a bad token is one."""
    assert meaning_of(text) is Meaning.REFUSED


@pytest.mark.parametrize("text", FAULTS)
def test_statement_16_any_other_text_is_a_fault(text: str) -> None:
    """Texts of a store that is away, unknown and half-known ones are no refusals."""
    assert meaning_of(text) is Meaning.UNKNOWN


def test_statement_16_a_pod_that_is_not_found_is_doubtful() -> None:
    """Alone or among others: the server says so too when it cannot look."""
    assert meaning_of(f"[invalid bearer token, {GONE}]") is Meaning.DOUBTFUL
    both = f"[invalid bearer token, service account token has expired, {GONE}]"
    assert meaning_of(both) is Meaning.DOUBTFUL
    assert meaning_of(f"[{GONE}, invalid bearer token]") is Meaning.UNKNOWN
