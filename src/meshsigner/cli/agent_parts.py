"""Turns an agent's configuration into the values that the agent works with.

Looks up what the machine knows: users and groups, and identities in tokens.
All that is wrong is told at once.
"""

import grp
import logging
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from meshsigner.agent.ca_client import CaSettings
from meshsigner.agent.keys import KeyType
from meshsigner.agent.schedule import Timing
from meshsigner.agent.secrets import KeyProvider
from meshsigner.agent.settings import AgentSettings, SharedSettings, WorkloadSettings
from meshsigner.cli.token import NoToken, read_token
from meshsigner.config.agent import ISTIO_SOCKET, AgentConfig, AgentWorkload
from meshsigner.errors import ConfigurationError
from meshsigner.observe.logs import LogFormat
from meshsigner.sidecar import Plan
from meshsigner.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain, WorkloadId

T = TypeVar("T")


def plan_of(config: AgentConfig, source: str) -> Plan:
    """Make what an agent's process is started with.

    Args:
        config: Its configuration.
        source: How that is called in problems.

    Raises:
        ConfigurationError: As `settings_of`.
    """
    return Plan(
        settings=settings_of(config),
        source=source,
        log_format=LogFormat(config.logging.format),
        log_level=logging.getLevelNamesMapping()[config.logging.level.upper()],
        admin=None if config.admin is None else str(config.admin),
    )


def settings_of(config: AgentConfig) -> AgentSettings:
    """Make an agent's settings.

    Raises:
        ConfigurationError: A user, a group or an identity cannot be found;
            holds every problem.
    """
    problems: list[str] = []
    workloads = [_workload(workload, config, problems) for workload in config.workloads]
    if problems:
        raise ConfigurationError(*problems)
    provider, shared = config.private_key_provider, config.shared_socket
    return AgentSettings(
        ca=_ca(config),
        workloads=tuple(workload for workload in workloads if workload is not None),
        timing=Timing(
            grace_ratio=config.renewal.grace_ratio,
            grace_jitter=config.renewal.grace_jitter,
            last_retry=config.renewal.longest_retry,
            spread=config.renewal.spread,
        ),
        renew_on_root_change=config.renewal.on_root_change,
        key_provider=None
        if provider is None
        else KeyProvider(
            name=provider.type, poll_delay=provider.poll_delay, fallback=provider.fallback
        ),
        shared=None
        if shared is None
        else SharedSettings(socket=shared.path, directory=shared.directory),
        status_socket=status_socket_of(config),
    )


def status_socket_of(config: AgentConfig) -> Path:
    """Say where an agent with this configuration tells its status."""
    if config.status_socket is not None:
        return config.status_socket
    shared = config.shared_socket
    path = config.workloads[0].socket or (ISTIO_SOCKET if shared is None else shared.path)
    return path.with_name(f"{path.name}.status")


def _ca(config: AgentConfig) -> CaSettings:
    ca = config.ca
    return CaSettings(
        address=ca.address,
        root_file=ca.root_file,
        name=ca.server_name or "",
        cluster_id=ca.cluster_id,
        cert_signer=ca.cert_signer or "",
        headers=tuple(ca.headers.items()),
        timeout_s=ca.timeout.total_seconds(),
    )


def _workload(
    workload: AgentWorkload, config: AgentConfig, problems: list[str]
) -> WorkloadSettings | None:
    where = f"workload {workload.name}"
    identity = _attempt(lambda: _identity(workload, config.trust_domain), where, problems)
    group = _attempt(lambda: _group(workload.group), where, problems)
    user = _attempt(lambda: _user(workload.user), where, problems)
    user_group = _attempt(lambda: _group(workload.user_group), where, problems)
    if identity is None:
        return None
    return WorkloadSettings(
        name=workload.name,
        identity=identity,
        token_file=workload.token_file,
        socket=workload.socket if workload.socket or workload.user else ISTIO_SOCKET,
        group=group,
        uid=user,
        gid=user_group,
        key_type=KeyType(workload.key_type),
        lifetime=workload.lifetime,
        output_directory=workload.output_directory,
        crl_file=workload.crl_file,
    )


def _attempt(find: Callable[[], T], where: str, problems: list[str]) -> T | None:
    try:
        return find()
    except ConfigurationError as error:
        problems += [f"{where}: {problem}" for problem in error.problems]
        return None


def _identity(workload: AgentWorkload, trust_domain: TrustDomain) -> SpiffeId:
    """Return the configured identity, else that of the token's service account."""
    if workload.identity is not None:
        return workload.identity
    try:
        token = read_token(workload.token_file)
        account = WorkloadId.of(trust_domain, token.namespace, token.service_account)
        return SpiffeId.parse(account.uri)
    except (NoToken, InvalidSpiffeId) as error:
        raise ConfigurationError(
            f"no identity is set and none can be taken from its token ({error}); set identity"
        ) from error


def _user(name: str | None) -> int | None:
    if name is None or name.isdecimal():
        return None if name is None else int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise ConfigurationError(f"this machine has no user {name}; name one, or its number") from (
            error
        )


def _group(name: str | None) -> int | None:
    if name is None or name.isdecimal():
        return None if name is None else int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise ConfigurationError(
            f"this machine has no group {name}; name one, or its number"
        ) from error
