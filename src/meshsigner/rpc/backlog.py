"""Calls that gRPC holds for this process: they have come, and no handler has them yet.

grpc.aio takes one call a round of the event loop, so that under load the queue
that matters stands inside gRPC, where no clock of ours runs. Its own
statistics, channelz, know how many there are.

Source: gRFC A14 (channelz); `cygrpc.channelz_get_servers` is what the package
grpcio-channelz asks.
"""

import json
from collections.abc import Callable
from typing import Any

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # not in its stubs

CHANNELZ_OPTIONS = (("grpc.enable_channelz", 1),)


class Backlog:
    """Counts them for the server that was made last in this process.

    Args:
        handled: Returns how many calls handlers have now.
    """

    def __init__(self, handled: Callable[[], int]) -> None:
        self._handled = handled
        self._server = max((int(one["ref"]["serverId"]) for one in _servers(0)), default=None)

    def count(self) -> int:
        """Return how many calls wait inside gRPC; 0 where it does not tell."""
        if self._server is None:
            return 0
        for one in _servers(self._server)[:1]:
            calls = one["data"]
            ended = int(calls.get("callsSucceeded", 0)) + int(calls.get("callsFailed", 0))
            return max(int(calls.get("callsStarted", 0)) - ended - self._handled(), 0)
        return 0


def _servers(first: int) -> list[dict[str, Any]]:
    told = json.loads(cygrpc.channelz_get_servers(first))
    found: list[dict[str, Any]] = told.get("server", [])
    return found
