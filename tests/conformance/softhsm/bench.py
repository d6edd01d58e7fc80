"""A backend of the kind `pkcs11` over a test's token, driven without a server."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from meshsigner.csr import parse_csr
from meshsigner.errors import MeshsignerError
from meshsigner.model import Chain, Errand, Issuer, Order
from meshsigner.observe.metrics import Metrics
from meshsigner.policy import authorize
from meshsigner.signing.keyed import KeyedSigner
from meshsigner.signing.kind import Surroundings
from meshsigner.signing.pkcs11.assembly import open_backend
from meshsigner.signing.pkcs11.kind import PKCS11
from meshsigner.signing.pkcs11.settings import Pkcs11Settings
from meshsigner.signing.pkcs11.store import Pace
from meshsigner.spiffe import TrustDomain
from meshsigner.verify import check_issued
from tests.conformance.softhsm.token import KEY_LABEL, LABEL, SoftHsm
from tests.fakes.authority import NOW, Ca, cacerts, make_ca, make_key, write_files
from tests.fakes.pipeline import make_caller, make_csr, make_policy

ROOT = make_ca("root")
QUICK = Pace(revive_every_s=0.05, probe_every_s=0.2, stuck_s=1.0)
PATIENCE_S = 10.0


def make_issuer_ca(kind: str = "p256", number: int = 0) -> Ca:
    """Return an intermediate with a key of a kind."""
    return make_ca(f"issuer {number}", issuer=ROOT, key=make_key(kind, number))


def write_certificates(directory: Path, ca: Ca) -> Path:
    """Write a CA's certificates, without its key."""
    files = cacerts(ca, chain=[ca, ROOT], roots=[ROOT])
    del files["ca-key.pem"]
    return write_files(directory, files)


def settings_of(hsm: SoftHsm, ca: Ca, **changes: object) -> Pkcs11Settings:
    """Return the settings of a backend over a token, the certificates written beside it."""
    values: Mapping[str, object] = {
        "type": "pkcs11",
        "certificates": str(write_certificates(hsm.directory / "certificates", ca)),
        "module": str(hsm.module),
        "token_label": LABEL,
        "key_label": KEY_LABEL,
        "pin_file": str(hsm.pin_file),
        **changes,
    }
    return Pkcs11Settings.model_validate(
        {name: value for name, value in values.items() if value is not None}
    )


def surroundings_of(hsm: SoftHsm, *, try_pin: bool = False) -> Surroundings:
    """Return a server around the backend."""
    return Surroundings(
        clock=lambda: NOW,
        trust_domain=TrustDomain.parse("cluster.local"),
        metrics=Metrics(),
        directory=hsm.directory / "state",
        try_pin=try_pin,
    )


@dataclass(frozen=True, slots=True)
class Bench:
    """A started backend."""

    signer: KeyedSigner

    async def sign(
        self, count: int = 1, left_s: float = PATIENCE_S
    ) -> list[Chain | MeshsignerError]:
        """Have orders of several callers signed by one call, each checked."""
        issuer = self.signer.issuer(NOW)
        errands = [_errand(issuer, number) for number in range(count)]
        deadline_s = asyncio.get_running_loop().time() + left_s
        found = list(await self.signer.sign(errands, deadline_s))
        for errand, chain in zip(errands, found, strict=True):
            if isinstance(chain, Chain):
                check_issued(chain, errand.order)
        return found

    async def until(self, *, ready: bool, within_s: float = 5.0) -> str:
        """Wait until health says so, and return what it tells."""
        async with asyncio.timeout(within_s):
            while self.signer.health(NOW).ready is not ready:
                await asyncio.sleep(0.01)
        return self.signer.health(NOW).detail


def _errand(issuer: Issuer, number: int) -> Errand:
    caller = make_caller(service_account=f"sa-{number}")
    request = parse_csr(make_csr(make_key("p256", 99), caller.identity.uri))
    terms = authorize(
        caller=caller,
        request=request,
        asked_lifetime=None,
        policy=make_policy(),
        now=NOW,
        issuer_not_after=issuer.not_after,
    )
    order = Order(
        caller=caller, request=request, terms=terms, cert_signer="", issuer=issuer, peer="test"
    )
    return Errand(order=order, token=f"{number:032x}")


@asynccontextmanager
async def started(
    hsm: SoftHsm, settings: Pkcs11Settings, pace: Pace = QUICK
) -> AsyncIterator[Bench]:
    """Have the backend running, as a server has it."""
    PKCS11.open("hsm", settings, surroundings_of(hsm))  # what it refuses is refused
    signer = open_backend("hsm", settings, surroundings_of(hsm), pace)
    try:
        await signer.start()
        yield Bench(signer)
    finally:
        await signer.aclose()
