"""Transit as a key store, on a real server: batches, versions, keys that are refused."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from meshsigner.errors import (
    BackendRefused,
    BackendUnavailable,
    ConfigurationError,
    NotReady,
    Overloaded,
)
from meshsigner.model import Chain
from meshsigner.signing.openbao.kinds import TRANSIT
from tests.conformance.openbao.backend import driven, surroundings_in, utc_now
from tests.conformance.openbao.certificates import certify, write_ca
from tests.conformance.openbao.mounts import Mesh

BACK_WITHIN_S = 5.0


def set_up_key(mesh: Mesh, name: str, kind: str = "ecdsa-p256", **options: Any) -> dict[str, Any]:
    """Make a transit key and a CA certificate for it; return the backend's settings."""
    mesh.transit_key(name, kind, **options)
    directory = write_ca(mesh.folder / f"ca-{name}", certify(mesh, name))
    return mesh.settings("openbao_transit", key=name, certificates=str(directory))


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"])
async def test_batch_is_one_request(own_mesh: Mesh, tmp_path: Path, kind: str) -> None:
    """With every kind of key, orders of one call get signatures that verify, each its own."""
    settings = set_up_key(own_mesh, "ca", kind)
    async with driven(TRANSIT, settings, tmp_path) as backend:
        errands = [backend.errand(number=number) for number in range(25)]
        found = await backend.call(errands)
        for chain, errand in zip(found, errands, strict=True):
            assert isinstance(chain, Chain), chain
            backend.check(chain, errand.order)


async def test_exportable_key_is_refused(own_mesh: Mesh, tmp_path: Path) -> None:
    """A key that could be copied out is refused with what to do; a setting takes it for tests."""
    settings = set_up_key(own_mesh, "open", exportable=True)
    with pytest.raises(ConfigurationError, match="could be copied out of OpenBao"):
        async with driven(TRANSIT, settings, tmp_path):
            pass
    async with driven(TRANSIT, {**settings, "allow_exportable": True}, tmp_path) as backend:
        await backend.sign()


async def test_key_with_plaintext_backup_is_refused(own_mesh: Mesh, tmp_path: Path) -> None:
    """A key that a backup would write in the clear is refused, too."""
    settings = set_up_key(own_mesh, "backup", allow_plaintext_backup=True)
    with pytest.raises(ConfigurationError, match="allow_plaintext_backup"):
        async with driven(TRANSIT, settings, tmp_path):
            pass


async def test_key_cannot_be_taken_out(own_mesh: Mesh) -> None:
    """The key that is used does not leave OpenBao, whoever asks."""
    set_up_key(own_mesh, "ca")
    reply = own_mesh.bao.ask("GET", f"{own_mesh.transit}/export/signing-key/ca")
    assert "not exportable" in str(reply.document)


async def test_key_of_another_ca_is_refused(own_mesh: Mesh, tmp_path: Path) -> None:
    """A key that is not the certificate's signs nothing."""
    settings = set_up_key(own_mesh, "one")
    own_mesh.transit_key("two")
    with pytest.raises(ConfigurationError, match="no version of it belongs"):
        async with driven(TRANSIT, {**settings, "key": "two"}, tmp_path):
            pass


async def test_key_that_cannot_sign_certificates_is_refused(own_mesh: Mesh, tmp_path: Path) -> None:
    """Ed25519, which Istio's clients do not take from a CA, is refused by its type."""
    settings = set_up_key(own_mesh, "one")
    own_mesh.transit_key("two", "ed25519")
    with pytest.raises(ConfigurationError, match="is of type 'ed25519'"):
        async with driven(TRANSIT, {**settings, "key": "two"}, tmp_path):
            pass


async def test_rotated_key_signs_with_the_certificate_s_version(
    own_mesh: Mesh, tmp_path: Path
) -> None:
    """After a rotation the old version signs on, until a certificate for the new one is there."""
    settings = set_up_key(own_mesh, "ca")
    own_mesh.bao.write(f"{own_mesh.transit}/keys/ca/rotate")
    async with driven(TRANSIT, settings, tmp_path) as backend:
        first = await backend.sign()
        write_ca(own_mesh.folder / "ca-ca", certify(own_mesh, "ca", version="2"))
        async with asyncio.timeout(20.0):
            while backend.signer.issuer(utc_now()) is first.issuer:
                await asyncio.sleep(0.1)
        second = await backend.sign()
    keys = [chain.issuer.certificate.public_key() for chain in (first, second)]
    assert keys[0] != keys[1]


