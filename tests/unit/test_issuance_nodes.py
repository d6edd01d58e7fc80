"""Issuance for a node's agent that asks for the workloads of its node."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.errors import BackendUnavailable, ImpersonationRefused, SanNotAllowed
from meshsigner.issuance import Issuance, IssuanceLimits
from meshsigner.model import Chain
from meshsigner.observe.metrics import Metrics
from meshsigner.orders import QueueLimits
from meshsigner.recorder import Recorder
from tests.fakes.pipeline import (
    NOW,
    FakeAuthenticator,
    FakeNodes,
    FakeSigner,
    MemoryInventory,
    make_ask,
    make_csr,
    make_policy,
)

_KEY = ec.generate_private_key(ec.SECP256R1())
_ZTUNNEL = "istio-system/ztunnel/zt-1"
_SLEEP = "spiffe://cluster.local/ns/foo/sa/sleep"
_HTTPBIN = "spiffe://cluster.local/ns/foo/sa/httpbin"


class _Node:
    """An issuance that lets agents act for workloads."""

    def __init__(self) -> None:
        self.authenticator = FakeAuthenticator()
        self.nodes = FakeNodes(_SLEEP)
        self.signer = FakeSigner()
        self.inventory = MemoryInventory()
        metrics = Metrics()
        self.recorder = Recorder(self.inventory, metrics)
        self.issuance = Issuance(
            authenticator=self.authenticator,
            signers=[self.signer],
            recorder=self.recorder,
            policy=make_policy,
            metrics=metrics,
            clock=lambda: NOW,
            nodes=self.nodes,
            limits=IssuanceLimits(queue=QueueLimits(wait_s=60)),
        )

    async def ask(self, impersonated: str, *names: str, token: str = _ZTUNNEL) -> Chain:
        ask = make_ask(token, make_csr(_KEY, *names))
        credentials = dataclasses.replace(ask.credentials, impersonated_identity=impersonated)
        return await self.issuance.issue(dataclasses.replace(ask, credentials=credentials))


@pytest.fixture
async def node() -> AsyncIterator[_Node]:
    """One whose agents may act for the account `sleep`."""
    made = _Node()
    await made.recorder.start()
    yield made
    await made.issuance.drain(1)
    await made.recorder.close()


def _uri(chain: Chain) -> str:
    leaf = x509.load_der_x509_certificate(chain.leaf_der)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(names[0].value)


async def test_statement_46_the_impersonated_identity_is_certified_and_the_agent_recorded(
    node: _Node,
) -> None:
    """The certificate names the workload alone; the row says who asked for it."""
    assert _uri(await node.ask(_SLEEP, _SLEEP)) == _SLEEP
    (row,) = node.inventory.rows
    assert (row.identity, row.namespace) == (_SLEEP, "foo")
    assert row.impersonator == "spiffe://cluster.local/ns/istio-system/sa/ztunnel"
    assert row.pod_name == "zt-1"


async def test_one_agent_asks_for_several_identities_at_once(node: _Node) -> None:
    """Equal requests for two workloads, side by side, end in two certificates."""
    node.nodes.there.add(_HTTPBIN)
    chains = await asyncio.gather(node.ask(_SLEEP), node.ask(_HTTPBIN))
    assert [_uri(chain) for chain in chains] == [_SLEEP, _HTTPBIN]
    assert len({chain.serial for chain in chains}) == 2


async def test_a_csr_that_names_the_agent_instead_of_the_workload_is_refused(node: _Node) -> None:
    """What is asked for and what the CSR says must be one."""
    with pytest.raises(SanNotAllowed):
        await node.ask(_SLEEP, "spiffe://cluster.local/ns/istio-system/sa/ztunnel")
    assert not node.signer.signed


async def test_a_workload_that_is_not_known_yet_is_looked_for_once(node: _Node) -> None:
    """The call waits for a look, and is answered when the pod is there after it."""
    node.nodes.coming.add(_HTTPBIN)
    assert _uri(await node.ask(_HTTPBIN)) == _HTTPBIN
    assert node.nodes.looks == 1


async def test_an_agent_is_proven_once_though_it_waits_for_a_look(node: _Node) -> None:
    """A review that is forgotten meanwhile is not asked for a second time."""
    node.nodes.coming.add(_HTTPBIN)
    node.nodes.on_look = lambda: node.authenticator.unknown.add(_ZTUNNEL)
    assert _uri(await node.ask(_HTTPBIN)) == _HTTPBIN
    assert not node.authenticator.fetches


async def test_statement_12_a_workload_that_is_not_found_is_refused(node: _Node) -> None:
    """After one look the answer is no, in istiod's words."""
    with pytest.raises(ImpersonationRefused) as refused:
        await node.ask(_HTTPBIN)
    assert refused.value.client_text == "request impersonation authentication failure"
    assert node.nodes.looks == 1
    assert not node.signer.signed


async def test_a_look_that_settles_nothing_is_a_fault_of_ours(node: _Node) -> None:
    """A call never waits for the same look twice."""
    node.nodes.stubborn = True
    with pytest.raises(BackendUnavailable):
        await node.ask(_HTTPBIN)
