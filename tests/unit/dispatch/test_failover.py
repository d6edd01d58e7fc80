"""Several backends: who signs, who signs instead, and who is left alone."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from meshsigner.errors import (
    BackendRefused,
    BackendUnavailable,
    Forbidden,
    NotReady,
    UnknownSigner,
)
from meshsigner.model import BackendLimits, Chain
from meshsigner.policy import SignerRule
from tests.fakes.pipeline import NOW, FakeSigner, make_ask
from tests.fakes.remote_ca import FakeRemote, Quota
from tests.fakes.signing_world import CSR, signing_world, until

DOWN = BackendUnavailable("connection refused")


async def test_the_first_backend_signs_while_it_can() -> None:
    """A substitute is not asked while the first one works."""
    first, second = FakeRemote("first"), FakeRemote("second")
    async with signing_world(first, second) as world:
        assert (await world.issue()).backend == "first"
        assert second.calls == []


async def test_a_failed_order_goes_to_the_next_backend_with_its_issuer() -> None:
    """The substitute signs under its own issuer, not beyond its end, and the row says so."""
    first = FakeRemote("first")
    first.faults = [DOWN] * 10
    second = FakeSigner(name="second", not_after=NOW + timedelta(hours=3))
    async with signing_world(first, second) as world:
        chain = await world.issue()
        assert chain.backend == "second"
        assert chain.issuer is second.current
        (row,) = world.inventory.rows
        assert row.backend == "second"
        assert row.not_after == NOW + timedelta(hours=3)
        assert world.calls[0].line["backend"] == "second"
        assert world.calls[0].line["failed_backends"] == "first: connection refused"


async def test_a_local_backend_has_a_remote_substitute() -> None:
    """Failover leads from a local backend to a remote one as well."""
    first, second = FakeSigner(name="first"), FakeRemote("second")
    first.errors["bar"] = BackendUnavailable("the key is away")
    async with signing_world(first, second) as world:
        assert (await world.issue()).backend == "second"
        assert (await world.issue("foo/other/p")).backend == "first"


async def test_what_may_have_been_issued_goes_to_no_other_backend() -> None:
    """After a lost answer another backend is never asked blindly."""
    first, second = FakeRemote("first"), FakeRemote("second")
    first.lost = 1
    async with signing_world(first, second) as world:
        with pytest.raises(BackendUnavailable):
            await world.issue()
        assert second.calls == []


async def test_a_refusal_goes_to_no_other_backend() -> None:
    """What one backend's rules forbid is not shopped around."""
    first, second = FakeRemote("first"), FakeRemote("second")
    first.faults = [BackendRefused("no")]
    async with signing_world(first, second) as world:
        with pytest.raises(BackendRefused):
            await world.issue()
        assert second.calls == []


async def test_a_backend_that_keeps_failing_is_left_alone_and_tried_again() -> None:
    """After failures in a row it gets no calls; after a moment one tries it, and it signs again."""
    first, second = FakeRemote("first"), FakeRemote("second")
    async with signing_world(first, second) as world:
        first.faults = [DOWN] * 100
        await world.issue_all([f"foo/bar/{i}" for i in range(20)])
        failed = len(first.calls)
        assert 5 <= failed <= 13
        await world.issue_all([f"foo/bar/{i}" for i in range(20)])
        assert len(first.calls) == failed
        assert {row.backend for row in world.inventory.rows} == {"second"}
        first.faults = []
        await asyncio.sleep(2.1)
        answers = await world.issue_all([f"foo/bar/{i}" for i in range(20)])
        assert sum(first.calls) == failed + 1
        assert {a.backend for a in answers if isinstance(a, Chain)} == {"first", "second"}
        assert (await world.issue()).backend == "first"


async def test_alone_a_failing_backend_is_told_quickly() -> None:
    """Without a substitute callers get UNAVAILABLE at once while the circuit is open."""
    remote = FakeRemote()
    remote.faults = [DOWN] * 100
    async with signing_world(remote) as world:
        with pytest.raises(BackendUnavailable):
            await world.issue()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        answers = await world.issue_all([f"foo/bar/{i}" for i in range(50)])
        assert {type(answer) for answer in answers} == {NotReady}
        assert loop.time() - began_s < 0.5
        assert "connection refused" in str(answers[0])
        assert not world.issuance.health()[0].ready


async def test_a_backend_that_says_it_is_not_ready_is_passed_over() -> None:
    """Health is believed while somebody else can sign, and is no obstacle where nobody can."""
    first, second = FakeRemote("first"), FakeRemote("second")
    first.ready = False
    async with signing_world(first, second) as world:
        assert (await world.issue()).backend == "second"
        second.known = False
        assert (await world.issue("foo/b/2")).backend == "first"


