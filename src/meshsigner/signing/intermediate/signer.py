"""Signs leaves with the intermediate of the moment.

The signing itself is `embedded`'s; here an order goes to the intermediate that
it was made for. After a renewal the one before stays for the orders that were
on their way, so that a change costs nobody his certificate.
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509

from meshsigner.background import Background
from meshsigner.errors import NotReady
from meshsigner.model import Capabilities, Chain, Health, Issuer, Order
from meshsigner.signing.embedded import EmbeddedSigner
from meshsigner.signing.intermediate.keeper import MakeKeeper
from meshsigner.signing.intermediate.source import IntermediateSource
from meshsigner.trust import CaFiles


class FixedSource:
    """A CA that stays as it is: a source for `EmbeddedSigner`.

    Args:
        files: The CA.
        name: For its health.
    """

    def __init__(self, files: CaFiles, name: str) -> None:
        self.current = files
        self._name = name

    def health(self, now: datetime) -> Health:
        """Say until when it lasts."""
        expires = self.current.expires
        detail = f"until {expires:%Y-%m-%d %H:%M:%S}Z"
        return Health(name=self._name, ready=now <= expires, detail=detail)


class IntermediateSigner:
    """A local signer whose CA comes from elsewhere.

    Args:
        name: Name of the backend in configuration, logs, metrics and inventory.
        source: Gives the intermediates.
        make_keeper: Makes what decides when.
    """

    capabilities = Capabilities(builds_x509=False)

    def __init__(
        self, *, name: str, source: IntermediateSource, make_keeper: MakeKeeper[CaFiles]
    ) -> None:
        self.name = name
        self._giver = source
        self._keeper = make_keeper(self._take)
        self._announced: tuple[x509.Certificate, ...] = ()
        self._current: EmbeddedSigner | None = None
        self._previous: EmbeddedSigner | None = None
        self._background: Background | None = None

    async def start(self) -> None:
        """Log in, get the first intermediate or load the one that is kept; renew from now on."""
        await self._giver.start()
        await self._keeper.look()
        self._background = Background(self._keeper.keep)

    async def aclose(self) -> None:
        """Renew no more."""
        if self._background is not None:
            await self._background.stop()
        await self._giver.aclose()

    def issuer(self, now: datetime) -> Issuer:
        """Return the intermediate that signs now.

        Raises:
            NotReady: There is none yet, or it has expired.
        """
        if self._current is None:
            raise NotReady(self._keeper.health(now).detail)
        return self._current.issuer(now)

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        """Take the roots of all backends behind its own."""
        self._announced = tuple(roots)
        if self._current is not None:
            self._current.announce(roots)

    def health(self, now: datetime) -> Health:
        """Say whether it can sign now, and whether the renewal is in danger."""
        return self._keeper.health(now)

    async def look(self) -> None:
        """Look at once whether it is time to renew."""
        await self._keeper.look()

    def sign(self, order: Order) -> Chain:
        """Sign an order with the intermediate that it was made for.

        Raises:
            NotReady: That one was replaced more than one renewal ago.
        """
        for signer in (self._current, self._previous):
            if signer is not None and signer.issuer(order.terms.not_before) is order.issuer:
                return signer.sign(order)
        raise NotReady("the order's issuer has been replaced")

    def _take(self, files: CaFiles) -> None:
        signer = EmbeddedSigner(FixedSource(files, self.name), name=self.name)
        signer.announce(self._announced)
        self._previous, self._current = self._current, signer
