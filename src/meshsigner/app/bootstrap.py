"""What must be in the cluster before anything runs: the CA, the roots, istiod's certificate.

Run as a Job before the first install (a Helm hook). Every step finds what an
earlier run has done and leaves it: it may be run again at any time, by several
at once. What is there and is not ours is left alone and told: to take over from
another CA is the controllers' work, in the right order.

Source: docs/standards.md 55; istio-contract 5.1 (istiod reads the files once,
at its start).
"""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from meshsigner.app.controllers import api_of, issuer_of, rules_of
from meshsigner.cluster.leader import Rules
from meshsigner.cluster.order import root_id
from meshsigner.cluster.root_config_maps import KEY, LABEL, LABEL_VALUE
from meshsigner.cluster.serving_secret import Target, make_secret, read_secret
from meshsigner.config import Config
from meshsigner.errors import BackendUnavailable
from meshsigner.kube import (
    CONFIG_MAPS,
    NAMESPACES,
    SECRETS,
    JsonObject,
    KubernetesApi,
    NotAllowed,
    NotFound,
    Resource,
)
from meshsigner.signing.self_made import ROOT_KEY, SelfMadeCa
from meshsigner.signing.serving import ServingChains
from meshsigner.trust import CaFiles, load_directory
from meshsigner.trust.layout import CACERTS

_RETRY_S = 1.0
_PRIVATE = 0o600

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaSecret:
    """Where the CA is kept that is made here.

    Attributes:
        namespace: Of both Secrets.
        name: Of the one that signers mount; the root's key is in `NAME-root`.
    """

    namespace: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ca:
    """The CA at hand, as `ServingChains` asks for it."""

    current: CaFiles


async def bootstrap(
    config: Config,
    *,
    secret: CaSecret | None,
    wait: timedelta,
    say: Callable[[str], object],
) -> None:
    """Do every step that is not done yet.

    Args:
        config: The settings.
        secret: Where to keep a CA that is made; None takes the one in `issuer.path`.
        wait: How long to wait for the API server and for istiod's namespaces.
        say: Told of each step in words.

    Raises:
        ConfigurationError: Something is there that cannot be used.
        BackendUnavailable: The API server did not do its part in time.
    """
    api, rules = api_of(config), rules_of(config)
    patience = _Patience(time.monotonic() + wait.total_seconds())
    try:
        files = (
            issuer_of(config, clock=_now).current
            if secret is None
            else await patience.until_done(partial(_ca, api, config, secret, say))
        )
        for target in rules.targets:
            await patience.until_done(partial(_namespace, api, target.namespace))
            await patience.until_done(partial(_publish, api, rules, target.namespace, files, say))
            await patience.until_done(partial(_certify, api, config, target, files, say))
    finally:
        await api.aclose()


def _now() -> datetime:
    return datetime.now(UTC)


class _Patience:
    """Tries again what the API server cannot do yet.

    Args:
        end_s: When to give up, monotonic seconds.
    """

    def __init__(self, end_s: float) -> None:
        self._end_s = end_s

    async def until_done(self, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step.

        Raises:
            BackendUnavailable: It could not be done in time, or never can.
        """
        while True:
            try:
                return await step()
            except NotAllowed:
                raise
            except BackendUnavailable:
                if time.monotonic() > self._end_s:
                    raise
                await asyncio.sleep(_RETRY_S)


async def _namespace(api: KubernetesApi, name: str) -> None:
    await api.get(NAMESPACES.object(name))


async def _ca(
    api: KubernetesApi, config: Config, secret: CaSecret, say: Callable[[str], object]
) -> CaFiles:
    """Return the CA in the Secret, made if there is none."""
    kept = await _find(api, SECRETS, secret.name, secret.namespace)
    if kept is None:
        await _make_ca(api, config, secret)
        say(f"Secret {secret.namespace}/{secret.name}: a new root and CA")
        kept = await api.get(SECRETS.object(secret.name, secret.namespace))
    else:
        say(f"Secret {secret.namespace}/{secret.name}: is there, left as it is")
    with _directory(kept) as directory:
        return load_directory(directory, generation=1, now=_now())


async def _make_ca(api: KubernetesApi, config: Config, secret: CaSecret) -> None:
    """Make a CA in the memory of this run; the Secrets are the only copy that stays."""
    root_name = f"{secret.name}-root"
    root = await _find(api, SECRETS, root_name, secret.namespace)
    with _directory(root or {}) as directory:
        SelfMadeCa(directory=directory, trust_domain=config.trust_domain).ensure(_now())
        if root is None:
            await _create_once(api, secret.namespace, root_name, directory, (ROOT_KEY,))
        await _create_once(api, secret.namespace, secret.name, directory, CACERTS.names)


async def _create_once(
    api: KubernetesApi, namespace: str, name: str, directory: Path, files: tuple[str, ...]
) -> None:
    """Make a Secret of files.

    Raises:
        Conflict: Another run was faster; the next try finds what it made.
    """
    data = {file: base64.b64encode((directory / file).read_bytes()).decode() for file in files}
    document = {"metadata": {"name": name}, "type": "Opaque", "data": data}
    await api.create(SECRETS.collection(namespace), document)


async def _publish(
    api: KubernetesApi,
    rules: Rules,
    namespace: str,
    files: CaFiles,
    say: Callable[[str], object],
) -> None:
    """Have the roots in istiod's namespace before istiod looks for them."""
    if rules.scope is None:
        return
    name, text = rules.scope.name, files.issuer.trust_bundle.pem
    document = {"metadata": {"name": name, "labels": {LABEL: LABEL_VALUE}}, "data": {KEY: text}}
    kept = await _find(api, CONFIG_MAPS, name, namespace)
    where = f"ConfigMap {namespace}/{name}"
    if kept is None:
        await api.create(CONFIG_MAPS.collection(namespace), document)
        say(f"{where}: the roots")
    elif (kept.get("data") or {}).get(KEY) == text:
        say(f"{where}: has the roots")
    else:
        say(f"{where}: holds other roots, left for the controllers")


async def _certify(
    api: KubernetesApi,
    config: Config,
    target: Target,
    files: CaFiles,
    say: Callable[[str], object],
) -> None:
    """Have a certificate for istiod before it starts."""
    chains = ServingChains(_Ca(current=files), lifetime=config.controllers.istiod_lifetime)
    now, where = _now(), f"Secret {target.namespace}/{target.name}"
    document = await _find(api, SECRETS, target.name, target.namespace)
    if document is None:
        made = make_secret(target, chains, now, root_id(chains.root()))
        await api.create(SECRETS.collection(target.namespace), made)
        say(f"{where}: a certificate for {', '.join(target.names)}")
        return
    kept = read_secret(document)
    good = kept.ends is not None and chains.will_do(kept.chain, target.names, now)
    say(f"{where}: {'is good' if good else 'is of another CA, left for the controllers'}")


async def _find(
    api: KubernetesApi, resource: Resource, name: str, namespace: str
) -> JsonObject | None:
    try:
        return await api.get(resource.object(name, namespace))
    except NotFound:
        return None


@contextmanager
def _directory(secret: JsonObject) -> Iterator[Path]:
    """Have a Secret's files in a directory for the length of a block."""
    with TemporaryDirectory(prefix="meshsigner-") as name:
        for file, content in (secret.get("data") or {}).items():
            path = Path(name) / Path(file).name
            path.touch(_PRIVATE)
            path.write_bytes(base64.b64decode(content))
        yield Path(name)
