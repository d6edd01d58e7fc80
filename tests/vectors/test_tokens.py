"""Recorded tokens, recorded reviews and the known attacks: each gets its documented verdict."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from meshsigner.authn.jwt import JwtAuthenticator
from meshsigner.authn.key_sets import KeyOwners
from meshsigner.authn.key_sources import FileKeys
from meshsigner.authn.public_keys import PublicKeys
from meshsigner.authn.token_review import TokenReviewAuthenticator
from meshsigner.authn.tokens import TokenRules
from meshsigner.errors import MeshsignerError
from meshsigner.kube import BearerToken, Connection, KubernetesApi, TlsFiles
from meshsigner.model import Caller, Credentials
from meshsigner.ports import Parked
from tests.fakes.authn import RULES, TRUST_DOMAIN
from tests.fakes.http_server import serve
from tests.fakes.kubernetes_api import KubernetesApiServer
from tests.fakes.serving_tls import TestRoots, server_context
from tests.fakes.tokens import ISSUER, NOW, make_token
from tests.vectors.make_tokens import (
    FOLDER,
    RECORDED,
    RECORDED_CASES,
    Attack,
    RecordedCase,
    attacks,
    files,
    load_key,
)

TOKENS: dict[str, str] = json.loads((RECORDED / "tokens.json").read_bytes())
REVIEWS: dict[str, Any] = json.loads((RECORDED / "token_reviews.json").read_bytes())
ATTACKS = list(attacks(load_key()))
ROOTS = TestRoots()


def _name(case: object) -> str:
    return cast("RecordedCase | Attack", case).name


IDENTITIES = {
    "sidecar_pod_bound": ("bookinfo/sa/productpage", "productpage-v1-0", "node-1"),
    "ztunnel_pod_bound": ("istio-system/sa/ztunnel", "ztunnel-abcde", "node-1"),
    "sidecar_two_audiences": ("bookinfo/sa/productpage", "productpage-v1-0", "node-1"),
    "two_audiences_asked": ("bookinfo/sa/productpage", "productpage-v1-0", "node-1"),
    "not_pod_bound": ("bookinfo/sa/productpage", "", ""),
    "unscheduled_pod": ("bookinfo/sa/reviews", "reviews-v1-0", ""),
    "deleted_pod": ("bookinfo/sa/details", "details-v1-0", "node-1"),
}


def authenticator_for(keys: Path, rules: TokenRules) -> JwtAuthenticator:
    """Return an authenticator over a file with keys."""
    public_keys = PublicKeys(cluster="Kubernetes", source=FileKeys(keys), owners=KeyOwners())
    return JwtAuthenticator(
        cluster="Kubernetes", trust_domain=TRUST_DOMAIN, rules=rules, keys=public_keys
    )


@pytest.fixture
async def recorded_keys() -> AsyncIterator[JwtAuthenticator]:
    """The real cluster's keys."""
    made = authenticator_for(RECORDED / "jwks.json", RULES)
    await made.start()
    yield made
    await made.aclose()


@pytest.fixture
async def attacked() -> AsyncIterator[JwtAuthenticator]:
    """The keys of the attacks' issuer."""
    made = authenticator_for(FOLDER / "jwks.json", RULES)
    await made.start()
    yield made
    await made.aclose()


def described(caller: Caller) -> tuple[str, str, str]:
    """Return identity, pod and node."""
    path = caller.identity.uri.removeprefix("spiffe://cluster.local/ns/")
    return path, caller.pod_name, caller.node_name


def judge(authenticator: JwtAuthenticator, token: str, now: datetime = NOW) -> Caller | str:
    """Return the caller, or the reason and the cause of a refusal."""
    try:
        found = authenticator.identify(Credentials(bearer_token=token), now)
    except MeshsignerError as error:
        return f"{error.reason}: {error}"
    assert isinstance(found, Caller)
    return found


@pytest.mark.parametrize("case", [c for c in RECORDED_CASES if c.jwt], ids=_name)
def test_recorded_tokens_against_their_recorded_keys(
    recorded_keys: JwtAuthenticator, case: RecordedCase
) -> None:
    """Tokens of a real kube-apiserver at a fixed time give their pods' identities, or a refusal."""
    found = judge(recorded_keys, TOKENS[case.name])
    if case.jwt == "accepted":
        assert isinstance(found, Caller)
        assert described(found) == IDENTITIES[case.name]
    else:
        assert found == "unauthenticated: the token is for another audience"


def test_recorded_tokens_have_their_time(recorded_keys: JwtAuthenticator) -> None:
    """Before they were issued and after they expired the real tokens are refused."""
    token = TOKENS["sidecar_pod_bound"]
    issued = datetime.fromtimestamp(1_795_437_234, UTC)
    expired = datetime.fromtimestamp(2_110_797_234, UTC)
    second = timedelta(seconds=1)
    early = judge(recorded_keys, token, issued - 11 * second)
    late = judge(recorded_keys, token, expired + 10 * second)
    assert early == "unauthenticated: the token is not valid yet"
    assert late == "unauthenticated: the token has expired"
    assert isinstance(judge(recorded_keys, token, issued), Caller)
    assert isinstance(judge(recorded_keys, token, expired), Caller)


