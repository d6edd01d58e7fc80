"""A CA whose key is elsewhere: X.509 is built here, signatures come from a key store.

Joins a CA's certificates to the key that belongs to them in an HSM or a key
service. It builds nothing of its own: `profile` makes the DER of each order,
one call of `BatchKeySigner` signs all of them, this chooses the serial numbers
and watches both sides: a certificate whose key the store does not have never
becomes an issuer. A signature that nobody saw is no certificate, so nothing
here is ever "maybe issued".

Source: RFC 5280 4.1; docs/standards.md 22, 24.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshsigner.background import Background
from meshsigner.errors import (
    BackendUnavailable,
    ConfigurationError,
    MeshsignerError,
    NotReady,
)
from meshsigner.model import BackendLimits, Capabilities, Chain, Errand, Health, Issuer, Order
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.ports import BatchKeySigner
from meshsigner.profile import Template
from meshsigner.signing.embedded import new_serial
from meshsigner.signing.issuers import tell_issuer, with_announced
from meshsigner.trust.pem import describe

LOOK_EVERY_S = 5.0  # at the certificates' directory, as trust.watch does
REACH_EVERY_S = 1.0  # at a key store that is away: it serves within seconds of its return

CaPublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class KeyStore(Protocol):
    """What holds CA keys and never gives them out: a token of an HSM, a key service."""

    async def start(self) -> None:
        """Open it, and keep it open; one that is away for now is no error.

        Raises:
            ConfigurationError: As it is configured it can never work.
        """
        ...

    async def aclose(self) -> None:
        """End what `start` began."""
        ...

    async def find_key(self, public_key: CaPublicKey) -> BatchKeySigner:
        """Return the signer of the key that belongs to a CA certificate.

        It stays usable while the store is; a store that was closed and opened
        again meanwhile is its own matter.

        Args:
            public_key: RSA, P-256 or P-384.

        Raises:
            ConfigurationError: The key there is another one, or may not be
                used: it could be copied out, it may not sign; says what to do.
            BackendUnavailable: The store cannot be asked now.
        """
        ...

    def health(self, now: datetime) -> Health:
        """Say whether it can sign now; from memory."""
        ...


class CertificateSource(Protocol):
    """Where the CA's certificates come from; `CertificateDirectory` is one."""

    def look(self, before: Issuer | None) -> Issuer | None:
        """Return the CA if it is another one than before; called in a thread.

        Args:
            before: What the last look that found something returned; None at the first.

        Raises:
            ConfigurationError: What is there cannot be taken.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A certificate that only lacks its signature."""

    made_for: "_Ready"
    serial: int
    tbs: bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ready:
    """Everything that is derived once from a CA, and forgotten with it."""

    own: Issuer
    issuer: Issuer
    template: Template
    key: BatchKeySigner = field(repr=False)

    @classmethod
    def of(cls, own: Issuer, announced: Sequence[x509.Certificate], key: BatchKeySigner) -> Self:
        issuer = with_announced(own, announced)
        return cls(own=own, issuer=issuer, template=Template.of(issuer), key=key)

    def draft(self, order: Order) -> _Draft:
        serial = new_serial(order.terms.not_before)
        return _Draft(made_for=self, serial=serial, tbs=self.template.build_tbs(order, serial))

    def has_key_of(self, issuer: Issuer) -> bool:
        return ca_public_key(self.issuer) == ca_public_key(issuer)


