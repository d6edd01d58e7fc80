"""Issuance: the whole way with real cryptography and fakes behind the ports."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshsigner.batch import GatherLimits
from meshsigner.errors import (
    BackendUnavailable,
    DeadlinePassed,
    Forbidden,
    ImpersonationRefused,
    InvalidCsr,
    MeshsignerError,
    NotReady,
    Overloaded,
    RecordFailed,
    SanNotAllowed,
    Unauthenticated,
    WrongCertificate,
)
from meshsigner.issuance import Issuance, IssuanceLimits
from meshsigner.model import Chain
from meshsigner.observe.metrics import Metrics
from meshsigner.orders import QueueLimits
from meshsigner.recorder import Recorder
from meshsigner.spiffe import TrustDomain
from tests.fakes.pipeline import (
    NOW,
    FakeAuthenticator,
    FakeSigner,
    MemoryInventory,
    make_ask,
    make_csr,
    make_policy,
)

_KEY = ec.generate_private_key(ec.SECP256R1())


class _World:
    """An issuance with everything around it, to be changed by tests."""

    def __init__(self, limits: IssuanceLimits | None = None) -> None:
        self.authenticator = FakeAuthenticator()
        self.signer = FakeSigner()
        self.inventory = MemoryInventory()
        self.policy = make_policy()
        self.metrics = Metrics()
        self.recorder = Recorder(self.inventory, self.metrics)
        self.issuance = Issuance(
            authenticator=self.authenticator,
            signers=[self.signer],
            recorder=self.recorder,
            policy=lambda: self.policy,
            metrics=self.metrics,
            clock=lambda: NOW,
            limits=limits or IssuanceLimits(queue=QueueLimits(wait_s=60)),
        )

    async def issue(self, token: str = "foo/bar/p", csr_pem: bytes | None = None) -> Chain:
        return await self.issuance.issue(make_ask(token, csr_pem or make_csr(_KEY)))

    def start(self, token: str = "foo/bar/p", csr_pem: bytes | None = None) -> asyncio.Task[Chain]:
        return asyncio.create_task(self.issue(token, csr_pem))

    def sample(self, name: str) -> float:
        return sum(
            sample.value
            for metric in self.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == name
        )


@asynccontextmanager
async def _world(limits: IssuanceLimits | None = None) -> AsyncIterator[_World]:
    world = _World(limits)
    await world.recorder.start()
    try:
        yield world
    finally:
        world.inventory.gate.set()
        await world.issuance.drain(1)
        await world.recorder.close()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def _leaf(chain: Chain) -> x509.Certificate:
    return x509.load_der_x509_certificate(chain.leaf_der)


def _uri(chain: Chain) -> str:
    san = _leaf(chain).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    (uri,) = san.value.get_values_for_type(x509.UniformResourceIdentifier)
    return uri


async def test_a_call_gets_its_recorded_certificate() -> None:
    """The chain is for the caller's identity and key, and its row is in the inventory."""
    async with _world() as world:
        ask = make_ask("foo/bar/p", make_csr(_KEY))
        chain = await world.issuance.issue(ask)
        assert _uri(chain) == "spiffe://cluster.local/ns/foo/sa/bar"
        assert _leaf(chain).public_key() == _KEY.public_key()
        (row,) = world.inventory.rows
        assert row.certificate_der == chain.leaf_der
        assert row.serial == f"{_leaf(chain).serial_number:x}"
        assert ask.line["serial"] == row.serial
        assert ask.line["identity"] == _uri(chain)
        assert ask.line["cluster"] == "Kubernetes"


async def test_statement_53_equal_calls_one_after_the_other_get_their_own_serial() -> None:
    """A repeated CSR is signed again, with a fresh serial."""
    async with _world() as world:
        csr_pem = make_csr(_KEY)
        one, two = await world.issue(csr_pem=csr_pem), await world.issue(csr_pem=csr_pem)
        assert one.serial != two.serial
        assert len(world.inventory.rows) == 2


async def test_equal_calls_in_flight_share_one_certificate() -> None:
    """Two equal calls at once are signed and recorded once, and both are answered."""
    async with _world() as world:
        csr_pem = make_csr(_KEY)
        one, two = await asyncio.gather(world.issue(csr_pem=csr_pem), world.issue(csr_pem=csr_pem))
        assert one is two
        assert len(world.inventory.rows) == 1


