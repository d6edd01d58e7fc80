"""The mesh's roots in a ClusterTrustBundle, where the API server has that kind.

Decides whether it has, and when the object differs. A cluster without the kind
is no fault: it is asked again once in a while, for clusters are updated.

Source: istio pilot/pkg/config/kube/clustertrustbundle/controller.go;
Kubernetes KEP-3257; docs/standards.md 60.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from meshsigner.background import Background
from meshsigner.cluster.writing import Writer
from meshsigner.errors import BackendUnavailable
from meshsigner.kube import (
    CLUSTER_TRUST_BUNDLES,
    ApiRefused,
    JsonObject,
    KubernetesApi,
    NotFound,
    ObjectKey,
    Resource,
    Watch,
)
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

NAME = "istio.io:istiod-ca:root-cert"
SIGNER = "istio.io/istiod-ca"
_LOOK_S = 0.5
_RETRY_S = 5.0
_ASK_AGAIN_S = 300.0  # whether the kind is served


class Found(NamedTuple):
    """What the object holds.

    Attributes:
        version: Its resourceVersion.
        text: The roots in it, PEM.
    """

    version: str
    text: str


class TrustBundle:
    """Keeps the roots in the object, for one term.

    Args:
        api: The API server.
        writer: To write.
        roots: Returns the roots as PEM, empty while there are none.
    """

    def __init__(self, api: KubernetesApi, writer: Writer, roots: Callable[[], str]) -> None:
        self._api = api
        self._writer = writer
        self._roots = roots
        self._watch: Watch[Found] | None = None
        self._told = ""
        self.is_served = True  # until the opposite is known: nobody may be too early

    async def run(self) -> None:
        """Follow and write, until cancelled or the term is over.

        Raises:
            TermOver: This process leads no more.
        """
        resource = await self._find_kind()
        self._watch = Watch(
            self._api,
            resource.collection(),
            name="controllers/trustbundle",
            project=_found,
            fields=f"metadata.name={NAME}",
        )
        running = Background(self._watch.run)
        try:
            await self._watch.synced()
            while True:
                pause_s = _LOOK_S if await self._is_written(resource) else _RETRY_S
                await asyncio.sleep(pause_s)
        finally:
            await running.stop()

    def is_right(self) -> bool:
        """Tell whether the object holds the roots of the moment, or cannot be there at all."""
        if not self.is_served:
            return True
        found = self._watch.objects.get(ObjectKey("", NAME)) if self._watch is not None else None
        return found is not None and found.text == self._roots()

    async def _find_kind(self) -> Resource:
        """Return the newest served version of the kind, as soon as there is one."""
        while True:
            for resource in CLUSTER_TRUST_BUNDLES:
                if await self._serves(resource):
                    self.is_served = True
                    return resource
            await asyncio.sleep(_ASK_AGAIN_S if not self.is_served else _RETRY_S)

    async def _serves(self, resource: Resource) -> bool:
        try:
            await self._api.list(resource.collection(), fields=f"metadata.name={NAME}")
        except NotFound:
            if resource is CLUSTER_TRUST_BUNDLES[-1]:
                self.is_served = False
            return False
        except BackendUnavailable as error:
            self._tell(error)
            return False
        return True

    async def _is_written(self, resource: Resource) -> bool:
        """Write it if it differs; False when that has failed."""
        text = self._roots()
        if not text or self.is_right() or self._watch is None:
            return True
        found = self._watch.objects.get(ObjectKey("", NAME))
        try:
            await self._write(resource, text, found)
        except BackendUnavailable as error:
            self._tell(error)
            return False
        self._told = ""
        return True

    async def _write(self, resource: Resource, text: str, found: Found | None) -> None:
        content = {"spec": {"signerName": SIGNER, "trustBundle": text}}
        if found is None:
            await self._writer.create(resource, {"metadata": {"name": NAME}, **content})
        else:
            changes = {"metadata": {"resourceVersion": found.version}, **content}
            await self._writer.patch(resource, NAME, changes)

    def _tell(self, error: BackendUnavailable) -> None:
        if isinstance(error, ApiRefused) and str(error) == self._told:
            return
        self._told = str(error)
        get_logger().warning(Event.TRUST_BUNDLE_NOT_WRITTEN, cause=self._told)


def _found(document: JsonObject) -> Found:
    return Found(
        version=document["metadata"]["resourceVersion"],
        text=document["spec"]["trustBundle"],
    )
