"""Tests of the intermediate mode with a key elsewhere: one key, one certificate after the other."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from meshsigner.csr import parse_csr
from meshsigner.errors import BackendUnavailable, ConfigurationError, NotReady
from meshsigner.model import BackendLimits, Chain, Errand, Order
from meshsigner.policy import authorize
from meshsigner.signing.by_hand.request import build_request
from meshsigner.signing.intermediate.keeper import IntermediateKeeper, Plan
from meshsigner.signing.intermediate.keyed import KeyedIntermediateSigner
from meshsigner.signing.intermediate.keys import Asked
from meshsigner.signing.intermediate.settings import OpenBaoIntermediateSettings
from meshsigner.signing.intermediate.store import CertificateStore
from meshsigner.signing.local_key import local_key
from meshsigner.spiffe import TrustDomain
from meshsigner.trust import CaCertificates
from meshsigner.verify import check_issued
from tests.fakes.authority import NOW, CaKey, make_ca, make_key
from tests.fakes.ca_above import FakeCaAbove
from tests.fakes.key_store import FakeKeyStore
from tests.fakes.pipeline import make_caller, make_csr, make_policy

ROOT = make_ca("root")
LIFE = timedelta(hours=10)
PATIENCE_S = 5.0


class World:
    """A clock, a CA above, a store of keys and a directory that processes share.

    Attributes:
        now: The time.
        above: The CA above.
        keys: The store, with one key.
        renewals: Attempts so far, true for each that succeeded.
    """

    def __init__(self, directory: Path) -> None:
        self.now = NOW
        self.above = FakeCaAbove(root=ROOT, clock=lambda: self.now)
        self.key: CaKey = make_key("p256", 71)
        self.keys = FakeKeyStore([self.key])
        self.renewals: list[bool] = []
        self._directory = directory

    def _count(self, *, taken: bool) -> None:
        self.renewals.append(taken)

    async def _prepare(self, trust_domain: TrustDomain) -> Asked[CaCertificates]:
        if self.keys.away:
            raise BackendUnavailable("the store is away")
        public_key = self.key.public_key()
        return Asked(
            public_key=public_key,
            csr_pem=build_request(public_key, trust_domain, local_key(self.key).sign),
            certified=lambda issuer: CaCertificates(issuer=issuer),
        )

    def process(self) -> KeyedIntermediateSigner:
        """Return the backend of one worker."""
        plan = Plan(
            lifetime=LIFE,
            renew_at=0.5,
            prepare=self._prepare,
            roots=(),
            trust_domain=TrustDomain.parse("cluster.local"),
        )

        def make_keeper(
            taken: Callable[[CaCertificates], None],
        ) -> IntermediateKeeper[CaCertificates]:
            return IntermediateKeeper(
                name="short",
                source=self.above,
                store=CertificateStore(self._directory),
                plan=plan,
                clock=lambda: self.now,
                taken=taken,
                counted=self._count,
                first_pause_s=0.0,
            )

        return KeyedIntermediateSigner(
            name="short",
            source=self.above,
            make_keeper=make_keeper,
            keys=self.keys,
            limits=BackendLimits(batch=100),
            clock=lambda: self.now,
        )

    def errand(self, signer: KeyedIntermediateSigner) -> Errand:
        """Return an errand under a signer's issuer."""
        issuer, caller = signer.issuer(self.now), make_caller()
        request = parse_csr(make_csr(make_key("p256", 5), caller.identity.uri))
        terms = authorize(
            caller=caller,
            request=request,
            asked_lifetime=None,
            policy=make_policy(),
            now=self.now,
            issuer_not_after=issuer.not_after,
        )
        order = Order(
            caller=caller, request=request, terms=terms, cert_signer="", issuer=issuer, peer="test"
        )
        return Errand(order=order, token="0" * 32)


async def sign(signer: KeyedIntermediateSigner, *errands: Errand) -> list[Chain]:
    """Have errands signed by one call, each checked."""
    deadline_s = asyncio.get_running_loop().time() + PATIENCE_S
    found = list(await signer.sign(errands, deadline_s))
    for errand, chain in zip(errands, found, strict=True):
        assert isinstance(chain, Chain), chain
        check_issued(chain, errand.order)
    return [chain for chain in found if isinstance(chain, Chain)]