async def test_statement_18_a_bad_credential_is_told_before_a_bad_csr() -> None:
    """Nobody without a credential reaches the X.509 parser."""
    async with _world() as world:
        with pytest.raises(Unauthenticated):
            await world.issue("nonsense", b"nonsense")
        with pytest.raises(InvalidCsr):
            await world.issue("foo/bar", b"nonsense")


async def test_statement_12_impersonation_is_refused() -> None:
    """A request that names another identity is refused, opaque, and nothing is signed."""
    async with _world() as world:
        ask = make_ask("istio-system/ztunnel/p", make_csr(_KEY))
        credentials = dataclasses.replace(
            ask.credentials, impersonated_identity="spiffe://cluster.local/ns/foo/sa/bar"
        )
        with pytest.raises(ImpersonationRefused) as refused:
            await world.issuance.issue(dataclasses.replace(ask, credentials=credentials))
        assert refused.value.client_text == "request impersonation authentication failure"
        assert not world.signer.signed


async def test_statement_32_anothers_name_is_refused_and_not_signed() -> None:
    """A CSR with another's SAN is refused, and nothing is recorded as issued."""
    async with _world() as world:
        with pytest.raises(SanNotAllowed):
            await world.issue(csr_pem=make_csr(_KEY, "spiffe://cluster.local/ns/foo/sa/other"))
        assert not world.signer.signed
        assert not world.inventory.rows


async def test_a_foreign_trust_domain_is_forbidden() -> None:
    """A proven caller of a trust domain that is not ours gets nothing."""
    async with _world() as world:
        ours = frozenset({TrustDomain.parse("other.example")})
        world.policy = dataclasses.replace(world.policy, trust_domains=ours)
        with pytest.raises(Forbidden):
            await world.issue()


async def test_one_bad_member_does_not_harm_its_turn() -> None:
    """In one turn each bad call gets its own error, each good one its certificate."""
    async with _world() as world:
        world.signer.errors["broken"] = BackendUnavailable("HSM away")
        answers = await asyncio.gather(
            world.issue("foo/good/1"),
            world.issue("nonsense"),
            world.issue("foo/bar/2", b"nonsense"),
            world.issue("foo/broken/3"),
            world.issue("foo/fine/4"),
            return_exceptions=True,
        )
        assert [type(a) for a in answers] == [
            Chain,
            Unauthenticated,
            InvalidCsr,
            BackendUnavailable,
            Chain,
        ]
        assert len(world.inventory.rows) == 2


async def test_nobody_gets_anothers_certificate() -> None:
    """In batches of 500 mixed callers each gets its own identity and key."""
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(50)]
    async with _world() as world:
        asked = [(f"ns{i % 7}/sa{i}/pod{i}", keys[i % 50]) for i in range(500)]
        chains = await asyncio.gather(*(world.issue(t, make_csr(k)) for t, k in asked))
        for (token, key), chain in zip(asked, chains, strict=True):
            namespace, account, _ = token.split("/")
            assert _uri(chain) == f"spiffe://cluster.local/ns/{namespace}/sa/{account}"
            leaf_key = _leaf(chain).public_key()
            assert leaf_key == key.public_key()
        assert len({chain.serial for chain in chains}) == 500
        assert len(world.inventory.rows) == 500
        assert len(world.inventory.commits) < 100


@pytest.mark.parametrize("twice", [True, False])
@pytest.mark.parametrize("right", [0, 1, 17, 39])
async def test_of_a_key_that_turns_wrong_in_a_turn_only_right_signatures_leave(
    right: int, *, twice: bool
) -> None:
    """A fault that lasts is found whenever in the turn it begins, signed twice or not."""
    async with _world() as world:
        world.signer.twice, world.signer.broken = twice, right
        tasks = [world.start(f"foo/sa{i}/pod{i}") for i in range(40)]
        await asyncio.wait(tasks)
        chains = [task.result() for task in tasks if task.exception() is None]
        assert len(chains) == len(world.inventory.rows) == right
        for chain in chains:
            _leaf(chain).verify_directly_issued_by(chain.issuer.certificate)
        assert world.sample("meshsigner_wrong_certificates_total") == 40 - right


async def test_a_swapped_certificate_does_not_leave() -> None:
    """An answer for another order is withheld, counted, and readiness says it."""
    async with _world() as world:
        await world.issue("foo/victim/1")
        world.signer.swap = world.signer.signed[0]
        with pytest.raises(WrongCertificate):
            await world.issue("foo/other/2")
        assert len(world.inventory.rows) == 1
        assert world.sample("meshsigner_wrong_certificates_total") == 1
        assert not world.issuance.health()[0].ready
        world.signer.swap = None
        await world.issue("foo/other/2")
        assert all(h.ready for h in world.issuance.health())


