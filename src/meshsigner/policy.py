"""What a proven caller may have: the decision that becomes the certificate.

The identity comes from the credential, or from the node authorizer where a
node's agent acts for another; the CSR can only agree with it or be refused.
Lifetimes are bounded in one function, `validity`. Who the caller is was settled
in `authn`, the form of the result is `profile`'s.

Source: istio-compatible rules, docs/standards.md 19 to 23, 28 to 32.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from meshsigner.errors import (
    Forbidden,
    InvalidCsr,
    InvalidLifetime,
    NotReady,
    SanNotAllowed,
    UnknownSigner,
)
from meshsigner.model import Caller, CertificateRequest, KeyAlgorithm, Lifetimes, PublicKey, Terms
from meshsigner.spiffe import TrustDomain, WorkloadId

MAX_COMMON_NAME = 64  # ub-common-name, RFC 5280 appendix A.1
# A lifetime of less than ten times the backdate makes ztunnel, which renews at
# half of NotBefore..NotAfter, ask again too early, and in a loop once t <= s.
LIFETIME_PER_BACKDATE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerRule:
    """Who signs for some callers; a condition that is None is met by all.

    Attributes:
        backends: Names of the backends, each the substitute of those before it.
        cert_signer: The signer that the caller asked for by name; None: it named none.
        cluster: The caller's cluster.
        namespace: Namespace of the identity to certify.
        service_account: Its service account.
    """

    backends: tuple[str, ...]
    cert_signer: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    service_account: str | None = None

    def applies(self, caller: Caller, identity: WorkloadId, cert_signer: str) -> bool:
        """Tell whether all conditions are met."""
        return (
            (self.cert_signer or "") == cert_signer
            and self.cluster in {None, caller.cluster}
            and self.namespace in {None, identity.namespace}
            and self.service_account in {None, identity.service_account}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of one generation of the configuration.

    Attributes:
        trust_domains: Trust domains for which certificates are issued.
        lifetimes: Rules for validity.
        key_algorithms: Kinds of public keys that are certified.
        min_rsa_bits: Shortest RSA modulus, bits (istio-agent makes 2,048).
        max_rsa_bits: Longest RSA modulus, bits: each handshake pays for it.
        generation: Counts reloads; stands in every record.
        signers: Which backends sign for whom, the first that applies; none:
            all sign for all.
        names_signers: False takes no notice of the signer that a caller names,
            as istiod's own CA, where there is one CA and no choice.
    """

    trust_domains: frozenset[TrustDomain]
    lifetimes: Lifetimes
    key_algorithms: frozenset[KeyAlgorithm] = frozenset(
        {KeyAlgorithm.RSA, KeyAlgorithm.P256, KeyAlgorithm.P384},
    )
    min_rsa_bits: int = 2_048
    max_rsa_bits: int = 4_096
    generation: int = 1
    signers: tuple[SignerRule, ...] = ()
    names_signers: bool = True


def authorize(
    *,
    caller: Caller,
    identity: WorkloadId | None = None,
    request: CertificateRequest,
    asked_lifetime: timedelta | None,
    policy: Policy,
    now: datetime,
    issuer_not_after: datetime,
) -> Terms:
    """Decide what a caller is certified for.

    Args:
        caller: Proven by `authn`.
        identity: Whom to certify, where the caller was allowed to act for
            another; None is the caller itself.
        request: Read by `csr`.
        asked_lifetime: The caller's wish; None asks for the default.
        policy: The rules in force.
        now: Time of the decision.
        issuer_not_after: End of the issuer that will sign.

    Returns:
        The terms; everything in the certificate but its key comes from them.

    Raises:
        Forbidden: The trust domain of the caller, or of the identity, is none of ours.
        InvalidCsr: The key is of a kind or size that the policy excludes.
        SanNotAllowed: The CSR names anybody but the identity.
        InvalidLifetime: More than the maximum, and the policy says reject.
    """
    identity = identity or caller.identity
    for domain in (caller.identity.trust_domain, identity.trust_domain):
        if domain not in policy.trust_domains:
            msg = f"no certificates for trust domain {domain}"
            raise Forbidden(msg)
    _check_key(request.public_key, policy)
    _check_names(request, identity.uri)
    not_before, not_after = validity(policy.lifetimes, asked_lifetime, now, issuer_not_after)
    dual_use = request.wants_common_name and len(identity.uri) <= MAX_COMMON_NAME
    return Terms(
        identity=identity,
        common_name=identity.uri if dual_use else None,
        not_before=not_before,
        not_after=not_after,
        policy_generation=policy.generation,
    )


