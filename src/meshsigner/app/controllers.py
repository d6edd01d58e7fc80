"""The cluster's controllers, made of their settings."""

import os
import secrets
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime

from cryptography import x509

from meshsigner.background import Background
from meshsigner.cluster.election import Place
from meshsigner.cluster.leader import Controllers, Rules, Sources
from meshsigner.cluster.root_config_maps import Scope
from meshsigner.cluster.serving_secret import Target, istiod_names
from meshsigner.config import Config
from meshsigner.config.controllers import Istiod
from meshsigner.errors import ConfigurationError
from meshsigner.kube import KubernetesApi, in_cluster, load_kubeconfig
from meshsigner.model import Health, TrustBundle
from meshsigner.observe.controller_metrics import CollectorRegistry, ControllerMetrics
from meshsigner.signing.embedded import IssuerSource
from meshsigner.signing.serving import ServingChains
from meshsigner.trust import CaFiles, IssuerDirectory
from meshsigner.trust.succession import Roots

_CONNECTIONS = 16  # eight writes, four watches, the lease


def controllers_of(
    config: Config,
    *,
    roots: Callable[[], TrustBundle],
    issuer: IssuerSource | None,
    clock: Callable[[], datetime],
    metrics: ControllerMetrics,
) -> Controllers:
    """Return the controllers, which take part in the election once they run.

    Args:
        config: All settings.
        roots: Returns the roots of the moment.
        issuer: The CA at hand, which signs for istiod; None where there is none.
        clock: Returns the time, UTC.
        metrics: Shows what they do.

    Raises:
        ConfigurationError: The API server's place is not known.
    """
    lifetime = config.controllers.istiod_lifetime
    chains = None if issuer is None else ServingChains(issuer, lifetime=lifetime)
    sources = Sources(roots=roots, certificates=chains, clock=clock)
    return Controllers(api_of(config), rules_of(config), sources, metrics)


class ClusterKeeping:
    """The controllers beside a server's work, if the settings want them.

    Args:
        registry: Of the process's figures.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._controllers: Controllers | None = None

    def start(
        self,
        config: Config,
        *,
        roots: Callable[[], TrustBundle],
        issuer: IssuerSource | None,
        clock: Callable[[], datetime],
        closing: AsyncExitStack,
    ) -> None:
        """Take part in the election, if the settings say so.

        Args:
            config: All settings.
            roots: Returns the roots of the moment.
            issuer: The CA at hand; a change of it is from now on refused, too, while
                the cluster still lacks its roots.
            clock: Returns the time, UTC.
            closing: Ends what is begun here.

        Raises:
            ConfigurationError: The API server's place is not known, or istiod wants a
                certificate that nobody here can issue.
        """
        if not config.controllers.enabled:
            return
        if issuer is None and config.controllers.istiod:
            raise ConfigurationError(
                "controllers.istiod: needs a backend whose CA key is in the server itself, and "
                "there is none; expected an empty list; let somebody else issue for istiod"
            )
        controllers = self._controllers = controllers_of(
            config,
            roots=roots,
            issuer=issuer,
            clock=clock,
            metrics=ControllerMetrics(self._registry),
        )
        if isinstance(issuer, IssuerDirectory):
            issuer.also_refuse(controllers.change_faults)
        closing.push_async_callback(controllers.aclose)
        closing.push_async_callback(Background(controllers.run).stop)

    def health(self) -> Sequence[Health]:
        """Tell how the controllers stand; nothing where there are none."""
        return () if self._controllers is None else (self._controllers.health(),)

    def may_show(self, files: CaFiles, _kept: x509.Certificate) -> bool:
        """Tell whether our own certificate may chain to a CA's root by now."""
        root = files.issuer.trust_bundle.certificates[0]
        return self._controllers is None or self._controllers.may_present(root)


def issuer_of(
    config: Config,
    *,
    clock: Callable[[], datetime],
    further_faults: Callable[[Roots, Roots], Iterable[str]] = lambda *_: (),
) -> IssuerDirectory:
    """Return the CA in a directory, for a process that serves no workloads.

    Args:
        config: All settings.
        clock: Returns the time, UTC.
        further_faults: Says which change of the CA comes too early.

    Raises:
        ConfigurationError: There is no such CA, or it is not good.
    """
    if config.issuer is None:
        raise ConfigurationError(
            "issuer: not set; expected a CA in a directory, which signs for istiod; name one, or "
            "let the workers run the controllers"
        )
    return IssuerDirectory(config.issuer.path, clock=clock, further_faults=further_faults)


def api_of(config: Config) -> KubernetesApi:
    """Return a client of the cluster whose objects are kept.

    Raises:
        ConfigurationError: Its place is not known.
    """
    section = config.controllers
    connection = (
        in_cluster(os.environ)
        if section.kubeconfig is None
        else load_kubeconfig(section.kubeconfig, section.context)
    )
    return KubernetesApi(connection, max_connections=_CONNECTIONS)


def rules_of(config: Config) -> Rules:
    """Return what the controllers are to do."""
    section, maps = config.controllers, config.controllers.root_config_maps
    targets = tuple(map(target_of, section.istiod))
    scope = Scope(
        name=maps.name,
        selector=maps.namespace_selector,
        excluded=frozenset(maps.excluded_namespaces),
        first=frozenset(target.namespace for target in targets),
    )
    lease = section.lease
    return Rules(
        place=Place(
            namespace=lease.namespace,
            name=lease.name,
            # Told apart even after a restart: who comes back is not who was there.
            me=f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}",
            duration_s=lease.duration.total_seconds(),
        ),
        scope=scope if maps.enabled else None,
        trust_bundle=section.trust_bundle,
        targets=targets,
        writes_per_s=section.writes_per_second,
        settle=section.settle,
        longest=section.longest_leaf or config.policy.maximum_lifetime,
    )


def target_of(section: Istiod) -> Target:
    """Return one Secret of istiod."""
    names = istiod_names(section.namespace, section.revisions)
    return Target(
        namespace=section.namespace,
        name=section.secret,
        names=tuple(dict.fromkeys((*names, *section.dns_names))),
    )
