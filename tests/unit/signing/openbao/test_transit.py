"""Tests of transit as a key store, over one in memory."""

import asyncio
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from meshsigner.errors import BackendRefused, BackendUnavailable, ConfigurationError
from meshsigner.signing.openbao import transit
from meshsigner.signing.openbao.settings import TransitSettings
from meshsigner.signing.openbao.transit import TransitStore
from tests.fakes.authority import NOW, CaKey, make_key
from tests.fakes.openbao import FakeOpenBao, FakeTransit


def store_of(engine: FakeTransit, **changes: Any) -> tuple[TransitStore, FakeOpenBao]:
    """Return a store over an engine in memory."""
    bao = FakeOpenBao()
    engine.mount(bao)
    settings = TransitSettings.model_validate(
        {
            "type": "openbao_transit",
            "address": "https://openbao:8200",
            "key": "ca",
            "certificates": "/nowhere",
            "auth": {"type": "token", "token_file": "/nowhere"},
            **changes,
        }
    )
    return TransitStore(client=bao, settings=settings), bao


def public_of(key: CaKey) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """Return the public half."""
    return key.public_key()


@pytest.mark.parametrize(
    ("key", "kind"), [("p256", "ecdsa-p256"), ("p384", "ecdsa-p384"), ("rsa2048", "rsa-2048")]
)
async def test_whole_batch_is_one_call(key: str, kind: str) -> None:
    """Signatures are those that the CA's own key would make, for every message in its place."""
    private = make_key(key)
    store, bao = store_of(FakeTransit([private], kind=kind))
    signer = await store.find_key(public_of(private))
    messages = [b"one", b"two", b"three"]
    signatures = await signer.sign_batch(messages)
    assert len(bao.calls) == 2
    for message, signature in zip(messages, signatures, strict=True):
        assert isinstance(signature, bytes)
        _verify(private, message, signature)


def _verify(key: CaKey, message: bytes, signature: bytes) -> None:
    if isinstance(key, rsa.RSAPrivateKey):
        key.public_key().verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
    else:
        digest = hashes.SHA384() if key.key_size == 384 else hashes.SHA256()
        key.public_key().verify(signature, message, ec.ECDSA(digest))


async def test_version_of_the_certificate_signs() -> None:
    """Of several versions the one with the certificate's public half signs, not the latest."""
    keys = [make_key("p256", n) for n in range(3)]
    store, bao = store_of(FakeTransit(keys))
    signer = await store.find_key(public_of(keys[1]))
    (signature,) = await signer.sign_batch([b"x"])
    assert bao.calls[-1][2]["key_version"] == 2
    assert isinstance(signature, bytes)
    _verify(keys[1], b"x", signature)


async def test_item_s_error_is_its_own() -> None:
    """An item that the engine refuses is that message's error."""
    store, _ = store_of(FakeTransit([make_key("p256")], faults={1: "no"}))
    signer = await store.find_key(public_of(make_key("p256")))
    found = await signer.sign_batch([b"a", b"b", b"c"])
    assert [type(one) for one in found] == [bytes, BackendRefused, bytes]


@pytest.mark.parametrize(
    "results",
    [None, [], [{}], [{"signature": "vault:v9:AAAA"}], [{"signature": "vault:v1:!"}], ["x"]],
)
async def test_malformed_results_are_no_signatures(results: Any) -> None:
    """Results that are missing, of another version or no base64 sign nothing."""
    store, bao = store_of(FakeTransit([make_key("p256")]))
    signer = await store.find_key(public_of(make_key("p256")))
    bao.handlers["transit/sign/ca/sha2-256"] = lambda _: {"batch_results": results}
    try:
        found = await signer.sign_batch([b"a"])
    except BackendUnavailable:
        return
    assert [type(one) for one in found] == [BackendUnavailable]


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        (FakeTransit([make_key("p256")], exportable=True), "could be copied out"),
        (FakeTransit([make_key("p256")], kind="aes256-gcm96"), "is of type 'aes256-gcm96'"),
        (FakeTransit([make_key("p256", 9)]), "no version of it belongs"),
    ],
)
async def test_key_that_may_not_be_used_is_refused(engine: FakeTransit, text: str) -> None:
    """A key that could leave, of another kind, or of another CA: refused with what to do."""
    store, _ = store_of(engine)
    with pytest.raises(ConfigurationError, match=text):
        await store.find_key(public_of(make_key("p256")))


async def test_trouble_is_seen_and_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed call health says so; once the key can be read again it is well."""
    monkeypatch.setattr(transit, "LOOK_AGAIN_S", 0.01)
    store, bao = store_of(FakeTransit([make_key("p256")]))
    await store.start()
    signer = await store.find_key(public_of(make_key("p256")))
    bao.errors["*"] = BackendUnavailable("sealed")
    with pytest.raises(BackendUnavailable):
        await signer.sign_batch([b"a"])
    assert store.health(NOW).detail == "sealed"
    await asyncio.sleep(0.05)
    assert not store.health(NOW).ready
    bao.errors.clear()
    async with asyncio.timeout(5.0):
        while not store.health(NOW).ready:
            await asyncio.sleep(0.005)
    await store.aclose()
    assert bao.closed
