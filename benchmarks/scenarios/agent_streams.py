"""Many Envoys at one agent: streams that subscribe, acknowledge, and say when a push has come."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from grpc import aio

from meshsigner._proto.envoy.config.core.v3.base_pb2 import Node
from meshsigner._proto.envoy.service.discovery.v3.discovery_pb2 import (
    DiscoveryRequest,
    DiscoveryResponse,
)

_METHOD: Final = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets"
_NAME: Final = "default"
_CONNECTIONS: Final = 20
_OWN_CONNECTION: Final = (("grpc.use_local_subchannel_pool", 1),)
_ROUND_S: Final = 120.0


class Subscribers:
    """Streams on one socket.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._arrived = 0
        self._first = self._last = 0.0
        self._all = asyncio.Event()

    async def all_have_it(self) -> float:
        """Wait until a push has come to every stream, and return how long that took, seconds.

        It is counted from the first arrival to the last; then a new round begins.

        Raises:
            TimeoutError: Some wait for ever.
        """
        async with asyncio.timeout(_ROUND_S):
            await self._all.wait()
        took_s = self._last - self._first
        self._arrived = 0
        self._all.clear()
        return took_s

    async def follow(self, channel: aio.Channel, number: int) -> None:
        """Subscribe, and acknowledge whatever comes, until cancelled."""
        method = channel.stream_stream(
            _METHOD, DiscoveryRequest.SerializeToString, DiscoveryResponse.FromString
        )
        stream: aio.StreamStreamCall[Any, Any] = method()  # type: ignore[call-arg]  # stubs
        node = Node(id=f"subscriber-{number}")
        await stream.write(DiscoveryRequest(node=node, resource_names=[_NAME]))
        async for response in stream:
            self._note()
            await stream.write(
                DiscoveryRequest(
                    resource_names=[_NAME],
                    version_info=response.version_info,
                    response_nonce=response.nonce,
                )
            )

    def _note(self) -> None:
        self._last = time.perf_counter()
        if self._arrived == 0:
            self._first = self._last
        self._arrived += 1
        if self._arrived == self._count:
            self._all.set()


@asynccontextmanager
async def subscribed(socket: Path, count: int) -> AsyncIterator[Subscribers]:
    """Have so many streams for the length of a block, each with its first secret."""
    channels = [
        aio.insecure_channel(f"unix:{socket}", options=_OWN_CONNECTION) for _ in range(_CONNECTIONS)
    ]
    subscribers = Subscribers(count)
    tasks = [
        asyncio.create_task(subscribers.follow(channels[number % _CONNECTIONS], number))
        for number in range(count)
    ]
    try:
        await subscribers.all_have_it()
        yield subscribers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(channel.close(None) for channel in channels))
