"""Backends that lie: each lie is caught, nothing leaves, an alarm counts, the next one is asked."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.errors import BackendUnavailable, MeshsignerError, NotReady, WrongCertificate
from meshsigner.model import BackendLimits, Capabilities, Chain, Errand, Leeway
from tests.fakes.pipeline import make_ca_certificate, make_issuer
from tests.fakes.remote_ca import Adversary, Answers, FakeRemote, Forgery, forge, other_issuer
from tests.fakes.signing_world import signing_world

BATCHES = BackendLimits(batch=100, in_flight=4, call_s=0.3)
LEEWAY = Leeway(backdate=timedelta(minutes=1), shorten=False)
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())

FORGERIES = {
    "drops the SAN": Forgery(uri=None),
    "drops the SAN and keeps a DNS name": Forgery(uri=None, dns_name="bar.foo.svc"),
    "adds a DNS name": Forgery(dns_name="bar.foo.svc"),
    "names another workload": Forgery(uri="spiffe://cluster.local/ns/foo/sa/other"),
    "leaves the SAN uncritical": Forgery(critical_san=False),
    "takes another key": Forgery(key=OTHER_KEY.public_key()),
    "gives a year": Forgery(after=timedelta(days=365)),
    "gives an hour less": Forgery(after=-timedelta(hours=1)),
    "begins too early": Forgery(before=-timedelta(hours=1)),
    "begins in the future": Forgery(before=timedelta(hours=1)),
    "gives a CA certificate": Forgery(is_ca=True),
    "drops clientAuth": Forgery(client_auth=False),
    "drops digitalSignature": Forgery(digital_signature=False),
    "adds a common name": Forgery(common_name="admin"),
    "adds an extension": Forgery(extra=True),
    "signs with another key": Forgery(signing_key=OTHER_KEY),
}


def _forging(remote: FakeRemote, how: Forgery) -> Adversary:
    key = remote.signer.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return lambda chains, errands: [
        forge(chain, errand, key, how) for chain, errand in zip(chains, errands, strict=True)
    ]


def _swaps(chains: list[Chain], _: Sequence[Errand]) -> Answers:
    return [*chains[1:], chains[0]]


def _half(chains: list[Chain], _: Sequence[Errand]) -> Answers:
    return chains[: len(chains) // 2]


def _too_many(chains: list[Chain], _: Sequence[Errand]) -> Answers:
    return [*chains, chains[0]]


def _same_for_all(chains: list[Chain], _: Sequence[Errand]) -> Answers:
    return [chains[0] for _ in chains]


def _cut(chains: list[Chain], _: Sequence[Errand]) -> Answers:
    return [replace(chain, leaf_der=chain.leaf_der[:-20]) for chain in chains]


def _garbage(chains: list[Chain], _: Sequence[Errand]) -> Answers:
    return [replace(chain, leaf_der=b"not DER") for chain in chains]


def _nothing_known(chains: list[Chain], _: Sequence[Errand]) -> Answers:
    return [None for _ in chains]  # type: ignore[misc]  # what no honest backend returns


def _foreign_chain(chains: list[Chain], _: Sequence[Errand]) -> Answers:
    foreign = other_issuer()
    return [replace(chain, issuer=foreign) for chain in chains]


def _broken_path(chains: list[Chain], _: Sequence[Errand]) -> Answers:
    """Put an intermediate between that signed nothing."""
    key = ec.generate_private_key(ec.SECP256R1())
    stranger = make_ca_certificate(key, "stranger")
    return [
        replace(
            chain,
            issuer=make_issuer(
                chain.issuer.certificate,
                intermediates=(chain.issuer.certificate, stranger),
                roots=(make_ca_certificate(key, "another root"),),
            ),
        )
        for chain in chains
    ]


def _serial_of_another(chains: list[Chain], _: Sequence[Errand]) -> Answers:
    return [replace(chain, serial=chain.serial + 1) for chain in chains]


ADVERSARIES: dict[str, Adversary] = {
    "swaps the answers of a batch": _swaps,
    "answers half": _half,
    "answers too much": _too_many,
    "cuts the certificate": _cut,
    "answers garbage": _garbage,
    "answers nothing at all": _nothing_known,
    "names a chain that nobody announced": _foreign_chain,
    "breaks the path": _broken_path,
    "tells another serial": _serial_of_another,
}
TOKENS = ["foo/a/1", "foo/b/2"]


def _liar(how: str) -> FakeRemote:
    capabilities = Capabilities(builds_x509=True, leeway=LEEWAY)
    liar = FakeRemote("liar", limits=BATCHES, capabilities=capabilities)
    liar.adversary = _forging(liar, FORGERIES[how]) if how in FORGERIES else ADVERSARIES[how]
    return liar


@pytest.mark.parametrize("how", [*FORGERIES, *ADVERSARIES])
async def test_a_lie_does_not_leave(how: str) -> None:
    """Alone, a lying backend makes UNAVAILABLE: no row, an alarm, not ready, left alone."""
    liar = _liar(how)
    async with signing_world(liar) as world:
        answers = await world.issue_all(TOKENS)
        assert {type(answer) for answer in answers} == {WrongCertificate}, answers
        assert world.inventory.rows == []
        assert world.sample("meshsigner_wrong_certificates_total", backend="liar") == 2
        assert not world.issuance.health()[0].ready
        assert world.sample("meshsigner_backend_usable", backend="liar") == 0
        with pytest.raises(NotReady):
            await world.issue("foo/c/3")
        assert len(liar.calls) == 1


@pytest.mark.parametrize("how", [*FORGERIES, *ADVERSARIES])
async def test_behind_a_lie_the_next_backend_is_asked(how: str) -> None:
    """With a substitute, callers get that one's certificate, and the liar gets no more orders."""
    liar, honest = _liar(how), FakeRemote("honest", limits=BATCHES)
    async with signing_world(liar, honest) as world:
        answers = await world.issue_all(TOKENS)
        assert all(isinstance(a, Chain) and a.backend == "honest" for a in answers), answers
        assert {row.backend for row in world.inventory.rows} == {"honest"}
        assert world.sample("meshsigner_wrong_certificates_total", backend="liar") == 2
        assert world.sample("meshsigner_backend_orders_handed_on_total", backend="liar") == 2
        await world.issue("foo/c/3")
        assert len(liar.calls) == 1
        assert "liar: " in str(world.calls[0].line["failed_backends"])