async def test_nothing_leaves_before_it_is_recorded() -> None:
    """While the store is slow nobody is answered; afterwards everybody is."""
    async with _world() as world:
        world.inventory.gate.clear()
        calls = [world.start(f"foo/bar/{i}") for i in range(5)]
        await _until(lambda: len(world.signer.signed) == 5)
        await asyncio.sleep(0.02)
        assert not any(call.done() for call in calls)
        world.inventory.gate.set()
        await asyncio.gather(*calls)


async def test_a_store_that_cannot_write_withholds() -> None:
    """Certificates that could not be recorded are not handed out; the next ones are."""
    async with _world() as world:
        world.inventory.fault = RecordFailed("disk full")
        with pytest.raises(RecordFailed):
            await world.issue()
        assert not all(h.ready for h in world.issuance.health())
        world.inventory.fault = None
        await world.issue()


async def test_a_parked_call_rejoins_once_and_shares_its_fetch() -> None:
    """Callers who need the same key wait for one fetch, then get their certificates."""
    async with _world() as world:
        world.authenticator.unknown = {"foo/bar/1"}
        world.authenticator.gate.clear()
        waiting = [world.start("foo/bar/1", make_csr(_KEY)) for _ in range(3)]
        await world.issue("foo/bar/2")
        assert not any(call.done() for call in waiting)
        world.authenticator.gate.set()
        await asyncio.gather(*waiting)
        assert world.authenticator.fetches == ["foo/bar/1"]


async def test_statement_16_a_fetch_that_fails_is_our_own_fault() -> None:
    """The API server away is UNAVAILABLE, never UNAUTHENTICATED."""
    async with _world() as world:
        world.authenticator.unknown = {"foo/bar/1"}
        world.authenticator.error = BackendUnavailable("API server away")
        with pytest.raises(BackendUnavailable):
            await world.issue("foo/bar/1")


async def test_a_call_that_parks_again_is_answered() -> None:
    """What was fetched and still does not settle the caller ends in UNAVAILABLE."""
    async with _world() as world:
        world.authenticator.unknown = {"foo/bar/1"}
        world.authenticator.stubborn = True
        with pytest.raises(BackendUnavailable):
            await world.issue("foo/bar/1")


async def test_a_call_may_wait_for_one_thing_after_the_other() -> None:
    """A cluster with two ways of proof may need a key first and a review then."""
    async with _world() as world:
        world.authenticator.unknown = {"foo/bar/1"}
        world.authenticator.stages = ["key", "review"]
        assert isinstance(await world.issue("foo/bar/1"), Chain)
        assert world.authenticator.fetches == ["foo/bar/1", "foo/bar/1"]


async def test_a_bug_in_a_fetch_reaches_its_callers() -> None:
    """An undocumented error of a fetch is raised to those who waited for it."""
    async with _world() as world:
        world.authenticator.unknown = {"foo/bar/1"}
        world.authenticator.error = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            await world.issue("foo/bar/1")


async def test_a_caller_who_gave_up_is_not_signed() -> None:
    """A call cancelled before its turn costs no signature and no row."""
    async with _world() as world:
        call = world.start()
        await asyncio.sleep(0)
        call.cancel()
        await world.issue("foo/other/2")
        assert [o.caller.identity.service_account for o in world.signer.signed] == ["other"]


async def test_what_was_signed_is_recorded_though_nobody_waits() -> None:
    """A caller that leaves during the commit has a row, marked undelivered."""
    async with _world() as world:
        world.inventory.gate.clear()
        call = world.start()
        await _until(lambda: len(world.signer.signed) == 1)
        call.cancel()
        await asyncio.sleep(0)
        world.inventory.gate.set()
        await _until(lambda: bool(world.inventory.undelivered))
        assert world.inventory.undelivered == [world.inventory.rows[0].serial]


async def test_one_waiters_cancellation_leaves_the_others() -> None:
    """An order that two wait for is answered though one of them gave up."""
    async with _world() as world:
        csr_pem = make_csr(_KEY)
        one, two = world.start(csr_pem=csr_pem), world.start(csr_pem=csr_pem)
        await asyncio.sleep(0)
        one.cancel()
        assert isinstance(await two, Chain)