async def test_version_that_is_trimmed_away_is_refused_item_by_item(
    own_mesh: Mesh, tmp_path: Path
) -> None:
    """What the engine says of each message is that order's own error."""
    settings = set_up_key(own_mesh, "ca")
    async with driven(TRANSIT, settings, tmp_path) as backend:
        await backend.sign()
        own_mesh.bao.write(f"{own_mesh.transit}/keys/ca/rotate")
        own_mesh.bao.write(f"{own_mesh.transit}/keys/ca/config", {"min_encryption_version": 2})
        found = await backend.call([backend.errand(number=n) for n in range(3)])
    assert {type(one) for one in found} <= {BackendRefused, BackendUnavailable}


async def test_missing_key_is_told(own_mesh: Mesh, tmp_path: Path) -> None:
    """A key that is not there: not ready, and health says what to look at."""
    settings = set_up_key(own_mesh, "ca")
    async with driven(TRANSIT, {**settings, "key": "nobody"}, tmp_path) as backend:
        with pytest.raises(NotReady, match="check mount, name"):
            backend.signer.issuer(utc_now())


async def test_sealed_server_and_back(own_mesh: Mesh, tmp_path: Path) -> None:
    """Sealed: unavailable, nothing issued; back within seconds of the unsealing."""
    settings = set_up_key(own_mesh, "ca")
    async with driven(TRANSIT, settings, tmp_path) as backend:
        await asyncio.to_thread(own_mesh.bao.seal)
        with pytest.raises(BackendUnavailable, match="sealed") as raised:
            await backend.sign()
        assert not raised.value.maybe_issued
        assert not backend.signer.health(utc_now()).ready
        await asyncio.to_thread(own_mesh.bao.unseal)
        unsealed_s = time.monotonic()
        await backend.until(ready=True)
        await backend.sign()
        assert time.monotonic() - unsealed_s < BACK_WITHIN_S


async def test_quota_is_overload(own_mesh: Mesh, tmp_path: Path) -> None:
    """A quota on the mount is overload, without a word how long."""
    settings = set_up_key(own_mesh, "ca")
    quota = f"sys/quotas/rate-limit/{own_mesh.name}"
    async with driven(TRANSIT, settings, tmp_path) as backend:
        document = {"path": f"{own_mesh.transit}/", "rate": 1, "interval": "1s"}
        own_mesh.bao.write(quota, document)
        try:
            found = await asyncio.gather(*(backend.call([backend.errand()]) for _ in range(3)))
        finally:
            own_mesh.bao.delete(quota)
    assert [type(one) for (one,) in found].count(Overloaded) == 2


async def test_examination_signs_nothing_that_is_a_certificate(
    own_mesh: Mesh, tmp_path: Path
) -> None:
    """`check-config --connect` tries the key on what is no certificate, and tells it in words."""
    values = set_up_key(own_mesh, "ca")
    settings = TRANSIT.settings.model_validate(values)
    good = await TRANSIT.examine(settings, surroundings_in(tmp_path))  # type: ignore[arg-type]
    other = TRANSIT.settings.model_validate({**values, "key": "nobody"})
    bad = await TRANSIT.examine(other, surroundings_in(tmp_path))  # type: ignore[arg-type]
    assert [finding.good for finding in good] == [True, True]
    assert [finding.good for finding in bad] == [False]


async def test_batch_is_at_least_five_times_as_fast(own_mesh: Mesh, tmp_path: Path) -> None:
    """Certificates by calls of 100 come at five times the rate of calls of one, in one run."""
    settings = set_up_key(own_mesh, "ca")
    async with driven(TRANSIT, settings, tmp_path) as backend:
        await backend.sign()
        errand = backend.errand()
        singles, batches = 100, 10
        begun_s = time.monotonic()
        for _ in range(singles):
            await backend.call([errand])
        single_s = (time.monotonic() - begun_s) / singles
        begun_s = time.monotonic()
        for _ in range(batches):
            await backend.call([errand] * 100)
        batch_s = (time.monotonic() - begun_s) / (batches * 100)
    assert single_s / batch_s >= 5


def test_public_half_is_the_certificate_s(own_mesh: Mesh) -> None:
    """The tests' own certificates are for the key in OpenBao, whose value nobody here has."""
    set_up_key(own_mesh, "ca")
    pem = own_mesh.bao.read(f"{own_mesh.transit}/keys/ca")["keys"]["1"]["public_key"]
    key = load_pem_public_key(pem.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert (
        x509.load_pem_x509_certificate(
            (own_mesh.folder / "ca-ca" / "ca-cert.pem").read_bytes()
        ).public_key()
        == key
    )
