"""What an earlier process asked a costly CA for, and never learnt the outcome of.

Found again before the server serves: what was issued is checked like any other
answer and recorded as never delivered, what was not is settled. Where the CA
cannot be asked now, or cannot tell at all, the intent stays open, and whoever
asks for the same again meets it.

Source: docs/ARCHITECTURE.md, "Backends"; docs/adr/0035.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshsigner.dispatch.lane import RemoteLane
from meshsigner.errors import (
    UNREADABLE_X509,
    BackendUnavailable,
    MeshsignerError,
    RecordFailed,
    WrongCertificate,
)
from meshsigner.leeway import settle_validity
from meshsigner.model import (
    AuthMethod,
    Caller,
    CertificateRequest,
    Chain,
    Errand,
    Intent,
    Issuer,
    KeyAlgorithm,
    Order,
    PublicKey,
    Terms,
)
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.ports import RemoteSigner
from meshsigner.recorder import Recorder, make_record
from meshsigner.spiffe import WorkloadId
from meshsigner.verify import check_issued

LOOK_S = 8.0  # for all intents of a backend; a start waits no longer for it
AGAIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What was issued and never delivered.

    Attributes:
        order: What it was ordered by.
        chain: The certificate, checked.
    """

    order: Order
    chain: Chain


async def recover(
    backend: RemoteSigner, intent: Intent, now: datetime, deadline_s: float
) -> Recovered | None:
    """Look for what an open intent has led to.

    Args:
        backend: Whom it is about.
        intent: As an earlier process left it.
        now: The time.
        deadline_s: Until when, seconds of the event loop's clock.

    Returns:
        What is to be recorded; None when certainly nothing was issued.

    Raises:
        MeshsignerError: It cannot be found out, now or at all, or what was
            issued is something else than was ordered.
        TimeoutError: No answer in time.
    """
    if not backend.capabilities.finds:
        raise BackendUnavailable("this backend cannot tell what it has issued", maybe_issued=True)
    errand = errand_of(intent, backend.issuer(now))
    async with asyncio.timeout_at(deadline_s):
        chain = await backend.find(errand, deadline_s)
    if chain is None:
        return None
    order = complete(errand.order, chain)
    order = settle_validity(chain, order, backend.capabilities.leeway, now)
    check_issued(chain, order)
    return Recovered(order=order, chain=chain)


class Recovery:
    """Looks after the intents that an earlier process left open.

    Args:
        lanes: The remote backends.
        recorder: Where intents are read and rows are written.
        clock: Returns the time, UTC.
    """

    def __init__(
        self, lanes: Sequence[RemoteLane], recorder: Recorder, clock: Callable[[], datetime]
    ) -> None:
        self._lanes = [lane for lane in lanes if lane.capabilities.intents]
        self._recorder = recorder
        self._clock = clock
        self._left: set[str] = set()

    async def start(self) -> bool:
        """Take the open intents, and find what came of them, within some seconds.

        Returns:
            True when some are still open, so that `run` is wanted.

        Raises:
            RecordFailed: The inventory cannot be read.
        """
        if not self._lanes:
            return False
        intents = await self._recorder.open_intents()
        for lane in self._lanes:
            lane.intents.restore(intents)
        self._left = {intent.token for intent in intents}
        await self.look()
        for lane in self._lanes:
            for intent in lane.intents.open:
                get_logger().warning(
                    Event.INTENT_OPEN,
                    backend=lane.name,
                    identity=intent.draft.identity,
                    csr_sha256=intent.draft.csr_sha256,
                )
        return bool(self._left)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(AGAIN_S)
            await self.look()

    async def look(self) -> None:
        """Find what came of the intents that are still open."""
        for lane in self._lanes:
            deadline_s = asyncio.get_running_loop().time() + LOOK_S
            for intent in lane.intents.open:
                if intent.token in self._left:
                    await self._look_for(lane, intent, deadline_s)

    async def _look_for(self, lane: RemoteLane, intent: Intent, deadline_s: float) -> None:
        try:
            found = await recover(lane.backend, intent, self._clock(), deadline_s)
            if found is not None:
                await self._record(found)
        except (MeshsignerError, TimeoutError) as error:
            get_logger().warning(
                Event.INTENT_OPEN, backend=lane.name, token=intent.token, cause=str(error)
            )
            return
        lane.intents.end(intent.token, settled=True)
        self._left.discard(intent.token)

    async def _record(self, found: Recovered) -> None:
        record = make_record(found.order, found.chain, self._clock(), delivered=False)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(fault: RecordFailed | None) -> None:
            if fault is None:
                done.set_result(None)
            else:
                done.set_exception(fault)

        self._recorder.submit([record], settle)
        await done
        get_logger().info(Event.INTENT_RECOVERED, backend=found.chain.backend, serial=record.serial)


def errand_of(intent: Intent, issuer: Issuer) -> Errand:
    """Make of an intent what its call was about, as far as that is known: enough to look it up.

    Args:
        intent: As an earlier process left it.
        issuer: Of the backend, now.
    """
    draft = intent.draft
    identity = WorkloadId.parse(draft.identity)
    key = PublicKey(
        algorithm=KeyAlgorithm.P256,
        bits=256,
        spki_der=b"",
        sha256=bytes.fromhex(draft.public_key_sha256),
    )
    order = Order(
        caller=Caller(
            identity=WorkloadId.parse(draft.impersonator) if draft.impersonator else identity,
            cluster=draft.cluster,
            auth_method=AuthMethod(draft.auth_method),
            credential_id=draft.credential_id,
            pod_name=draft.pod_name,
            pod_uid=draft.pod_uid,
            node_name=draft.node_name,
        ),
        request=CertificateRequest(
            public_key=key,
            uri_sans=(draft.identity,),
            other_sans=0,
            wants_common_name=False,
            csr_sha256=bytes.fromhex(draft.csr_sha256),
        ),
        terms=Terms(
            identity=identity,
            common_name=None,
            not_before=draft.not_before,
            not_after=draft.not_after,
            policy_generation=draft.policy_generation,
        ),
        cert_signer="",
        issuer=issuer,
        peer=draft.client_address,
    )
    return Errand(order=order, token=intent.token)


def complete(order: Order, chain: Chain) -> Order:
    """Put into an order what its intent did not hold: the key itself, whether there is a CN.

    Args:
        order: Of `errand_of`.
        chain: What was found for it.

    Raises:
        WrongCertificate: The certificate is for another key.
    """
    try:
        leaf = x509.load_der_x509_certificate(chain.leaf_der)
        spki = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except UNREADABLE_X509 as cause:
        raise WrongCertificate(("not a readable certificate",)) from cause
    if hashlib.sha256(spki).digest() != order.request.public_key.sha256:
        raise WrongCertificate(("public key differs",))
    key = replace(order.request.public_key, spki_der=spki)
    names = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    common_name = order.terms.identity.uri if names else None
    return replace(
        order,
        request=replace(order.request, public_key=key),
        terms=replace(order.terms, common_name=common_name),
    )