class KeyedSigner:
    """Signs with a key that somebody else keeps.

    Args:
        name: Name of the backend in configuration, logs, metrics and inventory.
        source: The CA's certificates.
        keys: Holds its key.
        limits: What the key store stands.
        clock: Returns the time, UTC.
        look_every_s: Seconds between two looks at the certificates.
        reach_every_s: Seconds between two attempts at a store that is away.
    """

    capabilities = Capabilities(builds_x509=False)

    def __init__(
        self,
        *,
        name: str,
        source: CertificateSource,
        keys: KeyStore,
        limits: BackendLimits,
        clock: Callable[[], datetime],
        look_every_s: float = LOOK_EVERY_S,
        reach_every_s: float = REACH_EVERY_S,
    ) -> None:
        self.name = name
        self.limits = limits
        self._source = source
        self._keys = keys
        self._clock = clock
        self._look_every_s = look_every_s
        self._reach_every_s = reach_every_s
        self._announced: tuple[x509.Certificate, ...] = ()
        self._wanted: Issuer | None = None
        self._ready: _Ready | None = None
        self._previous: _Ready | None = None
        self._problem = "not started"
        self._background: Background | None = None

    async def start(self) -> None:
        """Load the certificates, open the store, find the key; follow both from then on.

        Raises:
            ConfigurationError: The certificates cannot be taken, or the store's
                key is not theirs.
        """
        self._wanted = await asyncio.to_thread(self._source.look, None)
        await self._keys.start()
        try:
            await self._take_wanted()
        except BackendUnavailable as error:
            self._keep(error)
        self._background = Background(self._follow)

    async def aclose(self) -> None:
        """Stop following and close the store."""
        if self._background is not None:
            await self._background.stop()
        await self._keys.aclose()

    def issuer(self, now: datetime) -> Issuer:
        """Return the issuer that signs now.

        Raises:
            NotReady: The store was not reached yet, or the CA has expired.
        """
        if self._ready is None:
            raise NotReady(self._problem)
        issuer = self._ready.issuer
        if now > issuer.not_after:
            raise NotReady(f"the CA expired at {issuer.not_after:%Y-%m-%d %H:%M:%S}Z")
        return issuer

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        """Take the roots of all backends behind its own."""
        self._announced = tuple(roots)
        if self._ready is not None:
            ready = _Ready.of(self._ready.own, self._announced, self._ready.key)
            if ready.issuer.trust_bundle != self._ready.issuer.trust_bundle:
                self._become(ready)

    def health(self, now: datetime) -> Health:
        """Say whether certificates, key and store allow to sign now."""
        try:
            issuer = self.issuer(now)
        except NotReady as error:
            return Health(name=f"backend/{self.name}", ready=False, detail=str(error))
        store = self._keys.health(now)
        subject = describe(issuer.certificate)
        detail = f"{subject}, until {issuer.not_after:%Y-%m-%d %H:%M:%S}Z; {store.detail}"
        if self._problem:
            detail += f"; what is there now is refused: {self._problem}"
        return Health(name=f"backend/{self.name}", ready=store.ready, detail=detail)

    async def sign(
        self, errands: Sequence[Errand], deadline_s: float
    ) -> Sequence[Chain | MeshsignerError]:
        """Build the orders' certificates and have them signed by one call.

        Raises:
            BackendUnavailable: No signature came; nothing was issued.
            Overloaded: The store's own throttle.
        """
        ready = self._ready
        if ready is None:
            return [NotReady(self._problem) for _ in errands]
        drafts = [self._draft(errand.order) for errand in errands]
        messages = [draft.tbs for draft in drafts if isinstance(draft, _Draft)]
        signatures = iter(await _sign_all(ready.key, messages, deadline_s))
        return [
            self._finish(draft, next(signatures)) if isinstance(draft, _Draft) else draft
            for draft in drafts
        ]

    async def find(self, errand: Errand, deadline_s: float) -> Chain | None:
        """Return None: what nobody saw the signature of is no certificate."""
        del errand, deadline_s
        return None

    def _draft(self, order: Order) -> _Draft | NotReady:
        """Build it for the issuer that it was ordered from, this one or the one before."""
        for ready in (self._ready, self._previous):
            if ready is not None and order.issuer is ready.issuer:
                return ready.draft(order)
        return NotReady("the order's issuer has been replaced")

    def _finish(self, draft: _Draft, signature: bytes | MeshsignerError) -> Chain | MeshsignerError:
        if isinstance(signature, MeshsignerError):
            return signature
        return Chain(
            leaf_der=draft.made_for.template.assemble(draft.tbs, signature),
            issuer=draft.made_for.issuer,
            serial=draft.serial,
            backend=self.name,
        )

    async def _follow(self) -> None:
        while True:
            waits_s = self._reach_every_s if self._ready is None else self._look_every_s
            await asyncio.sleep(waits_s)
            await self.look()

    async def look(self) -> None:
        """Take other certificates if there are some, and the key where it is still missing."""
        try:
            found = await asyncio.to_thread(self._source.look, self._wanted)
            if found is not None:
                self._wanted = found
            if self._ready is None or found is not None or self._problem:
                await self._take_wanted()
        except (BackendUnavailable, ConfigurationError) as error:
            self._keep(error)

    async def _take_wanted(self) -> None:
        """Make the wanted CA the one that signs, once its key is found."""
        wanted = self._wanted
        if wanted is None:
            return
        ready = self._ready
        if ready is not None and ready.has_key_of(wanted):
            key = ready.key  # the same key, certified anew: signatures under way go on
        else:
            key = await self._keys.find_key(ca_public_key(wanted))
        self._problem = ""
        self._become(_Ready.of(wanted, self._announced, key))
        tell_issuer(self.name, wanted)

    def _become(self, ready: _Ready) -> None:
        """Let another one sign; the one before finishes its orders if it has the same key."""
        before, self._ready = self._ready, ready
        same = before is not None and before.has_key_of(ready.issuer)
        self._previous = before if same else None

    def _keep(self, error: MeshsignerError) -> None:
        """Remember why there is no (other) issuer; say it once."""
        if str(error) != self._problem:
            get_logger().warning(Event.BACKEND_ISSUER_MISSING, backend=self.name, cause=str(error))
        self._problem = str(error)


def ca_public_key(issuer: Issuer) -> CaPublicKey:
    """Return the key that signs under an issuer.

    Raises:
        ConfigurationError: It is neither RSA nor on a curve.
    """
    key = issuer.certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return key
    msg = f"{describe(issuer.certificate)}: expected an RSA, P-256 or P-384 key"
    raise ConfigurationError(msg)


async def _sign_all(
    key: BatchKeySigner, messages: Sequence[bytes], deadline_s: float
) -> Sequence[bytes | MeshsignerError]:
    if not messages:
        return ()
    try:
        async with asyncio.timeout_at(deadline_s):
            signatures = await key.sign_batch(messages)
    except TimeoutError as error:
        raise BackendUnavailable("no signature within the request's time") from error
    if len(signatures) != len(messages):
        raise BackendUnavailable(f"{len(signatures)} signatures for {len(messages)} messages")
    return signatures
