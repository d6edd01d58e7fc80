"""When keys are read again, and what holds in between."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from meshsigner.authn.key_sets import KeyOwners
from meshsigner.authn.keys import VerifyingKey
from meshsigner.authn.public_keys import PublicKeys
from meshsigner.errors import BackendUnavailable, ConfigurationError, Unauthenticated
from meshsigner.ports import Parked
from tests.fakes.authn import FakeClock, FakeKeySource, away, make_public_keys
from tests.fakes.tokens import ec_key, jwk, jwks, rsa_key


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def source() -> FakeKeySource:
    """A source with one key, k1."""
    return FakeKeySource()


@pytest.fixture
async def keys(source: FakeKeySource, clock: FakeClock) -> AsyncIterator[PublicKeys]:
    """Keys that are closed after the test."""
    made = make_public_keys(source, clock)
    yield made
    await made.aclose()


async def test_a_known_key_is_found_at_once(keys: PublicKeys, clock: FakeClock) -> None:
    """After the start a key of the set needs no further read."""
    await keys.start()
    found = keys.find("k1", clock.now)
    assert isinstance(found, VerifyingKey)
    assert found.key_id == "k1"
    assert keys.health().ready


async def test_an_unknown_key_waits_for_one_refresh(
    keys: PublicKeys, source: FakeKeySource, clock: FakeClock
) -> None:
    """A key that was added since is found after the refresh that its first token waits for."""
    await keys.start()
    clock.advance(60)
    source.data = jwks(jwk(rsa_key()), jwk(ec_key(), "k2"))
    parked = keys.find("k2", clock.now)
    assert isinstance(parked, Parked)
    assert parked.key == ("Kubernetes", "memory", "k2")
    await parked.fetch()
    assert isinstance(keys.find("k2", clock.now), VerifyingKey)
    assert source.fetches == 2


async def test_within_the_cool_down_an_unknown_key_is_refused(
    keys: PublicKeys, source: FakeKeySource, clock: FakeClock
) -> None:
    """Right after a refresh that succeeded a stranger's key id costs no other one."""
    await keys.start()
    with pytest.raises(Unauthenticated, match="key id is unknown"):
        keys.find("k9", clock.now)
    clock.advance(9.9)
    with pytest.raises(Unauthenticated):
        keys.find("k9", clock.now)
    clock.advance(0.1)
    assert isinstance(keys.find("k9", clock.now), Parked)
    assert source.fetches == 1


async def test_within_the_cool_down_of_a_failed_refresh_it_is_our_fault(
    keys: PublicKeys, source: FakeKeySource, clock: FakeClock
) -> None:
    """When the keys could not be read nobody knows whether the id exists: UNAVAILABLE."""
    await keys.start()
    clock.advance(60)
    source.fault = away()
    parked = keys.find("k2", clock.now)
    assert isinstance(parked, Parked)
    with pytest.raises(BackendUnavailable, match="connection refused"):
        await parked.fetch()
    with pytest.raises(BackendUnavailable, match="connection refused"):
        keys.find("k2", clock.now)
    assert isinstance(keys.find("k1", clock.now), VerifyingKey)


async def test_old_keys_stay_while_the_source_is_away(
    keys: PublicKeys, source: FakeKeySource, clock: FakeClock
) -> None:
    """Callers with a known key notice nothing; health says that the keys are not fresh."""
    await keys.start()
    for fault in [away(), None]:
        source.fault, source.data = fault, b"<html>not a key set"
        with pytest.raises(BackendUnavailable):
            await keys.refresh()
        assert isinstance(keys.find("k1", clock.now), VerifyingKey)
        assert keys.health().ready
        assert "not refreshed: " in keys.health().detail


async def test_a_source_that_is_away_at_the_start_is_tried_again(
    keys: PublicKeys, source: FakeKeySource, clock: FakeClock
) -> None:
    """Without any key the part is not ready and says why; the next refresh heals it."""
    source.fault = away()
    await keys.start()
    assert not keys.health().ready
    assert "connection refused" in keys.health().detail
    with pytest.raises(BackendUnavailable):
        keys.find("k1", clock.now)
    source.fault = None
    await keys.refresh()
    assert keys.health().ready


async def test_before_the_start_every_key_must_be_waited_for(
    keys: PublicKeys, clock: FakeClock
) -> None:
    """Nothing was read yet, so nobody is refused."""
    assert not keys.health().ready
    assert isinstance(keys.find("k1", clock.now), Parked)


