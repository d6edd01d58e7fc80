"""A kind of backend from another package: a CA that answers after a while.

It shows all that a kind needs: a section of the configuration, `open`,
`examine`, and a backend whose calls are awaited. What it signs with is a CA in
a directory, so that the example needs no service; a real one would call its
CA's API in `sign`. Limits, retries, failover, the check of every answer, the
record and the metrics are meshsigner's.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Literal

from cryptography import x509
from pydantic import Field

from meshsigner.config.fields import FilePath, Section, duration_from
from meshsigner.config.sections import IssuerDirectory
from meshsigner.errors import MeshsignerError
from meshsigner.model import BackendLimits, Capabilities, Chain, Errand, Health, Issuer, Order
from meshsigner.ports import Signer
from meshsigner.signing.directory_kind import DIRECTORY, open_directory
from meshsigner.signing.embedded import EmbeddedSigner
from meshsigner.signing.kind import Finding, SettingsType, Surroundings


class SlowCaSettings(Section):
    """A CA that answers after a while."""

    type: Literal["acme_slow_ca"] = Field(description="`acme_slow_ca`.")
    path: FilePath = Field(description="Directory with its key, in Istio's `cacerts` layout.")
    delay: Annotated[timedelta, *duration_from("0s", "5s")] = Field(
        default=timedelta(milliseconds=200),
        description="How long it takes for an answer. Default: 200ms, a corporate PKI's good day.",
    )


class SlowCa:
    """Signs after a while.

    Args:
        name: Name of the backend.
        ca: Signs for it.
        delay: Before each answer.
    """

    limits = BackendLimits(rate_per_s=50, in_flight=4, batch=10, call_s=6.0)
    capabilities = Capabilities(builds_x509=True)

    def __init__(self, name: str, ca: EmbeddedSigner, delay: timedelta) -> None:
        self.name = name
        self._ca = ca
        self._delay = delay

    async def start(self) -> None:
        """Follow the directory."""
        await self._ca.start()

    async def aclose(self) -> None:
        """Follow it no longer."""
        await self._ca.aclose()

    def issuer(self, now: datetime) -> Issuer:
        """Return the issuer that signs now."""
        return self._ca.issuer(now)

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        """Take the roots of all backends behind its own."""
        self._ca.announce(roots)

    def health(self, now: datetime) -> Health:
        """Say whether it can sign now."""
        return self._ca.health(now)

    async def sign(
        self, errands: Sequence[Errand], deadline_s: float
    ) -> Sequence[Chain | MeshsignerError]:
        """Sign some orders; the dispatcher ends what lasts beyond the deadline."""
        del deadline_s
        await asyncio.sleep(self._delay.total_seconds())
        return [self._sign(errand.order) for errand in errands]

    async def find(self, errand: Errand, deadline_s: float) -> Chain | None:
        """Return None: this CA keeps no list, and does not say that it does."""
        del errand, deadline_s
        return None

    def _sign(self, order: Order) -> Chain | MeshsignerError:
        try:
            return self._ca.sign(order)
        except MeshsignerError as error:
            return error


class SlowCaKind:
    """The kind: what the entry point names."""

    type = "acme_slow_ca"
    summary = "a CA that answers after a while"
    settings: SettingsType = SlowCaSettings

    def open(self, name: str, settings: SlowCaSettings, surroundings: Surroundings) -> Signer:
        """Make it.

        Raises:
            ConfigurationError: There is no good CA in the directory.
        """
        directory = IssuerDirectory(type="directory", path=settings.path)
        return SlowCa(name, open_directory(name, directory, surroundings), settings.delay)

    async def examine(
        self, settings: SlowCaSettings, surroundings: Surroundings
    ) -> Sequence[Finding]:
        """Say what is in the directory."""
        directory = IssuerDirectory(type="directory", path=settings.path)
        return await DIRECTORY.examine(directory, surroundings)


SLOW_CA = SlowCaKind()
