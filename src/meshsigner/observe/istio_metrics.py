"""Istio's CA metrics under Istio's names, so that dashboards made for istiod go on working.

Counters stand here without the suffix `_total`, as istiod exports them; the
Prometheus client would append it, so this is a collector of its own and its
counters are of type `untyped`, which `rate()` does not mind.

Source: istio security/pkg/server/ca/monitoring.go (names),
security/pkg/pki/error/error.go (values of the label `error`).
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from cryptography import x509
from prometheus_client import Metric
from prometheus_client.registry import Collector

from meshsigner import errors
from meshsigner.model import Issuer
from meshsigner.observe import names

# Which of istiod's words stands for a reason of ours; what is missing here is
# no error of signing: the caller's credential, or a caller who gave up.
SIGN_ERRORS: Mapping[str, str] = {
    errors.InvalidCsr.reason: "CSR_ERROR",
    errors.SanNotAllowed.reason: "CSR_ERROR",
    errors.InvalidLifetime.reason: "TTL_ERROR",
    errors.UnknownSigner.reason: "CERT_GEN_ERROR",
    errors.NotReady.reason: "CA_NOT_READY",
    errors.BackendUnavailable.reason: "CERT_GEN_ERROR",
    errors.BackendRefused.reason: "CERT_GEN_ERROR",
    errors.WrongCertificate.reason: "CERT_GEN_ERROR",
    errors.RecordFailed.reason: "CERT_GEN_ERROR",
    errors.DeadlinePassed.reason: "CERT_GEN_ERROR",
    names.Outcome.INTERNAL: "UNKNOWN",
}
_AUTHENTICATION_FAILURES = (errors.Unauthenticated.reason, errors.ImpersonationRefused.reason)

_HELP = {
    names.ISTIO_CSRS: "CSRs received.",
    names.ISTIO_SUCCESSES: "Certificates issued.",
    names.ISTIO_AUTHENTICATION_FAILURES: "Callers that were not authenticated.",
    names.ISTIO_CSR_PARSING_ERRORS: "CSRs that could not be read.",
    names.ISTIO_ID_EXTRACTION_ERRORS: "Always 0: identities come from credentials, not from CSRs.",
    names.ISTIO_CSR_SIGN_ERRORS: "CSRs that were not signed, by istiod's kind of error.",
    names.ISTIO_ROOT_EXPIRY_TIMESTAMP: "When the first root expires, Unix seconds.",
    names.ISTIO_ROOT_EXPIRY_SECONDS: "How long until the first root expires, seconds.",
    names.ISTIO_CHAIN_EXPIRY_TIMESTAMP: "When the issuer's chain expires, Unix seconds.",
    names.ISTIO_CHAIN_EXPIRY_SECONDS: "How long until the issuer's chain expires, seconds.",
}


class IstioMetrics(Collector):
    """Counts in plain integers and shows them under Istio's names."""

    def __init__(self) -> None:
        self._ended: Counter[str] = Counter()
        self._root_expiry: float | None = None
        self._chain_expiry: float | None = None

    def calls_ended(self, ended: Mapping[str, int]) -> None:
        """Count calls that ended.

        Args:
            ended: How many with each reason or `Outcome`.
        """
        self._ended.update(ended)

    def issuer_in_use(self, issuer: Issuer) -> None:
        """Remember when an issuer and its roots expire.

        Args:
            issuer: What signs now.
        """
        self._root_expiry = _first_expiry(issuer.trust_bundle.certificates)
        self._chain_expiry = _first_expiry([issuer.certificate, *issuer.intermediates])

    def collect(self) -> Iterable[Metric]:
        """Show what was counted; expiry only once there is an issuer."""
        ended = self._ended.copy()
        failures = sum(ended[reason] for reason in _AUTHENTICATION_FAILURES)
        yield _metric(names.ISTIO_CSRS, ended.total())
        yield _metric(names.ISTIO_SUCCESSES, ended[names.Outcome.OK])
        yield _metric(names.ISTIO_AUTHENTICATION_FAILURES, failures)
        yield _metric(names.ISTIO_CSR_PARSING_ERRORS, ended[errors.InvalidCsr.reason])
        yield _metric(names.ISTIO_ID_EXTRACTION_ERRORS, 0)
        yield _sign_errors(ended)
        yield from self._expiries()

    def _expiries(self) -> Iterable[Metric]:
        if self._root_expiry is None or self._chain_expiry is None:
            return
        now = time.time()
        yield _metric(names.ISTIO_ROOT_EXPIRY_TIMESTAMP, self._root_expiry, "gauge")
        yield _metric(names.ISTIO_ROOT_EXPIRY_SECONDS, self._root_expiry - now, "gauge")
        yield _metric(names.ISTIO_CHAIN_EXPIRY_TIMESTAMP, self._chain_expiry, "gauge")
        yield _metric(names.ISTIO_CHAIN_EXPIRY_SECONDS, self._chain_expiry - now, "gauge")


def _sign_errors(ended: Mapping[str, int]) -> Metric:
    kinds = Counter(dict.fromkeys(SIGN_ERRORS.values(), 0))
    for reason, kind in SIGN_ERRORS.items():
        kinds[kind] += ended[reason]
    name = names.ISTIO_CSR_SIGN_ERRORS
    metric = Metric(name, _HELP[name], "untyped")
    for kind, count in kinds.items():
        metric.add_sample(name, {"error": kind}, count)
    return metric


def _metric(name: str, value: float, typ: str = "untyped") -> Metric:
    metric = Metric(name, _HELP[name], typ)
    metric.add_sample(name, {}, value)
    return metric


def _first_expiry(certificates: Iterable[x509.Certificate]) -> float:
    return min(c.not_valid_after_utc for c in certificates).timestamp()
