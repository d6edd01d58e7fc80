"""Which cluster vouches for a caller, and that none vouches for another's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from meshsigner.authn.clusters import Cluster, ClusterAuthenticator, ClusterMember
from meshsigner.authn.key_sets import KeyOwners
from meshsigner.authn.token_review import TokenReviewAuthenticator
from meshsigner.errors import BackendUnavailable, ConfigurationError, Unauthenticated
from meshsigner.model import AuthMethod, Caller, Credentials
from meshsigner.ports import Parked
from meshsigner.spiffe import TrustDomain
from tests.fakes.authn import (
    RULES,
    TRUST_DOMAIN,
    FakeClock,
    FakeKeySource,
    FakeReviewer,
    away,
    make_jwt,
)
from tests.fakes.kubernetes_api import authenticated
from tests.fakes.tokens import NOW, jwk, jwks, make_token, rsa_key

EAST_TOKEN = make_token(rsa_key("east"))
WEST_TOKEN = make_token(rsa_key("west"))


def make_source(name: str) -> FakeKeySource:
    """Return the keys of a cluster: its own key, and the same key id as everybody's."""
    return FakeKeySource(data=jwks(jwk(rsa_key(name), "k1")))


def make_cluster(
    name: str, *members: ClusterMember, clock: FakeClock | None = None, **fields: Any
) -> Cluster:
    """Return a cluster with an authenticator of its own unless others are given."""
    own = members or (make_jwt(make_source(name), clock or FakeClock(), name),)
    return Cluster(
        cluster_id=name,
        trust_domain=TRUST_DOMAIN,
        authenticators=own,
        **fields,
    )


@asynccontextmanager
async def started(*clusters: Cluster) -> AsyncIterator[ClusterAuthenticator]:
    """Run an authenticator for some clusters."""
    authenticator = ClusterAuthenticator(clusters)
    await authenticator.start()
    yield authenticator
    await authenticator.aclose()


def show(token: str | None, cluster_id: str = "", *, secure: bool = True) -> Credentials:
    """Return credentials for a cluster."""
    return Credentials(bearer_token=token, cluster_id=cluster_id, secure=secure)


def refusal(authenticator: ClusterAuthenticator, credentials: Credentials) -> str:
    """Return why a caller is refused."""
    with pytest.raises(Unauthenticated) as caught:
        authenticator.identify(credentials, NOW)
    return str(caught.value)


async def test_statement_37_id_and_aliases_and_no_id_mean_the_local_cluster() -> None:
    """The own id, an alias and an empty id lead to the local cluster, the other id to the other."""
    east = make_cluster("east", local=True, aliases=("eu-east", "Kubernetes"))
    async with started(east, make_cluster("west")) as authenticator:
        for name in ["", "east", "eu-east", "Kubernetes"]:
            found = authenticator.identify(show(EAST_TOKEN, name), NOW)
            assert isinstance(found, Caller)
            assert found.cluster == "east"
        found = authenticator.identify(show(WEST_TOKEN, "west"), NOW)
        assert isinstance(found, Caller)
        assert found.cluster == "west"


async def test_statement_37_unknown_ids_are_refused() -> None:
    """An id that nobody configured is an authentication failure, other spellings too."""
    async with started(make_cluster("east", local=True)) as authenticator:
        for name in ["west", "EAST", "east ", "east,east", "../east", "e" * 10_000]:
            assert "unknown cluster" in refusal(authenticator, show(EAST_TOKEN, name))


async def test_statement_37_an_empty_id_needs_a_local_cluster() -> None:
    """No id, or two of them (which arrive as none), name nobody where no cluster is local."""
    async with started(make_cluster("east"), make_cluster("west")) as authenticator:
        assert "no cluster is local" in refusal(authenticator, show(EAST_TOKEN, ""))


async def test_a_token_of_one_cluster_is_no_token_of_another() -> None:
    """Same issuer name, same key id, different keys: once accepted, it still fails elsewhere."""
    async with started(make_cluster("east", local=True), make_cluster("west")) as authenticator:
        assert isinstance(authenticator.identify(show(EAST_TOKEN, "east"), NOW), Caller)
        assert "signature is wrong" in refusal(authenticator, show(EAST_TOKEN, "west"))
        assert isinstance(authenticator.identify(show(EAST_TOKEN, "east"), NOW), Caller)
        assert "signature is wrong" in refusal(authenticator, show(WEST_TOKEN, "east"))
        assert isinstance(authenticator.identify(show(WEST_TOKEN, "west"), NOW), Caller)


async def test_reviews_of_one_cluster_are_not_anothers() -> None:
    """The same text asked with two ids is asked of two API servers, under two keys."""
    token = make_token()
    reviewers = {"east": FakeReviewer(accounts={token: authenticated()}), "west": FakeReviewer()}
    clusters = [
        make_cluster(
            name,
            TokenReviewAuthenticator(
                cluster=name,
                trust_domain=TRUST_DOMAIN,
                rules=RULES,
                reviewer=reviewer,
                clock=FakeClock(),
            ),
        )
        for name, reviewer in reviewers.items()
    ]
    authenticator = ClusterAuthenticator(clusters)
    parked = {name: authenticator.identify(show(token, name), NOW) for name in reviewers}
    keys = set()
    for name in reviewers:
        waiting = parked[name]
        assert isinstance(waiting, Parked)
        await waiting.fetch()
        keys.add(waiting.key)
    assert len(keys) == 2
    assert isinstance(authenticator.identify(show(token, "east"), NOW), Caller)
    assert "refuses the token" in refusal(authenticator, show(token, "west"))
    await authenticator.aclose()
    assert all(reviewer.closed for reviewer in reviewers.values())


