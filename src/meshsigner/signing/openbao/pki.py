"""OpenBao's PKI engine as a remote CA: each certificate is built and signed there.

Decides what is asked: names, end and key come from the order, nothing of the
CSR but its public key can matter under the role that docs/backends.md makes
(use_csr_sans=false). What comes back is checked by `verify` like every answer;
here only the chain above it is judged, against roots that no answer can change,
and the end of validity, where the server shortens it in silence.

Source: OpenBao API documentation, PKI: sign/:name.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.errors import (
    BackendRefused,
    BackendUnavailable,
    ConfigurationError,
    MeshsignerError,
    WrongCertificate,
)
from meshsigner.model import (
    BackendLimits,
    Capabilities,
    Chain,
    Errand,
    Health,
    Issuer,
    Leeway,
    Order,
)
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.signing.openbao.client import OpenBaoApi
from meshsigner.signing.openbao.lookup import find_stored
from meshsigner.signing.openbao.mount_issuer import MountIssuer
from meshsigner.signing.openbao.replies import certificate_of, chain_of
from meshsigner.signing.openbao.settings import PkiSettings

# With `validity: ttl` the end depends on the server's clock: asked this much
# earlier, so that it never lies after the order's, and taken up to twice that.
TTL_MARGIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]


class PkiSigner:
    """One role of one PKI mount.

    Args:
        name: Name of the backend in configuration, logs, metrics and inventory.
        client: To the server.
        settings: Which role, and what is accepted.
        clock: Returns the time, UTC.
        shortened: Counts a certificate that the server shortened and we accepted.
        known: Roots that this server's other workers hand out; empty at the first start.
    """

    def __init__(
        self,
        *,
        name: str,
        client: OpenBaoApi,
        settings: PkiSettings,
        clock: Callable[[], datetime],
        shortened: Callable[[], None] = lambda: None,
        known: Sequence[x509.Certificate] = (),
    ) -> None:
        self.name = name
        self.limits = BackendLimits(
            rate_per_s=settings.rate,
            in_flight=settings.in_flight,
            batch=1,
            call_s=settings.timeout.total_seconds(),
        )
        self.capabilities = Capabilities(
            builds_x509=True,
            finds=settings.stored,
            intents=settings.stored,
            leeway=Leeway(backdate=settings.backdate, shorten=settings.validity == "ttl"),
        )
        self._client = client
        self._settings = settings
        self._clock = clock
        self._shortened = shortened
        self._path = f"{settings.mount}/sign/{settings.role}"
        self._issuer = MountIssuer(
            name=name, client=client, settings=settings, clock=clock, known=tuple(known)
        )

    async def start(self) -> None:
        """Log in, learn the issuer; follow it from now on.

        Raises:
            ConfigurationError: The roots' file cannot be used.
        """
        await self._client.start()
        await self._issuer.start()

    async def aclose(self) -> None:
        """End what `start` began."""
        await self._issuer.aclose()
        await self._client.aclose()

    def issuer(self, now: datetime) -> Issuer:
        """Return the issuer that signs now.

        Raises:
            NotReady: It is not known yet or has expired.
        """
        return self._issuer.issuer(now)

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        """Take the roots of all backends behind its own."""
        self._issuer.announce(roots)

    def health(self, now: datetime) -> Health:
        """Say whether the last look or call found it able to sign."""
        return self._issuer.health(now)

    async def sign(
        self, errands: Sequence[Errand], deadline_s: float
    ) -> Sequence[Chain | MeshsignerError]:
        """Have each order signed by a call of its own: the engine has no batch."""
        return await asyncio.gather(*(self._sign_one(e.order, deadline_s) for e in errands))

    async def find(self, errand: Errand, deadline_s: float) -> Chain | None:
        """Search the mount's stored certificates for the one of an order's key.

        Raises:
            BackendUnavailable: It could not be asked, or stores too many.
        """
        found = await find_stored(
            self._client, self._settings.mount, errand.order, self._settings.backdate, deadline_s
        )
        if found is None:
            return None
        return self._chain(_Reply(leaf=found.leaf, chain=found.chain))

    async def _sign_one(self, order: Order, deadline_s: float) -> Chain | MeshsignerError:
        try:
            reply = await self._ask(order, deadline_s)
            self._check_end(reply.leaf, order)
            return self._chain(reply)
        except BackendUnavailable as error:
            self._issuer.trouble(error)
            return error
        except ConfigurationError as error:
            return WrongCertificate(error.problems)
        except MeshsignerError as error:
            return error

    async def _ask(self, order: Order, deadline_s: float) -> _Reply:
        if order.terms.common_name is not None:
            # With a subject the engine makes the names non-critical; istiod's are critical.
            raise BackendRefused("a common name was asked for, which this CA cannot certify")
        data = await self._client.call(
            "POST",
            self._path,
            self._body(order),
            deadline_s=deadline_s,
            maybe_issued=self._settings.stored,
        )
        try:
            leaf = certificate_of(data, "certificate", self._path)
            return _Reply(leaf=leaf, chain=chain_of(data, self._path))
        except BackendUnavailable as error:
            raise BackendUnavailable(str(error), maybe_issued=self._settings.stored) from error

    def _body(self, order: Order) -> Mapping[str, Any]:
        terms = order.terms
        body = {
            "csr": order.csr_pem.decode("ascii", errors="replace"),
            "uri_sans": terms.identity.uri,
            "exclude_cn_from_sans": True,
            "format": "pem",
        }
        if self._settings.validity == "exact":
            return {**body, "not_after": f"{terms.not_after:%Y-%m-%dT%H:%M:%SZ}"}
        ttl = terms.not_after - self._clock() - TTL_MARGIN
        return {**body, "ttl": f"{max(1, int(ttl.total_seconds()))}s"}

    def _check_end(self, leaf: x509.Certificate, order: Order) -> None:
        """Refuse or tell an end that the server shortened in silence (`validity: ttl`)."""
        missing = order.terms.not_after - leaf.not_valid_after_utc
        if self._settings.validity == "exact" or missing <= 2 * TTL_MARGIN:
            return  # a difference in `exact` is a wrong certificate, which verify tells
        if not self._settings.shorten:
            raise BackendRefused(
                f"{self._path}: the certificate ends {missing} before the end that was asked for; "
                "raise the role's max_ttl, lower the policy's maximum, or accept it: shorten: true"
            )
        self._shortened()
        get_logger().warning(
            Event.BACKEND_SHORTENED, backend=self.name, missing_s=int(missing.total_seconds())
        )

    def _chain(self, reply: _Reply) -> Chain:
        return Chain(
            leaf_der=reply.leaf.public_bytes(Encoding.DER),
            issuer=self._issuer.of_chain(reply.chain),
            serial=reply.leaf.serial_number,
            backend=self.name,
        )
