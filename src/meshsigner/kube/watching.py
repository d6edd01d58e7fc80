"""Follows a collection of the Kubernetes API through all of its server's faults.

    class Index:
        def upsert(self, key, value, previous): ...   # new, or its projection changed
        def delete(self, key, previous): ...
        def replaced(self): ...                       # a whole list has been taken in

    watch = Watch(api, PODS.collection(), name="kube/local/pods", project=pod_of, follower=Index())
    watch.start()
    await watch.synced()
    watch.objects[ObjectKey("foo", "bar-0")]

Decides when to list, when to go on from where a watch broke, and how long to
wait before that. It holds what `project` makes of each object and nothing else
of it, so a pod costs a few hundred bytes instead of kilobytes, and a change of
what was left out tells nobody. What the values mean is the follower's matter.

Source: Kubernetes API concepts ("Efficient detection of changes", bookmarks,
410 Gone); client-go tools/cache/reflector.go.
"""

import asyncio
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Generic, NamedTuple, Protocol, TypeVar

from meshsigner.background import Background
from meshsigner.errors import BackendUnavailable
from meshsigner.kube.api import PAGE, JsonObject, KubernetesApi
from meshsigner.kube.events import Change, read_events
from meshsigner.kube.refusals import ApiRefused, Gone
from meshsigner.model import Health
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

_RANDOM = secrets.SystemRandom().random

Value = TypeVar("Value")
Value_contra = TypeVar("Value_contra", contravariant=True)


class ObjectKey(NamedTuple):
    """What an object is called within its collection.

    Attributes:
        namespace: Empty for kinds without namespaces.
        name: Its name.
    """

    namespace: str
    name: str


class Follower(Protocol[Value_contra]):
    """Is told what changes; called in the event loop and must not wait."""

    def upsert(self, key: ObjectKey, value: Value_contra, previous: Value_contra | None) -> None:
        """Take what an object is now; never called with what it was already.

        Args:
            key: Which object.
            value: What `project` made of it.
            previous: What it was before; None for a new one.
        """
        ...

    def delete(self, key: ObjectKey, previous: Value_contra) -> None:
        """Forget an object: it is deleted, or `project` makes nothing of it any more.

        Args:
            key: Which object.
            previous: What it was.
        """
        ...

    def replaced(self) -> None:
        """Know that a whole list was taken in: what was not told of is not there."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How patient a watch is, all in seconds.

    Attributes:
        lasts_s: Length of one watch; spread by half of it, so that not all end at once.
        silence_s: Longest time without a byte. The API server sends a bookmark each
            minute, so that a frozen one is noticed.
        first_pause_s: Wait after a fault; it doubles with each fault in a row.
        longest_pause_s: Bound of that wait.
        settled_s: A watch that lasted so long was no fault, however it ended.
    """

    lasts_s: float = 300.0
    silence_s: float = 90.0
    first_pause_s: float = 0.2
    longest_pause_s: float = 30.0
    settled_s: float = 5.0


