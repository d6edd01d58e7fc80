"""Tests of keyed backends: one call a batch, each order its own, no issuer without its key."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from meshsigner.csr import parse_csr
from meshsigner.errors import (
    BackendRefused,
    BackendUnavailable,
    ConfigurationError,
    MeshsignerError,
    NotReady,
)
from meshsigner.model import BackendLimits, Chain, Errand, Issuer, Order
from meshsigner.policy import authorize
from meshsigner.signing.certificate_directory import CertificateDirectory
from meshsigner.signing.keyed import KeyedSigner
from meshsigner.verify import check_issued
from tests.fakes.authority import NOW, Ca, cacerts, make_ca, make_key, write_files
from tests.fakes.key_store import FakeKeyStore
from tests.fakes.pipeline import make_caller, make_csr, make_policy

ROOT = make_ca("root")
DEADLINE_S = 5.0


def make_issuer_ca(kind: str = "p256", number: int = 0) -> Ca:
    """Return an intermediate with a key of a kind."""
    return make_ca(f"issuer {number}", issuer=ROOT, key=make_key(kind, number))


def write_certificates(directory: Path, ca: Ca) -> Path:
    """Write a CA's certificates, without its key."""
    files = cacerts(ca, chain=[ca, ROOT], roots=[ROOT])
    del files["ca-key.pem"]
    return write_files(directory, files)


def make_signer(directory: Path, store: FakeKeyStore) -> KeyedSigner:
    """Return a signer that looks often."""
    return KeyedSigner(
        name="hsm",
        source=CertificateDirectory(directory, clock=lambda: NOW),
        keys=store,
        limits=BackendLimits(batch=100),
        clock=lambda: NOW,
        look_every_s=0.01,
        reach_every_s=0.01,
    )


def make_errand(issuer: Issuer, number: int = 0) -> Errand:
    """Return an errand of one of many callers."""
    caller, policy = make_caller(service_account=f"sa-{number}"), make_policy()
    request = parse_csr(make_csr(make_key("p256", 99), caller.identity.uri))
    terms = authorize(
        caller=caller,
        request=request,
        asked_lifetime=None,
        policy=policy,
        now=NOW,
        issuer_not_after=issuer.not_after,
    )
    order = Order(
        caller=caller, request=request, terms=terms, cert_signer="", issuer=issuer, peer="test"
    )
    return Errand(order=order, token=f"{number:032x}")


def deadline_s(left_s: float = DEADLINE_S) -> float:
    """Return a moment of the loop's clock."""
    return asyncio.get_running_loop().time() + left_s


async def sign(signer: KeyedSigner, count: int = 1) -> list[Chain | MeshsignerError]:
    """Have orders of several callers signed at once."""
    errands = [make_errand(signer.issuer(NOW), number) for number in range(count)]
    found = list(await signer.sign(errands, deadline_s()))
    for errand, chain in zip(errands, found, strict=True):
        if isinstance(chain, Chain):
            check_issued(chain, errand.order)
    return found


async def until_ready(signer: KeyedSigner, *, ready: bool = True) -> None:
    """Wait until health says so."""
    async with asyncio.timeout(DEADLINE_S):
        while signer.health(NOW).ready is not ready:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048"])
async def test_batch_is_one_call_and_each_order_gets_its_own(tmp_path: Path, kind: str) -> None:
    """Orders of one call are signed by one call of the store, each as ordered, with any key."""
    ca = make_issuer_ca(kind)
    store = FakeKeyStore([ca.key])
    signer = make_signer(write_certificates(tmp_path / "ca", ca), store)
    await signer.start()
    found = await sign(signer, 20)
    await signer.aclose()
    assert all(isinstance(chain, Chain) for chain in found)
    assert len({chain.serial for chain in found if isinstance(chain, Chain)}) == len(found)
    assert store.calls == [20]
    assert (store.started, store.closed) == (True, True)


