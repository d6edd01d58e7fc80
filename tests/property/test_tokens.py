"""What holds for any token: no surprise, no difference from a library, no quoting."""

import asyncio
import base64
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from meshsigner.authn.clusters import Cluster, ClusterAuthenticator, ClusterMember
from meshsigner.authn.compact_jws import ALGORITHMS, MAX_TOKEN_BYTES
from meshsigner.authn.key_sets import InvalidKeySet, parse_key_set
from meshsigner.authn.keys import import_key, verify_signature
from meshsigner.authn.strict_json import InvalidJson, parse_object
from meshsigner.authn.token_review import TokenReviewAuthenticator
from meshsigner.authn.tokens import TokenRules, parse_token
from meshsigner.errors import BackendUnavailable, ServiceFault, Unauthenticated
from meshsigner.model import Caller, Credentials
from meshsigner.ports import Parked
from tests.fakes.authn import (
    RULES,
    TRUST_DOMAIN,
    FakeClock,
    FakeKeySource,
    FakeReviewer,
    make_jwt,
)
from tests.fakes.kubernetes_api import authenticated
from tests.fakes.tokens import (
    AUDIENCE,
    ISSUER,
    NOW,
    NOW_S,
    PrivateKey,
    claims,
    ec_key,
    encode,
    encode_json,
    jwk,
    jwks,
    make_token,
    rsa_key,
    sign_parts,
)


def make_clusters() -> ClusterAuthenticator:
    """Return a local cluster that checks signatures and another that reviews tokens."""
    clock = FakeClock()
    east = make_jwt(FakeKeySource(), clock, "east")
    asyncio.run(_read_keys(east))
    west = TokenReviewAuthenticator(
        cluster="west", trust_domain=TRUST_DOMAIN, rules=RULES, reviewer=FakeReviewer()
    )
    members: list[ClusterMember] = [east, west]
    return ClusterAuthenticator(
        [
            Cluster(
                cluster_id=member.cluster,
                trust_domain=TRUST_DOMAIN,
                authenticators=(member,),
                local=member is east,
            )
            for member in members
        ],
    )


async def _read_keys(authenticator: Any) -> None:
    await authenticator.start()
    await authenticator.aclose()


CLUSTERS = make_clusters()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
BYTES = st.binary(max_size=200)
ODD_HEADERS = st.fixed_dictionaries(
    {},
    optional={"alg": JSON | st.sampled_from(sorted(ALGORITHMS)), "kid": JSON, "x": JSON},
)
ODD_CLAIMS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ["aud", "exp", "iat", "iss", "jti", "kubernetes.io", "nbf", "sub", "x"], JSON
    ),
)
SIGNED = st.builds(
    lambda header, changes: sign_parts(
        encode_json({"alg": "RS256", "kid": "k1", **header}), encode_json({**claims(), **changes})
    ),
    ODD_HEADERS,
    ODD_CLAIMS,
)
MADE_OF_PARTS = st.lists(BYTES.map(encode), min_size=1, max_size=5).map(".".join)
ANYTHING = (
    st.text()
    | st.binary().map(lambda data: data.decode("latin-1"))
    | st.text("ABab01-_.=", max_size=80)
    | MADE_OF_PARTS
    | SIGNED
)
TIMES = st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1)).map(  # noqa: DTZ001 - aware below
    lambda moment: moment.replace(tzinfo=NOW.tzinfo)
)


@given(token=ANYTHING | st.none(), cluster=st.sampled_from(["", "west"]) | st.text(), now=TIMES)
def test_no_token_raises_anything_undocumented(
    token: str | None, cluster: str, now: datetime
) -> None:
    """Any text, for any cluster, at any time: a caller, a wait, or a documented error."""
    found = _outcome(Credentials(bearer_token=token, cluster_id=cluster), now)
    assert isinstance(found, Caller | Parked | str)
    assert not isinstance(found, str) or token is None or len(token) < 12 or token not in found


def _outcome(credentials: Credentials, now: datetime) -> Caller | Parked | str:
    try:
        return CLUSTERS.identify(credentials, now)
    except (Unauthenticated, ServiceFault) as error:
        return str(error)


