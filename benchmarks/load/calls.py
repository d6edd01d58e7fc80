"""The driver's words: a call made before the run, its answer, and when things happened."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

NO_ANSWER: Final = -1
"""Status of a call that the run's end found still open; gRPC has no such number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One CreateCertificate call, complete but for the connection it travels on.

    Args:
        token_block: HPACK block of its `authorization` header.
        body: The framed request.
        public_key_der: SubjectPublicKeyInfo that the certificate must carry.
        uri_san: The identity that the certificate must carry, and no other.
        wanted: The grpc-status that it must get; another than 0 for a call that is made
            wrong on purpose and must never get a certificate.
    """

    token_block: bytes
    body: bytes
    public_key_der: bytes
    uri_san: str
    wanted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How a call ended.

    Args:
        status: grpc-status from the trailers, or what stands for it after a reset.
        message: grpc-message, or why there was no status.
        body: The framed response, empty for a refusal.
        at_ns: When it was complete, on the monotonic clock.
    """

    status: int
    message: str
    body: bytes
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A call with its answer.

    Args:
        call: What was asked.
        planned_ns: When it should have been sent. In an open loop this is the
            schedule's time, however late the driver or the connection was.
        answer: How it ended, after all attempts of a client that makes several.
        sent_ns: When the driver really sent it.
        attempts: How often it was asked.
    """

    call: Call
    planned_ns: int
    answer: Answer
    sent_ns: int = 0
    attempts: int = 1

    @property
    def latency_ns(self) -> int:
        """Time from the planned sending to the whole answer."""
        return self.answer.at_ns - self.planned_ns


OnAnswer = Callable[[Answer], None]


class Sender(Protocol):
    """What carries calls to a server."""

    def send(self, call: Call, on_answer: OnAnswer) -> None:
        """Send the call, and give its answer to `on_answer` exactly once."""