async def test_one_message_s_error_is_its_own(tmp_path: Path) -> None:
    """What the store answers for one message reaches that order alone."""
    ca = make_issuer_ca()
    store = FakeKeyStore([ca.key], faults={1: BackendRefused("no")})
    signer = make_signer(write_certificates(tmp_path / "ca", ca), store)
    await signer.start()
    kinds = [type(found) for found in await sign(signer, 3)]
    await signer.aclose()
    assert kinds == [Chain, BackendRefused, Chain]


async def test_missing_answer_fails_the_call(tmp_path: Path) -> None:
    """Fewer signatures than messages are no answer to any of them."""
    ca = make_issuer_ca()
    signer = make_signer(write_certificates(tmp_path / "ca", ca), FakeKeyStore([ca.key], drops=1))
    await signer.start()
    with pytest.raises(BackendUnavailable, match="2 signatures for 3 messages") as raised:
        await sign(signer, 3)
    await signer.aclose()
    assert not raised.value.maybe_issued


async def test_call_ends_with_the_request_s_time(tmp_path: Path) -> None:
    """A store that hangs is left at the deadline; nothing was issued."""
    ca = make_issuer_ca()
    store = FakeKeyStore([ca.key])
    signer = make_signer(write_certificates(tmp_path / "ca", ca), store)
    await signer.start()
    store.gate.clear()
    with pytest.raises(BackendUnavailable, match="within the request's time") as raised:
        await signer.sign([make_errand(signer.issuer(NOW))], deadline_s(0.02))
    await signer.aclose()
    assert not raised.value.maybe_issued


async def test_store_that_is_away_is_reached_later(tmp_path: Path) -> None:
    """A store that is away at the start is no error; once it is back, certificates are signed."""
    ca = make_issuer_ca()
    store = FakeKeyStore([ca.key], away=True)
    signer = make_signer(write_certificates(tmp_path / "ca", ca), store)
    await signer.start()
    assert not signer.health(NOW).ready
    with pytest.raises(NotReady, match="away"):
        signer.issuer(NOW)
    store.away = False
    await until_ready(signer)
    assert isinstance((await sign(signer))[0], Chain)
    await signer.aclose()


async def test_not_started_signer_is_not_ready(tmp_path: Path) -> None:
    """Before its start there is no issuer, and orders get that as their own error."""
    ca = make_issuer_ca()
    signer = make_signer(write_certificates(tmp_path / "ca", ca), FakeKeyStore([ca.key]))
    other = make_signer(tmp_path / "ca", FakeKeyStore([ca.key]))
    await other.start()
    errand = make_errand(other.issuer(NOW))
    await other.aclose()
    (found,) = await signer.sign([errand], deadline_s())
    assert isinstance(found, NotReady)
    assert await signer.find(errand, deadline_s()) is None


async def test_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    """A CA certificate whose key the store does not have is a configuration error."""
    store = FakeKeyStore([make_key("p256", 7)])
    signer = make_signer(write_certificates(tmp_path / "ca", make_issuer_ca()), store)
    with pytest.raises(ConfigurationError, match="is not the CA's"):
        await signer.start()
    await signer.aclose()


async def test_directory_that_is_no_ca_is_refused(tmp_path: Path) -> None:
    """Certificates that do not hang together are a configuration error, all problems at once."""
    directory = write_certificates(tmp_path / "ca", make_issuer_ca())
    (directory / "root-cert.pem").write_text("x")
    (directory / "cert-chain.pem").unlink()
    with pytest.raises(ConfigurationError) as raised:
        await make_signer(directory, FakeKeyStore([])).start()
    assert len(raised.value.problems) == 2


async def test_other_certificate_is_taken_with_its_key(tmp_path: Path) -> None:
    """A renewed CA is followed once its key is found; orders of the old one are told so."""
    old, new = make_issuer_ca(), make_issuer_ca(number=1)
    store = FakeKeyStore([old.key, new.key])
    directory = write_certificates(tmp_path / "ca", old)
    signer = make_signer(directory, store)
    await signer.start()
    before = make_errand(signer.issuer(NOW))
    write_certificates(directory, new)
    async with asyncio.timeout(DEADLINE_S):
        while signer.issuer(NOW).certificate != new.certificate:
            await asyncio.sleep(0.005)
    (found,) = await signer.sign([before], deadline_s())
    assert isinstance(found, NotReady)
    assert isinstance((await sign(signer))[0], Chain)
    await signer.aclose()


