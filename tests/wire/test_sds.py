"""SDS on the wire, byte by byte: what each request is answered with, in both forms.

The messages are made and read by hand, so that field numbers and types are
Envoy's and not just the same on both sides.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import aio
from structlog.testing import capture_logs

from tests.fakes.workload_ca import make_svid
from tests.wire.harness import until
from tests.wire.protobuf_bytes import decode, encode
from tests.wire.sds import (
    IDENTITY,
    SECRET_TYPE,
    Client,
    Sds,
    Stream,
    delta_request,
    serving_sds,
    sotw_request,
)

NODE = "sidecar~10.0.0.1~productpage.bookinfo"
NAMES = ("default", IDENTITY, "ROOTCA", "spiffe://cluster.local", "ALL")
REFUSED = "meshsigner_agent_secrets_refused_total"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Sds, Client]]:
    """A server that has a certificate, and a client."""
    async with serving_sds(tmp_path) as (sds, client):
        sds.store.take(make_svid())
        yield sds, client


Served = tuple[Sds, Client]


async def _subscribed(client: Client, *names: str) -> tuple[Stream, str]:
    """Open a stream, take the first response, acknowledge it; return the nonce too."""
    stream = client.sotw()
    await stream.send(sotw_request(*names, node=NODE))
    told = await stream.told()
    await stream.send(sotw_request(*names, nonce=told.nonce, version=told.version))
    return stream, told.nonce


@pytest.mark.parametrize("name", NAMES)
async def test_statement_63_every_name_is_served(served: Served, name: str) -> None:
    """Certificate, roots and SPIFFE names, each under the name that was asked for."""
    _, client = served
    stream = client.sotw()
    await stream.send(sotw_request(name, node=NODE))
    assert set((await stream.told()).secrets) == {name}


async def test_statement_67_secret_has_envoys_bytes(served: Served) -> None:
    """Secret 1 name, 2 TlsCertificate (1 chain, 2 key), each a DataSource's 2 inline_bytes."""
    _, client = served
    told = await client.fetch(sotw_request("default"))
    (certificate,) = told.secrets["default"][2]
    assert isinstance(certificate, bytes)
    (chain,), (key,) = decode(certificate)[1], decode(certificate)[2]
    assert (chain, key) == (encode({2: "leaf"}), encode({2: "key"}))


async def test_statement_70_roots_have_envoys_bytes(served: Served) -> None:
    """Secret 4 CertificateValidationContext, in it 1 trusted_ca and nothing else."""
    _, client = served
    told = await client.fetch(sotw_request("ROOTCA"))
    (context,) = told.secrets["ROOTCA"][4]
    assert context == encode({1: encode({2: "roots"})})


async def test_statement_64_type_nonce_and_version(served: Served) -> None:
    """The Secret type, a nonce of its own for each response, another version for other content."""
    sds, client = served
    stream = client.sotw()
    await stream.send(sotw_request("default", node=NODE))
    one = await stream.told()
    sds.store.take(make_svid(leaf="next"))
    other = await stream.told()
    assert (one.type_url, other.type_url) == (SECRET_TYPE, SECRET_TYPE)
    assert one.nonce
    assert one.nonce != other.nonce
    assert one.version
    assert one.version != other.version


async def test_first_request_without_node_ends_the_stream(served: Served) -> None:
    """INVALID_ARGUMENT with istio's words."""
    _, client = served
    stream = client.sotw()
    await stream.send(sotw_request("default"))
    assert await stream.ended() == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "missing node information",
    )


async def test_unknown_name_ends_the_stream_in_words(served: Served) -> None:
    """INVALID_ARGUMENT as SPIRE has it, told to the client and to the log."""
    _, client = served
    stream = client.sotw()
    with capture_logs() as logs:
        await stream.send(sotw_request("kubernetes://other", node=NODE))
        code, words = await stream.ended()
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "no secret 'kubernetes://other'" in words
    assert [line["event"] for line in logs] == ["secret stream refused"]


async def test_unknown_name_in_mid_stream_ends_it_too(served: Served) -> None:
    """The name comes with an acknowledgement: the same end."""
    _, client = served
    stream, nonce = await _subscribed(client, "default")
    await stream.send(sotw_request("default", "nope", nonce=nonce))
    code, _ = await stream.ended()
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_statement_65_acknowledgement_is_not_answered(served: Served) -> None:
    """Nothing comes after it, however often it is repeated."""
    _, client = served
    stream, nonce = await _subscribed(client, "default", "ROOTCA")
    await stream.silent()
    await stream.send(sotw_request("default", "ROOTCA", nonce=nonce))
    await stream.silent()


