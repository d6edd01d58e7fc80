"""What an earlier process asked a costly CA for, and never learnt the outcome of.

Found again before the server serves: what was issued is checked like any other
answer and recorded as never delivered, what was not is settled. Where the CA
cannot be asked now, or cannot tell at all, the intent stays open, and whoever
asks for the same again meets it.

Source: docs/ARCHITECTURE.md, "Backends"; docs/adr/0035.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshsigner.dispatch.intents import Intents
from meshsigner.errors import UNREADABLE_X509, WrongCertificate
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
from meshsigner.ports import RemoteSigner
from meshsigner.spiffe import WorkloadId
from meshsigner.verify import check_issued


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What was issued and never delivered.

    Attributes:
        token: Of its intent.
        order: What it was ordered by.
        chain: The certificate, checked.
    """

    token: str
    order: Order
    chain: Chain


async def reconcile(
    backend: RemoteSigner, intents: Intents, clock: Callable[[], datetime], deadline_s: float
) -> list[Recovered]:
    """Look for what the open intents of a backend have led to.

    Args:
        backend: Whom they are about.
        intents: What is certainly not issued is settled in it.
        clock: Returns the time, UTC.
        deadline_s: Until when, seconds of the event loop's clock.

    Returns:
        What is to be recorded, and then settled.

    Raises:
        MeshsignerError: The backend cannot be asked now; ask again later.
    """
    recovered: list[Recovered] = []
    if not (intents.open and backend.capabilities.finds):
        return recovered
    issuer = backend.issuer(clock())
    for intent in intents.open:
        errand = errand_of(intent, issuer)
        chain = await backend.find(errand, deadline_s)
        if chain is None:
            intents.end(intent.token, settled=True)
            continue
        order = complete(errand.order, chain)
        order = settle_validity(chain, order, backend.capabilities.leeway, clock())
        check_issued(chain, order)
        recovered.append(Recovered(token=intent.token, order=order, chain=chain))
    return recovered


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
