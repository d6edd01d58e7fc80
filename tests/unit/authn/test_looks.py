"""Fresh looks: shared, spaced, and never older than the call that waits."""

import asyncio
import itertools

import pytest

from meshsigner.authn.looks import EVERY_S, HELD_S, FreshLooks, Place
from meshsigner.authn.pods import Account, PodIndex
from meshsigner.errors import BackendUnavailable
from meshsigner.kube import ObjectKey
from tests.fakes.pods import FakePodSource, make_pod

_AGENT = Account("istio-system", "ztunnel")
_OWN = ObjectKey("istio-system", "zt-1")
_NODE = Place(node="node-1", pod=_OWN)
_SLEEP = Account("foo", "sleep")


def _looks(source: FakePodSource) -> FreshLooks:
    return FreshLooks("Kubernetes", source, frozenset({_AGENT}))


def _agent_pod() -> dict[str, object]:
    return make_pod("zt-1", "node-1", "ztunnel", namespace="istio-system", uid="zt")


def _found(looks: FreshLooks, place: Place = _NODE) -> PodIndex:
    found = looks.found(place)
    assert found is not None
    return found


async def test_a_look_finds_the_pods_of_one_node() -> None:
    """It asks for that node alone."""
    source = FakePodSource(_agent_pod(), make_pod("sleep-1"), make_pod("b", "node-2", "other"))
    looks = _looks(source)
    await looks.ask(_NODE).fetch()
    assert [fields for fields, _ in source.lists] == ["spec.nodeName=node-1"]
    assert _found(looks).runs("node-1", _SLEEP)
    assert _found(looks).agent("zt") is not None
    assert not _found(looks).runs("node-2", Account("foo", "other"))


async def test_calls_before_a_look_is_sent_share_it() -> None:
    """They park under one key; one that comes later gets the next."""
    source = FakePodSource()
    source.gate.clear()
    looks = _looks(source)
    first, second = looks.ask(_NODE), looks.ask(_NODE)
    assert first.key == second.key
    waiting = asyncio.ensure_future(first.fetch())
    while not source.lists:
        await asyncio.sleep(0)
    third = looks.ask(_NODE)
    assert third.key != first.key
    source.gate.set()
    await asyncio.gather(waiting, third.fetch())
    assert len(source.lists) == 2


async def test_a_call_is_never_told_less_than_was_known_when_it_came() -> None:
    """A pod that is bound while a look is under way is found by the next one."""
    source = FakePodSource()
    source.gate.clear()
    looks = _looks(source)
    early = asyncio.ensure_future(looks.ask(_NODE).fetch())
    while not source.lists:
        await asyncio.sleep(0)
    source.pods.append(make_pod("sleep-1"))
    late = looks.ask(_NODE)
    source.gate.set()
    await asyncio.gather(early, late.fetch())
    assert _found(looks).runs("node-1", _SLEEP)


async def test_a_node_is_looked_at_every_100_ms_at_most() -> None:
    """However many ask, one after the other."""
    source = FakePodSource()
    looks = _looks(source)
    for _ in range(4):
        await looks.ask(_NODE).fetch()
    times = [at_s for _, at_s in source.lists]
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(pauses) >= EVERY_S - 0.001


async def test_nodes_do_not_wait_for_each_other() -> None:
    """Looks at other nodes are sent at once."""
    source = FakePodSource()
    looks = _looks(source)
    began_s = asyncio.get_running_loop().time()
    await asyncio.gather(*(looks.ask(Place(node=f"node-{n}", pod=_OWN)).fetch() for n in range(20)))
    assert asyncio.get_running_loop().time() - began_s < EVERY_S


async def test_what_was_found_counts_for_half_a_second() -> None:
    """Then it is forgotten, and nothing of the node is left in memory."""
    looks = _looks(FakePodSource())
    await looks.ask(_NODE).fetch()
    assert looks.found(_NODE) is not None
    await asyncio.sleep(HELD_S + 0.05)
    assert looks.found(_NODE) is None
    assert not looks._places


async def test_an_unknown_node_is_found_by_the_agents_own_pod() -> None:
    """Where a credential names no node: the pod first, then its node; both names are known."""
    source = FakePodSource(_agent_pod(), make_pod("sleep-1"))
    looks = _looks(source)
    place = Place(node="", pod=_OWN)
    await looks.ask(place).fetch()
    assert source.gets == ["/api/v1/namespaces/istio-system/pods/zt-1"]
    assert _found(looks, place).runs("node-1", _SLEEP)
    assert _found(looks, _NODE).runs("node-1", _SLEEP)


@pytest.mark.parametrize("pods", [[], [make_pod("zt-1", "", "ztunnel", namespace="istio-system")]])
async def test_an_agent_that_is_nowhere_has_no_neighbours(pods: list[dict[str, object]]) -> None:
    """Its pod is gone, or on no node."""
    source = FakePodSource(*pods)
    looks = _looks(source)
    place = Place(node="", pod=_OWN)
    await looks.ask(place).fetch()
    assert _found(looks, place).nodes() == 0
    assert not source.lists


async def test_an_api_server_that_is_away_is_no_answer() -> None:
    """Those who wait are told so, nothing is held, and the next call looks again."""
    source = FakePodSource()
    source.error = BackendUnavailable("connection refused")
    looks = _looks(source)
    with pytest.raises(BackendUnavailable):
        await looks.ask(_NODE).fetch()
    assert looks.found(_NODE) is None
    source.error = None
    await looks.ask(_NODE).fetch()
    assert looks.found(_NODE) is not None


async def test_pods_that_cannot_be_read_are_not_there() -> None:
    """One broken object does not hide the others."""
    broken = make_pod("broken")
    broken["metadata"] = {"name": "broken", "namespace": "foo"}
    looks = _looks(FakePodSource(broken, make_pod("sleep-1")))
    await looks.ask(_NODE).fetch()
    assert _found(looks).runs("node-1", _SLEEP)


async def test_an_abandoned_look_leaves_room_for_the_next() -> None:
    """A fetch that is cancelled before it was sent does not block its node."""
    source = FakePodSource()
    looks = _looks(source)
    await looks.ask(_NODE).fetch()
    waiting = asyncio.ensure_future(looks.ask(_NODE).fetch())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await looks.ask(_NODE).fetch()
    assert len(source.lists) == 2
