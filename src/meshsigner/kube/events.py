"""Reads the events of a watch from its stream; what follows from them is `watching`.

Source: Kubernetes apimachinery meta/v1 WatchEvent; API concepts, bookmarks.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiohttp

from meshsigner.errors import BackendUnavailable
from meshsigner.kube.api import MAX_OBJECT_BYTES, JsonObject
from meshsigner.kube.refusals import refusal

_HTTP_INTERNAL = 500


class Change(StrEnum):
    """What happened to an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"  # nothing, up to this version


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchEvent:
    """One event.

    Attributes:
        change: What happened.
        document: The object after it; before it if it was deleted.
        resource_version: Where a later watch may go on.
    """

    change: Change
    document: JsonObject
    resource_version: str


async def read_events(stream: aiohttp.StreamReader) -> AsyncIterator[WatchEvent]:
    """Read events until the server ends the watch.

    Raises:
        Gone: The server does not remember the version any more.
        ApiRefused: It ended the watch with another error.
        BackendUnavailable: What it sends is no watch.
    """
    async for line in _lines(stream):
        yield _event(line)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split the stream; an unfinished line at its end was never sent whole, so it is dropped."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_OBJECT_BYTES:
            raise BackendUnavailable(f"an event longer than {MAX_OBJECT_BYTES} bytes")
        for line in lines:
            if line.strip():
                yield line


def _event(line: bytes) -> WatchEvent:
    try:
        event = json.loads(line)
        kind, document = event["type"], event["object"]
        if kind == "ERROR":
            raise refusal("watch", _status(document), json.dumps(document).encode())
        version = document["metadata"]["resourceVersion"]
        change = Change(kind)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BackendUnavailable(f"no event in the stream ({type(error).__name__})") from None
    if not isinstance(version, str) or not version:
        raise BackendUnavailable("an event without a version")
    return WatchEvent(change=change, document=document, resource_version=version)


def _status(document: Any) -> int:
    if not isinstance(document, dict):
        msg = "a status is an object"
        raise TypeError(msg)
    code = document.get("code")
    return code if isinstance(code, int) else _HTTP_INTERNAL
