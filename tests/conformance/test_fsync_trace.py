"""The record is on the disk before the answer is on the wire, as the kernel saw it.

A traced server answers requests; for each the trace must show the write to the inventory's log, the
fsync of it, and only then the answer on the caller's connection.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.conformance.load import Ask, burst, connections, make_asks
from tests.conformance.server import Installation, running
from tests.conformance.syscalls import Syscall, parse, tracer

IDENTITY = "spiffe://cluster.local/ns/foo/sa/bar"
SYNCS = ("fsync", "fdatasync")
WRITES = ("write", "writev", "pwrite64", "pwritev")
SENDS = ("sendmsg", "sendto", "write", "writev")
# A chain of three certificates; all else that a server sends on a warm connection is smaller.
SMALLEST_ANSWER_BYTES = 1_200
LONE, TOGETHER, ROUNDS = 1, 24, 8
PAUSE_S = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Requests that were sent at once, with nothing before and after them.

    Args:
        size: How many.
        began: When the first was sent, Unix time in seconds.
        ended: When the last was answered.
    """

    size: int
    began: float
    ended: float

    def of(self, calls: Sequence[Syscall]) -> list[Syscall]:
        """Return the system calls that began within the round."""
        return [call for call in calls if self.began <= call.started <= self.ended]


def _on_log(call: Syscall, names: Sequence[str]) -> bool:
    """Tell whether a call of these names is on SQLite's write-ahead log."""
    return call.name in names and "inventory.db-wal>" in call.arguments.partition(",")[0]


def _is_answer(call: Syscall, port: str) -> bool:
    """Tell whether a call sends a chain on a connection to the server's port."""
    where = call.arguments.partition(",")[0]
    to_caller = "<TCP" in where and f":{port}->" in where
    return call.name in SENDS and to_caller and call.result >= SMALLEST_ANSWER_BYTES


async def _rounds(listen: str, installation: Installation, asks: list[Ask]) -> list[Round]:
    """Send rounds of one request and of several, each into a silent server."""
    rounds = []
    async with connections(listen, installation) as channels:
        await burst(channels, asks[:1])  # the first answer opens files and connections
        for number in range(ROUNDS):
            size = TOGETHER if number % 2 else LONE
            await asyncio.sleep(PAUSE_S)
            began = time.time()
            answers = await burst(channels, asks[:size])
            rounds.append(Round(size=size, began=began, ended=time.time()))
            assert {answer.code for answer in answers} == {grpc.StatusCode.OK}
    return rounds


def _check_round(one: Round, calls: Sequence[Syscall], port: str) -> None:
    """Check that the first answer of a round left after the log was written and synced."""
    answers = [call for call in calls if _is_answer(call, port)]
    writes = [call for call in calls if _on_log(call, WRITES)]
    syncs = [call for call in calls if _on_log(call, SYNCS) and call.result == 0]
    assert answers, "no answer was seen: the trace does not show what it should"
    assert writes, "nothing was written"
    first = answers[0].started
    synced = [sync for sync in syncs if sync.ended <= first]
    before = [write for write in writes if write.started < first]
    if one.size > LONE:
        before = before[:1]  # a second commit may be under way when the first is answered
    assert before, "the answer left before anything was written"
    for write in before:
        assert any(sync.started >= write.ended for sync in synced), "answered before the fsync"


async def test_log_is_synced_before_the_first_answer(
    installation: Installation, tmp_path: Path
) -> None:
    """Lone or together, no answer leaves before the commit that records it has been synced."""
    trace = tmp_path / "trace"
    asks = make_asks(IDENTITY, "", TOGETHER)
    with running(installation, under=tracer(trace, {*SYNCS, *WRITES, *SENDS})) as server:
        token = installation.token("bar")
        mine = [Ask(csr_pem=ask.csr_pem, token=token) for ask in asks]
        rounds = await _rounds(server.listen, installation, mine)
    port = server.listen.rpartition(":")[2]
    with trace.open() as lines:
        calls = list(parse(lines))
    for one in rounds:
        _check_round(one, sorted(one.of(calls), key=lambda call: call.started), port)