def choose_backends(
    policy: Policy, caller: Caller, identity: WorkloadId, cert_signer: str
) -> tuple[str, ...]:
    """Choose who signs.

    Args:
        policy: The rules in force.
        caller: Proven by `authn`.
        identity: Whom to certify.
        cert_signer: The signer that the caller names, empty when it names none.

    Returns:
        Names of backends in the order in which they are tried; empty for all.

    Raises:
        UnknownSigner: No rule has the signer that the caller names.
        Forbidden: There are rules and none is for this caller.
    """
    if not policy.names_signers:
        return ()
    if cert_signer and all(rule.cert_signer != cert_signer for rule in policy.signers):
        raise UnknownSigner(cert_signer)
    if not policy.signers:
        return ()
    for rule in policy.signers:
        if rule.applies(caller, identity, cert_signer):
            return rule.backends
    msg = "no rule of policy.signers is for this caller"
    raise Forbidden(msg)


def default_backends(policy: Policy) -> tuple[str, ...]:
    """Return who signs for callers that no condition singles out; empty for all."""
    for rule in policy.signers:
        if rule == SignerRule(backends=rule.backends):
            return rule.backends
    return ()


def under_issuer(terms: Terms, issuer_not_after: datetime, now: datetime) -> Terms:
    """Shorten terms to the end of another issuer, which will sign instead.

    Args:
        terms: As `authorize` decided them.
        issuer_not_after: End of that issuer.
        now: The time.

    Returns:
        The same terms, or those with an earlier end, and with less backdating
        where the rest is short.

    Raises:
        NotReady: That issuer has ended.
    """
    if terms.not_after <= issuer_not_after:
        return terms
    start = now.replace(microsecond=0)
    if issuer_not_after <= start:
        msg = "the issuer that would sign instead has ended"
        raise NotReady(msg)
    earliest = start - (issuer_not_after - start) / LIFETIME_PER_BACKDATE
    not_before = max(terms.not_before, earliest).replace(microsecond=0)
    return replace(terms, not_before=not_before, not_after=issuer_not_after)


def _check_key(key: PublicKey, policy: Policy) -> None:
    if key.algorithm not in policy.key_algorithms:
        msg = f"{key.algorithm} keys are not certified here"
        raise InvalidCsr(msg)
    too_small_or_large = not policy.min_rsa_bits <= key.bits <= policy.max_rsa_bits
    if key.algorithm is KeyAlgorithm.RSA and too_small_or_large:
        msg = f"RSA keys must have {policy.min_rsa_bits} to {policy.max_rsa_bits} bits"
        raise InvalidCsr(msg)


def _check_names(request: CertificateRequest, uri: str) -> None:
    """Let pass a CSR that names nobody, or whom it is for, once and nobody else.

    Source: istio security/pkg/pki/ra/common.go ValidateCSR; no SAN at all is
    tolerated, since the certificate's names never come from the CSR.
    """
    if request.other_sans:
        msg = f"{request.other_sans} names that are not URIs"
        raise SanNotAllowed(msg)
    if request.uri_sans not in {(), (uri,)}:
        msg = f"names {list(request.uri_sans)[:3]!r}, is {uri}"
        raise SanNotAllowed(msg)
    if request.wants_common_name and not request.uri_sans:
        msg = "names itself by a common name alone"
        raise SanNotAllowed(msg)


def validity(
    lifetimes: Lifetimes,
    asked: timedelta | None,
    now: datetime,
    issuer_not_after: datetime,
) -> tuple[datetime, datetime]:
    """Bound a lifetime: the only place where that is done.

    Args:
        lifetimes: The policy's rules.
        asked: The caller's wish; None or nothing positive asks for the default.
        now: Time of the decision.
        issuer_not_after: No leaf outlives its issuer.

    Returns:
        NotBefore and NotAfter in whole seconds. NotBefore is backdated for
        callers whose clocks lag, by less where the lifetime is short.

    Raises:
        InvalidLifetime: Above the maximum, and the rules say reject.

    Source: istio security/pkg/pki/ca/ca.go sign (default, maximum);
    generate_cert.go (2 minutes of skew, clamp to the issuer).
    """
    lifetime = asked if asked is not None and asked > timedelta() else lifetimes.default
    if lifetime > lifetimes.maximum:
        if not lifetimes.clamp:
            raise InvalidLifetime(
                asked_s=int(lifetime.total_seconds()),
                maximum_s=int(lifetimes.maximum.total_seconds()),
            )
        lifetime = lifetimes.maximum
    start = now.replace(microsecond=0)
    not_after = min(start + lifetime, issuer_not_after)
    backdate = min(lifetimes.backdate, (not_after - start) / LIFETIME_PER_BACKDATE)
    return (start - backdate).replace(microsecond=0), not_after
