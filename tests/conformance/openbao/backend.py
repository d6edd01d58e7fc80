"""A backend over a real OpenBao, driven as the pipeline drives it, without a server around."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from meshsigner.csr import parse_csr
from meshsigner.errors import MeshsignerError
from meshsigner.leeway import settle_validity
from meshsigner.model import Chain, Errand, Issuer, Order
from meshsigner.observe.metrics import Metrics
from meshsigner.policy import authorize
from meshsigner.ports import RemoteSigner
from meshsigner.signing.kind import BackendKind, Surroundings
from meshsigner.spiffe import TrustDomain
from meshsigner.verify import check_issued
from tests.fakes.authority import make_key
from tests.fakes.pipeline import make_caller, make_csr, make_policy

PATIENCE_S = 10.0


def utc_now() -> datetime:
    """Return the time in whole seconds, as the pipeline takes it."""
    return datetime.now(UTC).replace(microsecond=0)


def surroundings_in(directory: Path) -> Surroundings:
    """Return a server around a backend."""
    return Surroundings(
        clock=utc_now,
        trust_domain=TrustDomain.parse("cluster.local"),
        metrics=Metrics(),
        directory=directory,
    )


def make_errand(
    issuer: Issuer,
    *,
    number: int = 0,
    lifetime: timedelta | None = None,
    namespace: str = "foo",
    key: str = "p256",
    not_after: datetime | None = None,
) -> Errand:
    """Return an errand of one of many callers.

    Args:
        issuer: Whose lifetime is respected.
        number: Which caller.
        lifetime: Wish; None asks for the default.
        namespace: Of the caller.
        key: Kind of the CSR's key.
        not_after: Overrides the issuer's end, for an order that outlives it.
    """
    caller = make_caller(namespace, service_account=f"sa-{number}")
    csr = make_csr(make_key(key, 1_000 + number), caller.identity.uri)
    request = parse_csr(csr)
    terms = authorize(
        caller=caller,
        request=request,
        asked_lifetime=lifetime,
        policy=make_policy(),
        now=utc_now(),
        issuer_not_after=not_after or issuer.not_after,
    )
    order = Order(
        caller=caller,
        request=request,
        terms=terms,
        cert_signer="",
        issuer=issuer,
        peer="test",
        csr_pem=csr,
    )
    return Errand(order=order, token=f"{number:032x}")


@dataclass(frozen=True, slots=True)
class Driven:
    """A started backend.

    Attributes:
        signer: The backend.
        metrics: What it counted.
    """

    signer: RemoteSigner
    metrics: Metrics

    def errand(self, **what: Any) -> Errand:
        """Return an errand under the backend's issuer."""
        return make_errand(self.signer.issuer(utc_now()), **what)

    async def call(
        self, errands: list[Errand], left_s: float = PATIENCE_S
    ) -> list[Chain | MeshsignerError]:
        """Have errands signed by one call; errors of the whole call come for each."""
        deadline_s = asyncio.get_running_loop().time() + left_s
        try:
            return list(await self.signer.sign(errands, deadline_s))
        except MeshsignerError as error:
            return [error] * len(errands)

    async def sign(self, left_s: float = PATIENCE_S, **what: Any) -> Chain:
        """Have one order signed, checked as the pipeline checks it.

        Raises:
            MeshsignerError: It was not.
        """
        errand = self.errand(**what)
        (found,) = await self.call([errand], left_s)
        if not isinstance(found, Chain):
            raise found
        return self.check(found, errand.order)

    def check(self, chain: Chain, order: Order) -> Chain:
        """Check an answer as the pipeline does.

        Raises:
            WrongCertificate: It is not what was ordered.
        """
        leeway = self.signer.capabilities.leeway
        return check_issued(chain, settle_validity(chain, order, leeway, utc_now()))

    async def until(self, *, ready: bool, within_s: float = 5.0) -> str:
        """Wait until health says so, and return what it tells."""
        async with asyncio.timeout(within_s):
            while self.signer.health(utc_now()).ready is not ready:
                await asyncio.sleep(0.02)
        return self.signer.health(utc_now()).detail


@asynccontextmanager
async def driven(
    kind: BackendKind, settings: Mapping[str, Any], directory: Path
) -> AsyncIterator[Driven]:
    """Have a backend running, as a server has it."""
    around = surroundings_in(directory)
    signer = kind.open("corporate", kind.settings.model_validate(dict(settings)), around)
    try:
        await signer.start()
        yield Driven(signer, around.metrics)  # type: ignore[arg-type] # remote kinds alone
    finally:
        await signer.aclose()
