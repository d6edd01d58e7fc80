"""Envoy's secret discovery service: streams that are owed secrets, and who must be woken.

Serves StreamSecrets, DeltaSecrets and FetchSecrets for one workload. What a
request means and what it is owed is decided by `session`, how it looks on the
wire by `messages`, what there is by `secrets`. Here nonces are made, and a
stream waits: a secret that does not exist yet is not refused but sent as soon
as it does, for Envoy waits without limit (InitialFetchTimeout 0) and would
come back in vain otherwise.

Source: envoy.service.secret.v3; istio security/pkg/nodeagent/sds/sdsservice.go.
"""

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic

import grpc
from grpc import aio

from meshsigner._proto.envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
)
from meshsigner.agent.messages import Dialect, RequestT, ResponseT, delta, fetched, sotw
from meshsigner.agent.secrets import SecretStore
from meshsigner.agent.session import (
    REMEMBERED,
    Heard,
    Meaning,
    ProtocolError,
    Request,
    Session,
    SotwSession,
)
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
FETCH_WAIT_S = 30.0  # who sets no deadline waits no longer
_WAITING_PART = 0.8  # of a caller's deadline; the rest is for the answer
LOGGED_CHARACTERS = 500  # of Envoy's words


class SdsService:
    """The service of one workload.

    Args:
        workload: The workload's name, for the log and the figures.
        store: Its secrets.
        metrics: Counts streams, responses and refusals.
        nonce: Returns a text that it never returned before.
    """

    def __init__(
        self,
        workload: str,
        store: SecretStore,
        metrics: AgentMetrics,
        nonce: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self.workload = workload
        self.store = store
        self.metrics = metrics
        self.nonce = nonce
        self._sessions: set[Session] = set()

    def subscribers(self) -> Mapping[str, int]:
        """Return how many streams want each name."""
        wanted = [name for session in self._sessions for name in session.wanted]
        return {name: wanted.count(name) for name in self.store.names}

    def handlers(self) -> dict[str, "grpc.RpcMethodHandler[Any, Any]"]:
        """Return the methods by name."""
        return {
            "StreamSecrets": grpc.stream_stream_rpc_method_handler(
                self._stream_secrets,
                request_deserializer=DiscoveryRequest.FromString,
                response_serializer=DiscoveryResponse.SerializeToString,
            ),
            "DeltaSecrets": grpc.stream_stream_rpc_method_handler(
                self._delta_secrets,
                request_deserializer=DeltaDiscoveryRequest.FromString,
                response_serializer=DeltaDiscoveryResponse.SerializeToString,
            ),
            "FetchSecrets": grpc.unary_unary_rpc_method_handler(
                self._fetch_secrets,
                request_deserializer=DiscoveryRequest.FromString,
                response_serializer=DiscoveryResponse.SerializeToString,
            ),
        }

    @contextmanager
    def opened(self, session: Session) -> Iterator[None]:
        """Count a stream as long as it is open."""
        self._sessions.add(session)
        self.metrics.stream_opened(self.workload)
        try:
            yield
        finally:
            self._sessions.discard(session)
            self.metrics.stream_closed(self.workload)

    async def _stream_secrets(
        self,
        requests: AsyncIterator[DiscoveryRequest],
        context: "aio.ServicerContext[DiscoveryRequest, DiscoveryResponse]",
    ) -> AsyncIterator[DiscoveryResponse]:
        stream = _Stream(self, sotw(self.store.names))
        try:
            async for response in stream.responses(requests):
                yield response
        except ProtocolError as error:
            await self._refuse(context, error)

    async def _delta_secrets(
        self,
        requests: AsyncIterator[DeltaDiscoveryRequest],
        context: "aio.ServicerContext[DeltaDiscoveryRequest, DeltaDiscoveryResponse]",
    ) -> AsyncIterator[DeltaDiscoveryResponse]:
        stream = _Stream(self, delta(self.store.names))
        try:
            async for response in stream.responses(requests):
                yield response
        except ProtocolError as error:
            await self._refuse(context, error)

    async def _fetch_secrets(
        self,
        message: DiscoveryRequest,
        context: "aio.ServicerContext[DiscoveryRequest, DiscoveryResponse]",
    ) -> DiscoveryResponse:
        """Answer once, with everything when no name is given (as SPIRE does)."""
        names = tuple(dict.fromkeys(message.resource_names)) or self.store.names
        try:
            SotwSession(self.store.names).receive(
                Request(type_url=message.type_url, node_id="fetch", names=names)
            )
        except ProtocolError as error:
            await self._refuse(context, error)
        try:
            async with asyncio.timeout(_patience(context.time_remaining())):
                await self._exist(names)
        except TimeoutError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "there is no certificate yet")
        self.metrics.sent(self.workload)
        return fetched([self.store.current[name] for name in names])

    async def _exist(self, names: tuple[str, ...]) -> None:
        """Wait until there is something under each name."""
        changed = asyncio.Event()
        stop = self.store.listen(changed.set)
        try:
            while not set(names) <= self.store.current.keys():
                await changed.wait()
                changed.clear()
        finally:
            stop()

    async def _refuse(self, context: "aio.ServicerContext[Any, Any]", error: ProtocolError) -> None:
        get_logger().warning(Event.STREAM_REFUSED, workload=self.workload, cause=str(error))
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))


