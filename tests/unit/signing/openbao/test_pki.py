"""Tests of OpenBao's PKI as a remote CA, over one in memory: what is asked, judged and found."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from meshsigner.csr import parse_csr
from meshsigner.errors import (
    BackendRefused,
    BackendUnavailable,
    ConfigurationError,
    NotReady,
    Overloaded,
    WrongCertificate,
)
from meshsigner.leeway import settle_validity
from meshsigner.model import Chain, Errand, Order
from meshsigner.policy import authorize
from meshsigner.signing.openbao import mount_issuer
from meshsigner.signing.openbao.pki import PkiSigner
from meshsigner.signing.openbao.settings import PkiSettings
from meshsigner.verify import check_issued
from tests.fakes.authority import NOW, Ca, Shape, make_ca, make_key
from tests.fakes.openbao import FakeOpenBao, FakePki
from tests.fakes.pipeline import make_caller, make_csr, make_policy

ROOT = make_ca("root")
SIGN = "pki/sign/workloads"


def make_issuer(name: str = "issuer", root: Ca = ROOT) -> Ca:
    """Return an intermediate."""
    return make_ca(name, issuer=root, shape=Shape(path_length=0))


def settings_of(**changes: Any) -> PkiSettings:
    """Return settings over the fake mount."""
    values = {
        "type": "openbao_pki",
        "address": "https://openbao:8200",
        "role": "workloads",
        "auth": {"type": "token", "token_file": "/nowhere"},
        **changes,
    }
    return PkiSettings.model_validate(values)


class Bench:
    """A signer over a fake OpenBao."""

    def __init__(self, **changes: Any) -> None:
        self.bao = FakeOpenBao()
        self.pki = FakePki(issuer=make_issuer(), above=(ROOT,))
        self.pki.mount(self.bao)
        self.shortened = 0
        self.known: tuple[x509.Certificate, ...] = ()
        self.changes = changes

    def _count(self) -> None:
        self.shortened += 1

    async def start(self) -> PkiSigner:
        """Start it."""
        self.signer = PkiSigner(
            name="corporate",
            client=self.bao,
            settings=settings_of(**self.changes),
            clock=lambda: NOW,
            shortened=self._count,
            known=self.known,
        )
        await self.signer.start()
        return self.signer

    def errand(self, lifetime: timedelta | None = None) -> Errand:
        """Return an errand."""
        issuer, caller = self.signer.issuer(NOW), make_caller()
        csr = make_csr(make_key("p256", 5), caller.identity.uri)
        request = parse_csr(csr)
        terms = authorize(
            caller=caller,
            request=request,
            asked_lifetime=lifetime,
            policy=make_policy(),
            now=NOW,
            issuer_not_after=issuer.not_after,
        )
        order = Order(
            caller=caller,
            request=request,
            terms=terms,
            cert_signer="",
            issuer=issuer,
            peer="test",
            csr_pem=csr,
        )
        return Errand(order=order, token="0" * 32)

    async def sign(self, lifetime: timedelta | None = None) -> Chain:
        """Have an order signed and checked."""
        errand = self.errand(lifetime)
        (found,) = await self.signer.sign([errand], _deadline_s())
        if not isinstance(found, Chain):
            raise found
        leeway = self.signer.capabilities.leeway
        return check_issued(found, settle_validity(found, errand.order, leeway, NOW))


def _deadline_s() -> float:
    return asyncio.get_running_loop().time() + 5.0


async def test_order_is_asked_for_by_its_terms() -> None:
    """Identity and end are of the terms; the root of the chain is left out, the issuer kept."""
    bench = Bench()
    signer = await bench.start()
    first, second = await bench.sign(), await bench.sign()
    await signer.aclose()
    _, _, body = next(call for call in bench.bao.calls if call[1] == SIGN)
    assert body["uri_sans"] == "spiffe://cluster.local/ns/foo/sa/bar"
    assert body["not_after"] == "2026-11-25T12:00:00Z"
    assert first.issuer is second.issuer
    assert first.issuer.intermediates == (bench.pki.issuer.certificate,)
    assert first.issuer.trust_bundle.certificates == (ROOT.certificate,)
    assert (bench.bao.started, bench.bao.closed) == (True, True)


async def test_shortened_ttl_is_refused_or_counted() -> None:
    """With `ttl` a shorter end is refused, unless `shorten` accepts and counts it."""
    strict = Bench(validity="ttl")
    strict.pki.longest = timedelta(hours=1)
    signer = await strict.start()
    with pytest.raises(BackendRefused, match="shorten: true"):
        await strict.sign(timedelta(hours=3))
    await signer.aclose()
    lax = Bench(validity="ttl", shorten=True)
    lax.pki.longest = timedelta(hours=1)
    signer = await lax.start()
    await lax.sign(timedelta(hours=3))
    await lax.sign(timedelta(minutes=30))
    await signer.aclose()
    assert (strict.shortened, lax.shortened) == (0, 1)


async def test_chain_under_another_root_is_a_wrong_certificate() -> None:
    """Roots are pinned by the first look: what an answer brings along is never trusted."""
    bench = Bench()
    signer = await bench.start()
    stranger = make_ca("stranger")
    bench.pki.issuer, bench.pki.above = make_issuer("other", stranger), (stranger,)
    with pytest.raises(WrongCertificate, match="of the bundle"):
        await bench.sign()
    assert signer.issuer(NOW).trust_bundle.certificates == (ROOT.certificate,)
    await signer.aclose()


async def test_next_issuer_is_followed() -> None:
    """Another issuer under the same root is taken with its first certificate."""
    bench = Bench()
    signer = await bench.start()
    before = await bench.sign()
    bench.pki.issuer = make_issuer("next")
    after = await bench.sign()
    await signer.aclose()
    assert after.issuer.generation == before.issuer.generation + 1
    assert after.issuer is signer.issuer(NOW)


async def test_root_that_no_worker_announced_is_refused_at_the_start() -> None:
    """A worker that is started again takes no issuer under a root of its own."""
    bench = Bench()
    bench.known = (make_ca("announced").certificate,)
    signer = await bench.start()
    with pytest.raises(NotReady, match="never announced"):
        signer.issuer(NOW)
    await signer.aclose()


async def test_chain_without_root_needs_the_file(tmp_path: Path) -> None:
    """Where the mount's chain ends below the root, `roots_file` says what is trusted."""
    bench = Bench()
    bench.pki.above = ()
    signer = await bench.start()
    with pytest.raises(NotReady, match="roots_file"):
        signer.issuer(NOW)
    await signer.aclose()
    path = tmp_path / "roots.pem"
    path.write_bytes(ROOT.pem)
    named = Bench(roots_file=str(path))
    named.pki.above = ()
    signer = await named.start()
    await named.sign()
    await signer.aclose()
    path.write_text("nonsense")
    with pytest.raises(ConfigurationError):
        await Bench(roots_file=str(path)).start()


