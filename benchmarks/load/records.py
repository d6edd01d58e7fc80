"""Calls and outcomes in files: how material waits for a run, and results leave the drivers.

A file is a sequence of records, a record a fixed head and some byte strings with their
lengths before them. No pickle: a file of the cache may come from anywhere.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from benchmarks.load.calls import Answer, Call, Outcome

_CALL: Final = struct.Struct(">bHHHH")
_OUTCOME: Final = struct.Struct(">IqqqhHHI")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An outcome as a driver wrote it: the call by its position, for the call is known.

    Args:
        position: The call's, in the slice that the load drew from.
        outcome: All but the call, as an Outcome has it.
    """

    position: int
    planned_ns: int
    sent_ns: int
    attempts: int
    answer: Answer

    @property
    def latency_ns(self) -> int:
        """Time from the planned sending to the whole answer."""
        return self.answer.at_ns - self.planned_ns


def write_calls(file: Path, calls: Iterable[Call]) -> None:
    """Write calls, as a whole or not at all."""
    fresh = file.with_suffix(".new")
    with fresh.open("wb") as out:
        for call in calls:
            parts = (call.token_block, call.body, call.public_key_der, call.uri_san.encode())
            out.write(_CALL.pack(call.wanted, *map(len, parts)) + b"".join(parts))
    fresh.rename(file)


def read_calls(file: Path) -> Iterator[Call]:
    """Yield the calls of a file.

    Raises:
        ValueError: The file is cut off.
    """
    with file.open("rb") as source:
        while head := source.read(_CALL.size):
            wanted, *lengths = _CALL.unpack(head)
            token, body, key, san = (_exactly(source, length) for length in lengths)
            yield Call(
                token_block=token,
                body=body,
                public_key_der=key,
                uri_san=san.decode(),
                wanted=wanted,
            )


def write_outcomes(file: Path, outcomes: Iterable[tuple[int, Outcome]]) -> None:
    """Write outcomes with the positions of their calls."""
    with file.open("wb") as out:
        for position, outcome in outcomes:
            answer = outcome.answer
            message = answer.message.encode()[:0xFFFF]
            head = (position, outcome.planned_ns, outcome.sent_ns, answer.at_ns, answer.status)
            out.write(_OUTCOME.pack(*head, outcome.attempts, len(message), len(answer.body)))
            out.write(message + answer.body)


def read_results(file: Path) -> Iterator[Result]:
    """Yield what a driver wrote.

    Raises:
        ValueError: The file is cut off.
    """
    with file.open("rb") as source:
        while head := source.read(_OUTCOME.size):
            position, planned, sent, at, status, attempts, *lengths = _OUTCOME.unpack(head)
            message, body = (_exactly(source, length) for length in lengths)
            answer = Answer(status=status, message=message.decode(), body=body, at_ns=at)
            yield Result(
                position=position,
                planned_ns=planned,
                sent_ns=sent,
                attempts=attempts,
                answer=answer,
            )


def _exactly(source: BinaryIO, length: int) -> bytes:
    data = source.read(length)
    if len(data) != length:
        raise ValueError(f"{source.name} is cut off")
    return data