def _patience(left_s: float | None) -> float:
    """Say how long a fetch may wait, so that its caller still hears the answer, seconds."""
    return FETCH_WAIT_S if left_s is None else min(left_s * _WAITING_PART, FETCH_WAIT_S)


class _Stream(Generic[RequestT, ResponseT]):
    """One stream: reads requests beside sending, so that neither waits for the other."""

    def __init__(self, service: SdsService, dialect: Dialect[RequestT, ResponseT]) -> None:
        self._service = service
        self._store = service.store
        self._dialect = dialect
        self._session = dialect.session
        self._wake = asyncio.Event()
        self._sent_at: OrderedDict[str, float] = OrderedDict()

    async def responses(self, requests: AsyncIterator[RequestT]) -> AsyncIterator[ResponseT]:
        """Yield what the stream is owed, until the client ends it.

        Raises:
            ProtocolError: A request that must end the stream.
        """
        stop = self._store.listen(self._wake.set)
        reader = asyncio.create_task(self._read(requests))
        reader.add_done_callback(lambda _: self._wake.set())
        try:
            with self._service.opened(self._session):
                while not reader.done():
                    await self._wake.wait()
                    self._wake.clear()
                    while names := self._next():
                        yield self._response(names)
            reader.result()
        finally:
            stop()
            reader.cancel()

    def _next(self) -> tuple[str, ...]:
        """Return the names of the next response; asked anew after each, for secrets change."""
        due = self._session.due(self._store.versions)
        return due[0] if due else ()

    def _response(self, names: tuple[str, ...]) -> ResponseT:
        service = self._service
        secrets = [self._store.current[name] for name in names]
        versions = {secret.name: secret.version for secret in secrets}
        nonce = service.nonce()
        self._session.sent(nonce, versions)
        self._sent_at[nonce] = time.monotonic()
        if len(self._sent_at) > REMEMBERED:
            self._sent_at.popitem(last=False)
        service.metrics.sent(service.workload)
        get_logger().info(
            Event.SECRETS_SENT,
            workload=service.workload,
            node=self._session.node_id[:LOGGED_CHARACTERS],
            versions=versions,
        )
        return self._dialect.response(secrets, nonce)

    async def _read(self, requests: AsyncIterator[RequestT]) -> None:
        async for message in requests:
            heard = self._dialect.receive(message)
            self._note(heard, nonce=getattr(message, "response_nonce", ""))
            self._wake.set()

    def _note(self, heard: Heard, *, nonce: str) -> None:
        """Count what a request says about an earlier response."""
        service = self._service
        sent_at = self._sent_at.pop(nonce, None)
        if heard.meaning is Meaning.REFUSED:
            service.metrics.refused(service.workload)
            get_logger().error(
                Event.SECRETS_REFUSED,
                workload=service.workload,
                node=self._session.node_id[:LOGGED_CHARACTERS],
                names=heard.names,
                versions=heard.versions,
                cause=heard.refusal[:LOGGED_CHARACTERS],
            )
        elif sent_at is not None:
            service.metrics.accepted(time.monotonic() - sent_at)