async def test_statement_17_a_call_ends_with_its_deadline() -> None:
    """A store that hangs does not hold a caller beyond its time."""
    async with _world() as world:
        world.inventory.gate.clear()
        soon = asyncio.get_running_loop().time() + 0.1
        with pytest.raises(DeadlinePassed):
            await world.issuance.issue(make_ask("foo/bar/p", make_csr(_KEY), deadline_s=soon))


async def test_a_bug_in_a_turn_reaches_every_member_and_spares_later_calls() -> None:
    """All members of a broken turn get an error at once; the next turn works."""
    async with _world() as world:
        world.signer.bug = ZeroDivisionError()
        answers = await asyncio.gather(
            *(world.issue(f"foo/bar/{i}") for i in range(3)), return_exceptions=True
        )
        assert {type(a) for a in answers} == {MeshsignerError}
        assert all(isinstance(a.__cause__, ZeroDivisionError) for a in answers)  # type: ignore[union-attr]
        world.signer.bug = None
        await world.issue("foo/bar/0")


@pytest.mark.parametrize(
    ("limits", "bound"),
    [
        (IssuanceLimits(gather=GatherLimits(waiting=1)), "gather"),
        (IssuanceLimits(queue=QueueLimits(total=1)), "queue_total"),
    ],
)
async def test_statement_15_a_full_bound_sheds_and_counts(
    limits: IssuanceLimits, bound: str
) -> None:
    """One call more than a bound is told to come back, and the bound is counted."""
    async with _world(limits) as world:
        answers = await asyncio.gather(
            *(world.issue(f"foo/bar/{i}") for i in range(3)), return_exceptions=True
        )
        shed = [a for a in answers if isinstance(a, Overloaded)]
        assert shed
        assert all(s.what == bound for s in shed)
        assert any(isinstance(a, Chain) for a in answers)
        assert world.sample("meshsigner_shed_total") == len(shed)


async def test_parked_calls_are_bounded() -> None:
    """Strangers with unknown keys cannot pile up without limit."""
    async with _world(IssuanceLimits(parked=1)) as world:
        world.authenticator.unknown = {"foo/bar/1", "foo/bar/2"}
        world.authenticator.gate.clear()
        one = world.start("foo/bar/1")
        await _until(lambda: bool(world.authenticator.fetches))
        with pytest.raises(Overloaded):
            await world.issue("foo/bar/2")
        world.authenticator.gate.set()
        await one


async def test_a_long_queue_is_signed_in_slices() -> None:
    """A turn signs while its time lasts; the rest follows in later turns, all answered."""
    limits = IssuanceLimits(slice_s=0.0)
    async with _world(limits) as world:
        calls = [world.start(f"foo/bar/{i}") for i in range(80)]
        await asyncio.gather(*calls)
        assert len(world.inventory.rows) == 80
        assert world.sample("meshsigner_turn_members_count") >= 5


async def test_draining_answers_what_is_there_and_refuses_the_rest() -> None:
    """At shutdown calls in flight are finished, newcomers are told to go elsewhere."""
    async with _world() as world:
        world.inventory.gate.clear()
        call = world.start()
        await _until(lambda: len(world.signer.signed) == 1)
        draining = asyncio.create_task(world.issuance.drain(5))
        await asyncio.sleep(0.01)
        with pytest.raises(NotReady):
            await world.issue("foo/late/2")
        assert any(h.name == "server" and not h.ready for h in world.issuance.health())
        world.inventory.gate.set()
        await draining
        assert isinstance(await call, Chain)


async def test_draining_ends_with_its_grace() -> None:
    """What cannot be answered within the grace is told so, parked calls too."""
    async with _world() as world:
        world.authenticator.unknown = {"foo/bar/1"}
        world.authenticator.gate.clear()
        call = world.start("foo/bar/1")
        await _until(lambda: bool(world.authenticator.fetches))
        await world.issuance.drain(0.05)
        with pytest.raises(NotReady):
            await call


async def test_the_line_says_why_a_call_was_refused() -> None:
    """The cause of a refusal is in the call's line, for the log alone."""
    async with _world() as world:
        ask = make_ask("foo/bar/p", make_csr(_KEY, "spiffe://cluster.local/ns/foo/sa/other"))
        with pytest.raises(SanNotAllowed):
            await world.issuance.issue(ask)
        assert "spiffe://cluster.local/ns/foo/sa/other" in str(ask.line["cause"])


async def test_the_certificates_key_is_the_callers_canonical_key() -> None:
    """The SubjectPublicKeyInfo of the leaf is the CSR's, byte for byte."""
    async with _world() as world:
        chain = await world.issue()
        spki = _KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert spki in chain.leaf_der