async def test_statement_65_refusal_is_logged_and_not_answered(served: Served) -> None:
    """Envoy's words stand in the log, the refusal is counted, nothing is sent again."""
    sds, client = served
    stream, nonce = await _subscribed(client, "default")
    with capture_logs() as logs:
        for _ in range(2):
            await stream.send(sotw_request("default", nonce=nonce, refusal="key does not match"))
        await until(lambda: sds.metric(REFUSED, workload="productpage") == 2)
    await stream.silent()
    line = logs[0]
    assert line["event"] == "Envoy refused secrets"
    assert (line["cause"], line["node"], line["log_level"]) == ("key does not match", NODE, "error")
    assert line["versions"] == {"default": sds.store.versions["default"]}
    sds.store.take(make_svid(leaf="good one"))
    assert set((await stream.told()).secrets) == {"default"}


async def test_statement_65_stale_nonce_is_not_answered(served: Served) -> None:
    """A request from before the last response is ignored, added names included."""
    sds, client = served
    stream, old = await _subscribed(client, "default")
    sds.store.take(make_svid(leaf="next"))
    last = await stream.told()
    await stream.send(sotw_request("default", "ROOTCA", nonce=old))
    await stream.silent()
    await stream.send(sotw_request("default", "ROOTCA", nonce=last.nonce))
    assert set((await stream.told()).secrets) == {"ROOTCA"}


async def test_statement_65_added_names_alone_are_answered(served: Served) -> None:
    """The certificate that is there is not sent again with the roots that are new."""
    _, client = served
    stream, nonce = await _subscribed(client, "default")
    await stream.send(sotw_request("default", "ROOTCA", nonce=nonce))
    assert set((await stream.told()).secrets) == {"ROOTCA"}
    await stream.silent()


async def test_removed_names_are_not_answered_and_not_pushed(served: Served) -> None:
    """A stream that wants roots alone from now on sees no new key."""
    sds, client = served
    stream, nonce = await _subscribed(client, "default", "ROOTCA")
    await stream.send(sotw_request("ROOTCA", nonce=nonce))
    await until(lambda: sds.service.subscribers()["default"] == 0)
    sds.store.take(make_svid(leaf="next"))
    await stream.silent()


async def test_statement_65_unsubscription_is_not_answered(served: Served) -> None:
    """No names: nothing comes any more, and the stream stays open for new ones."""
    sds, client = served
    stream, nonce = await _subscribed(client, "default")
    await stream.send(sotw_request(nonce=nonce))
    await until(lambda: sds.service.subscribers()["default"] == 0)
    sds.store.take(make_svid(leaf="next"))
    await stream.silent()
    await stream.send(sotw_request("default", nonce=nonce))
    assert set((await stream.told()).secrets) == {"default"}


async def test_reconnect_with_an_old_nonce_is_answered(served: Served) -> None:
    """A new stream begins anew, whatever its first request remembers."""
    _, client = served
    stream = client.sotw()
    await stream.send(sotw_request("default", nonce="of another stream", version="1", node=NODE))
    assert set((await stream.told()).secrets) == {"default"}


async def test_empty_nonce_in_mid_stream_is_answered_with_all_names(served: Served) -> None:
    """As istio's agent does: the client has forgotten, so it is told again, once."""
    _, client = served
    stream, _ = await _subscribed(client, "default", "ROOTCA")
    await stream.send(sotw_request("default", "ROOTCA"))
    assert set((await stream.told()).secrets) == {"default", "ROOTCA"}
    await stream.silent()


async def test_statement_66_pushes_are_independent(served: Served) -> None:
    """A new certificate pushes itself; new roots push themselves; neither pushes the other."""
    sds, client = served
    stream, _ = await _subscribed(client, "default", "ROOTCA")
    sds.store.take(make_svid(leaf="next"))
    assert set((await stream.told()).secrets) == {"default"}
    await stream.silent()
    sds.store.take(make_svid(leaf="next", roots="old and new"))
    assert set((await stream.told()).secrets) == {"ROOTCA"}
    await stream.silent()


async def test_statement_66_only_subscribed_streams_are_pushed_to(served: Served) -> None:
    """Of two streams the one that wants roots alone sees no key."""
    sds, client = served
    certificate, _ = await _subscribed(client, "default")
    roots, _ = await _subscribed(client, "ROOTCA")
    assert sds.service.subscribers()["default"] == 1
    sds.store.take(make_svid(leaf="next"))
    assert set((await certificate.told()).secrets) == {"default"}
    await roots.silent()


async def test_statement_68_request_is_held_until_there_is_a_certificate(tmp_path: Path) -> None:
    """Before the first certificate a stream waits, open and silent; then it is answered."""
    async with serving_sds(tmp_path) as (sds, client):
        stream = client.sotw()
        await stream.send(sotw_request("default", "ROOTCA", node=NODE))
        await stream.silent()
        sds.store.take(make_svid())
        assert set((await stream.told()).secrets) == {"default", "ROOTCA"}