@given(token=SIGNED)
def test_whoever_is_accepted_is_the_account_of_the_subject(token: str) -> None:
    """However a token was bent and signed anew: the identity is its `sub`, or it is refused."""
    try:
        found = CLUSTERS.identify(Credentials(bearer_token=token), NOW)
    except (Unauthenticated, ServiceFault):
        return
    if isinstance(found, Caller):
        payload = token.split(".")[1]
        said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        identity = found.identity
        account = f"system:serviceaccount:{identity.namespace}:{identity.service_account}"
        assert said["sub"] == account
        assert said["iss"] == ISSUER
        assert AUDIENCE in said["aud"]


@given(data=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_strict_json_reads_what_a_lenient_reader_reads(data: bytes) -> None:
    """Whatever is read strictly means the same to Python's own reader."""
    try:
        strict = parse_object(data)
    except InvalidJson:
        return
    assert strict == json.loads(data)


@given(
    place=st.integers(0, 2),
    start=st.integers(0, 400),
    noise=st.text("ABCxyz019-_.", max_size=4),
    cut=st.integers(0, 4),
)
def test_a_changed_token_is_never_accepted(place: int, start: int, noise: str, cut: int) -> None:
    """Letters replaced, added or taken away anywhere: only the token itself passes."""
    good = make_token()
    parts = good.split(".")
    part = parts[place]
    at = start % (len(part) + 1)
    parts[place] = part[:at] + noise + part[at + cut :]
    changed = ".".join(parts)
    if changed == good:
        return
    with pytest.raises(Unauthenticated):
        CLUSTERS.identify(Credentials(bearer_token=changed), NOW)


def _key(algorithm: str, name: str = "one") -> PrivateKey:
    return ec_key(algorithm, name) if algorithm.startswith("ES") else rsa_key(name)


def _library_accepts(token: str, entry: dict[str, Any], algorithm: str) -> bool:
    kind = ECKey if entry["kty"] == "EC" else RSAKey
    try:
        # RFC 7515 4: headers that nobody knows are ignored, which the library does when told
        registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
        registry.max_header_length = MAX_TOKEN_BYTES  # its own 512 is a bound, no rule of the RFC
        jws.deserialize_compact(token, kind.import_key(entry), registry=registry)
    except (JoseError, ValueError):
        return False
    return True


def _we_accept(token: str, entry: dict[str, Any]) -> bool:
    try:
        verify_signature(import_key(entry), parse_token(token))
    except Unauthenticated:
        return False
    return True


@given(
    algorithm=st.sampled_from(sorted(ALGORITHMS)),
    signer=st.sampled_from(["one", "two"]),
    place=st.none() | st.integers(0, 1000),
    bit=st.integers(0, 7),
)
def test_we_verify_as_joserfc_does(
    algorithm: str, signer: str, place: int | None, bit: int
) -> None:
    """By hand or by the library: every algorithm, right and wrong keys, any flipped bit."""
    token = make_token(_key(algorithm, signer), algorithm=algorithm)
    signed, _, signature = token.rpartition(".")
    if place is not None:
        raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
        raw[place % len(raw)] ^= 1 << bit
        token = f"{signed}.{encode(bytes(raw))}"
    entry = jwk(_key(algorithm))
    verdict = _we_accept(token, entry)
    assert verdict == _library_accepts(token, entry, algorithm)
    assert verdict == (signer == "one" and place is None)


@given(
    algorithm=st.sampled_from(["ES256", "ES384", "ES512"]),
    signature=st.binary(max_size=140) | st.sampled_from([64, 96, 132]).map(bytes),
)
def test_we_refuse_signatures_as_joserfc_does(algorithm: str, signature: bytes) -> None:
    """Signatures of any length and content: neither of both accepts one, nor breaks."""
    signed = make_token(_key(algorithm), algorithm=algorithm).rpartition(".")[0]
    token, entry = f"{signed}.{encode(signature)}", jwk(_key(algorithm))
    assert not _we_accept(token, entry)
    assert not _library_accepts(token, entry, algorithm)


@given(changes=ODD_HEADERS)
@example(changes={"x": "a header of more than 512 bytes" * 20})
def test_what_we_accept_joserfc_accepts(changes: dict[str, Any]) -> None:
    """No header makes us take a token that the library would not take."""
    header = {"alg": "RS256", "kid": "k1", **changes}
    token = sign_parts(encode_json(header), encode_json(claims()))
    try:
        found = CLUSTERS.identify(Credentials(bearer_token=token), NOW)
    except (Unauthenticated, ServiceFault):
        return
    if isinstance(found, Caller):
        assert _library_accepts(token, jwk(rsa_key()), "RS256")


ODD_KEY = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ["kty", "n", "e", "crv", "x", "y", "kid", "use", "alg", "key_ops", "d", "k"],
        JSON | st.sampled_from(["RSA", "EC", "P-256", "AQAB", "sig", "RS256"]),
    ),
)
BENT_KEY = st.builds(
    lambda base, changes: {**base, **changes},
    st.sampled_from([jwk(rsa_key()), jwk(ec_key())]),
    ODD_KEY,
)