class Watch(Generic[Value]):
    """One collection, followed.

    Args:
        api: The API server; stays its owner's.
        path: Of the collection (`Resource.collection`).
        name: What health and logs call it, such as `kube/Kubernetes/pods`.
        project: Makes the small value that is kept of an object, or None for an
            object that is of no interest. Values are compared to find changes.
            Its `KeyError`, `TypeError` or `ValueError` means an object that cannot
            be read: it counts as not there, and health says so.
        follower: Is told of changes; None for those who only look at `objects`.
        labels: Label selector; empty for all.
        fields: Field selector; empty for all.
        page: Objects a page of a list.
        tolerated: How long it may be out of sync before it is not ready.
        timing: How patient it is.
        random: Returns a number from 0 to 1, for jitter.
        clock: Returns the time, UTC.

    Attributes:
        synced_since: Since when the snapshot has followed the API server without
            interruption; None while it does not.
    """

    def __init__(
        self,
        api: KubernetesApi,
        path: str,
        *,
        name: str,
        project: Callable[[JsonObject], Value | None],
        follower: Follower[Value] | None = None,
        labels: str = "",
        fields: str = "",
        page: int = PAGE,
        tolerated: timedelta = timedelta(seconds=30),
        timing: Timing | None = None,
        random: Callable[[], float] = _RANDOM,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.synced_since: datetime | None = None
        self._api = api
        self._path = path
        self._name = name
        self._project = project
        self._follower = follower
        self._selectors = {"labels": labels, "fields": fields}
        self._page = page
        self._tolerated = tolerated
        self._timing = timing or Timing()
        self._random = random
        self._clock = clock
        self._objects: dict[ObjectKey, Value] = {}
        self._unreadable: set[ObjectKey] = set()
        self._version: str | None = None
        self._problem = "not listed yet"
        self._lost_since = clock()
        self._faults = 0
        self._listed = asyncio.Event()
        self._running: Background | None = None

    @property
    def objects(self) -> Mapping[ObjectKey, Value]:
        """What is known of the collection; changes as the collection does."""
        return MappingProxyType(self._objects)

    def start(self) -> None:
        """Begin to follow, and go on until `aclose`."""
        self._running = Background(self.run)

    async def aclose(self) -> None:
        """Stop following."""
        if self._running is not None:
            await self._running.stop()

    async def synced(self) -> None:
        """Wait until the collection has been listed for the first time."""
        await self._listed.wait()

    def health(self) -> Health:
        """Say whether the snapshot follows the API server."""
        parts = [f"{len(self._objects)} objects"]
        if self.synced_since is None:
            since = self._lost_since.isoformat(timespec="seconds")
            parts = [f"out of sync since {since}: {self._problem}", *parts]
        if self._unreadable:
            parts.append(f"{len(self._unreadable)} left out that cannot be read")
        return Health(name=self._name, ready=self._is_ready(), detail="; ".join(parts))

    def _is_ready(self) -> bool:
        if self.synced_since is not None:
            return True
        return self._listed.is_set() and self._clock() - self._lost_since < self._tolerated

    async def run(self) -> None:
        """Follow for ever; `start` does this in the background."""
        try:
            while True:
                await self._follow_once()
        finally:
            self._version = None  # whatever ended this, the snapshot is begun anew after it

    async def _follow_once(self) -> None:
        """List if that is needed, watch until the watch ends, and wait unless all was well."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        at_least_s = await self._attempt()
        if loop.time() - began_s >= self._timing.settled_s:
            self._faults = 0
            if at_least_s is None:
                return  # the server ended it in its time: go on at once
        await asyncio.sleep(max(self._pause_s(), at_least_s or 0.0))
        self._faults += 1

    async def _attempt(self) -> float | None:
        """Follow once; return None when the server ended it, else how long to wait at least."""
        try:
            if self._version is None:
                self._version = await self._list()
            await self._watch(self._version)
        except BackendUnavailable as error:
            if isinstance(error, Gone):
                self._version = None
            self._lose(str(error))
            pause_s = error.retry_after_s if isinstance(error, ApiRefused) else None
            return pause_s or 0.0
        return None

    async def _list(self) -> str:
        """Take the whole collection in and return its version."""
        gone = set(self._objects)
        version = ""
        self._unreadable.clear()
        async for page in self._api.pages(self._path, **self._selectors, page=self._page):
            for document in page.items:
                gone.discard(self._take(document))
            version = page.resource_version
        for key in gone:
            self._forget(key)
        if self._follower is not None:
            self._follower.replaced()
        self._listed.set()
        return version

    async def _watch(self, version: str) -> None:
        """Follow from a version on until the server ends the watch."""
        lasts_s = self._timing.lasts_s * (1.0 + self._random() / 2)
        silence_s = self._timing.silence_s
        async with self._api.watch(
            self._path, version, **self._selectors, lasts_s=lasts_s, silence_s=silence_s
        ) as stream:
            self._sync()
            async for event in read_events(stream):
                if event.change is Change.DELETED:
                    self._forget(key_of(event.document))
                elif event.change is not Change.BOOKMARK:
                    self._take(event.document)
                self._version = event.resource_version

    def _take(self, document: JsonObject) -> ObjectKey:
        """Take in what an object is now."""
        key = key_of(document)
        try:
            value = self._project(document)
        except (KeyError, TypeError, ValueError):
            self._unreadable.add(key)
            value = None
        else:
            self._unreadable.discard(key)
        if value is None:
            self._forget(key, unreadable=key in self._unreadable)
            return key
        previous = self._objects.get(key)
        if value != previous:
            self._objects[key] = value
            if self._follower is not None:
                self._follower.upsert(key, value, previous)
        return key

    def _forget(self, key: ObjectKey, *, unreadable: bool = False) -> None:
        if not unreadable:
            self._unreadable.discard(key)
        previous = self._objects.pop(key, None)
        if previous is not None and self._follower is not None:
            self._follower.delete(key, previous)

    def _sync(self) -> None:
        if self.synced_since is None:
            self.synced_since = self._clock()
            get_logger().info(Event.KUBE_WATCH_SYNCED, watch=self._name, count=len(self._objects))

    def _lose(self, problem: str) -> None:
        if self.synced_since is not None or problem != self._problem:
            get_logger().warning(Event.KUBE_WATCH_LOST, watch=self._name, problem=problem)
        if self.synced_since is not None:
            self.synced_since, self._lost_since = None, self._clock()
        self._problem = problem

    def _pause_s(self) -> float:
        doubled_s = self._timing.first_pause_s * 2.0 ** min(self._faults, 16)
        return min(doubled_s, self._timing.longest_pause_s) * (0.5 + self._random() / 2)


def key_of(document: JsonObject) -> ObjectKey:
    """Return what an object is called; the namespace is interned, for many share it.

    Raises:
        BackendUnavailable: The object has no name.
    """
    try:
        metadata = document["metadata"]
        namespace, name = metadata.get("namespace", ""), metadata["name"]
    except (KeyError, TypeError, AttributeError):
        raise BackendUnavailable("an object without a name") from None
    if not isinstance(namespace, str) or not isinstance(name, str):
        raise BackendUnavailable("an object without a name")
    return ObjectKey(sys.intern(namespace), name)
