"""Which CA a PKI mount signs with, followed while it is used.

Decides what of a mount's chain is trusted: roots are pinned, by a file or by
the first look, and no answer changes them. Another issuer under these roots is
taken at once; one under others is refused until a person adds its root.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from cryptography import x509

from meshsigner.background import Background
from meshsigner.errors import (
    BackendUnavailable,
    ConfigurationError,
    MeshsignerError,
    NotReady,
    Overloaded,
)
from meshsigner.model import Health, Issuer
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.signing.issuers import checked_issuer, tell_issuer, with_announced
from meshsigner.signing.openbao.client import OpenBaoApi
from meshsigner.signing.openbao.replies import chain_of, self_signed
from meshsigner.signing.openbao.settings import PkiSettings
from meshsigner.trust.findings import Findings
from meshsigner.trust.layout import read_file
from meshsigner.trust.pem import describe, parse_certificates
from meshsigner.trust.succession import succession_faults

LOOK_EVERY_S = 30.0  # while all is well
LOOK_AGAIN_S = 1.0  # after trouble: back within seconds of its end
_MAY_SIGN = frozenset({"update", "root"})  # of sys/capabilities-self

Roots = tuple[x509.Certificate, ...]


def load_roots(path: Path) -> Roots:
    """Read a file of roots, the one in use first.

    Raises:
        ConfigurationError: It is not there, or holds anything but certificates.
    """
    findings = Findings()
    content = read_file(path, findings)
    found = () if content is None else parse_certificates(content, path, findings)
    if findings.problems:
        raise ConfigurationError(*findings.problems)
    return tuple(member.certificate for member in found)


class MountIssuer:
    """The issuer of one PKI mount.

    Args:
        name: Name of the backend.
        client: To the server.
        settings: Which mount, issuer and role.
        clock: Returns the time, UTC.
        known: Roots that this server's other workers hand out; the first issuer
            must be under one of them. Empty at the first start.
    """

    def __init__(
        self,
        *,
        name: str,
        client: OpenBaoApi,
        settings: PkiSettings,
        clock: Callable[[], datetime],
        known: Roots = (),
    ) -> None:
        self._name = name
        self._client = client
        self._settings = settings
        self._clock = clock
        self._known = known
        self._roots: Roots = ()
        self._announced: Roots = ()
        self._own: Issuer | None = None
        self._chain: Roots = ()
        self._issuer: Issuer | None = None
        self._problem = "not started"
        self._stirred = asyncio.Event()
        self._background: Background | None = None

    async def start(self) -> None:
        """Read the roots, look for the first time, follow from then on.

        Raises:
            ConfigurationError: The roots' file cannot be used.
        """
        if self._settings.roots_file is not None:
            self._roots = await asyncio.to_thread(load_roots, self._settings.roots_file)
        await self.look()
        self._background = Background(self._follow)

    async def aclose(self) -> None:
        """Follow no longer."""
        if self._background is not None:
            await self._background.stop()

    def issuer(self, now: datetime) -> Issuer:
        """Return the issuer of the moment.

        Raises:
            NotReady: It is not known yet or has expired.
        """
        if self._issuer is None:
            raise NotReady(self._problem)
        if now > self._issuer.not_after:
            raise NotReady(f"the CA expired at {self._issuer.not_after:%Y-%m-%d %H:%M:%S}Z")
        return self._issuer

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        """Take the roots of all backends behind its own."""
        self._announced = tuple(roots)
        if self._own is not None and self._issuer is not None:
            issuer = with_announced(self._own, self._announced)
            if issuer.trust_bundle != self._issuer.trust_bundle:
                self._issuer = issuer

    def health(self, now: datetime) -> Health:
        """Say what the last look or call found."""
        name = f"backend/{self._name}"
        try:
            issuer = self.issuer(now)
        except NotReady as error:
            return Health(name=name, ready=False, detail=str(error))
        detail = f"{describe(issuer.certificate)}, until {issuer.not_after:%Y-%m-%d %H:%M:%S}Z"
        if self._problem:
            detail += f"; {self._problem}"
        return Health(name=name, ready=not self._problem, detail=detail)

    def of_chain(self, chain: Roots) -> Issuer:
        """Return the issuer that a chain names; the same object as long as it is the same.

        Args:
            chain: Of an answer, the CA that signed the leaf first.

        Raises:
            ConfigurationError: It is no CA under the pinned roots; holds every problem.
        """
        if self._issuer is None or chain != self._chain:
            self._take(chain)
        if self._issuer is None:
            raise ConfigurationError(f"{self._name}: no issuer")
        return self._issuer

    def trouble(self, error: BackendUnavailable) -> None:
        """Take a call's failure for the mount's: look again soon."""
        self._tell(str(error))
        self._stirred.set()

    async def look(self) -> None:
        """Ask whether we may sign and with which issuer."""
        try:
            await self._check_rights()
            path = f"{self._settings.mount}/issuer/{self._settings.issuer}/json"
            self.of_chain(chain_of(await self._client.call("GET", path), path))
            self._problem = ""
        except Overloaded:
            return  # whoever has a quota answers
        except ConfigurationError as error:
            self._tell(" | ".join(error.problems))
        except MeshsignerError as error:
            self._tell(str(error))

    async def _check_rights(self) -> None:
        """Ask what our token may do at the role; it signs nothing, so it costs nothing.

        Raises:
            BackendUnavailable: It may not sign, or nothing answers.
        """
        path = f"{self._settings.mount}/sign/{self._settings.role}"
        found = await self._client.call("POST", "sys/capabilities-self", {"paths": [path]})
        granted = found.get(path)
        if isinstance(granted, list) and not _MAY_SIGN.intersection(map(str, granted)):
            raise BackendUnavailable(
                f"{path}: our token may {', '.join(map(str, granted)) or 'nothing'} there; "
                "expected update; add it to the token's policy"
            )

    async def _follow(self) -> None:
        while True:
            self._stirred.clear()
            if not self._problem:
                await self._pause(LOOK_EVERY_S)
            if self._problem:
                await asyncio.sleep(LOOK_AGAIN_S)
            await self.look()

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        except TimeoutError:
            return

    def _take(self, chain: Roots) -> None:
        roots = self._roots or self_signed(chain)
        where = f"{self._settings.mount}/issuer/{self._settings.issuer}"
        if not roots:
            raise ConfigurationError(
                f"{where}: its chain ends without a root; expected the root in the mount's chain, "
                "or in a file; name that file: roots_file"
            )
        issuer = checked_issuer(
            chain,
            roots,
            where=where,
            generation=1 if self._own is None else self._own.generation + 1,
            now=self._clock(),
        )
        root = issuer.trust_bundle.certificates[0]
        if self._own is None and self._known:
            faults = succession_faults(self._known, [root, *self._known])
            problems = [f"{where}: {fault}" for fault in faults]
            if problems:
                raise ConfigurationError(*problems)
        self._roots, self._chain, self._own = roots, chain, issuer
        self._issuer = with_announced(issuer, self._announced)
        tell_issuer(self._name, issuer)

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            get_logger().warning(Event.BACKEND_ISSUER_MISSING, backend=self._name, cause=problem)
        self._problem = problem
