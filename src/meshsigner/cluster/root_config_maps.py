"""The mesh's roots in a ConfigMap of every namespace, where workloads look for them.

Decides which namespaces get one and when one differs. Written only when it
does; keys and labels of other people stay. What a namespace has is followed by
watches, nothing is read in between: 2,000 namespaces cost one list of each.

Source: istio pilot/pkg/serviceregistry/kube/controller/namespacecontroller.go;
cert-manager istio-csr pkg/controller/configmap.go; docs/standards.md 54.
"""

import asyncio
import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple

from meshsigner.background import Background
from meshsigner.cluster.queue import Queue
from meshsigner.cluster.writing import Writer
from meshsigner.errors import BackendUnavailable
from meshsigner.kube import (
    CONFIG_MAPS,
    NAMESPACES,
    ApiRefused,
    JsonObject,
    KubernetesApi,
    NotAllowed,
    ObjectKey,
    Watch,
)
from meshsigner.model import Health
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

KEY = "root-cert.pem"
LABEL, LABEL_VALUE = "istio.io/config", "true"
NAME = "istio-ca-root-cert"
_TASKS = 8  # writes under way at once
_DIGEST_BYTES = 16


class Found(NamedTuple):
    """What a ConfigMap holds, as far as it is ours.

    Attributes:
        version: Its resourceVersion.
        digest: Of our key's text; empty when there is none.
        labelled: Whether it has our label.
    """

    version: str
    digest: bytes
    labelled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which namespaces get the roots.

    Attributes:
        name: Of the ConfigMap.
        selector: Label selector for namespaces; empty for all.
        excluded: Names of namespaces that get none.
        first: Those that come before all others.
    """

    name: str = NAME
    selector: str = ""
    excluded: Collection[str] = ()
    first: Collection[str] = ()


class RootConfigMaps:
    """Keeps the roots in every namespace, for one term.

    Args:
        api: The API server, to watch.
        writer: To write.
        roots: Returns the roots as PEM, empty while there are none.
        scope: Which namespaces.
    """

    def __init__(
        self, api: KubernetesApi, writer: Writer, roots: Callable[[], str], scope: Scope
    ) -> None:
        self._writer = writer
        self._roots = roots
        self._scope = scope
        self._text, self._digest = "", b""
        self._queue = Queue(self._reconcile)
        self._namespaces = Watch(
            api,
            NAMESPACES.collection(),
            name="controllers/namespaces",
            project=self._active,
            follower=_Namespaces(self),
            labels=scope.selector,
        )
        self._maps = Watch(
            api,
            CONFIG_MAPS.collection(),
            name="controllers/configmaps",
            project=_found,
            follower=_Maps(self),
            fields=f"metadata.name={scope.name}",
        )

    async def run(self) -> None:
        """Follow and write, until cancelled or the term is over.

        Raises:
            TermOver: This process leads no more.
        """
        watches = [Background(watch.run) for watch in (self._maps, self._namespaces)]
        try:
            await self._maps.synced()  # else every namespace would look as if it had none
            await self._namespaces.synced()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._queue.run(_TASKS))
                group.create_task(self._follow_roots())
        finally:
            for watch in watches:
                await watch.stop()

    def behind(self) -> list[str]:
        """Return the namespaces that do not have the roots of the moment, as far as is known."""
        return [key.name for key in self._namespaces.objects if not self.has_roots(key.name)]

    def stands_everywhere(self, text: str) -> bool:
        """Tell whether just these roots are in every namespace, by all that is known right now."""
        followed = all(w.synced_since is not None for w in (self._maps, self._namespaces))
        return followed and bool(text) and text == self._text and not self.behind()

    def has_roots(self, namespace: str) -> bool:
        """Tell whether a namespace has the roots of the moment."""
        found = self._maps.objects.get(ObjectKey(namespace, self._scope.name))
        return found is not None and bool(self._text) and self._is_right(found)

    def health(self) -> list[Health]:
        """Tell how both watches are."""
        return [self._namespaces.health(), self._maps.health()]

    async def _follow_roots(self, interval_s: float = 0.5) -> None:
        """Look at the roots again and again; the first namespaces come first."""
        while True:
            text = self._roots()
            if text and text != self._text:
                self._text, self._digest = text, _digest(text)
                self.look_at_all()
            await asyncio.sleep(interval_s)

    def look_at_all(self) -> None:
        """Have every namespace looked at that may differ; none while there are no roots."""
        if not self._text:
            return
        names = [key.name for key in self._namespaces.objects if not self.has_roots(key.name)]
        names.sort(key=lambda name: name not in self._scope.first)
        self._queue.add_all(names)

    def look_at(self, namespace: str) -> None:
        """Have a namespace looked at."""
        if self._text and not self.has_roots(namespace):
            self._queue.add(namespace)

    def _active(self, document: JsonObject) -> bool | None:
        """Keep a namespace that gets the roots: not one that ends, for nothing is made there."""
        metadata = document["metadata"]
        phase = (document.get("status") or {}).get("phase")
        ending = metadata.get("deletionTimestamp") or phase == "Terminating"
        return None if ending or metadata["name"] in self._scope.excluded else True

    def _is_right(self, found: Found) -> bool:
        return found.labelled and found.digest == self._digest

    async def _reconcile(self, namespace: str) -> float | None:
        """Make one namespace right; return None when it is, else how long to wait."""
        if ObjectKey("", namespace) not in self._namespaces.objects or self.has_roots(namespace):
            return None
        try:
            await self._write(namespace)
        except ApiRefused as error:
            self._tell(namespace, error)
            return error.retry_after_s or 0.0
        except BackendUnavailable as error:
            self._tell(namespace, error)
            return 1.0
        return None

    async def _write(self, namespace: str) -> None:
        found = self._maps.objects.get(ObjectKey(namespace, self._scope.name))
        metadata: dict[str, Any] = {"labels": {LABEL: LABEL_VALUE}}
        content = {"metadata": metadata, "data": {KEY: self._text}}
        if found is None:
            metadata["name"] = self._scope.name
            await self._writer.create(CONFIG_MAPS, content, namespace)
        else:
            metadata["resourceVersion"] = found.version
            await self._writer.patch(CONFIG_MAPS, self._scope.name, content, namespace)

    def _tell(self, namespace: str, error: BackendUnavailable) -> None:
        # A conflict is somebody else's write, which the watch will show; a namespace
        # that ends refuses new objects before we hear of its end.
        if not isinstance(error, ApiRefused) or isinstance(error, NotAllowed):
            get_logger().warning(Event.ROOTS_NOT_WRITTEN, namespace=namespace, cause=str(error))


class _Namespaces:
    """Has a new namespace looked at, or one that is of interest again."""

    def __init__(self, owner: RootConfigMaps) -> None:
        self._owner = owner

    def upsert(self, key: ObjectKey, value: bool, previous: bool | None) -> None:  # noqa: ARG002, FBT001 - a protocol's
        self._owner.look_at(key.name)

    def delete(self, key: ObjectKey, previous: bool) -> None:  # noqa: FBT001 - a protocol's
        """Nothing is to do: what was in it goes with it."""

    def replaced(self) -> None:
        self._owner.look_at_all()


class _Maps:
    """Has the namespace looked at whose ConfigMap has changed or gone."""

    def __init__(self, owner: RootConfigMaps) -> None:
        self._owner = owner

    def upsert(self, key: ObjectKey, value: Found, previous: Found | None) -> None:  # noqa: ARG002 - a protocol's
        self._owner.look_at(key.namespace)

    def delete(self, key: ObjectKey, previous: Found) -> None:  # noqa: ARG002 - a protocol's
        self._owner.look_at(key.namespace)

    def replaced(self) -> None:
        self._owner.look_at_all()


def _found(document: JsonObject) -> Found:
    metadata = document["metadata"]
    text = (document.get("data") or {}).get(KEY)
    return Found(
        version=metadata["resourceVersion"],
        digest=_digest(text) if isinstance(text, str) else b"",
        labelled=(metadata.get("labels") or {}).get(LABEL) == LABEL_VALUE,
    )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:_DIGEST_BYTES]
