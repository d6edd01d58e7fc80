"""What `meshsigner agent run` is told: the CA, the workloads, where their Envoys look.

Every field says its unit and where its default comes from; docs/agent-config.md
is made from these descriptions. Files and users are looked up by `cli`, so that
a configuration can be checked anywhere.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator
from pydantic_settings import SettingsConfigDict

from meshsigner.config.fields import (
    FilePath,
    ListenAddress,
    Section,
    TrustDomainName,
    duration_from,
    spiffe_id_like,
    text_like,
)
from meshsigner.config.load import check
from meshsigner.config.model import AGENT_PREFIX, Settings
from meshsigner.config.sections import Logging
from meshsigner.config.source import Source, read_source
from meshsigner.spiffe import SpiffeId, TrustDomain

ISTIO_SOCKET = Path("/var/run/secrets/workload-spiffe-uds/socket")
ISTIO_TOKEN = Path("/var/run/secrets/tokens/istio-token")
ISTIO_ROOT = Path("/var/run/secrets/istio/root-cert.pem")

# Set by the agent itself, or by HTTP/2 and gRPC.
_OWN_HEADERS = {"authorization", "clusterid", "content-type", "host", "te", "user-agent"}


def _headers(value: Mapping[str, str]) -> Mapping[str, str]:
    if wrong := _OWN_HEADERS.intersection(value):
        raise ValueError(f"headers that the agent does not set itself; not {sorted(wrong)}")
    return value


def _account(value: object) -> object:
    """Let numbers stand for users and groups, as they do everywhere else."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Identity = Annotated[
    SpiffeId,
    BeforeValidator(spiffe_id_like("spiffe://cluster.local/ns/bookinfo/sa/productpage")),
    PlainSerializer(str),
]
Name = Annotated[
    str,
    text_like(
        r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?",
        "a short name of lower-case letters, digits and dashes, for example productpage",
    ),
]
HostPort = Annotated[
    str,
    text_like(
        r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):[0-9]{1,5}",
        "host:port, for example istiod.istio-system.svc:15012",
    ),
]
HeaderName = Annotated[
    str,
    text_like(
        r"(?!grpc-)(?!.*-bin$)[a-z0-9._-]+",
        "a header's name in lower case, none of gRPC's own and none that ends in -bin",
    ),
]
HeaderValue = Annotated[str, text_like(r"[ -~]*", "visible ASCII characters and blanks")]
Account = Annotated[
    str,
    BeforeValidator(_account),
    text_like(r"[a-z_][a-z0-9_-]*\$?|[0-9]{1,10}", "a user's or group's name or number"),
]
Ratio = Annotated[float, Field(ge=0, le=1)]


class AgentCa(Section):
    """The CA that is asked: a server of Istio's CreateCertificate."""

    address: HostPort = Field(
        description="host:port of its TLS port (Istio's CA_ADDR), for example "
        "istiod.istio-system.svc:15012.",
    )
    root_file: FilePath = Field(
        default=ISTIO_ROOT,
        description="PEM file: roots that its serving certificate chains to; read anew for each "
        "certificate. Default: /var/run/secrets/istio/root-cert.pem (the ConfigMap "
        "istio-ca-root-cert, as Istio mounts it).",
    )
    server_name: str | None = Field(
        default=None,
        description="Name that its serving certificate must bear. Default: none, the host of "
        "address.",
    )
    cluster_id: str = Field(
        default="Kubernetes",
        description="What is sent as `clusterid` (Istio's ISTIO_META_CLUSTER_ID). Default: "
        "Kubernetes (Istio's templates).",
    )
    cert_signer: str | None = Field(
        default=None,
        description="What is sent as CertSigner (ISTIO_META_CERT_SIGNER). Default: none, the "
        "CA's default.",
    )
    headers: Annotated[dict[HeaderName, HeaderValue], AfterValidator(_headers)] = Field(
        default={},
        description="More headers for each call (Istio's CA_HEADER_*); no secrets. Default: none.",
    )
    timeout: Annotated[timedelta, *duration_from("100ms", "10m")] = Field(
        default=timedelta(seconds=15),
        description="Longest wait for one answer. Default: 15s; Istio's agent waits for ever.",
    )


