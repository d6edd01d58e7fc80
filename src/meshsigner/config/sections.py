"""What the process itself is told: where it listens, who signs, what is allowed, how much.

Every field says its unit and where its default comes from; docs/config.md is
made from these descriptions. Whom the server believes is in `clusters`.
"""

from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from meshsigner.config.fields import (
    Address,
    FilePath,
    ListenAddress,
    Section,
    Size,
    duration_from,
    text_like,
)

_DAY = timedelta(days=1)

Lifetime = Annotated[timedelta, *duration_from("1m", "3650d")]
Wait = Annotated[timedelta, *duration_from("10ms", "1h")]

DnsName = Annotated[
    str,
    text_like(
        r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*",
        "a DNS name in lower case, for example meshsigner.meshsigner.svc",
    ),
]


class TlsFiles(Section):
    """A serving certificate from files, taken anew when they change."""

    type: Literal["files"] = Field(description="`files`.")
    certificate: FilePath = Field(
        description="PEM file: the serving certificate, then its intermediates. It must name "
        "the host that clients dial (Istio: the host of caAddress).",
    )
    key: FilePath = Field(description="PEM file with its private key.")


class TlsIssuer(Section):
    """A serving certificate that the server issues to itself under its own CA, and renews."""

    type: Literal["issuer"] = Field(description="`issuer`.")
    dns_names: tuple[DnsName, ...] = Field(
        min_length=1,
        description="Names that clients dial (Istio: the host of caAddress), for example "
        "meshsigner.meshsigner.svc.",
    )
    ip_addresses: tuple[IPv4Address | IPv6Address, ...] = Field(
        default=(),
        description="IP addresses that clients dial. Default: none, for Istio dials a name.",
    )
    directory: FilePath = Field(
        default=Path("/var/lib/meshsigner/serving"),
        description="Where it is kept with its key (mode 0600); must be writable. Default: "
        "/var/lib/meshsigner/serving.",
    )
    lifetime: Lifetime = Field(
        default=_DAY,
        description="How long one lasts; it is renewed at half of it. Default: 24h, as a "
        "workload's certificate (istiod's DEFAULT_WORKLOAD_CERT_TTL).",
    )


class Listen(Section):
    """The port where workloads ask for certificates."""

    address: ListenAddress = Field(
        default=Address("0.0.0.0", 15012),  # noqa: S104 - pods are reached on all interfaces
        description="host:port. Default: 0.0.0.0:15012, istiod's secure "
        "gRPC port on every IPv4 interface.",
    )
    tls: TlsFiles | TlsIssuer = Field(
        discriminator="type",
        description="Where the serving certificate comes from: `files` or `issuer`.",
    )


class Admin(Section):
    """The port for probes and metrics; plain HTTP, no secrets on it."""

    address: ListenAddress = Field(
        default=Address("0.0.0.0", 15014),  # noqa: S104 - the kubelet probes the pod's address
        description="host:port. Default: 0.0.0.0:15014, istiod's monitoring port "
        "on every IPv4 interface.",
    )


class IssuerDirectory(Section):
    """A CA from a directory in Istio's `cacerts` layout, taken anew when it changes."""

    type: Literal["directory"] = Field(description="`directory`.")
    path: FilePath = Field(
        description="Directory with ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem, "
        "or tls.crt, tls.key and ca.crt, as Istio's secret `cacerts` holds them.",
    )


class IssuerSelfMade(Section):
    """A root and an intermediate that the server makes for itself and renews."""

    type: Literal["self_made"] = Field(description="`self_made`.")
    path: FilePath = Field(
        description="Directory where they are kept; must be writable. The root's key lies in "
        "root-key.pem: take it away to keep the root offline, bring it back to renew.",
    )
    root_lifetime: Lifetime = Field(
        default=timedelta(days=3650),
        description="Of a new root. Default: 3650d (istiod's CITADEL_SELF_SIGNED_ROOT_CERT_TTL).",
    )
    intermediate_lifetime: Lifetime = Field(
        default=timedelta(days=365),
        description="Of each intermediate; it is renewed when a third remains. Default: 365d.",
    )


class InventorySqlite(Section):
    """Issued certificates in SQLite files on this machine."""

    type: Literal["sqlite"] = Field(
        default="sqlite",
        description="`sqlite`. Default: sqlite, where no type is named.",
    )
    path: FilePath = Field(
        default=Path("/var/lib/meshsigner/inventory.db"),
        description="Database file; its directory must be writable. Default: "
        "/var/lib/meshsigner/inventory.db (variable state, Filesystem Hierarchy Standard 5.8).",
    )
    synchronous: Literal["full", "normal"] = Field(
        default="full",
        description="`full`: a certificate leaves only when its row survives a power cut. "
        "`normal`: it may be lost then. Default: full (no certificate without a record).",
    )
    retention: Annotated[timedelta, *duration_from("0s", "36500d")] = Field(
        default=timedelta(days=30),
        description="How long a row is kept after its certificate expired. Default: 30d.",
    )
    max_bytes: Size = Field(
        default=Size(10 * 1024**3),
        ge=1024**2,
        description="Size bound of the database; at it, certificates are withheld and readiness "
        "says so. Default: 10GiB, some 6 million rows.",
    )


