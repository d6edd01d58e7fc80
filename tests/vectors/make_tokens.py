"""Writes tests/vectors/tokens: what each recorded token and each attack on tokens gets.

python -m tests.vectors.make_tokens        write the folder anew

The attacks are made with two keys of their own (issuer-key.pem, whose public half
is in jwks.json, and attacker-key.pem), made for this and used for nothing else. All
of them are judged at one fixed time, `NOW` of tests/fakes/tokens.py, so they
never age. Signatures are PKCS #1 v1.5, so a second run writes the same bytes.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.fakes.tokens import (
    NOW_S,
    UNBOUND,
    claims,
    encode,
    encode_json,
    jwk,
    jwks,
    make_token,
    private,
    public_pem,
    rsa_key,
    sign_parts,
)

FOLDER = Path(__file__).parent / "tokens"
RECORDED = Path(__file__).parent / "recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCase:
    """What a token or answer of tests/vectors/recorded gets.

    Attributes:
        name: Its name in tokens.json, token_reviews.json or both.
        jwt: What the key set says of the token; None where there is no token.
        token_review: What the recorded answer says.
        reason: Why.
        source: Where the rule comes from.
    """

    name: str
    jwt: str | None
    token_review: str
    reason: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """A token that somebody might try.

    Attributes:
        name: What is tried.
        token: The token.
        verdict: `accepted` or `unauthenticated`.
        reason: Cause in the log, a fixed text.
        source: Where the rule comes from.
    """

    name: str
    token: str
    verdict: str
    reason: str
    source: str


_YES, _NO, _FAULT = "accepted", "unauthenticated", "backend_unavailable"
_AUDIENCE = "RFC 7519 4.1.3"

RECORDED_CASES = [
    RecordedCase(
        name=name, jwt=jwt, token_review=review, reason=reason, source=f"{source}; kube-apiserver"
    )
    for name, jwt, review, reason, source in [
        ("sidecar_pod_bound", _YES, _YES, "bound to a pod on a node", "statement 35"),
        ("ztunnel_pod_bound", _YES, _YES, "bound to a pod on a node", "statement 35"),
        ("sidecar_two_audiences", _YES, _YES, "one audience of two is enough", _AUDIENCE),
        ("not_pod_bound", _YES, _YES, "a token need not be bound to a pod", "statement 35"),
        ("unscheduled_pod", _YES, _YES, "a pod without a node", "statement 35"),
        ("sidecar_wrong_audience", _NO, _NO, "made for vault", _AUDIENCE),
        ("deleted_pod", _YES, _NO, "only the API server knows of deletions", "statement 35"),
        ("two_audiences_asked", None, _YES, "the answer names one of both", "statement 36"),
        ("garbage", None, _NO, "invalid bearer token", "statement 11"),
        ("tampered_signature", None, _NO, "invalid bearer token", "statement 11"),
        ("no_audience_asked", None, _NO, "made for another audience", "statement 36"),
        ("empty", None, _FAULT, "HTTP 400: our own question was wrong", "statement 16"),
        ("reviewer_lacks_rbac", None, _FAULT, "HTTP 403: our own right is missing", "statement 16"),
    ]
]


def load_key(name: str = "issuer") -> rsa.RSAPrivateKey:
    """Return a key of the vectors; made at the first run."""
    path = FOLDER / f"{name}-key.pem"
    if not path.exists():
        path.write_bytes(
            rsa_key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        )
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    return key


def attacks(key: rsa.RSAPrivateKey) -> Iterator[Attack]:
    """Make every attack, and the good token that they are made from."""
    yield _case("good", make_token(key), "", "statement 35", _YES)
    yield from _on_signatures(key)
    yield from _on_headers(key)
    yield from _on_claims(key)
    yield from _on_subjects(key)


def _case(name: str, token: str, reason: str, source: str, verdict: str = _NO) -> Attack:
    return Attack(name=name, token=token, verdict=verdict, reason=reason, source=source)


def _on_signatures(key: rsa.RSAPrivateKey) -> Iterator[Attack]:
    good = make_token(key)
    header, payload, signature = good.split(".")
    algorithm, wrong = "the token's algorithm is not among", "the token's signature is wrong"
    for name in ["none", "None", "NONE", "nOnE"]:
        unsigned = f"{encode_json({'alg': name, 'kid': 'k1'})}.{payload}."
        yield _case(f"alg_{name}", unsigned, algorithm, "RFC 8725 3.1")
        yield _case(f"alg_{name}_signed", unsigned + signature, algorithm, "RFC 8725 3.1")
    confused = make_token(public_pem(key), algorithm="HS256")
    yield _case("hs256_with_public_key", confused, algorithm, "RFC 8725 2.1")
    yield _case("signature_missing", f"{header}.{payload}.", wrong, "RFC 7515 5.2")
    yield _case("signature_of_another", make_token(load_key("attacker")), wrong, "RFC 7515 5.2")
    other = encode_json(claims(sub="system:serviceaccount:foo:admin", **UNBOUND))
    yield _case("claims_exchanged", f"{header}.{other}.{signature}", wrong, "RFC 7515 5.2")
    resigned = make_token(key, algorithm="RS512")
    yield _case("rs512_not_configured", resigned, algorithm, "RFC 8725 3.1")
    yield _case("detached", f"{header}..{signature}", "not three segments", "RFC 7515 appendix F")
    yield _case("encrypted", f"{header}.AAAA.AAAA.AAAA.AAAA", "not three segments", "RFC 7516")


def _on_headers(key: rsa.RSAPrivateKey) -> Iterator[Attack]:
    theirs, meaning = load_key("attacker"), "a header that changes the key or the meaning"
    brought: list[tuple[str, object]] = [
        ("jwk", {"kty": "RSA"}),
        ("jku", "https://attacker.example/jwks"),
        ("x5u", "https://attacker.example/chain.pem"),
        ("x5c", ["MIIB"]),
    ]
    for name, value in brought:
        token = make_token(theirs, header={name: value})
        yield _case(f"key_in_{name}", token, meaning, "RFC 8725 3.10")
    yield _case("crit", make_token(key, header={"crit": ["exp"]}), meaning, "RFC 7515 4.1.11")
    yield _case("b64", make_token(key, header={"b64": False}), meaning, "RFC 7797")
    for name, kid in [
        ("path", "../../dev/null"),
        ("url", "http://attacker.example/"),
        ("no", "k2"),
    ]:
        yield _case(f"kid_{name}", make_token(key, kid=kid), "the token's key id", "RFC 8725 3.10")
    yield _case("kid_quoted", make_token(key, kid="k1' OR '1'='1"), "kid is not", "RFC 8725 3.10")
    yield _case("kid_missing", make_token(key, kid=None), "kid is missing", "RFC 7517 4.5")
    twice = encode(b'{"alg":"none","alg":"RS256","kid":"k1"}')
    doubled = sign_parts(twice, encode_json(claims()), key)
    yield _case("alg_twice", doubled, "the token's header: not JSON", "RFC 7515 5.2")


def _on_claims(key: rsa.RSAPrivateKey) -> Iterator[Attack]:
    def case(name: str, reason: str, source: str, **changes: Any) -> Attack:
        return _case(name, make_token(key, **changes), reason, source)

    yield case("expired", "the token has expired", "RFC 7519 4.1.4", exp=NOW_S - 11)
    yield case("not_yet_valid", "the token is not valid yet", "RFC 7519 4.1.5", nbf=NOW_S + 11)
    yield case("issued_later", "the token is not valid yet", "RFC 7519 4.1.6", iat=NOW_S + 11)
    yield case("never_expires", "exp is missing", "statement 35", exp=None)
    yield case("expires_true", "exp is missing or not a time", "RFC 7519 2", exp=True)
    yield case("other_audience", "the token is for another audience", _AUDIENCE, aud=["vault"])
    yield case("no_audience", "aud is missing", _AUDIENCE, aud=None)
    yield case("other_issuer", "the token is of another", "RFC 8725 3.8", iss="https://a.example")
    yield case("legacy", "a legacy token", "Kubernetes legacy.go", iss="kubernetes/serviceaccount")
    payload = json.dumps(claims()).replace(str(NOW_S + 3600), "1e999").encode()
    endless = sign_parts(encode_json({"alg": "RS256", "kid": "k1"}), encode(payload), key)
    yield _case("expires_at_infinity", endless, "exp is missing or not a time", "RFC 7519 2")


def _on_subjects(key: rsa.RSAPrivateKey) -> Iterator[Attack]:
    no_account, differs = "not system:serviceaccount", "sub differs from the kubernetes.io claim"
    subjects = [
        ("user", "alice"),
        ("node", "system:node:node-1"),
        ("five_parts", "system:serviceaccount:foo:bar:baz"),
        ("three_parts", "system:serviceaccount:foo"),
        ("empty_name", "system:serviceaccount:foo:"),
    ]
    for name, sub in subjects:
        token = make_token(key, sub=sub, **UNBOUND)
        yield _case(f"subject_{name}", token, no_account, "statement 35")
    slash = make_token(key, sub="system:serviceaccount:foo:../admin", **UNBOUND)
    yield _case("subject_path", slash, "a name that Kubernetes", "SPIFFE-ID 2.2")
    other = private({"namespace": "other", "serviceaccount": {"name": "bar"}})
    yield _case("namespace_differs", make_token(key, **other), differs, "Kubernetes claims.go")


def files() -> Mapping[str, bytes]:
    """Return every file of the folder but the keys."""
    key = load_key()
    index = {
        "recorded": [asdict(case) for case in RECORDED_CASES],
        "attacks": [asdict(attack) for attack in attacks(key)],
    }
    return {
        "index.json": json.dumps(index, indent=1).encode() + b"\n",
        "jwks.json": jwks(jwk(key)) + b"\n",
    }


if __name__ == "__main__":
    for name, content in files().items():
        (FOLDER / name).write_bytes(content)