class AgentWorkload(Section):
    """One workload: who it is and where its Envoy finds its secrets."""

    name: Name = Field(
        default="default",
        description="For log, figures and status; each once. Default: default.",
    )
    identity: Identity | None = Field(
        default=None,
        description="Its SPIFFE ID. Default: none, that of the service account in its token.",
    )
    token_file: FilePath = Field(
        default=ISTIO_TOKEN,
        description="File with its token; read anew for each call. Default: "
        "/var/run/secrets/tokens/istio-token (as Istio mounts it, audience istio-ca).",
    )
    socket: FilePath | None = Field(
        default=None,
        description="Unix socket for its Envoy, mode 0666. Default: none, the shared socket; for "
        "the only workload /var/run/secrets/workload-spiffe-uds/socket, where istio-agent looks.",
    )
    group: Account | None = Field(
        default=None,
        description="The only group that may enter the socket's directory; the directory is made "
        "so, or must be so. Needed beside other workloads. Default: none, the directory is taken "
        "as it is: in a pod, it is the pod's own volume.",
    )
    user: Account | None = Field(
        default=None,
        description="User of its processes, proven at the shared socket. Default: none, it has a "
        "socket of its own.",
    )
    user_group: Account | None = Field(
        default=None,
        description="Primary group of its processes, proven as well. Default: none, any.",
    )
    key_type: Literal["p256", "p384", "rsa2048"] = Field(
        default="p256",
        description="Kind of its keys; a new one for each certificate. Default: p256 "
        "(istio-agent: rsa2048, unless ECC_SIGNATURE_ALGORITHM=ECDSA).",
    )
    lifetime: Annotated[timedelta, *duration_from("10s", "3650d")] = Field(
        default=timedelta(days=1),
        description="Wished lifetime of a certificate. Default: 24h (istio-agent's SECRET_TTL).",
    )
    output_directory: FilePath | None = Field(
        default=None,
        description="Directory for key.pem (mode 0600), cert-chain.pem and root-cert.pem "
        "(istio-agent's OUTPUT_CERTS), from which a restarted agent goes on. Default: none, no "
        "key is ever on disk.",
    )
    crl_file: FilePath | None = Field(
        default=None,
        description="PEM file of CRLs for its Envoy, taken anew when it changes: one of every CA "
        "above its peers, or Envoy refuses them all. Default: none (Istio: "
        "/var/run/secrets/istio/crl/ca-crl.pem).",
    )


class AgentSharedSocket(Section):
    """One socket for several workloads, told apart by user and group of the process."""

    path: FilePath = Field(description="The socket, mode 0666.")
    directory: FilePath = Field(
        default=Path("/run/meshsigner/agent"),
        description="Directory of the agent's user alone (mode 0700), made if it is not there, "
        "for the private sockets behind it. Default: /run/meshsigner/agent.",
    )


class AgentRenewal(Section):
    """When certificates are renewed, and tried for again."""

    grace_ratio: Ratio = Field(
        default=0.5,
        description="Part of the lifetime that is left at renewal. Default: 0.5 (istio-agent's "
        "SECRET_GRACE_PERIOD_RATIO).",
    )
    grace_jitter: Ratio = Field(
        default=0.01,
        description="How far that part is moved at random, either way. Default: 0.01 "
        "(SECRET_GRACE_PERIOD_RATIO_JITTER).",
    )
    longest_retry: Annotated[timedelta, *duration_from("500ms", "1h")] = Field(
        default=timedelta(seconds=60),
        description="Longest wait between two tries, and never more than a twentieth of the "
        "lifetime; the first is half a second. Default: 1m (istio-agent).",
    )
    on_root_change: bool = Field(
        default=False,
        description="True: a change of ca.root_file renews at once. Default: false, for all "
        "workloads of a mesh would ask together.",
    )
    spread: Annotated[timedelta, *duration_from("0s", "24h")] = Field(
        default=timedelta(seconds=10),
        description="Such a renewal is put off at random by at most this. Default: 10s.",
    )


