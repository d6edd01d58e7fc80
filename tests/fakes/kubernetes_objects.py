"""A strict API server for objects over HTTP: lists in pages, watches, and faults on demand.

    server = KubernetesObjects()
    async with serve(server.http, server_context(SERVING, tmp_path)):
        server.store.create(Address("/api/v1", "pods", "foo"), {"metadata": {"name": "bar-0"}})
        ...
        server.drop_watches()          # connections break
        server.store.compact()         # the next watch from before is told 410
        server.refuse(3, 429, {"Retry-After": "1"})
        server.silent = True           # watches send nothing any more, as if frozen

Knows nothing of our code. What `kubernetes_store` refuses is told as a real server tells it.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from tests.fakes.http_server import HttpServer
from tests.fakes.kubernetes_store import (
    Address,
    Document,
    Happened,
    KubernetesStore,
    Refusal,
    matches,
    next_token,
)

_PATH = re.compile(
    r"(?P<api>/api/v1|/apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
)
_NAMESPACE = re.compile(r"/api/v1/namespaces(?:/(?P<name>[^/]+))?")
_CONTENT = {
    "POST": "application/json",
    "PUT": "application/json",
    "PATCH": "application/merge-patch+json",
    "DELETE": "application/json",
}


@dataclass(slots=True, kw_only=True)
class KubernetesObjects:
    """An API server.

    Attributes:
        http: Where it listens, and what it was asked.
        store: What it keeps; a test changes it while watches go on.
        credentials: Bearer tokens that it takes.
        asked: Method, path and query of each request.
        gone_in_stream: A watch from too long ago is told 410 by an event, else by the status.
        bookmark_s: How often a watch gets a bookmark, seconds.
        silent: Watches send nothing while it is set.
        expire_pages: The next page of a list is told 410.
        watches: How many are open.
    """

    http: HttpServer = field(default_factory=HttpServer)
    store: KubernetesStore = field(default_factory=KubernetesStore)
    credentials: set[str] = field(default_factory=lambda: {"reviewer"})
    asked: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    gone_in_stream: bool = True
    bookmark_s: float = 60.0
    silent: bool = False
    expire_pages: bool = False
    watches: int = 0
    _refusals: list[web.Response] = field(default_factory=list)
    _rest: dict[str, tuple[int, list[Document]]] = field(default_factory=dict)
    _open: list[web.BaseRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Take all paths."""
        self.http.fallback = self.handle

    def refuse(
        self, times: int, code: int, headers: Mapping[str, str] | None = None, reason: str = ""
    ) -> None:
        """Answer the next requests with a refusal."""
        self._refusals += [_status(code, reason, headers=headers) for _ in range(times)]

    def drop_watches(self) -> None:
        """Break the connections of all watches, as a load balancer does."""
        for request in list(self._open):
            if request.transport is not None:
                request.transport.abort()

    def listed(self) -> int:
        """Count the lists that were begun."""
        return sum(m == "GET" and "limit" in q and "continue" not in q for m, _, q in self.asked)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        self.asked.append((request.method, request.path, dict(request.query)))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.credentials:
            return _status(401, "Unauthorized")
        if self._refusals:
            return self._refusals.pop(0)
        try:
            return await self._answer(request)
        except Refusal as refusal:
            return _status(refusal.code, refusal.reason, refusal.message)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        address = _address(request.path)
        if request.method == "GET" and not address.name:
            if request.query.get("watch"):
                return await self._watch(request, address)
            return web.json_response(self._list(address, request.query))
        if request.method == "GET":
            return web.json_response(self.store.get(address))
        if request.content_type != _CONTENT.get(request.method):
            raise Refusal(415, "UnsupportedMediaType")
        return self._write(request.method, address, json.loads(await request.read()))

    def _write(self, method: str, address: Address, document: Document) -> web.Response:
        if method == "POST":
            return web.json_response(self.store.create(address, document), status=201)
        if method == "PUT":
            return web.json_response(self.store.replace(address, document))
        if method == "PATCH":
            return web.json_response(self.store.merge(address, document))
        self.store.delete(address, document.get("preconditions"))
        return _status(200, "")

    def _list(self, collection: Address, query: Mapping[str, str]) -> Document:
        token = query.get("continue")
        if token is None:
            version, found = self.store.version, self._chosen(collection, query)
        elif self.expire_pages or token not in self._rest:
            self.expire_pages = False
            raise Refusal(410, "Expired", "the continue token is too old")
        else:
            version, found = self._rest.pop(token)
        limit = int(query.get("limit", "0")) or len(found)
        metadata = {"resourceVersion": str(version)}
        if found[limit:]:
            metadata["continue"] = next_token()
            self._rest[metadata["continue"]] = (version, found[limit:])
        return {"kind": "List", "metadata": metadata, "items": found[:limit] or None}

    def _chosen(self, collection: Address, query: Mapping[str, str]) -> list[Document]:
        labels, fields = query.get("labelSelector", ""), query.get("fieldSelector", "")
        return [d for d in self.store.list(collection) if matches(d, labels, fields)]

    async def _watch(self, request: web.BaseRequest, collection: Address) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        if version < self.store.oldest and not self.gone_in_stream:
            raise Refusal(410, "Expired", "too old resource version")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self._open.append(request)
        self.watches += 1
        try:
            with contextlib.suppress(ConnectionResetError, TimeoutError):
                async with asyncio.timeout(float(request.query.get("timeoutSeconds", "60"))):
                    await self._send_events(request, response, collection, version)
        finally:
            self._open.remove(request)
            self.watches -= 1
        return response

    async def _send_events(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        collection: Address,
        version: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        labels = request.query.get("labelSelector", "")
        fields = request.query.get("fieldSelector", "")
        bookmark_at_s = loop.time() + self.bookmark_s
        while request.transport is not None and not request.transport.is_closing():
            if version < self.store.oldest:
                gone = {"kind": "Status", "code": 410, "reason": "Expired"}
                await response.write(_line("ERROR", gone))
                return
            for happened in list(self.store.since(version, collection)):
                version = happened.version
                for line in _told(happened, labels, fields):
                    await response.write(line)
            version = max(version, self.store.version)
            if loop.time() >= bookmark_at_s and not self.silent:
                mark = {"metadata": {"resourceVersion": str(version)}}
                await response.write(_line("BOOKMARK", mark))
                bookmark_at_s = loop.time() + self.bookmark_s
            await asyncio.sleep(0.002)
            while self.silent:
                await asyncio.sleep(0.002)


def _told(happened: Happened, labels: str, fields: str) -> list[bytes]:
    """Return the event as a watch with selectors sees it: what leaves them is DELETED."""
    was = matches(happened.before, labels, fields)
    after = happened.after
    if after is not None and matches(after, labels, fields):
        return [_line("MODIFIED" if was else "ADDED", after)]
    gone = after or happened.before
    return [_line("DELETED", gone)] if was and gone is not None else []


def _line(kind: str, document: Document) -> bytes:
    return json.dumps({"type": kind, "object": document}).encode() + b"\n"


def _address(path: str) -> Address:
    found = _NAMESPACE.fullmatch(path)
    if found:
        return Address("/api/v1", "namespaces", "", found["name"] or "")
    found = _PATH.fullmatch(path)
    if not found:
        raise Refusal(404, "NotFound", "the server could not find the requested resource")
    return Address(found["api"], found["plural"], found["namespace"] or "", found["name"] or "")


def _status(
    code: int, reason: str, message: str = "", headers: Mapping[str, str] | None = None
) -> web.Response:
    status = {"kind": "Status", "code": code, "reason": reason, "message": message}
    return web.json_response(status, status=code, headers=headers)
