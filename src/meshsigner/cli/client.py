"""An operator's way to a certificate: the same steps as istio-agent's, each shown.

Used by `request` and by the demonstration of `dev run`. Makes key and CSR,
asks once, checks the answer, and tells a refusal in words.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from meshsigner.agent.answer import check_answer
from meshsigner.agent.ca_client import Ask, Server, create_certificate
from meshsigner.agent.keys import KeyType, build_csr, make_key, render_key
from meshsigner.cli.token import Token


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What certificate is wanted, and from whom.

    Attributes:
        server: The CA.
        token: Proves the caller.
        identity: SPIFFE ID for the CSR.
        key_type: Kind of key to make.
        lifetime: Wished lifetime.
        cluster_id: The caller's cluster.
    """

    server: Server
    token: Token
    identity: str
    key_type: KeyType
    lifetime: timedelta
    cluster_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that was issued and passed its check.

    Attributes:
        key_pem: Its private key: a secret.
        chain: Elements of the answer.
        call_s: How long the call took, connection included, seconds.
    """

    key_pem: bytes
    chain: tuple[str, ...]
    call_s: float


async def obtain(wish: Wish, show: Callable[[str], None]) -> Issued:
    """Go the way once.

    Args:
        wish: What is wanted.
        show: Told about each step.

    Raises:
        CallFailed: The server refused, or did not answer.
        WrongAnswer: What it answered is not what was asked for.
    """
    show(f"making a {wish.key_type.value} key")
    key = make_key(wish.key_type)
    show(f"making a CSR for {wish.identity}")
    csr_pem = build_csr(key, wish.identity).decode()
    show(f"calling CreateCertificate at {wish.server.address}, cluster {wish.cluster_id!r}")
    started_s = time.perf_counter()
    ask = Ask(
        csr_pem=csr_pem,
        lifetime_s=int(wish.lifetime.total_seconds()),
        token=wish.token.text,
        cluster_id=wish.cluster_id,
    )
    chain = await create_certificate(wish.server, ask)
    call_s = time.perf_counter() - started_s
    show(f"checking the answer of {len(chain)} elements: key, identity, chain")
    check_answer(chain, key.public_key(), wish.identity, datetime.now(UTC))
    return Issued(key_pem=render_key(key), chain=chain, call_s=call_s)
