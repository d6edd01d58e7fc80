"""The verbs of one API server that we use, on plain JSON objects.

Leaves it to its users what an object means; how a request is made and a no is
told is `exchange` and `refusals`. Watches are `watching`.

Source: Kubernetes API concepts (verbs, chunked lists, preconditions);
authentication.k8s.io/v1 TokenReview.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import aiohttp

from meshsigner.errors import BackendUnavailable
from meshsigner.kube.connection import ConnectionSource
from meshsigner.kube.exchange import ANYTHING, JSON, Exchange
from meshsigner.kube.refusals import NotAllowed, NotFound

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"  # noqa: S105 - a path
READY = "/readyz"  # any account may ask (system:public-info-viewer)
FIELD_MANAGER = "meshsigner"  # under which the API server books what we write
MERGE_PATCH = "application/merge-patch+json"  # RFC 7396
MAX_OBJECT_BYTES = 4 * 1024 * 1024  # etcd takes 1.5 MiB, managedFields come on top
MAX_PAGE_BYTES = 64 * 1024 * 1024
PAGE = 250  # objects; parsing a page of pods stops the event loop for about 10 ms

JsonObject = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Part of a list.

    Attributes:
        items: Its objects; in a list they carry neither `kind` nor `apiVersion`.
        resource_version: Of the whole list, the same on each page of it.
    """

    items: Sequence[JsonObject]
    resource_version: str


class KubernetesApi:
    """One API server.

    Every method raises `BackendUnavailable` when there is no answer, and the
    kinds of `ApiRefused` when the answer is no: `NotFound`, `Conflict`, `Gone`,
    `NotAllowed`, `Throttled`.

    Args:
        source: Where it is and how we prove each other.
        timeout_s: Longest time for one call, seconds.
        max_connections: Connections at once; each watch keeps one.
    """

    def __init__(
        self,
        source: ConnectionSource,
        *,
        timeout_s: float = 5.0,
        max_connections: int = 32,
    ) -> None:
        self._exchange = Exchange(source, timeout_s=timeout_s, max_connections=max_connections)

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._exchange.server

    async def create_token_review(self, token: str, audiences: Sequence[str]) -> JsonObject:
        """Ask whose token this is.

        Args:
            token: The token, not empty.
            audiences: For whom it must be made, at least one.

        Returns:
            The `status` of the review.

        Raises:
            BackendUnavailable: There is no answer, or one to another question.
        """
        review = {
            "kind": "TokenReview",
            "apiVersion": "authentication.k8s.io/v1",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        body = await self._exchange.call("POST", TOKEN_REVIEWS, document=review, secret=True)
        return _review_status(body, token)

    async def check_ready(self) -> None:
        """Ask whether the server holds itself to be ready, its store included.

        A server that does not tell us is taken for ready.

        Raises:
            BackendUnavailable: It says no, or nothing.
        """
        with contextlib.suppress(NotAllowed, NotFound):
            await self._exchange.call("GET", READY, accept=ANYTHING)

    async def read(self, path: str) -> bytes:
        """Read a path as it is, at most 256 KiB.

        Any media type is taken: a key set is `application/jwk-set+json`, and a
        real API server answers 406 to those who want plain JSON.

        Args:
            path: Starts with a slash.
        """
        return await self._exchange.call("GET", path, accept=ANYTHING)

    async def get(self, path: str) -> JsonObject:
        """Read one object, as the API server has it at this moment.

        Args:
            path: Of the object.
        """
        return _object(await self._exchange.call("GET", path, limit_bytes=MAX_OBJECT_BYTES))

    async def pages(
        self, path: str, *, labels: str = "", fields: str = "", page: int = PAGE
    ) -> AsyncIterator[Page]:
        """List a collection page by page, all of it as of one moment.

        Args:
            path: Of the collection.
            labels: Label selector; empty for all.
            fields: Field selector; empty for all.
            page: Objects a page.

        Raises:
            Gone: The list took so long that its moment is forgotten; begin anew.
        """
        query = {**_selectors(labels, fields), "limit": str(page)}
        while True:
            body = await self._exchange.call("GET", path, query=query, limit_bytes=MAX_PAGE_BYTES)
            found, proceed = _page(body)
            del body  # a page of pods is megabytes, and its user takes its time
            yield found
            if not proceed:
                return
            query["continue"] = proceed

    async def list(self, path: str, *, labels: str = "", fields: str = "") -> Page:
        """List a collection, for those that are small.

        Args:
            path: Of the collection.
            labels: Label selector; empty for all.
            fields: Field selector; empty for all.
        """
        items: list[JsonObject] = []
        version = ""
        async for page in self.pages(path, labels=labels, fields=fields):
            items += page.items
            version = page.resource_version
        return Page(items=items, resource_version=version)

    def watch(
        self,
        path: str,
        resource_version: str,
        *,
        labels: str = "",
        fields: str = "",
        lasts_s: float,
        silence_s: float,
    ) -> AbstractAsyncContextManager[aiohttp.StreamReader]:
        """Follow a collection from a version on; one JSON event a line.

        `watching.Watch` is what follows a collection through all faults.

        Args:
            path: Of the collection.
            resource_version: Where to begin.
            labels: Label selector; empty for all.
            fields: Field selector; empty for all.
            lasts_s: When the server shall end it, seconds.
            silence_s: Longest time without a byte, seconds.

        Raises:
            Gone: The version is not remembered; list anew.
        """
        query = {
            **_selectors(labels, fields),
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(round(lasts_s)),
        }
        return self._exchange.stream(path, query, silence_s=silence_s)

    async def create(self, path: str, document: JsonObject) -> JsonObject:
        """Create an object and return what became of it.

        Args:
            path: Of the collection.
            document: The object.

        Raises:
            Conflict: There is one of this name.
        """
        return await self._write("POST", path, document, JSON)

    async def replace(self, path: str, document: JsonObject) -> JsonObject:
        """Replace an object and return what became of it.

        Args:
            path: Of the object.
            document: The object; with `metadata.resourceVersion` it is only replaced
                while it is still of that version.

        Raises:
            Conflict: It is of another version by now.
        """
        return await self._write("PUT", path, document, JSON)

    async def patch(self, path: str, changes: JsonObject) -> JsonObject:
        """Merge changes into an object (RFC 7396) and return what became of it.

        Args:
            path: Of the object.
            changes: Fields to set; None removes one. With `metadata.resourceVersion`
                or `metadata.uid` only that very object is changed.

        Raises:
            Conflict: It is another one.
            NotFound: There is none.
        """
        return await self._write("PATCH", path, changes, MERGE_PATCH)

    async def delete(self, path: str, *, uid: str = "", resource_version: str = "") -> None:
        """Delete an object.

        Args:
            path: Of the object.
            uid: Only the object with this uid.
            resource_version: Only while it is of this version.

        Raises:
            Conflict: It is another one.
            NotFound: There is none.
        """
        given = {"uid": uid, "resourceVersion": resource_version}
        preconditions = {name: value for name, value in given.items() if value}
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions}
        await self._exchange.call("DELETE", path, document=options, limit_bytes=MAX_OBJECT_BYTES)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._exchange.aclose()

    async def _write(
        self, method: str, path: str, document: JsonObject, content_type: str
    ) -> JsonObject:
        body = await self._exchange.call(
            method,
            path,
            document=document,
            content_type=content_type,
            query={"fieldManager": FIELD_MANAGER},
            limit_bytes=MAX_OBJECT_BYTES,
        )
        return _object(body)


