"""Asks a CA for a certificate, as istio-agent does: one call, or a burst of attempts.

Talks to any server of Istio's CA API over TLS: meshsigner's, istiod's or
another. What is asked for and whether the answer is right is left to others.

`CaClient` reads root and token anew for each burst, and makes its connection
anew as well, so that a changed root file is taken at once and no idle
connection waits half a day at the server for the next renewal. Within a burst
an overloaded server is asked again on the connection that it has; after
UNAVAILABLE a new one is made, for that may be due to a root that has changed.

Source: istio security/pkg/nodeagent/caclient/providers/citadel/client.go,
pkg/security/retry.go, security/pkg/nodeagent/caclient/credentials.go.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509

from meshsigner._proto.istio.v1.auth.ca_pb2 import (
    IstioCertificateRequest,
    IstioCertificateResponse,
)

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"

# What istio-agent asks again after: its list has CANCELLED and DEADLINE_EXCEEDED too,
# which its middleware never retries.
RETRIED = frozenset({"RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNAVAILABLE"})
ATTEMPTS = 5  # retry.WithMax
FIRST_WAIT_S = 0.1  # BackoffExponentialWithJitter(100ms, 0.1): 100, 200, 400, 800 ms
WAIT_JITTER = 0.1
TIMEOUT_S = 15.0  # Istio's client has none, and would wait for ever for a server that hangs

_CHANNEL_OPTIONS: tuple[tuple[str, object], ...] = (
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection
    ("grpc.enable_retries", 0),  # the retries are ours
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
)

_TOKEN = re.compile(rb"[!-~]*")  # visible ASCII; RFC 6750 2.1 allows fewer


# What each status means to a workload, for who reads its agent's log.
_MEANINGS = {
    "UNAUTHENTICATED": "the CA does not accept the token: it is missing, expired, for another "
    "audience or cluster, or its pod is gone",
    "PERMISSION_DENIED": "the CA knows the workload, and its policy gives it nothing",
    "INVALID_ARGUMENT": "the CA does not accept the CSR: another identity than the token's, a kind "
    "of key, or a lifetime that it does not give",
    "FAILED_PRECONDITION": "the CA behind the server refused this order",
    "UNIMPLEMENTED": "what answers there is no CA",
    "RESOURCE_EXHAUSTED": "the CA has too much to do",
    "UNAVAILABLE": "the CA is away, not ready, or no TLS could be agreed with it",
    "DEADLINE_EXCEEDED": "the CA did not answer in time",
    "INTERNAL": "the CA met an error of its own",
}


class CallFailed(Exception):
    """The server, or the way to it, answered with an error.

    Attributes:
        code: Name of the gRPC status, for example `UNAUTHENTICATED`.
        text: What came with it.
        meaning: What that means, in words.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code = code
        self.text = text
        self.meaning = _MEANINGS.get(code, "an answer that a CA does not give")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Which CA is asked.

    Attributes:
        address: `host:port`.
        roots_pem: Roots that its serving certificate must chain to.
        name: Name that the serving certificate must bear; empty for the host.
        timeout_s: Longest wait for an answer, seconds.
    """

    address: str
    roots_pem: bytes
    name: str = ""
    timeout_s: float = TIMEOUT_S

    def channel(self) -> grpc.aio.Channel:
        """Return a new connection to it, not yet made."""
        credentials = grpc.ssl_channel_credentials(root_certificates=self.roots_pem)
        name = [("grpc.ssl_target_name_override", self.name)] if self.name else []
        options = [*_CHANNEL_OPTIONS, *name]
        return grpc.aio.secure_channel(self.address, credentials, options=options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What is asked for, and as whom.

    Attributes:
        csr_pem: The CSR.
        lifetime_s: Wished lifetime, seconds.
        token: The caller's bearer token; empty sends none.
        cluster_id: Value of the `clusterid` header.
        cert_signer: Value of the metadata key `CertSigner`.
        headers: More headers, names in lower case (Istio's `CA_HEADER_*`).
    """

    csr_pem: str
    lifetime_s: int
    token: str = ""
    cluster_id: str = "Kubernetes"
    cert_signer: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def message(self) -> IstioCertificateRequest:
        """Return the request."""
        request = IstioCertificateRequest(csr=self.csr_pem, validity_duration=self.lifetime_s)
        request.metadata.update({"CertSigner": self.cert_signer})
        return request

    def metadata(self) -> list[tuple[str, str]]:
        """Return the headers."""
        bearer = [("authorization", f"Bearer {self.token}")] if self.token else []
        return [*bearer, ("clusterid", self.cluster_id), *self.headers]


async def create_certificate(server: Server, ask: Ask) -> tuple[str, ...]:
    """Ask for a certificate, once.

    Args:
        server: Whom to ask.
        ask: For what.

    Returns:
        The elements of `cert_chain`: leaf first, roots last.

    Raises:
        CallFailed: Any status but OK.
    """
    async with server.channel() as channel:
        return await _call(channel, ask, server.timeout_s)


