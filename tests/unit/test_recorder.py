"""Recorder: group commit, word to every submitter, nothing lost, nothing early."""

import asyncio
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.csr import parse_csr
from meshsigner.errors import RecordFailed
from meshsigner.model import Order, Record
from meshsigner.observe.metrics import Metrics
from meshsigner.policy import authorize
from meshsigner.recorder import Recorder, make_record
from tests.fakes.pipeline import (
    NOW,
    FakeSigner,
    MemoryInventory,
    make_caller,
    make_csr,
    make_policy,
)


def _record(name: str = "bar") -> Record:
    signer, caller = FakeSigner(), make_caller(service_account=name, pod="p")
    request = parse_csr(make_csr(ec.generate_private_key(ec.SECP256R1())))
    terms = authorize(
        caller=caller,
        request=request,
        asked_lifetime=timedelta(hours=1),
        policy=make_policy(),
        now=NOW,
        issuer_not_after=NOW + timedelta(days=9),
    )
    order = Order(
        caller=caller,
        request=request,
        terms=terms,
        cert_signer="",
        issuer=signer.current,
        peer="ipv4:127.0.0.1:7",
    )
    return make_record(order, signer.sign(order), NOW, delivered=True)


async def _settled(recorder: Recorder, *records: Record) -> RecordFailed | None:
    done: asyncio.Future[RecordFailed | None] = asyncio.get_running_loop().create_future()
    recorder.submit(records, done.set_result)
    return await asyncio.wait_for(done, 10)


async def test_word_comes_after_the_commit() -> None:
    """A submitter hears nothing before its rows are stored."""
    inventory = MemoryInventory()
    recorder = Recorder(inventory, Metrics())
    await recorder.start()
    inventory.gate.clear()
    told: list[RecordFailed | None] = []
    recorder.submit([_record()], told.append)
    await asyncio.sleep(0.05)
    assert not told
    inventory.gate.set()
    assert await _settled(recorder, _record("later")) is None
    assert told == [None]
    assert len(inventory.rows) == 2
    await recorder.close()
    assert inventory.closed


async def test_what_arrives_during_a_commit_is_one_group() -> None:
    """Rows of many submitters that arrive while a commit runs share the next one."""
    inventory = MemoryInventory()
    recorder = Recorder(inventory, Metrics())
    await recorder.start()
    inventory.gate.clear()
    record = _record()
    told: list[RecordFailed | None] = []
    for _ in range(20):
        recorder.submit([record], told.append)
    inventory.gate.set()
    await _settled(recorder, record)
    assert told == [None] * 20
    assert inventory.commits == [1, 20]
    await recorder.close()


@pytest.mark.parametrize("fault", [RecordFailed("disk full"), RuntimeError("a bug")])
async def test_a_failed_commit_withholds_and_the_next_one_is_tried(fault: Exception) -> None:
    """Every submitter of a failed group hears RecordFailed; health says why until it passes."""
    inventory = MemoryInventory()
    recorder = Recorder(inventory, Metrics())
    await recorder.start()
    inventory.fault = fault
    told = await _settled(recorder, _record())
    assert isinstance(told, RecordFailed)
    assert str(fault) in str(told)
    assert not recorder.health().ready
    assert str(fault) in recorder.health().detail
    inventory.fault = None
    assert await _settled(recorder, _record()) is None
    assert recorder.health().ready
    await recorder.close()


async def test_a_store_that_cannot_write_stops_the_start() -> None:
    """A server whose store is broken says so at once."""
    inventory = MemoryInventory()
    inventory.fault = RecordFailed("read-only file system")
    recorder = Recorder(inventory, Metrics())
    assert not recorder.health().ready
    with pytest.raises(RecordFailed, match="read-only"):
        await recorder.start()
    await recorder.close()


async def test_closing_waits_for_what_was_submitted() -> None:
    """No row and no undelivered serial is left behind at shutdown."""
    inventory = MemoryInventory()
    recorder = Recorder(inventory, Metrics())
    await recorder.start()
    inventory.gate.clear()
    told: list[RecordFailed | None] = []
    for _ in range(3):
        recorder.submit([_record()], told.append)
    recorder.undelivered("abc")
    closing = asyncio.create_task(recorder.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    inventory.gate.set()
    await asyncio.wait_for(closing, 10)
    assert told == [None] * 3
    assert len(inventory.rows) == 3
    assert inventory.undelivered == ["abc"]


def test_a_record_says_all_that_is_known() -> None:
    """Every field of a row comes from the order or the chain."""
    record = _record("reviews")
    assert record.identity == "spiffe://cluster.local/ns/foo/sa/reviews"
    assert record.namespace == "foo"
    assert record.cluster == "Kubernetes"
    assert (record.pod_name, record.pod_uid, record.credential_id) == ("p", "uid-p", "jti-p")
    assert record.impersonator == ""
    assert record.auth_method == "jwt"
    assert record.backend == "fake"
    assert record.client_address == "ipv4:127.0.0.1:7"
    assert record.not_after == NOW + timedelta(hours=1)
    assert record.issued_at == NOW
    assert record.delivered
    assert len(record.serial) >= 16
    assert len(record.issuer) == len(record.csr_sha256) == len(record.public_key_sha256) == 64
