"""Whether prepared calls are what they say, are kept, and are made anew when they must be."""

import os
import time
from pathlib import Path

import pytest
from cryptography import x509
from hpack import Decoder
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import RSAKey

from benchmarks.load.calls import Call
from benchmarks.scenarios import mint
from benchmarks.scenarios.mesh import load_token_issuer
from benchmarks.scenarios.mint import Mint
from benchmarks.scenarios.poison import (
    broken_signature,
    expired_token,
    forged_token,
    no_csr,
)
from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mint:
    """Return a mint whose files hold three calls."""
    monkeypatch.setattr(mint, "CHUNK", 3)
    issuer = load_token_issuer(tmp_path / "issuer.pem", make=True)
    return Mint(
        tokens=issuer,
        trust_domain="cluster.local",
        cache=tmp_path,
        on_stage=lambda _name, _size: lambda: None,
    )


def token_of(call: Call) -> str:
    """Return a call's token."""
    (_, value), *_ = Decoder().decode(call.token_block)
    return str(value).removeprefix("Bearer ")


def csr_of(call: Call) -> str:
    """Return a call's CSR."""
    return IstioCertificateRequest.FromString(call.body[5:]).csr


def test_calls_are_all_different_and_come_again(small: Mint) -> None:
    """No two calls share an identity or key; the same request later finds the same calls."""
    first = list(small.calls("a", 7, "p256").calls())
    assert len({call.uri_san for call in first}) == 7
    assert len({call.public_key_der for call in first}) == 7
    assert list(small.calls("a", 7, "p256").calls()) == first
    assert list(small.calls("a", 2, "p256").calls()) == first[:2]
    others = {call.uri_san for call in small.calls("b", 7, "p256").calls()}
    assert not others & {call.uri_san for call in first}


def test_parts_are_stretches_of_the_whole(small: Mint) -> None:
    """A part begins where it says, over the bounds of files, and never goes past the end."""
    whole = small.calls("a", 8, "p256")
    assert list(whole.part(2, 5).calls()) == list(whole.calls())[2:7]
    with pytest.raises(ValueError, match="calls 5 to 9 of 8"):
        whole.part(5, 4)


def test_old_tokens_are_made_anew(small: Mint) -> None:
    """A file whose tokens end within two hours is made again."""
    calls = small.calls("a", 3, "p256")
    before = list(calls.calls())
    old = time.time() - 11 * 3600
    os.utime(calls.files[0], (old, old))
    assert list(small.calls("a", 3, "p256").calls()) != before


def test_wrong_calls_are_wrong_in_one_way(small: Mint) -> None:
    """Each kind of wrong call has its status, and only what it is named for is broken."""
    key = RSAKey.import_key(small.tokens.key.public_key())  # type: ignore[arg-type]
    (good,) = small.calls("a", 1, "p256").calls()
    assert x509.load_pem_x509_csr(csr_of(good).encode()).is_signature_valid
    broken = broken_signature().apply(good)
    assert not x509.load_pem_x509_csr(csr_of(broken).encode()).is_signature_valid
    assert (broken.wanted, token_of(broken)) == (3, token_of(good))
    with pytest.raises(ValueError, match=r".+"):
        x509.load_pem_x509_csr(csr_of(no_csr().apply(good)).encode())
    expired = expired_token(small.tokens).apply(good)
    claims = jwt.decode(token_of(expired), key).claims
    assert claims["exp"] < time.time()
    assert (expired.wanted, csr_of(expired)) == (16, csr_of(good))
    with pytest.raises(BadSignatureError):
        jwt.decode(token_of(forged_token(small.tokens).apply(good)), key)