@given(
    data=st.binary()
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.lists(ODD_KEY | BENT_KEY, max_size=3).map(lambda keys: jwks(*keys)),
)
def test_no_key_set_raises_anything_undocumented(data: bytes) -> None:
    """Any document is a key set or refused as one, whatever its members are."""
    try:
        keys = parse_key_set(data)
    except InvalidKeySet:
        return
    assert keys.keys
    assert all(key.verifiers for key in keys.keys.values())


STATUS = st.dictionaries(st.sampled_from(["authenticated", "user", "audiences", "error"]), JSON)
USER = st.dictionaries(st.sampled_from(["username", "groups", "extra", "uid"]), JSON)
BENT_STATUS = st.builds(
    lambda status, user: {**authenticated(), **status, **({"user": user} if user else {})},
    STATUS,
    st.none() | USER.map(lambda user: {**authenticated()["user"], **user}),
)


@given(status=STATUS | BENT_STATUS)
def test_no_review_proves_another_account(status: dict[str, Any]) -> None:
    """Whatever an API server answers, the caller is the token's own account or nobody."""
    token = make_token()
    reviewer = FakeReviewer(accounts={token: status})
    authenticator = TokenReviewAuthenticator(
        cluster="west",
        trust_domain=TRUST_DOMAIN,
        rules=RULES,
        reviewer=reviewer,
        clock=FakeClock(),
    )
    credentials = Credentials(bearer_token=token)
    parked = authenticator.identify(credentials, NOW)
    assert isinstance(parked, Parked)
    try:
        asyncio.run(_await(parked))
        found = authenticator.identify(credentials, NOW)
    except (Unauthenticated, BackendUnavailable):
        return
    assert isinstance(found, Caller)
    assert found.identity.uri == "spiffe://cluster.local/ns/foo/sa/bar"


async def _await(parked: Parked) -> None:
    await parked.fetch()


@given(
    lifetime_s=st.integers(-100, 100_000),
    age_s=st.floats(0, 200_000),
    leeway_s=st.sampled_from([0.0, 10.0]),
)
def test_memory_never_changes_a_verdict(lifetime_s: int, age_s: float, leeway_s: float) -> None:
    """A caller who was accepted once is accepted later just as if it had never been seen."""
    rules = TokenRules(audiences=(AUDIENCE,), issuer=ISSUER, leeway_s=leeway_s)
    token = make_token(exp=NOW_S + lifetime_s)
    fresh, used = (make_jwt(FakeKeySource(), FakeClock(), rules=rules) for _ in range(2))
    for authenticator in (fresh, used):
        asyncio.run(_read_keys(authenticator))
    _judge(used, token, NOW)
    later = NOW + timedelta(seconds=age_s)
    assert _judge(used, token, later) == _judge(fresh, token, later)


def _judge(authenticator: Any, token: str, now: datetime) -> object:
    try:
        return authenticator.identify(Credentials(bearer_token=token), now)
    except Unauthenticated:
        return None


@given(length=st.integers(0, MAX_TOKEN_BYTES * 2), letter=st.sampled_from("A.{\udc80"))
def test_long_tokens_end_at_once(length: int, letter: str) -> None:
    """No length and no repetition is anything but a refusal."""
    with pytest.raises(Unauthenticated):
        CLUSTERS.identify(Credentials(bearer_token=letter * length), NOW)