async def test_statement_40_no_token_without_tls() -> None:
    """Nothing is asked of anybody about a token that came over a plain connection."""
    async with started(make_cluster("east", local=True)) as authenticator:
        assert "without TLS" in refusal(authenticator, show(EAST_TOKEN, secure=False))
        assert "no bearer token" in refusal(authenticator, show(None))


async def test_a_cluster_speaks_for_its_namespaces_only() -> None:
    """Where namespaces are listed, a good token of another one is no proof."""
    allowed = make_cluster("east", namespaces=frozenset({"foo", "baz"}))
    other = make_cluster("west", namespaces=frozenset({"baz"}))
    async with started(allowed, other) as authenticator:
        assert isinstance(authenticator.identify(show(EAST_TOKEN, "east"), NOW), Caller)
        assert "may not speak" in refusal(authenticator, show(WEST_TOKEN, "west"))


async def test_the_first_success_wins() -> None:
    """A later authenticator is asked where an earlier one refuses, in the configured order."""
    clock = FakeClock()
    first = make_jwt(make_source("old"), clock, "east", rules=replace(RULES, issuer="other"))
    second = make_jwt(make_source("east"), clock, "east")
    async with started(make_cluster("east", first, second, local=True)) as authenticator:
        found = authenticator.identify(show(EAST_TOKEN), NOW)
        assert isinstance(found, Caller)
        assert found.auth_method is AuthMethod.JWT
        assert refusal(authenticator, show(make_token(iss="x"))).count("another issuer") == 2


async def test_one_that_must_wait_makes_the_caller_wait() -> None:
    """An earlier authenticator's refresh is awaited before a later one is asked."""
    clock = FakeClock()
    reviewer = FakeReviewer()
    review = TokenReviewAuthenticator(
        cluster="east", trust_domain=TRUST_DOMAIN, rules=RULES, reviewer=reviewer
    )
    jwt = make_jwt(make_source("east"), clock, "east")
    authenticator = ClusterAuthenticator([make_cluster("east", jwt, review, local=True)])
    parked = authenticator.identify(show(EAST_TOKEN), NOW)
    assert isinstance(parked, Parked)
    assert parked.key == ("east", "memory", "k1")
    await authenticator.aclose()


async def test_our_own_fault_is_told_as_such() -> None:
    """Where one authenticator cannot judge and the other refuses, the caller may come back."""
    clock = FakeClock()
    broken_source = FakeKeySource(fault=away())
    broken = make_jwt(broken_source, clock, "east")
    other = make_jwt(make_source("other"), clock, "east", rules=replace(RULES, issuer="other"))
    for members in [(broken, other), (other, broken)]:
        async with started(make_cluster("east", *members, local=True)) as authenticator:
            with pytest.raises(BackendUnavailable, match="connection refused"):
                authenticator.identify(show(EAST_TOKEN), NOW)


async def test_a_success_counts_more_than_a_fault() -> None:
    """An authenticator that cannot judge keeps nobody out whom another one knows."""
    clock = FakeClock()
    broken = make_jwt(FakeKeySource(fault=away()), clock, "east")
    works = make_jwt(make_source("east"), clock, "east")
    async with started(make_cluster("east", broken, works, local=True)) as authenticator:
        assert isinstance(authenticator.identify(show(EAST_TOKEN), NOW), Caller)
        names = [(health.name, health.ready) for health in authenticator.health()]
        assert names == [("authn/east/jwks", False), ("authn/east/jwks", True)]


async def test_a_key_of_two_clusters_stops_the_start() -> None:
    """The start fails with every such key named, and leaves nothing running."""
    clock, owners = FakeClock(), KeyOwners()
    sources = {name: make_source("same") for name in ["east", "west"]}
    clusters = [
        make_cluster(name, make_jwt(source, clock, name, owners))
        for name, source in sources.items()
    ]
    with pytest.raises(ConfigurationError) as caught:
        await ClusterAuthenticator(clusters).start()
    assert len(caught.value.problems) == 1
    assert "belongs to another cluster" in caught.value.problems[0]
    assert all(source.closed for source in sources.values())


async def test_a_bug_at_the_start_is_not_hidden() -> None:
    """What is no configuration error comes out as it is."""
    cluster = make_cluster(
        "east", make_jwt(FakeKeySource(fault=RuntimeError("a bug")), FakeClock(), "east")
    )
    with pytest.raises(RuntimeError, match="a bug"):
        await ClusterAuthenticator([cluster]).start()


def test_what_is_shared_or_there_twice_is_a_configuration_error() -> None:
    """Ids, aliases, local clusters, authenticators: everything wrong is told at once."""
    east, west = make_cluster("east"), make_cluster("west")
    other = TrustDomain.parse("other")
    for clusters, problem in [
        ([], "at least one"),
        ([make_cluster("")], "not empty"),
        ([make_cluster("east", aliases=("",))], "not empty"),
        ([east, make_cluster("east")], "the id 'east' is there more than once"),
        ([east, make_cluster("west", aliases=("east",))], "the id 'east' is there more than once"),
        ([make_cluster("east", local=True), make_cluster("west", local=True)], "be local"),
        ([east, replace(west, authenticators=east.authenticators)], "belongs to one cluster"),
        ([replace(east, authenticators=east.authenticators * 2)], "belongs to one cluster"),
        ([replace(west, authenticators=east.authenticators)], "an authenticator of cluster east"),
        ([replace(east, trust_domain=other)], "trust domain cluster.local"),
        ([replace(east, authenticators=())], "no authenticator"),
    ]:
        with pytest.raises(ConfigurationError, match=problem):
            ClusterAuthenticator(clusters)
    with pytest.raises(ConfigurationError) as caught:
        ClusterAuthenticator([make_cluster("", local=True), make_cluster("b", local=True)])
    assert len(caught.value.problems) == 2