class Limits(Section):
    """Bounds that protect the server from its callers; each guards one process."""

    handling: Wait = Field(
        default=timedelta(seconds=10),
        description="Longest time for one request; then UNAVAILABLE. Default: 10s, for Istio's "
        "clients set no deadline.",
    )
    handshake: Wait = Field(
        default=timedelta(seconds=10),
        description="Longest TLS and HTTP/2 set-up. Default: 10s.",
    )
    drain: Wait = Field(
        default=timedelta(seconds=10),
        description="Grace for calls in flight at SIGTERM. Default: 10s, under the 30s of "
        "Kubernetes' terminationGracePeriodSeconds.",
    )
    drain_notice: Annotated[timedelta, *duration_from("0s", "10m")] = Field(
        default=timedelta(0),
        description="How long after SIGTERM the port stays open while readiness already says no, "
        "so that load balancers look elsewhere first. Default: 0s.",
    )
    connections: PositiveInt = Field(
        default=20_000,
        description="Connections at once, those in their handshake included; an idle one holds "
        "about 50 KB. Default: 20000, for sidecars keep theirs.",
    )
    connection_idle: Wait = Field(
        default=timedelta(minutes=5),
        description="A connection without calls is closed after this. Default: 5m, for a sidecar "
        "asks twice a day and ztunnel does not reuse its own.",
    )
    connection_age: Annotated[timedelta, *duration_from("10s", "30d")] = Field(
        default=timedelta(minutes=30),
        description="Older connections are closed, so that load spreads over replicas. Default: "
        "30m (istiod's chart).",
    )
    streams_per_connection: PositiveInt = Field(
        default=100,
        description="HTTP/2 streams that a client may open on a connection. Default: 100, the "
        "least that RFC 9113 6.5.2 recommends.",
    )
    calls_per_connection: PositiveInt = Field(
        default=100,
        description="Calls in flight on a connection; raise it for a proxy that carries many "
        "callers on one. Default: 100.",
    )
    calls_in_flight: PositiveInt = Field(
        default=4096,
        description="Calls in flight on all connections. Default: 4096.",
    )
    message_bytes: Size = Field(
        default=Size(64 * 1024),
        ge=32 * 1024,
        description="Largest gRPC message; the transport refuses a larger one. The CSR in it may "
        "have 16KiB, always. Default: 64KiB.",
    )
    metadata_soft_bytes: Size = Field(
        default=Size(16 * 1024),
        ge=4096,
        description="From this size of the headers on, a growing share of calls is refused. "
        "Default: 16KiB, for a token has at most 8KiB.",
    )
    metadata_hard_bytes: Size = Field(
        default=Size(32 * 1024),
        ge=4096,
        description="From this size of the headers on, all calls are refused. Default: 32KiB.",
    )
    waiting: PositiveInt = Field(
        default=3000,
        description="Calls that wait for their turn. Default: 3000.",
    )
    waiting_bytes: Size = Field(
        default=Size(32 * 1024**2),
        ge=1024**2,
        description="What these hold together. Default: 32MiB.",
    )
    parked: PositiveInt = Field(
        default=2000,
        description="Calls that wait for a key set or a token review. Default: 2000.",
    )
    queue_total: PositiveInt = Field(
        default=20_000,
        description="Orders that wait for a signature. Default: 20000.",
    )
    queue_per_namespace: PositiveInt = Field(
        default=10_000,
        description="Of these, of one namespace. Default: 10000.",
    )
    queue_per_caller: PositiveInt = Field(
        default=1000,
        description="Of these, of one pod or ztunnel. Default: 1000.",
    )
    queue_wait: Wait = Field(
        default=timedelta(seconds=1),
        description="Longest expected wait for a signature; who would wait longer is turned away "
        "at once. Default: 1s: istio-agent's five attempts end within 1.5s.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.metadata_soft_bytes > self.metadata_hard_bytes:
            msg = "metadata_soft_bytes at most metadata_hard_bytes"
            raise ValueError(msg)
        return self


class Logging(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info",
        description="Least important line that is written. Default: info, one line a request.",
    )
    format: Literal["json", "console"] = Field(
        default="json",
        description="`json`: an object a line; `console`: for people. Default: json.",
    )