async def test_key_that_is_certified_anew_finishes_its_orders(tmp_path: Path) -> None:
    """Orders made for the certificate before are signed with it, for the key is the same."""
    before, after = (
        make_issuer_ca(number=1),
        make_ca("issuer again", issuer=ROOT, key=make_key("p256", 1)),
    )
    store = FakeKeyStore([before.key])
    signer = make_signer(write_certificates(tmp_path / "ca", before), store)
    await signer.start()
    pending = make_errand(signer.issuer(NOW))
    write_certificates(tmp_path / "ca", after)
    async with asyncio.timeout(5.0):
        while signer.issuer(NOW) is pending.order.issuer:
            await asyncio.sleep(0.01)
    found = await signer.sign([pending, make_errand(signer.issuer(NOW), 1)], deadline_s())
    await signer.aclose()
    issuers = [chain.issuer.certificate for chain in found if isinstance(chain, Chain)]
    assert issuers == [before.certificate, after.certificate]
    assert store.calls == [2]


async def test_renewed_certificate_without_key_changes_nothing(tmp_path: Path) -> None:
    """A new CA certificate whose key is not there leaves the old issuer signing, and is told."""
    old, new = make_issuer_ca(), make_issuer_ca(number=1)
    directory = write_certificates(tmp_path / "ca", old)
    signer = make_signer(directory, FakeKeyStore([old.key]))
    await signer.start()
    write_certificates(directory, new)
    async with asyncio.timeout(DEADLINE_S):
        while "refused" not in signer.health(NOW).detail:
            await asyncio.sleep(0.005)
    assert signer.health(NOW).ready
    assert signer.issuer(NOW).certificate == old.certificate
    await signer.aclose()


async def test_stranger_s_root_is_not_taken(tmp_path: Path) -> None:
    """A CA under a root that was never announced does not take over a running server."""
    ca, stranger = make_issuer_ca(), make_ca("stranger")
    other = make_ca("other", issuer=stranger)
    directory = write_certificates(tmp_path / "ca", ca)
    signer = make_signer(directory, FakeKeyStore([ca.key, other.key]))
    await signer.start()
    files = cacerts(other, chain=[other, stranger], roots=[stranger])
    del files["ca-key.pem"]
    write_files(directory, files)
    await signer.look()
    assert "never announced" in signer.health(NOW).detail
    assert signer.issuer(NOW).certificate == ca.certificate
    await signer.aclose()


async def test_announced_roots_follow_its_own(tmp_path: Path) -> None:
    """Roots of other backends stand behind the own one, each once; the issuer stays the same."""
    ca, other = make_issuer_ca(), make_ca("other root")
    signer = make_signer(write_certificates(tmp_path / "ca", ca), FakeKeyStore([ca.key]))
    await signer.start()
    signer.announce([ROOT.certificate])
    alone = signer.issuer(NOW)
    signer.announce([other.certificate, ROOT.certificate, other.certificate])
    issuer = signer.issuer(NOW)
    await signer.aclose()
    assert alone.trust_bundle.certificates == (ROOT.certificate,)
    assert issuer.trust_bundle.certificates == (ROOT.certificate, other.certificate)
    parsed = x509.load_pem_x509_certificates(issuer.trust_bundle.pem.encode())
    assert tuple(parsed) == issuer.trust_bundle.certificates


async def test_expired_ca_does_not_sign(tmp_path: Path) -> None:
    """After the first end on its path there is no issuer."""
    ca = make_issuer_ca()
    signer = make_signer(write_certificates(tmp_path / "ca", ca), FakeKeyStore([ca.key]))
    await signer.start()
    after = signer.issuer(NOW).not_after + timedelta(seconds=1)
    with pytest.raises(NotReady, match="expired"):
        signer.issuer(after)
    assert not signer.health(after).ready
    await signer.aclose()
