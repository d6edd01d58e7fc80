"""The gRPC health service: tells readiness to whoever asks.

`Check` alone is served, for "" and for Istio's certificate service. `Watch` and
`List` are UNIMPLEMENTED, as the protocol allows: a watch holds a task for as
long as a stranger likes, and in grpcio-health-checking one watcher that reads
nothing keeps the status from changing for all.

Source: grpc health.proto (Health.Watch: UNIMPLEMENTED means "not supported").
"""

import asyncio
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc.aio import ServicerContext
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from meshsigner.observe.readiness import Readiness

SERVICE = "grpc.health.v1.Health"
_KNOWN = frozenset({"", "istio.v1.auth.IstioCertificateService"})


class HealthService:
    """Answers health checks.

    Args:
        readiness: Knows.
        handling_time_s: How long a check's message may take to come, seconds.
    """

    def __init__(self, readiness: Readiness, handling_time_s: float) -> None:
        self._readiness = readiness
        self._handling_time_s = handling_time_s

    def handlers(self) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
        """Return the methods for gRPC's table, by name."""
        return {"Check": grpc.stream_unary_rpc_method_handler(self.check)}

    async def check(self, _messages: object, context: "ServicerContext[bytes, bytes]") -> bytes:
        """Answer one check.

        Args:
            context: gRPC's context; the message is read from it.

        Returns:
            The serialised `HealthCheckResponse`.
        """
        try:
            async with asyncio.timeout(self._handling_time_s):
                data = await context.read()
            asked = HealthCheckRequest.FromString(data).service
        except TimeoutError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the request took too long")
        except (DecodeError, TypeError):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a health check request")
        if asked not in _KNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        ready = self._readiness.ready
        status = HealthCheckResponse.SERVING if ready else HealthCheckResponse.NOT_SERVING
        answer: bytes = HealthCheckResponse(status=status).SerializeToString()
        return answer