class AgentKeyProvider(Section):
    """One of Envoy's private key providers (Istio's proxyConfig.privateKeyProvider)."""

    type: Literal["cryptomb", "qat"] = Field(description="`cryptomb` or `qat`.")
    poll_delay: Annotated[timedelta, *duration_from("1ms", "1s")] = Field(
        default=timedelta(milliseconds=10),
        description="How long operations are gathered or polled for. Default: 10ms.",
    )
    fallback: bool = Field(
        default=False,
        description="True: Envoy uses the key itself where the provider does not work. Default: "
        "false.",
    )


def _several(workloads: tuple[AgentWorkload, ...]) -> tuple[AgentWorkload, ...]:
    problems = [*_twice(workloads), *(_ways(workloads) if len(workloads) > 1 else ())]
    if problems:
        raise ValueError("; ".join(problems))
    return workloads


def _twice(workloads: tuple[AgentWorkload, ...]) -> Iterator[str]:
    """Name what two workloads may not have in common."""
    values: Mapping[str, list[Any]] = {
        "name": [w.name for w in workloads],
        "directory of a socket": [w.socket.parent for w in workloads if w.socket],
        "group": [w.group for w in workloads if w.group],
        "output_directory": [w.output_directory for w in workloads if w.output_directory],
    }
    for what, found in values.items():
        for value, count in Counter(found).items():
            if count > 1:
                yield f"each {what} once ({value} is there {count} times)"


def _ways(workloads: tuple[AgentWorkload, ...]) -> Iterator[str]:
    """Name workloads whose secrets would be within reach of the others."""
    for workload in workloads:
        if workload.socket is None and workload.user is None:
            yield (
                f"a way to prove the processes of workload {workload.name}: socket and group, or "
                "user and shared_socket"
            )
        elif workload.socket is not None and workload.group is None:
            yield f"the group that alone may enter the directory of {workload.name}'s socket"


class AgentConfig(Settings):
    """All settings of one agent: a file's content, overruled by the environment."""

    model_config = SettingsConfigDict(env_prefix=AGENT_PREFIX)

    ca: AgentCa = Field(description="The CA that is asked.")
    workloads: Annotated[
        tuple[AgentWorkload, ...], Field(min_length=1), AfterValidator(_several)
    ] = Field(
        default=(AgentWorkload(),),
        description="Whose secrets are served. Default: one, with all defaults.",
    )
    trust_domain: TrustDomainName = Field(
        default=TrustDomain("cluster.local"),
        description="Trust domain of identities that come from tokens. Default: cluster.local "
        "(Istio's TRUST_DOMAIN).",
    )
    shared_socket: AgentSharedSocket | None = Field(
        default=None,
        description="One socket for several workloads. Default: none.",
    )
    renewal: AgentRenewal = Field(
        default=AgentRenewal(), description="When certificates are renewed."
    )
    private_key_provider: AgentKeyProvider | None = Field(
        default=None,
        description="Who uses the private keys. Default: none, Envoy itself.",
    )
    status_socket: FilePath | None = Field(
        default=None,
        description="Unix socket of the agent's user alone (mode 0600) for `meshsigner agent "
        "status`. Default: none, the first socket's path with `.status` behind it.",
    )
    admin: ListenAddress | None = Field(
        default=None,
        description="host:port for probes and metrics, plain HTTP, no secrets on it. Default: "
        "none, no port.",
    )
    logging: Logging = Field(default=Logging(), description="What is written to standard error.")

    @model_validator(mode="after")
    def _shared(self) -> Self:
        sharing = [w.name for w in self.workloads if w.socket is None and w.user is not None]
        if sharing and self.shared_socket is None:
            raise ValueError(f"a shared_socket, for {', '.join(sharing)} has no socket of its own")
        if self.shared_socket is not None and not sharing:
            raise ValueError("no shared_socket, or a workload with a user and no socket")
        return self


def load_agent_config(path: Path) -> AgentConfig:
    """Read an agent's configuration; the environment wins over the file.

    Args:
        path: The YAML file.

    Raises:
        ConfigurationError: All problems of file and environment.
    """
    return check(read_source(path), AgentConfig)


def build_agent_config(values: Mapping[str, Any], *, name: str) -> AgentConfig:
    """Make an agent's configuration of values; the environment wins over them.

    Args:
        values: As a file would hold them.
        name: How they are called in problems.

    Raises:
        ConfigurationError: All problems of values and environment.
    """
    return check(Source(name=name, values=dict(values), root=None), AgentConfig)
