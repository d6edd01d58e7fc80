"""From settings to the parts of one server: what is allowed, and how much.

Turns sections of the configuration into the values and adapters that the rest
of the package takes. Nothing is started here. Who is believed is `callers`.
"""

from meshsigner.batch import GatherLimits
from meshsigner.config import Config
from meshsigner.config.policy import PolicySection
from meshsigner.config.sections import Limits as LimitsSection
from meshsigner.issuance import IssuanceLimits
from meshsigner.model import KeyAlgorithm, Lifetimes
from meshsigner.orders import QueueLimits
from meshsigner.policy import Policy, SignerRule
from meshsigner.rpc.door import DoorLimits
from meshsigner.rpc.limits import Limits


def policy_of(config: Config, generation: int) -> Policy:
    """Return the rules of a configuration.

    Args:
        config: The settings.
        generation: Counts reloads.
    """
    section = config.policy
    remote = config.remote_clusters.allowed if config.remote_clusters else ()
    domains = {
        config.trust_domain,
        *(cluster.trust_domain for cluster in config.clusters if cluster.trust_domain),
        *(cluster.trust_domain for cluster in remote),
    }
    return Policy(
        trust_domains=frozenset(domains),
        lifetimes=_lifetimes(section),
        key_algorithms=frozenset(map(KeyAlgorithm, section.key_algorithms)),
        min_rsa_bits=section.min_rsa_bits,
        max_rsa_bits=section.max_rsa_bits,
        generation=generation,
        signers=signer_rules_of(section),
        names_signers=config.issuer is None,
    )


def signer_rules_of(section: PolicySection) -> tuple[SignerRule, ...]:
    """Return who signs for whom."""
    return tuple(
        SignerRule(
            backends=rule.backends,
            cert_signer=rule.cert_signer,
            cluster=rule.cluster,
            namespace=rule.namespace,
            service_account=rule.service_account,
        )
        for rule in section.signers
    )


def _lifetimes(section: PolicySection) -> Lifetimes:
    return Lifetimes(
        default=section.default_lifetime,
        maximum=section.maximum_lifetime,
        clamp=section.over_maximum == "clamp",
        backdate=section.backdate,
    )


def issuance_limits_of(section: LimitsSection) -> IssuanceLimits:
    """Return the bounds of the pipeline."""
    return IssuanceLimits(
        gather=GatherLimits(waiting=section.waiting, waiting_bytes=section.waiting_bytes),
        queue=QueueLimits(
            total=section.queue_total,
            per_namespace=section.queue_per_namespace,
            per_caller=section.queue_per_caller,
            wait_s=section.queue_wait.total_seconds(),
        ),
        parked=section.parked,
    )


def wire_limits_of(section: LimitsSection) -> Limits:
    """Return the bounds of the wire."""
    wait_s = section.queue_wait.total_seconds()
    return Limits(
        max_connections=section.connections,
        handshake_s=section.handshake.total_seconds(),
        max_streams=section.streams_per_connection,
        max_calls_per_connection=section.calls_per_connection,
        max_calls=section.calls_in_flight,
        handling_s=section.handling.total_seconds(),
        max_message_bytes=section.message_bytes,
        soft_header_bytes=section.metadata_soft_bytes,
        hard_header_bytes=section.metadata_hard_bytes,
        connection_idle_s=section.connection_idle.total_seconds(),
        connection_age_s=section.connection_age.total_seconds(),
        door=DoorLimits(closes_s=wait_s / 2, opens_s=wait_s / 4),
    )
