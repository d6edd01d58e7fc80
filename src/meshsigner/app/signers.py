"""The backends of one server: opened from the configuration, started, and ended together.

Decides what concerns all of them: that each hands out the roots of all, which
one issues the serving certificate, what a worker's backends may start with.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.app.problems import Problems
from meshsigner.background import Background
from meshsigner.config import Config
from meshsigner.config.backends import installed_kinds
from meshsigner.config.fields import Section
from meshsigner.config.sections import InventorySqlite
from meshsigner.errors import ConfigurationError, NotReady
from meshsigner.observe.metrics import Metrics
from meshsigner.ports import Signer
from meshsigner.signing.directory_kind import open_directory
from meshsigner.signing.embedded import DEFAULT_NAME, EmbeddedSigner, IssuerSource
from meshsigner.signing.kind import BackendKind, Surroundings

ANNOUNCE_INTERVAL_S = 5.0  # how late the others learn of a root that one backend has learnt
STATE = Path("/var/lib/meshsigner/backends")


def surroundings_of(
    config: Config,
    name: str,
    *,
    clock: Callable[[], datetime],
    metrics: Metrics,
    announced: Sequence[x509.Certificate] = (),
    try_pin: bool = False,
) -> Surroundings:
    """Return the server as one of its backends sees it.

    Args:
        config: The settings.
        name: The backend's.
        clock: Returns the time, UTC.
        metrics: The process's.
        announced: Roots that the other workers hand out.
        try_pin: True where a secret that locks may be tried.
    """
    inventory = config.inventory
    state = inventory.path.parent / "backends" if isinstance(inventory, InventorySqlite) else STATE
    return Surroundings(
        clock=clock,
        trust_domain=config.trust_domain,
        metrics=metrics,
        directory=state / name,
        announced=tuple(announced),
        try_pin=try_pin,
    )


def kind_of(settings: Section) -> BackendKind:
    """Return the kind that a backend's checked settings are of."""
    tag = str(getattr(settings, "type", ""))
    return cast("BackendKind", installed_kinds()[tag].load())


class Backends:
    """Whatever signs for one server.

    Args:
        config: The settings.
        clock: Returns the time, UTC.
        metrics: The process's.
        announced: Roots that the other workers hand out, the one in use first.

    Attributes:
        signers: In the order of the configuration.

    Raises:
        ConfigurationError: One can never work as it is configured; holds the
            problems of all.
    """

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], datetime],
        metrics: Metrics,
        announced: Sequence[x509.Certificate] = (),
    ) -> None:
        self._config = config
        self._clock = clock
        self._metrics = metrics
        # With several backends nobody knows whose root was in use.
        self._announced = announced if len(config.backends) <= 1 else ()
        problems = Problems()
        opened = [
            problems.attempt(partial(self._open, name), where=where)
            for name, where in self._names()
        ]
        problems.settle()
        self.signers: Sequence[Signer] = [signer for signer in opened if signer is not None]
        self._roots: dict[str, tuple[x509.Certificate, ...]] = {}

    async def start(self, closing: AsyncExitStack, problems: Problems) -> None:
        """Start all beside each other, and have them announce the roots of all.

        Args:
            closing: Ends them.
            problems: Gets what is wrong with them.
        """
        for signer in self.signers:
            closing.push_async_callback(signer.aclose)
        started = await asyncio.gather(
            *(signer.start() for signer in self.signers), return_exceptions=True
        )
        for signer, end in zip(self.signers, started, strict=True):
            if isinstance(end, ConfigurationError):
                problems.add(*(f"backend {signer.name}: {problem}" for problem in end.problems))
            elif isinstance(end, BaseException):
                raise end
        self.announce()
        closing.push_async_callback(Background(self._keep_announcing).stop)

    def announce(self) -> None:
        """Have each backend hand out the roots of all, its own first.

        A root that its backend has dropped is announced no more; one whose backend
        is away for now is, for leaves under it are in use.
        """
        self._learn_roots()
        for signer in self.signers:
            signer.announce(tuple(self._roots_of_all(but=signer)))

    async def look(self) -> None:
        """Look at once whether a CA has changed in its files."""
        for signer in self.signers:
            if isinstance(signer, EmbeddedSigner):
                await signer.look()

    def roots_pem(self) -> bytes:
        """Return the roots of all, the first backend's in use first."""
        self._learn_roots()
        return b"".join(root.public_bytes(Encoding.PEM) for root in self._roots_of_all())

    def ca_at_hand(self) -> IssuerSource | None:
        """Return the first CA whose key is in this process, None when there is none."""
        embedded = [signer for signer in self.signers if isinstance(signer, EmbeddedSigner)]
        return embedded[0].source if embedded else None

    def own_ca(self) -> IssuerSource:
        """Return the first CA whose key is in this process: it can issue other certificates.

        Raises:
            ConfigurationError: There is none.
        """
        if (found := self.ca_at_hand()) is not None:
            return found
        raise ConfigurationError(
            "listen.tls: type issuer needs a backend whose CA key is in the server itself, and "
            "there is none; expected type files; give the server a certificate in files",
        )

    def _names(self) -> Iterator[tuple[str, str]]:
        if self._config.issuer is not None:
            yield DEFAULT_NAME, ""
        yield from ((name, f"backend {name}") for name in self._config.backends)

    def _open(self, name: str) -> Signer:
        config = self._config
        surroundings = surroundings_of(
            config, name, clock=self._clock, metrics=self._metrics, announced=self._announced
        )
        if config.issuer is not None:
            return open_directory(name, config.issuer, surroundings)
        settings = config.backends[name]
        return kind_of(settings).open(name, settings, surroundings)

    def _roots_of_all(self, but: Signer | None = None) -> Iterable[x509.Certificate]:
        """Return the own roots of all backends, each once, in the order of the configuration."""
        known = (self._roots.get(one.name, ()) for one in self.signers if one is not but)
        return dict.fromkeys(chain.from_iterable(known))

    def _learn_roots(self) -> None:
        """Take note of each backend's own roots as they are now."""
        now = self._clock()
        for signer in self.signers:
            with suppress(NotReady):
                bundle = signer.issuer(now).trust_bundle
                own = tuple(root for root in bundle.certificates if root not in bundle.announced)
                self._roots[signer.name] = own

    async def _keep_announcing(self) -> None:
        while True:
            await asyncio.sleep(ANNOUNCE_INTERVAL_S)
            self.announce()