async def test_renewal_certifies_the_same_key(tmp_path: Path) -> None:
    """A batch across a renewal is one call: each order has the certificate it was made for."""
    world = World(tmp_path / "ca")
    signer = world.process()
    await signer.start()
    pending = world.errand(signer)
    world.now = NOW + LIFE * 0.6
    await signer.look()
    late, fresh = await sign(signer, pending, world.errand(signer))
    await signer.aclose()
    assert late.issuer is pending.order.issuer
    assert fresh.issuer.not_after > late.issuer.not_after
    assert fresh.issuer.certificate.public_key() == late.issuer.certificate.public_key()
    assert world.keys.calls == [2]
    assert world.renewals == [True, True]
    assert (world.keys.closed, world.above.closed) == (True, True)


async def test_certificates_are_kept_without_a_key(tmp_path: Path) -> None:
    """A second worker and a later one ask nobody, and no file holds a key."""
    world = World(tmp_path / "ca")
    first, second = world.process(), world.process()
    await first.start()
    await second.start()
    world.above.error = BackendUnavailable("away")
    later = world.process()
    await later.start()
    chains = [await sign(one, world.errand(one)) for one in (first, second, later)]
    for one in (first, second, later):
        await one.aclose()
    assert len({chain[0].issuer.certificate for chain in chains}) == 1
    assert len(world.above.asked) == 1
    texts = [file.read_bytes() for file in (tmp_path / "ca").rglob("*") if file.is_file()]
    assert texts
    assert not any(b"PRIVATE KEY" in text for text in texts)


async def test_store_that_is_away_at_the_start(tmp_path: Path) -> None:
    """An HSM that is away is told, asks nobody for a certificate, and signs once it is back."""
    world = World(tmp_path / "ca")
    world.keys.away = True
    signer = world.process()
    await signer.start()
    with pytest.raises(NotReady, match="store is away"):
        signer.issuer(NOW)
    assert not signer.health(NOW).ready
    assert world.above.asked == []
    world.keys.away = False
    await signer.look()
    await sign(signer, world.errand(signer))
    assert signer.health(NOW).ready
    await signer.aclose()


async def test_ca_that_is_away_leaves_the_old_one_until_its_end(tmp_path: Path) -> None:
    """A failed renewal is told as danger, leaves are signed until the end and never after it."""
    world = World(tmp_path / "ca")
    signer = world.process()
    await signer.start()
    world.above.error = BackendUnavailable("away")
    world.now = NOW + LIFE * 0.8
    await signer.look()
    health = signer.health(world.now)
    assert health.ready
    assert "its renewal is in danger: away" in health.detail
    errand = world.errand(signer)
    assert errand.order.terms.not_after == signer.issuer(world.now).not_after
    await sign(signer, errand)
    world.now = NOW + LIFE + timedelta(seconds=1)
    assert not signer.health(world.now).ready
    with pytest.raises(NotReady, match="expired"):
        signer.issuer(world.now)
    await signer.aclose()


async def test_other_key_than_the_kept_certificates_is_refused(tmp_path: Path) -> None:
    """A directory of another key stops the start with words."""
    world = World(tmp_path / "ca")
    signer = world.process()
    await signer.start()
    await signer.aclose()
    world.keys.keys = [make_key("p256", 72)]
    with pytest.raises(ConfigurationError, match="is not the CA's"):
        await world.process().start()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"hsm": None}, "hsm with `keep: pkcs11`"),
        ({"directory": None}, "directory with `keep: file` or `keep: pkcs11`"),
        ({"keep": "file"}, "hsm with `keep: pkcs11`, and only then"),
    ],
)
def test_hsm_belongs_to_its_keeping(change: dict[str, Any], text: str) -> None:
    """Section, directory and `keep: pkcs11` go together; anything else is told."""
    hsm = {"module": "/m.so", "token_label": "mesh", "key_label": "ca", "pin_file": "/pin"}
    values: dict[str, Any] = {
        "type": "openbao_intermediate",
        "address": "https://bao:8200",
        "ca_file": "/ca.pem",
        "auth": {"type": "token", "token_file": "/token"},
        "keep": "pkcs11",
        "directory": "/ca",
        "hsm": hsm,
    }
    assert OpenBaoIntermediateSettings.model_validate(values).hsm is not None
    with pytest.raises(ValidationError, match=text):
        OpenBaoIntermediateSettings.model_validate({**values, **change})
