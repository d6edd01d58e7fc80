"""What the decisions make of a CSR, for the caller and the policy that all vectors assume."""

from datetime import UTC, datetime, timedelta

from meshsigner.csr import parse_csr
from meshsigner.errors import InvalidCsr, SanNotAllowed
from meshsigner.model import AuthMethod, Caller, Lifetimes, Terms
from meshsigner.policy import Policy, authorize
from meshsigner.spiffe import WorkloadId
from tests.vectors.case import Verdict
from tests.vectors.pkcs10 import IDENTITY

NOW = datetime(2026, 11, 23, 12, 34, 30, tzinfo=UTC)
CALLER = Caller(
    identity=WorkloadId.parse(IDENTITY),
    cluster="Kubernetes",
    auth_method=AuthMethod.JWT,
)
POLICY = Policy(
    trust_domains=frozenset({CALLER.identity.trust_domain}),
    lifetimes=Lifetimes(
        default=timedelta(hours=24),
        maximum=timedelta(days=90),
        clamp=False,
        backdate=timedelta(minutes=2),
    ),
)


def decide(csr_pem: bytes) -> Terms:
    """Read a CSR and decide on it as a turn does.

    Raises:
        InvalidCsr: As `parse_csr` and `authorize` say.
        SanNotAllowed: It names another than the caller.
    """
    return authorize(
        caller=CALLER,
        request=parse_csr(csr_pem),
        asked_lifetime=None,
        policy=POLICY,
        now=NOW,
        issuer_not_after=NOW + timedelta(days=365),
    )


def verdict_on(csr_pem: bytes) -> Verdict:
    """Say in a word what becomes of a CSR; any other error is a bug and passes through."""
    try:
        decide(csr_pem)
    except InvalidCsr:
        return Verdict.INVALID_CSR
    except SanNotAllowed:
        return Verdict.SAN_NOT_ALLOWED
    return Verdict.ACCEPTED
