"""A fake of the pipeline for the wire: it answers, refuses, hangs or breaks as told."""

import asyncio

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.model import Ask, Chain, Issuer
from meshsigner.ports import Answer, Incoming
from tests.fakes.pipeline import make_ca_certificate, make_issuer


class FakeIssuance:
    """Answers every call with the same certificate, unless its world is changed.

    Attributes:
        chain: What it answers.
        calls: Every call that came, in order.
        asks: What each of them said.
        error: Raised for every call, when set.
        refused: Tokens that end in an error, by token.
        gate: Calls wait for it; open at first.
        waiting: How many wait for it now.
        cancelled: How many were cancelled while they waited.
    """

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        root = make_ca_certificate(self.key, "wire root")
        self.chain = chain_of(make_issuer(root), root)
        self.calls: list[Incoming[object]] = []
        self.asks: list[Ask] = []
        self.error: BaseException | None = None
        self.refused: dict[str, Exception] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = 0
        self.cancelled = 0

    async def issue(self, incoming: Incoming[Answer]) -> Answer:
        """Answer a call."""
        ask = incoming.read()
        self.calls.append(incoming)
        self.asks.append(ask)
        await self._wait()
        if self.error is not None:
            raise self.error
        refusal = self.refused.get(ask.credentials.bearer_token or "")
        if refusal is not None:
            raise refusal
        incoming.line["identity"] = "spiffe://cluster.local/ns/foo/sa/bar"
        incoming.line["auth_method"] = "jwt"
        return incoming.render(self.chain)

    async def _wait(self) -> None:
        self.waiting += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1


def chain_of(issuer: Issuer, leaf: x509.Certificate) -> Chain:
    """Make an answer."""
    return Chain(
        leaf_der=leaf.public_bytes(Encoding.DER),
        issuer=issuer,
        serial=leaf.serial_number,
        backend="fake",
    )