def _selectors(labels: str, fields: str) -> dict[str, str]:
    given = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in given.items() if value}


def _object(body: bytes) -> JsonObject:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BackendUnavailable(f"no object in the answer ({type(error).__name__})") from None
    if not isinstance(document, dict):
        raise BackendUnavailable("no object in the answer")
    return document


def _page(body: bytes) -> tuple[Page, str]:
    """Read a page and the token for the next, empty on the last."""
    document = _object(body)
    try:
        metadata, items = document["metadata"], document.get("items") or []
        version, proceed = metadata["resourceVersion"], metadata.get("continue") or ""
    except (TypeError, KeyError, AttributeError) as error:
        raise BackendUnavailable(f"no list in the answer ({type(error).__name__})") from None
    texts = isinstance(version, str) and isinstance(proceed, str)
    if not texts or not isinstance(items, list):
        raise BackendUnavailable("no list in the answer")
    return Page(items=items, resource_version=version), proceed


def _review_status(body: bytes, token: str) -> JsonObject:
    try:
        review = json.loads(body)
        status = review["status"]
        # The server echoes what it was asked: an answer to another question
        # would make one caller another.
        if review["kind"] != "TokenReview" or review["spec"]["token"] != token:
            raise BackendUnavailable("a token review that answers another question")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BackendUnavailable(f"no token review in it ({type(error).__name__})") from None
    if not isinstance(status, dict):
        raise BackendUnavailable("no token review in it (no status)")
    return status