def test_every_single_letter_of_a_recorded_token_counts(recorded_keys: JwtAuthenticator) -> None:
    """No letter of a real token can be exchanged for another one."""
    token = TOKENS["not_pod_bound"]
    for place, letter in enumerate(token):
        changed = token[:place] + ("B" if letter != "B" else "C") + token[place + 1 :]
        assert not isinstance(judge(recorded_keys, changed), Caller), place


def answer_of(case: RecordedCase) -> tuple[web.Response, str, tuple[str, ...]]:
    """Return a recorded answer with its token in it, that token, and the audiences asked for."""
    recorded = REVIEWS[case.name]
    # Answers to garbage belong to a token that passes our own look at it, for others never
    # reach an API server; those to other questions belong to the pod's token.
    token = TOKENS.get(case.name) or make_token(jti=case.name)
    if case.name == "two_audiences_asked":
        token = TOKENS["sidecar_pod_bound"]
    text = json.dumps(recorded["body"]).replace('"<the token>"', json.dumps(token))
    answer = web.json_response(text=text, status=recorded["http_status"])
    return answer, token, tuple(recorded.get("audiences_asked") or ["istio-ca"])


@asynccontextmanager
async def reviewing(
    answer: web.Response, audiences: tuple[str, ...], folder: Path
) -> AsyncIterator[TokenReviewAuthenticator]:
    """Run an API server that gives one answer, and an authenticator that asks it."""
    server = KubernetesApiServer()

    async def replay(_: web.BaseRequest) -> web.StreamResponse:
        return answer

    server.misbehaviour = replay
    async with serve(server.http, server_context(ROOTS.issue("127.0.0.1"), folder)):
        connection = Connection(
            server=server.http.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken("reviewer")
        )
        authenticator = TokenReviewAuthenticator(
            cluster="Kubernetes",
            trust_domain=TRUST_DOMAIN,
            rules=TokenRules(audiences=audiences, issuer=ISSUER),
            reviewer=KubernetesApi(connection),
            clock=lambda: NOW,
        )
        yield authenticator
        await authenticator.aclose()


async def verdict_of(authenticator: TokenReviewAuthenticator, token: str) -> Caller | str:
    """Go the whole way of a caller; return the caller or the reason of the error."""
    credentials = Credentials(bearer_token=token)
    parked = authenticator.identify(credentials, NOW)
    assert isinstance(parked, Parked)
    try:
        await parked.fetch()
        found = authenticator.identify(credentials, NOW)
    except MeshsignerError as error:
        return error.reason
    assert isinstance(found, Caller)
    return found


@pytest.mark.parametrize("case", RECORDED_CASES, ids=_name)
async def test_recorded_reviews_over_the_wire(case: RecordedCase, tmp_path: Path) -> None:
    """What a real kube-apiserver answered, byte for byte over TLS, gives the same verdicts."""
    answer, token, audiences = answer_of(case)
    # The wrong audience is refused before anybody asks; here the answer is judged.
    asked = (*audiences, "vault") if case.name == "sidecar_wrong_audience" else audiences
    async with reviewing(answer, asked, tmp_path) as authenticator:
        found = await verdict_of(authenticator, token)
    if case.token_review == "accepted":
        assert isinstance(found, Caller)
        assert described(found) == IDENTITIES[case.name]
    else:
        assert found == case.token_review


@pytest.mark.parametrize("attack", ATTACKS, ids=_name)
def test_attacks_get_their_documented_verdict(attacked: JwtAuthenticator, attack: Attack) -> None:
    """Each attack is refused for its own reason; the good token they are made from is taken."""
    found = judge(attacked, attack.token)
    if attack.verdict == "accepted":
        assert isinstance(found, Caller)
    else:
        assert str(found).startswith(f"unauthenticated: {attack.reason}")
    assert attack.verdict in {"accepted", "unauthenticated"}


def test_a_second_implementation_reads_the_good_token_alike() -> None:
    """Joserfc verifies the good token under the written key set, and none of another key."""
    keys = KeySet.import_key_set(json.loads((FOLDER / "jwks.json").read_bytes()))
    tokens = {attack.name: attack.token for attack in ATTACKS}
    assert jwt.decode(tokens["good"], keys).claims["sub"] == "system:serviceaccount:foo:bar"
    for name in ["signature_of_another", "claims_exchanged", "hs256_with_public_key", "alg_none"]:
        with pytest.raises(JoseError):
            jwt.decode(tokens[name], keys)


def test_files_are_what_the_script_writes() -> None:
    """Index and key set are, byte for byte, what make_tokens would write."""
    written = {name: (FOLDER / name).read_bytes() for name in files()}
    assert written == files()
    assert sorted(p.name for p in FOLDER.iterdir()) == sorted(
        [*written, "issuer-key.pem", "attacker-key.pem"],
    )


def test_the_index_names_every_recording() -> None:
    """No recorded token and no recorded answer is left without a verdict."""
    assert {case.name for case in RECORDED_CASES} == TOKENS.keys() | REVIEWS.keys()
    assert {case.name for case in RECORDED_CASES if case.jwt} == TOKENS.keys()
