"""Signs leaves with an intermediate whose key is in an HSM.

Joins the keeper, which renews the certificate, to `signing.keyed`, which signs
with the key. The key stays the same, so that orders made for the certificate
before are still signed.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from cryptography import x509

from meshsigner.background import Background
from meshsigner.errors import MeshsignerError, NotReady
from meshsigner.model import BackendLimits, Chain, Errand, Health, Issuer
from meshsigner.signing.intermediate.keeper import LOOK_EVERY_S, MakeKeeper
from meshsigner.signing.intermediate.source import IntermediateSource
from meshsigner.signing.keyed import KeyedSigner, KeyStore
from meshsigner.trust import CaCertificates


class KeptChain:
    """The intermediate of the moment: a source for `KeyedSigner`."""

    def __init__(self) -> None:
        self._latest: Issuer | None = None

    def take(self, kept: CaCertificates) -> None:
        """Take the next one."""
        self._latest = kept.issuer

    def look(self, before: Issuer | None) -> Issuer | None:
        """Return it, if it is another one than before."""
        latest = self._latest
        return None if latest is before else latest


class KeyedIntermediateSigner:
    """A signer over a key in an HSM whose CA certificate comes from elsewhere.

    Args:
        name: Name of the backend in configuration, logs, metrics and inventory.
        source: Gives the intermediates.
        make_keeper: Makes what decides when.
        keys: Holds the key.
        limits: What the key store stands.
        clock: Returns the time, UTC.
        look_every_s: Seconds between two looks at what the keeper has.
    """

    def __init__(
        self,
        *,
        name: str,
        source: IntermediateSource,
        make_keeper: MakeKeeper[CaCertificates],
        keys: KeyStore,
        limits: BackendLimits,
        clock: Callable[[], datetime],
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        self.name = name
        self._giver = source
        self._keys = keys
        chain = KeptChain()
        self._keeper = make_keeper(chain.take)
        self._keyed = KeyedSigner(
            name=name,
            source=chain,
            keys=keys,
            limits=limits,
            clock=clock,
            look_every_s=look_every_s,
        )
        self.limits = limits
        self.capabilities = self._keyed.capabilities
        self._background: Background | None = None

    async def start(self) -> None:
        """Log in, get the first intermediate or load the one that is kept; renew from now on.

        Raises:
            ConfigurationError: The key in the HSM is not that of the
                intermediate that is kept, or may not be used.
        """
        await self._giver.start()
        await self._keeper.look()
        await self._keyed.start()
        self._background = Background(self._keeper.keep)

    async def aclose(self) -> None:
        """Renew no more and close the HSM."""
        if self._background is not None:
            await self._background.stop()
        await self._keyed.aclose()
        await self._giver.aclose()

    def issuer(self, now: datetime) -> Issuer:
        """Return the intermediate that signs now.

        Raises:
            NotReady: There is none yet, it has expired, or its key was not reached yet.
        """
        try:
            return self._keyed.issuer(now)
        except NotReady as error:
            raise NotReady(f"{self._keeper.health(now).detail}; {error}") from error

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        """Take the roots of all backends behind its own."""
        self._keyed.announce(roots)

    def health(self, now: datetime) -> Health:
        """Say whether it can sign now, and whether the renewal is in danger."""
        kept, signs, store = self._keeper.health(now), self._keyed.health(now), self._keys
        detail = store.health(now).detail if signs.ready else signs.detail
        ready = kept.ready and signs.ready
        return Health(name=kept.name, ready=ready, detail=f"{kept.detail}; {detail}")

    async def look(self) -> None:
        """Look at once whether it is time to renew."""
        await self._keeper.look()
        await self._keyed.look()

    async def sign(
        self, errands: Sequence[Errand], deadline_s: float
    ) -> Sequence[Chain | MeshsignerError]:
        """Sign orders by one call, each with the certificate that it was made for.

        Raises:
            BackendUnavailable: No signature came; nothing was issued.
            Overloaded: The HSM's own throttle.
        """
        return await self._keyed.sign(errands, deadline_s)

    async def find(self, errand: Errand, deadline_s: float) -> Chain | None:
        """Return None: what nobody saw the signature of is no certificate."""
        return await self._keyed.find(errand, deadline_s)
