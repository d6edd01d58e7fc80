"""What an agent is told, as values; made by `cli.agent_parts` from a configuration."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from meshsigner.agent.ca_client import CaSettings
from meshsigner.agent.keys import KeyType
from meshsigner.agent.schedule import Timing
from meshsigner.agent.secrets import KeyProvider
from meshsigner.spiffe import SpiffeId


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSettings:
    """One workload.

    Attributes:
        name: For the log, the figures and the status.
        identity: Its SPIFFE ID.
        token_file: Proves it to the CA.
        socket: Where its Envoy finds its secrets; None: at the shared socket.
        group: Numeric id of the only group that may enter the socket's
            directory; None leaves the directory as it is.
        uid: User of its processes at the shared socket.
        gid: Group of its processes at the shared socket; None for any.
        key_type: Kind of each new key.
        lifetime: Wished lifetime of a certificate.
        output_directory: Where the certificate is kept as files; None keeps
            it in memory alone.
        crl_file: CRLs for its peers; None for none.
    """

    name: str
    identity: SpiffeId
    token_file: Path
    socket: Path | None = None
    group: int | None = None
    uid: int | None = None
    gid: int | None = None
    key_type: KeyType = KeyType.P256
    lifetime: timedelta = timedelta(hours=24)
    output_directory: Path | None = None
    crl_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedSettings:
    """The socket that several workloads share.

    Attributes:
        socket: Where.
        directory: The agent's own, for the workloads' private sockets.
    """

    socket: Path
    directory: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """An agent.

    Attributes:
        ca: How the CA is reached.
        workloads: Whose secrets it serves, at least one.
        timing: When certificates are renewed.
        renew_on_root_change: True renews as soon as `ca.root_file` changes.
        key_provider: Who uses the private keys; None for Envoy itself.
        shared: The shared socket; None when each workload has its own.
        status_socket: Where `meshsigner agent status` asks; None for nowhere.
    """

    ca: CaSettings
    workloads: tuple[WorkloadSettings, ...]
    timing: Timing = Timing()  # noqa: RUF009 - frozen
    renew_on_root_change: bool = False
    key_provider: KeyProvider | None = None
    shared: SharedSettings | None = None
    status_socket: Path | None = None