async def test_trouble_is_looked_at_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed call health says so, and a look a moment later finds that it is over."""
    monkeypatch.setattr(mount_issuer, "LOOK_AGAIN_S", 0.01)
    bench = Bench()
    signer = await bench.start()
    bench.bao.errors["*"] = BackendUnavailable("sealed")
    with pytest.raises(BackendUnavailable):
        await bench.sign()
    assert not signer.health(NOW).ready
    assert "sealed" in signer.health(NOW).detail
    await asyncio.sleep(0.05)
    assert not signer.health(NOW).ready
    bench.bao.errors.clear()
    async with asyncio.timeout(5.0):
        while not signer.health(NOW).ready:
            await asyncio.sleep(0.005)
    await signer.aclose()


async def test_overload_is_no_trouble() -> None:
    """A quota reaches the dispatcher as overload, and leaves health alone."""
    bench = Bench()
    signer = await bench.start()
    bench.bao.errors[SIGN] = Overloaded("quota")
    with pytest.raises(Overloaded):
        await bench.sign()
    assert signer.health(NOW).ready
    await signer.aclose()


async def test_missing_right_is_told() -> None:
    """A token that may not sign there makes the backend not ready, in words."""
    bench = Bench()
    bench.pki.rights = ("deny",)
    signer = await bench.start()
    assert "our token may deny there" in signer.health(NOW).detail
    assert not signer.health(NOW).ready
    await signer.aclose()


async def test_common_name_is_refused() -> None:
    """An order with a subject is refused before anything is asked."""
    bench = Bench()
    signer = await bench.start()
    errand = bench.errand()
    terms = replace(errand.order.terms, common_name="x")
    named = replace(errand, order=replace(errand.order, terms=terms))
    (found,) = await signer.sign([named], _deadline_s())
    await signer.aclose()
    assert isinstance(found, BackendRefused)
    assert SIGN not in [path for _, path, _ in bench.bao.calls]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("data", [{}, {"certificate": "x"}, {"ca_chain": []}])
async def test_answer_without_a_certificate_may_have_issued(
    data: dict[str, Any], *, stored: bool
) -> None:
    """A good answer that cannot be read may stand for a certificate, where these are kept."""
    bench = Bench(stored=stored)
    signer = await bench.start()
    bench.bao.handlers[SIGN] = lambda _: data
    (found,) = await signer.sign([bench.errand()], _deadline_s())
    await signer.aclose()
    assert isinstance(found, BackendUnavailable)
    assert found.maybe_issued is stored


async def test_lost_certificate_is_found_by_its_key() -> None:
    """What was issued and never arrived is found in the mount's list; nothing else is."""
    bench = Bench(stored=True)
    signer = await bench.start()
    errand = bench.errand()
    assert await signer.find(errand, _deadline_s()) is None
    await signer.sign([errand], _deadline_s())
    found = await signer.find(errand, _deadline_s())
    assert found is not None
    leeway = signer.capabilities.leeway
    check_issued(found, settle_validity(found, errand.order, leeway, NOW))
    later = replace(errand.order.terms, not_after=errand.order.terms.not_after - timedelta(days=1))
    shorter = replace(errand, order=replace(errand.order, terms=later))
    assert await signer.find(shorter, _deadline_s()) is None
    await signer.aclose()
    assert signer.capabilities.finds
    assert signer.capabilities.intents


async def test_announced_roots_stand_behind_its_own() -> None:
    """The mesh's other roots are in the bundle, the own one first."""
    bench, other = Bench(), make_ca("other root")
    signer = await bench.start()
    signer.announce([other.certificate, ROOT.certificate])
    chain = await bench.sign()
    await signer.aclose()
    assert chain.issuer.trust_bundle.certificates == (ROOT.certificate, other.certificate)


async def test_expired_issuer_does_not_sign() -> None:
    """After the end of the path there is no issuer."""
    bench = Bench()
    signer = await bench.start()
    after = signer.issuer(NOW).not_after + timedelta(seconds=1)
    with pytest.raises(NotReady, match="expired"):
        signer.issuer(after)
    await signer.aclose()
