"""What a leader does with its term: all controllers, and notes for those that come after it.

Decides what belongs together: the roots are published once every namespace and
the trust bundle have them, and only then may a certificate under a new one be
shown. Who leads is `election`'s matter.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509

from meshsigner.cluster.election import Election, Place
from meshsigner.cluster.order import History, change_faults, may_present, root_id
from meshsigner.cluster.root_config_maps import RootConfigMaps, Scope
from meshsigner.cluster.serving_secret import ServingCertificates, ServingSecret, Target
from meshsigner.cluster.term import Clock, Term, TermOver, boot_clock
from meshsigner.cluster.trust_bundle import TrustBundle
from meshsigner.cluster.writing import Pace, Writer
from meshsigner.errors import NotReady
from meshsigner.kube import KubernetesApi
from meshsigner.model import Health
from meshsigner.model import TrustBundle as Roots
from meshsigner.observe.controller_metrics import ControllerMetrics
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

Run = Callable[[], Coroutine[Any, Any, None]]

_LOOK_S = 0.5
WRITES_PER_S = 50.0  # 2,000 namespaces within 40 s, a fraction of what an API server takes
SETTLE = timedelta(minutes=2)  # kubelet's sync period and cache, each about one


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the controllers are to do.

    Attributes:
        place: Where leaders are elected.
        scope: Which namespaces get the roots; None for none.
        trust_bundle: Whether the ClusterTrustBundle is kept.
        targets: Secrets of istiod.
        writes_per_s: Bound of all writes.
        settle: How long published roots take into all pods.
        longest: Longest lifetime of a leaf.
    """

    place: Place
    scope: Scope | None
    trust_bundle: bool = True
    targets: tuple[Target, ...] = ()
    writes_per_s: float = WRITES_PER_S
    settle: timedelta = SETTLE
    longest: timedelta = timedelta(days=90)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where contents come from.

    Attributes:
        roots: Returns the bundle of the moment; `NotReady` while there is none.
        certificates: Issues for istiod; None when no CA is at hand.
        clock: Returns the time, UTC.
        local_clock: Goes on while the machine sleeps, seconds.
    """

    roots: Callable[[], Roots]
    certificates: ServingCertificates | None
    clock: Callable[[], datetime] = _now
    local_clock: Clock = field(default=boot_clock)


class Controllers:
    """Takes part in the election, and keeps the cluster's objects while it leads.

    Args:
        api: The API server, from now on theirs alone.
        rules: What to do.
        sources: Where contents come from.
        metrics: Shows what is done.
    """

    def __init__(
        self, api: KubernetesApi, rules: Rules, sources: Sources, metrics: ControllerMetrics
    ) -> None:
        self._api = api
        self._rules = rules
        self._sources = sources
        self._metrics = metrics
        self._history = History()
        self._maps: RootConfigMaps | None = None
        self._bundle: TrustBundle | None = None
        self._pace = Pace(rules.writes_per_s)
        self._election = Election(
            api,
            rules.place,
            lead=self._lead,
            notes=self._notes,
            heard=self._hear,
            clock=sources.local_clock,
        )

    async def run(self) -> None:
        """Take part, until cancelled; a lease that is held is given back at the end."""
        await self._election.run()

    async def aclose(self) -> None:
        """Close the connection, once nothing runs any more."""
        await self._api.aclose()

    def health(self) -> Health:
        """Tell how things stand. Never not ready: certificates are issued all the same."""
        maps = self._maps
        if maps is None:
            leader = self._election.leader or "nobody yet"
            fault = f"; {self._election.fault}" if self._election.fault else ""
            return Health(name="controllers", ready=True, detail=f"leader: {leader}{fault}")
        behind = maps.behind()
        detail = f"leads; {len(behind)} namespaces without the roots of the moment"
        faults = [part.detail for part in maps.health() if not part.ready]
        return Health(name="controllers", ready=True, detail="; ".join([detail, *faults]))

    def may_present(self, root: x509.Certificate) -> bool:
        """Tell whether a certificate under this root may be shown instead of one under another.

        While no leader has noted anything, nobody knows better than the operator.
        """
        now = self._sources.clock()
        return not self._history.roots or may_present(
            self._history, root_id(root), now, self._rules.settle
        )

    def change_faults(
        self, before: Sequence[x509.Certificate], after: Sequence[x509.Certificate]
    ) -> list[str]:
        """Say which change of the CA comes too early; nothing while no leader has noted anything.

        Args:
            before: The bundle until now, the root in use first.
            after: What would follow.
        """
        if not self._history.roots:
            return []
        ids = [[root_id(root) for root in roots] for roots in (before, after)]
        now = self._sources.clock()
        return list(change_faults(self._history, ids[0], ids[1], now, self._rules.longest))

    async def _lead(self, term: Term) -> None:
        """Run all controllers for a term."""
        self._metrics.leads(now=True)
        writer = Writer(self._api, term, self._pace, self._metrics.wrote)
        try:
            async with asyncio.TaskGroup() as group:
                for run in self._controllers(writer):
                    group.create_task(run())
                group.create_task(self._note(term))
        except* TermOver:
            pass
        finally:
            self._maps = self._bundle = None
            self._metrics.leads(now=False)

    def _controllers(self, writer: Writer) -> list[Run]:
        rules, runs = self._rules, list[Run]()
        if rules.scope is not None:
            self._maps = RootConfigMaps(self._api, writer, self._roots_pem, rules.scope)
            runs.append(self._maps.run)
        if rules.trust_bundle:
            self._bundle = TrustBundle(self._api, writer, self._roots_pem)
            runs.append(self._bundle.run)
        certificates = self._sources.certificates
        if certificates is not None:
            runs += [self._secret(writer, target, certificates).run for target in rules.targets]
        return runs

    def _secret(
        self, writer: Writer, target: Target, certificates: ServingCertificates
    ) -> ServingSecret:
        return ServingSecret(
            self._api,
            writer,
            target,
            certificates=certificates,
            may_show=self._may_show,
            clock=self._sources.clock,
        )

    def _may_show(self, target: Target, changes_root: bool, root: str) -> bool:  # noqa: FBT001 - a fact
        """Tell whether istiod may be given a certificate now."""
        if changes_root:
            return may_present(self._history, root, self._sources.clock(), self._rules.settle)
        # The first one: istiod reads the roots beside it when it starts.
        return self._maps is None or self._maps.has_roots(target.namespace)

    async def _note(self, term: Term) -> None:
        """Note which roots stand everywhere."""
        while True:
            term.check()
            maps, bundle = self._maps, self._bundle
            self._metrics.behind(len(maps.behind()) if maps is not None else 0)
            stands = maps is None or maps.stands_everywhere(self._roots_pem())
            if stands and (bundle is None or bundle.is_right()):
                self._publish()
            await asyncio.sleep(_LOOK_S)

    def _publish(self) -> None:
        try:
            roots = self._sources.roots().certificates
        except NotReady:
            return
        before = self._history
        self._history = before.published([root_id(root) for root in roots], self._sources.clock())
        if self._history.roots.keys() != before.roots.keys():
            get_logger().info(Event.ROOTS_PUBLISHED, count=len(self._history.roots))

    def _notes(self) -> str | None:
        return self._history.render() if self._history.roots else None

    def _hear(self, notes: str) -> None:
        if not self._election.leads:
            self._history = History.parse(notes)

    def _roots_pem(self) -> str:
        try:
            return self._sources.roots().pem
        except NotReady:
            return ""