async def _call(channel: grpc.aio.Channel, ask: Ask, timeout_s: float) -> tuple[str, ...]:
    method = channel.unary_unary(
        METHOD,
        request_serializer=IstioCertificateRequest.SerializeToString,
        response_deserializer=IstioCertificateResponse.FromString,
    )
    try:
        response = await method(ask.message(), metadata=ask.metadata(), timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        raise CallFailed(error.code().name, error.details() or "") from error
    return tuple(response.cert_chain)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaSettings:
    """How a CA is reached.

    Attributes:
        address: `host:port`.
        root_file: PEM file: roots that its serving certificate must chain to.
        name: Name that the serving certificate must bear; empty for the host.
        cluster_id: Value of the `clusterid` header.
        cert_signer: Value of the metadata key `CertSigner`.
        headers: More headers, names in lower case.
        timeout_s: Longest wait for an answer to one attempt, seconds.
    """

    address: str
    root_file: Path
    name: str = ""
    cluster_id: str = "Kubernetes"
    cert_signer: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    timeout_s: float = TIMEOUT_S


class CaClient:
    """Asks one CA for one workload, as often as istio-agent would.

    Args:
        settings: How the CA is reached.
        token_file: Holds the workload's token; read for each attempt, and when
            it is missing or empty none is sent.
        random: Returns a number from 0 to 1, for jitter.
        retrying: Told of each attempt that failed and is repeated, with the
            wait before the next, seconds.
    """

    def __init__(
        self,
        settings: CaSettings,
        *,
        token_file: Path,
        random: Callable[[], float],
        retrying: Callable[[CallFailed, float], object] = lambda _failed, _wait_s: None,
    ) -> None:
        self._settings = settings
        self._token_file = token_file
        self._random = random
        self._retrying = retrying

    async def create_certificate(self, csr_pem: str, lifetime_s: int) -> tuple[str, ...]:
        """Ask for a certificate until the answer is one that more asking does not change.

        Args:
            csr_pem: The CSR.
            lifetime_s: Wished lifetime, seconds.

        Returns:
            The elements of `cert_chain`.

        Raises:
            CallFailed: Of the last attempt.
        """
        channel = self._connect()
        try:
            for wait_s in self._waits():
                try:
                    return await self._attempt(channel, csr_pem, lifetime_s)
                except CallFailed as failed:
                    if failed.code not in RETRIED:
                        raise
                    self._retrying(failed, wait_s)
                    channel = await self._reconnected(channel, failed)
                await asyncio.sleep(wait_s)
            return await self._attempt(channel, csr_pem, lifetime_s)
        finally:
            await channel.close(None)

    def _waits(self) -> Iterator[float]:
        for attempt in range(ATTEMPTS - 1):
            yield FIRST_WAIT_S * 2**attempt * (1 + WAIT_JITTER * (2 * self._random() - 1))

    def _connect(self) -> grpc.aio.Channel:
        settings = self._settings
        roots_pem = _read_roots(settings.root_file)
        return Server(address=settings.address, roots_pem=roots_pem, name=settings.name).channel()

    async def _reconnected(self, channel: grpc.aio.Channel, failed: CallFailed) -> grpc.aio.Channel:
        if failed.code != "UNAVAILABLE":
            return channel
        await channel.close(None)
        return self._connect()

    async def _attempt(
        self, channel: grpc.aio.Channel, csr_pem: str, lifetime_s: int
    ) -> tuple[str, ...]:
        settings = self._settings
        ask = Ask(
            csr_pem=csr_pem,
            lifetime_s=lifetime_s,
            token=_read_token(self._token_file),
            cluster_id=settings.cluster_id,
            cert_signer=settings.cert_signer,
            headers=settings.headers,
        )
        return await _call(channel, ask, settings.timeout_s)


def _read_roots(path: Path) -> bytes:
    """Read the roots; what is no certificate would fail in the handshake, without words.

    Raises:
        CallFailed: There are none.
    """
    try:
        pem = path.read_bytes()
        x509.load_pem_x509_certificates(pem)
    except OSError as error:
        text = f"cannot read the root file {path}: {error.strerror}"
        raise CallFailed("UNAVAILABLE", text) from error
    except ValueError as error:
        raise CallFailed("UNAVAILABLE", f"{path} holds no PEM certificates") from error
    return pem


def _read_token(path: Path) -> str:
    """Read a token; none is sent when there is none, and the CA then says what it thinks of it.

    Raises:
        CallFailed: The file holds what no header could carry.

    Source: istio security/pkg/nodeagent/caclient/credentials.go.
    """
    try:
        token = path.read_bytes().strip()
    except OSError:
        return ""
    if not _TOKEN.fullmatch(token):
        raise CallFailed("UNAUTHENTICATED", f"{path} holds no token")
    return token.decode()