async def test_stream_that_ends_is_forgotten(served: Served) -> None:
    """Nothing of it is left, in the figures neither."""
    sds, client = served
    stream, _ = await _subscribed(client, "default")
    streams = "meshsigner_agent_streams"
    assert sds.metric(streams, workload="productpage") == 1
    await stream.leave()
    await until(lambda: sds.metric(streams, workload="productpage") == 0)
    assert sds.service.subscribers()["default"] == 0


async def test_push_is_logged_and_its_acknowledgement_timed(served: Served) -> None:
    """One line a response, with versions and no key; the time to the acknowledgement counts."""
    sds, client = served
    with capture_logs() as logs:
        await _subscribed(client, "default")
        await until(
            lambda: sds.metric("meshsigner_agent_secret_accepted_duration_seconds_count") == 1
        )
    (line,) = logs
    versions = {"default": sds.store.versions["default"]}
    assert line == {
        "event": "secrets sent",
        "log_level": "info",
        "workload": "productpage",
        "node": NODE,
        "versions": versions,
    }


async def test_statement_69_delta_stream_speaks_envoys_bytes(served: Served) -> None:
    """Each resource has name and version of its own."""
    sds, client = served
    stream = client.delta()
    await stream.send(delta_request(subscribe=("default", "ROOTCA"), node=NODE))
    told = await stream.told()
    assert told.versions == {name: sds.store.versions[name] for name in ("default", "ROOTCA")}
    assert told.type_url == SECRET_TYPE
    assert told.nonce


async def test_statement_65_delta_answers_subscriptions_alone(served: Served) -> None:
    """Acknowledgement, refusal and unsubscription bring nothing; a new name brings itself."""
    sds, client = served
    stream = client.delta()
    await stream.send(delta_request(subscribe=("default",), node=NODE))
    nonce = (await stream.told()).nonce
    await stream.send(delta_request(nonce=nonce))
    await stream.send(delta_request(nonce=nonce, refusal="no"))
    await stream.silent()
    assert sds.metric(REFUSED, workload="productpage") == 1
    await stream.send(delta_request(subscribe=("ROOTCA",)))
    assert set((await stream.told()).secrets) == {"ROOTCA"}
    await stream.send(delta_request(unsubscribe=("default",)))
    await until(lambda: sds.service.subscribers()["default"] == 0)
    sds.store.take(make_svid(leaf="next"))
    await stream.silent()


async def test_delta_push_carries_what_changed(served: Served) -> None:
    """As in the other form: the certificate without the roots."""
    sds, client = served
    stream = client.delta()
    await stream.send(delta_request(subscribe=("default", "ROOTCA"), node=NODE))
    await stream.told()
    sds.store.take(make_svid(leaf="next"))
    assert set((await stream.told()).secrets) == {"default"}


async def test_delta_reconnect_gets_what_changed_meanwhile(served: Served) -> None:
    """Who tells what it holds is told the difference."""
    sds, client = served
    held = dict(sds.store.versions)
    stream = client.delta()
    names = ("default", "ROOTCA")
    await stream.send(delta_request(subscribe=names, versions=held, node=NODE))
    await stream.silent()
    sds.store.take(make_svid(leaf="next"))
    assert set((await stream.told()).secrets) == {"default"}


async def test_delta_is_held_and_refused_like_the_other_form(tmp_path: Path) -> None:
    """No certificate yet: silence. No node, or no such name: INVALID_ARGUMENT."""
    async with serving_sds(tmp_path) as (sds, client):
        stream = client.delta()
        await stream.send(delta_request(subscribe=("default",), node=NODE))
        await stream.silent()
        sds.store.take(make_svid())
        assert set((await stream.told()).secrets) == {"default"}
        for message in (
            delta_request(subscribe=("default",)),
            delta_request(subscribe=("nope",), node=NODE),
        ):
            stream = client.delta()
            await stream.send(message)
            assert (await stream.ended())[0] is grpc.StatusCode.INVALID_ARGUMENT


async def test_statement_69_fetch_without_names_gets_everything(served: Served) -> None:
    """A single call has nothing to unsubscribe from (SPIRE)."""
    _, client = served
    assert set((await client.fetch(sotw_request())).secrets) == set(NAMES)


async def test_fetch_waits_for_the_first_certificate(tmp_path: Path) -> None:
    """It waits as long as its caller does, then it is UNAVAILABLE, in words."""
    async with serving_sds(tmp_path) as (sds, client):
        with pytest.raises(aio.AioRpcError) as caught:
            await client.fetch(sotw_request("default"), timeout_s=0.5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "there is no certificate yet"
        sds.store.take(make_svid())
        assert set((await client.fetch(sotw_request("default"))).secrets) == {"default"}


async def test_fetch_of_an_unknown_name_is_refused(served: Served) -> None:
    """As on a stream."""
    _, client = served
    with pytest.raises(aio.AioRpcError) as caught:
        await client.fetch(sotw_request("nope"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