async def test_orders_beyond_what_a_slow_backend_can_do_in_time_go_to_the_next() -> None:
    """A CA of one certificate a second takes what it can; nobody waits longer for it."""
    slow = FakeRemote("slow", limits=BackendLimits(batch=1, in_flight=1, rate_per_s=1))
    slow.quota = Quota(per_s=1)
    fast = FakeSigner(name="fast")
    async with signing_world(slow, fast) as world:
        await world.issue("foo/a/1")
        await world.issue("foo/a/2")
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        answers = await world.issue_all([f"foo/bar/{i}" for i in range(200)], lives_s=4)
        assert all(isinstance(answer, Chain) for answer in answers), answers
        by = [answer.backend for answer in answers if isinstance(answer, Chain)]
        assert by.count("fast") >= 190
        assert loop.time() - began_s < 5


async def test_readiness_follows_the_default_route() -> None:
    """While one backend of the default route can sign, the server is ready and names who cannot."""
    first, second = FakeRemote("first"), FakeRemote("second")
    async with signing_world(first, second) as world:
        first.ready = False
        signing, one, two, *_ = world.issuance.health()
        assert (signing.name, signing.ready, signing.detail) == ("signing", True, "by second")
        assert (one.ready, two.ready) == (True, True)
        assert one.detail.startswith("CANNOT")
        second.ready = False
        assert not world.issuance.health()[0].ready
        assert world.sample("meshsigner_backend_usable", backend="first") == 0


async def test_the_policy_chooses_by_signer_cluster_namespace_and_account() -> None:
    """The first rule whose conditions are all met names who signs."""
    backends = [FakeSigner(name=name) for name in ("gold", "pay", "db", "rest")]
    async with signing_world(*backends) as world:
        world.policy = replace(
            world.policy,
            signers=(
                SignerRule(cert_signer="gold", namespace="foo", backends=("gold",)),
                SignerRule(namespace="pay", service_account="db", backends=("db",)),
                SignerRule(namespace="pay", cluster="Kubernetes", backends=("pay",)),
                SignerRule(cluster="other", backends=("gold",)),
                SignerRule(backends=("rest",)),
            ),
        )
        signed = {t: (await world.issue(t)).backend for t in ("pay/db/1", "pay/x/2", "foo/x/3")}
        assert signed == {"pay/db/1": "db", "pay/x/2": "pay", "foo/x/3": "rest"}
        ask = make_ask("foo/x/4", CSR)
        named = replace(ask, credentials=replace(ask.credentials, cert_signer="gold"))
        assert (await world.issuance.issue(named)).backend == "gold"


@pytest.mark.parametrize("with_rules", [True, False])
async def test_an_unknown_signer_is_refused_by_name(with_rules: bool) -> None:  # noqa: FBT001
    """A name that no rule has is refused with that name, whatever other rules there are."""
    async with signing_world(FakeSigner()) as world:
        if with_rules:
            rules = (SignerRule(cert_signer="gold", backends=("fake",)),)
            world.policy = replace(world.policy, signers=rules)
        ask = make_ask("foo/x/4", CSR)
        named = replace(ask, credentials=replace(ask.credentials, cert_signer="silver"))
        with pytest.raises(UnknownSigner, match="silver") as caught:
            await world.issuance.issue(named)
        assert "silver" in caught.value.client_text


async def test_a_single_ca_takes_no_notice_of_signers() -> None:
    """With the one CA of `issuer` a named signer has no effect, as with istiod's own."""
    async with signing_world(FakeSigner()) as world:
        world.policy = replace(world.policy, names_signers=False)
        ask = make_ask("foo/x/4", CSR)
        named = replace(ask, credentials=replace(ask.credentials, cert_signer="silver"))
        assert isinstance(await world.issuance.issue(named), Chain)


async def test_whom_no_rule_is_for_is_forbidden() -> None:
    """Rules without one for this caller give it nothing."""
    async with signing_world(FakeSigner()) as world:
        rules = (SignerRule(namespace="pay", backends=("fake",)),)
        world.policy = replace(world.policy, signers=rules)
        with pytest.raises(Forbidden):
            await world.issue("foo/bar/1")


async def test_a_known_signer_for_others_is_forbidden() -> None:
    """A signer that exists for another namespace only is no unknown one."""
    async with signing_world(FakeSigner()) as world:
        rules = (SignerRule(cert_signer="gold", namespace="pay", backends=("fake",)),)
        world.policy = replace(world.policy, signers=rules)
        ask = make_ask("foo/x/4", CSR)
        named = replace(ask, credentials=replace(ask.credentials, cert_signer="gold"))
        with pytest.raises(Forbidden):
            await world.issuance.issue(named)


async def test_an_order_under_a_replaced_issuer_is_signed_under_the_new_one() -> None:
    """A CA that changes while an order waits for it costs its caller nothing."""
    remote = FakeRemote(limits=BackendLimits(batch=1, in_flight=1))
    remote.gate.clear()
    async with signing_world(remote) as world:
        call = world.start()
        await until(lambda: bool(remote.calls))
        before, remote.signer = remote.signer, FakeSigner(name="remote")
        remote.faults = [NotReady("the order's issuer has been replaced")]
        remote.gate.set()
        chain = await call
        assert chain.issuer is remote.signer.current is not before.current
