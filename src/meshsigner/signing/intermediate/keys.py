"""What an intermediate is asked for with: a key, wherever it is, and the request that it signed.

The keeper knows no key: it is given a request and the way to join what comes
back to the key. Here is the way for keys in this process; `token` has the one
for keys in an HSM.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from meshsigner.model import Issuer
from meshsigner.signing.by_hand.request import build_request
from meshsigner.signing.keyed import CaPublicKey
from meshsigner.signing.local_key import local_key
from meshsigner.spiffe import TrustDomain
from meshsigner.trust import CaFiles
from meshsigner.trust.pem import PrivateKey


class Kept(Protocol):
    """An intermediate, with its key or without."""

    @property
    def issuer(self) -> Issuer:
        """Its certificate with all that stands above it."""
        ...


K = TypeVar("K", bound=Kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[K]):
    """A request, and what to do with the answer.

    Attributes:
        public_key: Of the next intermediate.
        csr_pem: Signed by its private half.
        certified: Joins the issuer that was granted to the key.
    """

    public_key: CaPublicKey
    csr_pem: bytes
    certified: Callable[[Issuer], K] = field(repr=False)


Prepare = Callable[[TrustDomain], Awaitable[Asked[K]]]


def with_new_key(make: Callable[[], PrivateKey]) -> Prepare[CaFiles]:
    """Return what makes each request with a new key in this process.

    Args:
        make: Makes a key; called in a thread.
    """

    async def prepare(trust_domain: TrustDomain) -> Asked[CaFiles]:
        key = await asyncio.to_thread(make)
        public_key = key.public_key()

        def certified(issuer: Issuer) -> CaFiles:
            return CaFiles(issuer=issuer, key=key, expires=issuer.not_after, warnings=())

        csr_pem = build_request(public_key, trust_domain, local_key(key).sign)
        return Asked(public_key=public_key, csr_pem=csr_pem, certified=certified)

    return prepare