async def test_all_who_wait_share_one_read(keys: PublicKeys, source: FakeKeySource) -> None:
    """A thousand strange key ids at once cost one read."""
    source.gate.clear()
    waiting = [asyncio.create_task(keys.refresh()) for _ in range(1000)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    source.gate.set()
    await asyncio.gather(*waiting)
    assert source.fetches == 1


async def test_one_waiter_who_gives_up_ends_nothing(
    keys: PublicKeys, source: FakeKeySource
) -> None:
    """The read goes on for the others."""
    source.gate.clear()
    first, second = (asyncio.create_task(keys.refresh()) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    source.gate.set()
    await second
    assert first.cancelled()
    assert source.fetches == 1


async def test_a_source_that_never_answers_is_given_up(source: FakeKeySource) -> None:
    """A read has an end, and it is our fault."""
    source.gate.clear()
    keys = PublicKeys(
        cluster="Kubernetes",
        source=source,
        owners=KeyOwners(),
        timeout=timedelta(milliseconds=10),
    )
    with pytest.raises(BackendUnavailable, match=r"no answer within 0\.01 s"):
        await keys.refresh()


async def test_keys_are_read_again_by_themselves(source: FakeKeySource, clock: FakeClock) -> None:
    """A new key is there without anybody having asked, an old one goes with the set."""
    source.every_s = 0.001
    keys = make_public_keys(source, clock)
    await keys.start()
    source.data = jwks(jwk(ec_key(), "k2"))
    async with asyncio.timeout(5):
        while "k2" not in keys.current.keys:
            await asyncio.sleep(0.001)
    assert "k1" not in keys.current.keys
    await keys.aclose()
    fetches = source.fetches
    await asyncio.sleep(0.01)
    assert source.fetches == fetches
    assert source.closed


async def test_changes_are_told_once(keys: PublicKeys, source: FakeKeySource) -> None:
    """One line when keys are taken, when they begin to be kept, and when a refresh works again."""
    with capture_logs() as lines:
        await keys.refresh()
        await keys.refresh()
        source.fault = away()
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                await keys.refresh()
        source.fault = None
        await keys.refresh()
        source.data = jwks(jwk(rsa_key()), {"kty": "oct", "k": "AA", "kid": "shared"})
        await keys.refresh()
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("token keys taken", "info"),
        ("no new token keys, the old ones are kept", "error"),
        ("token keys taken", "info"),
        ("token keys taken", "error"),
    ]
    assert lines[1]["problem"] == "connection refused"
    assert lines[3]["ignored"] == ("key 'shared': holds private or symmetric key material",)
    assert all((line["cluster"], line["source"]) == ("Kubernetes", "memory") for line in lines)


async def test_a_failed_refresh_is_tried_again_soon(
    keys: PublicKeys, source: FakeKeySource
) -> None:
    """After 5 s while keys could not be read, else as often as the source wants; one read 5 s."""
    assert keys._pause_s() == 5.0
    await keys.refresh()
    assert keys._pause_s() == 300.0
    source.fault = away()
    with pytest.raises(BackendUnavailable):
        await keys.refresh()
    assert keys._pause_s() == 5.0
    source.every_s = 2.0
    assert keys._pause_s() == 2.0
    assert keys._timeout_s == 5.0


async def test_an_unchanged_set_stays_the_same_object(keys: PublicKeys) -> None:
    """What was found out with it need not be forgotten."""
    await keys.start()
    before = keys.current
    await keys.refresh()
    assert keys.current is before


async def test_health_names_what_was_left_out(keys: PublicKeys, source: FakeKeySource) -> None:
    """A private key in the set is a mistake that somebody must see."""
    source.data = jwks(jwk(rsa_key()), jwk(rsa_key("two"), "leak", d="AQAB"))
    await keys.start()
    assert keys.health().ready
    assert "left out: key 'leak': holds private" in keys.health().detail


async def test_a_refresh_that_died_is_seen(source: FakeKeySource, clock: FakeClock) -> None:
    """A bug in the background must not go unnoticed behind keys that grow old."""
    source.every_s = 0.001
    keys = make_public_keys(source, clock)
    await keys.start()
    source.fault = RuntimeError("a bug")
    async with asyncio.timeout(5):
        while keys.health().ready:
            await asyncio.sleep(0.001)
    assert keys.health().detail == "the refresh has stopped, restart"
    await keys.aclose()


async def test_a_key_of_two_clusters_is_a_configuration_error(clock: FakeClock) -> None:
    """With the same key a token of one cluster would pass for the other."""
    owners = KeyOwners()
    east = make_public_keys(FakeKeySource(), clock, "east", owners)
    west = make_public_keys(
        FakeKeySource(data=jwks(jwk(rsa_key(), "another-id"))), clock, "west", owners
    )
    await east.start()
    with pytest.raises(ConfigurationError, match="cluster west: memory: the key with thumbprint"):
        await west.start()
    await east.aclose()
    await west.aclose()


async def test_a_key_that_becomes_another_clusters_is_refused(clock: FakeClock) -> None:
    """At a refresh the newer duplicate is left out and named; the rest is taken."""
    owners = KeyOwners()
    east_source, west_source = FakeKeySource(), FakeKeySource(data=jwks(jwk(ec_key(), "w")))
    east = make_public_keys(east_source, clock, "east", owners)
    west = make_public_keys(west_source, clock, "west", owners)
    await east.start()
    await west.start()
    west_source.data = jwks(jwk(ec_key(), "w"), jwk(rsa_key(), "k1"))
    await west.refresh()
    assert list(west.current.keys) == ["w"]
    assert "key 'k1': belongs to another cluster" in west.health().detail
    assert list(east.current.keys) == ["k1"]
    west_source.data = jwks(jwk(rsa_key(), "k1"))
    await west.refresh()
    assert not west.health().ready
    await east.aclose()
    await west.aclose()
