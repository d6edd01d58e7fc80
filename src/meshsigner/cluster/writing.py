"""Every write of a leader: not too many, and none once its term is over.

The look at the term comes last before the request, with no wait in between:
what a frozen process finds first when it wakes is that its term is over. Each
write names the version of the object that it changes, or makes a new one, so
that what another leader has done meanwhile makes it fail.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from meshsigner.cluster.term import Term
from meshsigner.errors import BackendUnavailable
from meshsigner.kube import JsonObject, KubernetesApi, Resource

Counted = Callable[[str, str], None]  # kind of object, outcome


class Pace:
    """Lets so many through a second, evenly, over all who ask.

    Args:
        per_s: How many.
    """

    def __init__(self, per_s: float) -> None:
        self._interval_s = 1.0 / per_s
        self._next_s = 0.0

    async def wait(self) -> None:
        """Wait until it is one's turn."""
        now_s = asyncio.get_running_loop().time()
        self._next_s = max(self._next_s, now_s) + self._interval_s
        await asyncio.sleep(self._next_s - self._interval_s - now_s)


class Writer:
    """Writes objects during one term.

    Args:
        api: The API server.
        term: Checked before each write.
        pace: Shared by all writers of the process.
        counted: Told of each write and how it ended.
    """

    def __init__(
        self, api: KubernetesApi, term: Term, pace: Pace, counted: Counted = lambda *_: None
    ) -> None:
        self._api = api
        self._term = term
        self._pace = pace
        self._counted = counted

    async def create(self, resource: Resource, document: JsonObject, namespace: str = "") -> None:
        """Make an object.

        Raises:
            TermOver: This process leads no more.
            Conflict: It is there already.
            BackendUnavailable: The API server refused, or did not answer.
        """
        await self._write(resource, self._api.create, resource.collection(namespace), document)

    async def patch(
        self, resource: Resource, name: str, changes: JsonObject, namespace: str = ""
    ) -> None:
        """Merge changes into the version of an object that they name.

        Raises:
            TermOver: This process leads no more.
            Conflict: It is of another version by now.
            BackendUnavailable: The API server refused, or did not answer.
        """
        if not changes.get("metadata", {}).get("resourceVersion"):
            raise ValueError("a change without the version that it changes")
        await self._write(resource, self._api.patch, resource.object(name, namespace), changes)

    async def _write(
        self,
        resource: Resource,
        verb: Callable[[str, JsonObject], Any],
        path: str,
        document: JsonObject,
    ) -> None:
        await self._pace.wait()
        self._term.check()
        try:
            await verb(path, document)
        except BackendUnavailable:
            self._counted(resource.kind, "refused")
            raise
        self._counted(resource.kind, "written")
