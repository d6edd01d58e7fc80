"""The embedded CA: signs orders at once with a key that this process can use.

Joins an issuer, its template and a `KeySigner` to a `LocalSigner`. It builds
nothing of its own: `profile` makes the DER, the key makes the signature, this
chooses the serial number. Where issuers come from, and when they change, is
`trust`'s matter.

Source: RFC 5280 4.1.2.2; docs/standards.md 22, 24.
"""

import secrets
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol

from cryptography import x509

from meshsigner.background import Background
from meshsigner.errors import NotReady
from meshsigner.model import Capabilities, Chain, Health, Issuer, Order
from meshsigner.ports import KeySigner
from meshsigner.profile import Template
from meshsigner.signing.issuers import with_announced
from meshsigner.signing.local_key import P256Key, local_key
from meshsigner.trust import CaFiles

# A serial has 16 octets: the bits 01, so that it is positive and never over 20
# octets; the second in which its certificate begins, so that the inventory's
# index grows at its end; and 86 random bits, where 64 are demanded (RFC 5280
# 4.1.2.2). The second tells nothing that the certificate does not tell itself.
SERIAL_TIME_BITS = 40
SERIAL_RANDOM_BITS = 86
DEFAULT_NAME = "embedded"  # of the one backend where the configuration names none


class IssuerSource(Protocol):
    """Where the issuer of the moment comes from; `trust.IssuerDirectory` is one."""

    @property
    def current(self) -> CaFiles:
        """The CA that signs now; the same object until another takes its place."""
        ...

    def health(self, now: datetime) -> Health:
        """Say whether that CA can sign at a time."""
        ...


class FollowedSource(IssuerSource, Protocol):
    """One that changes by itself, and is told to look while somebody signs with it."""

    def watch(self) -> Coroutine[Any, Any, None]:
        """Follow what changes, until cancelled."""
        ...

    async def look(self) -> object:
        """Look for changes at once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ready:
    """Everything that is derived once from a CA, and forgotten with it."""

    files: CaFiles
    issuer: Issuer
    template: Template
    key: KeySigner = field(repr=False)


class EmbeddedSigner:
    """Signs with the CA of the moment.

    Safe for several threads: each signature uses one CA's issuer, template and
    key together, whatever is swapped meanwhile.

    Args:
        source: Where the CA comes from.
        open_key: Makes the key of a CA usable; by default the one that was
            loaded with it.
        name: Name of the backend in logs, metrics and the inventory.
        followed: The source, if it is to be followed from `start` to `aclose`.

    Attributes:
        source: Where the CA comes from, its key included: what else may be
            signed with it (a serving certificate) is its owner's matter.
    """

    capabilities = Capabilities(builds_x509=False)

    def __init__(
        self,
        source: IssuerSource,
        *,
        open_key: Callable[[CaFiles], KeySigner] = lambda files: local_key(files.key),
        name: str = DEFAULT_NAME,
        followed: FollowedSource | None = None,
    ) -> None:
        self.name = name
        self.source = source
        self._open_key = open_key
        self._followed = followed
        self._following: Background | None = None
        self._announced: tuple[x509.Certificate, ...] = ()
        self._ready = self._derive(source.current)

    async def start(self) -> None:
        """Follow the source from now on, where it is to be followed."""
        if self._followed is not None:
            self._following = Background(self._followed.watch)

    async def aclose(self) -> None:
        """Follow it no longer."""
        if self._following is not None:
            await self._following.stop()

    async def look(self) -> None:
        """Look at once whether the CA has changed."""
        if self._followed is not None:
            await self._followed.look()

    def issuer(self, now: datetime) -> Issuer:
        """Return the issuer that signs now.

        Raises:
            NotReady: The CA has expired.
        """
        ready = self._follow()
        if now > ready.files.expires:
            raise NotReady(f"the CA expired at {ready.files.expires:%Y-%m-%d %H:%M:%S}Z")
        return ready.issuer

    def sign(self, order: Order) -> Chain:
        """Sign an order.

        Raises:
            BackendUnavailable: The key cannot be used now.
            NotReady: The order's issuer has been replaced.
        """
        ready = self._ready
        if order.issuer is not ready.issuer:
            ready = self._follow()
            if order.issuer is not ready.issuer:
                raise NotReady("the order's issuer has been replaced")
        serial = new_serial(order.terms.not_before)
        tbs = ready.template.build_tbs(order, serial)
        return Chain(
            leaf_der=ready.template.assemble(tbs, ready.key.sign(tbs)),
            issuer=ready.issuer,
            serial=serial,
            backend=self.name,
            signed_twice=isinstance(ready.key, P256Key),
        )

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        """Take the roots of all backends behind its own."""
        self._announced = tuple(roots)
        ready = self._ready
        issuer = with_announced(ready.files.issuer, self._announced)
        if issuer.trust_bundle != ready.issuer.trust_bundle:
            self._ready = self._derive(ready.files)

    def health(self, now: datetime) -> Health:
        """Say whether it can sign now."""
        health = self.source.health(now)
        return health if self.name == DEFAULT_NAME else replace(health, name=f"backend/{self.name}")

    def _follow(self) -> _Ready:
        """Return what belongs to the CA of the moment; derive it when that has changed."""
        ready, files = self._ready, self.source.current
        if ready.files is not files:
            ready = self._ready = self._derive(files)
        return ready

    def _derive(self, files: CaFiles) -> _Ready:
        issuer = with_announced(files.issuer, self._announced)
        return _Ready(
            files=files,
            issuer=issuer,
            template=Template.of(issuer),
            key=self._open_key(files),
        )


def new_serial(not_before: datetime) -> int:
    """Return a fresh serial number: positive, exactly 16 octets, later ones mostly larger.

    Args:
        not_before: When its certificate begins.
    """
    second = int(not_before.timestamp()) % (1 << SERIAL_TIME_BITS)
    prefix = 1 << SERIAL_TIME_BITS | second
    return prefix << SERIAL_RANDOM_BITS | secrets.randbits(SERIAL_RANDOM_BITS)