async def test_an_answer_that_comes_late_is_not_waited_for() -> None:
    """A backend that answers after its time is given up; what it sends then reaches nobody."""
    late = FakeRemote("late", limits=replace(BATCHES, call_s=0.1))
    late.delay_s = 1.0
    async with signing_world(late) as world:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        with pytest.raises(BackendUnavailable):
            await world.issue(lives_s=2)
        assert loop.time() - began_s < 1
        assert world.inventory.rows == []


async def test_one_lie_in_a_batch_harms_nobody_else() -> None:
    """Of a call in which one certificate is wrong the others are answered."""
    mixed = FakeRemote("mixed", limits=BATCHES)
    key = mixed.signer.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    mixed.adversary = lambda chains, errands: [
        forge(chains[0], errands[0], key, Forgery(uri=None)),
        *chains[1:],
    ]
    async with signing_world(mixed) as world:
        answers = await world.issue_all([f"foo/bar/{i}" for i in range(10)])
        wrong = [answer for answer in answers if isinstance(answer, MeshsignerError)]
        assert len(wrong) == len(mixed.calls) < 10
        assert len(world.inventory.rows) == 10 - len(wrong)


async def test_one_certificate_for_all_is_right_for_one_at_most() -> None:
    """A backend that answers a whole call with one certificate is caught by all the others."""
    remote = FakeRemote(limits=BATCHES)
    remote.adversary = _same_for_all
    async with signing_world(remote) as world:
        answers = await world.issue_all([f"foo/sa{i}/p{i}" for i in range(10)])
        right = [answer for answer in answers if isinstance(answer, Chain)]
        assert len(right) == len(remote.calls) == len(world.inventory.rows)
        assert not world.issuance.health()[0].ready


async def test_a_shortened_lifetime_is_taken_only_where_it_is_allowed() -> None:
    """The same certificate passes or not, as the backend's leeway says."""
    shorter = Forgery(after=-timedelta(hours=1))
    for allowed in (True, False):
        leeway = replace(LEEWAY, shorten=allowed)
        remote = FakeRemote(capabilities=Capabilities(builds_x509=True, leeway=leeway))
        remote.adversary = _forging(remote, shorter)
        async with signing_world(remote) as world:
            (answer,) = await world.issue_all(["foo/bar/p"])
            assert isinstance(answer, Chain) is allowed
