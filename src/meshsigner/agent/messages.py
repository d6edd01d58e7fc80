"""Envoy's discovery messages, to and from the words of `session`.

Decides nothing: each form of the protocol (state of the world, delta) is a
`Dialect` of its messages over its session.

Source: envoy.service.discovery.v3 DiscoveryRequest to DeltaDiscoveryResponse.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.any_pb2 import Any

from meshsigner._proto.envoy.service.discovery.v3.discovery_pb2 import (
    DeltaDiscoveryRequest,
    DeltaDiscoveryResponse,
    DiscoveryRequest,
    DiscoveryResponse,
    Resource,
)
from meshsigner.agent.secrets import Secret
from meshsigner.agent.session import (
    SECRET_TYPE,
    DeltaRequest,
    DeltaSession,
    Heard,
    Request,
    Session,
    SotwSession,
)

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect(Generic[RequestT, ResponseT]):
    """One form of the protocol, for one stream.

    Attributes:
        session: The stream's state.
        receive: Takes in a message; raises ProtocolError when the stream must end.
        response: Makes a message of secrets and a nonce.
    """

    session: Session
    receive: Callable[[RequestT], Heard]
    response: Callable[[Sequence[Secret], str], ResponseT]


def sotw(names: tuple[str, ...]) -> Dialect[DiscoveryRequest, DiscoveryResponse]:
    """Begin a stream that speaks state of the world.

    Args:
        names: Every name that can be asked for.
    """
    session = SotwSession(names)

    def receive(message: DiscoveryRequest) -> Heard:
        return session.receive(
            Request(
                type_url=message.type_url,
                node_id=message.node.id,
                names=tuple(dict.fromkeys(message.resource_names)),
                nonce=message.response_nonce,
                refusal=_refusal(message),
            )
        )

    return Dialect(session=session, receive=receive, response=_sotw_response)


def delta(names: tuple[str, ...]) -> Dialect[DeltaDiscoveryRequest, DeltaDiscoveryResponse]:
    """Begin a stream that speaks delta.

    Args:
        names: Every name that can be asked for.
    """
    session = DeltaSession(names)

    def receive(message: DeltaDiscoveryRequest) -> Heard:
        return session.receive(
            DeltaRequest(
                type_url=message.type_url,
                node_id=message.node.id,
                subscribe=tuple(dict.fromkeys(message.resource_names_subscribe)),
                unsubscribe=tuple(message.resource_names_unsubscribe),
                versions=dict(message.initial_resource_versions),
                nonce=message.response_nonce,
                refusal=_refusal(message),
            )
        )

    return Dialect(session=session, receive=receive, response=_delta_response)


def fetched(secrets: Sequence[Secret]) -> DiscoveryResponse:
    """Make the answer to a one-shot fetch: without nonce, for nobody can acknowledge it."""
    return _sotw_response(secrets, "")


def _sotw_response(secrets: Sequence[Secret], nonce: str) -> DiscoveryResponse:
    return DiscoveryResponse(
        version_info=_joined_version(secrets),
        resources=[_as_any(secret) for secret in secrets],
        type_url=SECRET_TYPE,
        nonce=nonce,
    )


def _delta_response(secrets: Sequence[Secret], nonce: str) -> DeltaDiscoveryResponse:
    resources = [
        Resource(name=secret.name, version=secret.version, resource=_as_any(secret))
        for secret in secrets
    ]
    return DeltaDiscoveryResponse(
        system_version_info=_joined_version(secrets),
        resources=resources,
        type_url=SECRET_TYPE,
        nonce=nonce,
    )


def _refusal(message: DiscoveryRequest | DeltaDiscoveryRequest) -> str | None:
    return message.error_detail.message if message.HasField("error_detail") else None


def _as_any(secret: Secret) -> Any:
    return Any(type_url=SECRET_TYPE, value=secret.body)


def _joined_version(secrets: Sequence[Secret]) -> str:
    return "-".join(dict.fromkeys(secret.version for secret in secrets))
