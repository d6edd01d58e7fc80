"""Every word that logs and metrics use about us, so that each is spelt once.

Events are lower case without a period; values go into fields, never into an
event. Metric names carry their unit. docs/metrics.md and docs/logs.md
explain them to operators.
"""

from enum import StrEnum


class Event(StrEnum):
    """What a log line tells."""

    CALL = "create certificate"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"
    READY = "ready"
    NOT_READY = "not ready"
    SERVING_CERTIFICATE_RELOADED = "serving certificate reloaded"
    SERVING_CERTIFICATE_KEPT = "new serving certificate refused, the old one is kept"
    ISSUER_LOADED = "issuer loaded"
    ISSUER_REPLACED = "issuer replaced"
    ISSUER_KEPT = "CA directory refused, the issuer in use is kept"
    ISSUER_EXPIRES = "issuer expires soon"
    ISSUER_REMARK = "remark on the CA directory"
    ISSUER_POLLED = "no directory events, the CA directory is polled"
    TOKEN_KEYS_TAKEN = "token keys taken"  # noqa: S105 - an event
    TOKEN_KEYS_KEPT = "no new token keys, the old ones are kept"  # noqa: S105 - an event
    TOKEN_REVIEWS_WORK = "token reviews work"  # noqa: S105 - an event
    TOKEN_REVIEWS_FAIL = "token reviews fail"  # noqa: S105 - an event
    RELOADED = "settings reloaded"
    RELOAD_REFUSED = "new settings refused, the old ones are kept"
    WATCH_FAILED = "a watch failed, it is taken up again"


class Outcome(StrEnum):
    """How a call ended when no documented error ended it."""

    OK = "ok"
    INTERNAL = "internal"
    CANCELLED = "cancelled"


class Shed(StrEnum):
    """Which bound of the wire was met; the pipeline has words of its own."""

    CALLS_IN_FLIGHT = "calls_in_flight"
    CALLS_PER_CONNECTION = "calls_per_connection"


# Our own metrics.
CALLS = "meshsigner_calls"
CALLS_IN_FLIGHT = "meshsigner_calls_in_flight"
CALL_SECONDS = "meshsigner_call_duration_seconds"
CERTIFICATES = "meshsigner_certificates_issued"
SHED = "meshsigner_shed"
TURN_MEMBERS = "meshsigner_turn_members"
TURN_SECONDS = "meshsigner_turn_duration_seconds"
ORDERS_QUEUED = "meshsigner_orders_queued"
REQUESTS_PARKED = "meshsigner_requests_parked"
COMMIT_RECORDS = "meshsigner_commit_records"
COMMIT_SECONDS = "meshsigner_commit_duration_seconds"
COMMIT_FAILURES = "meshsigner_commit_failures"
WRONG_CERTIFICATES = "meshsigner_wrong_certificates"
SERVING_CERTIFICATE_EXPIRY = "meshsigner_serving_certificate_expiry_timestamp_seconds"
SERVING_CERTIFICATE_RELOADS = "meshsigner_serving_certificate_reloads"
LOG_LINES_LOST = "meshsigner_log_lines_lost"
BUILD = "meshsigner_build"

# Istio's names, so that dashboards made for istiod go on working.
# Source: istio security/pkg/server/ca/monitoring.go; pkg/monitoring exports
# counters without the suffix `_total`.
ISTIO_CSRS = "citadel_server_csr_count"
ISTIO_AUTHENTICATION_FAILURES = "citadel_server_authentication_failure_count"
ISTIO_CSR_PARSING_ERRORS = "citadel_server_csr_parsing_err_count"
ISTIO_ID_EXTRACTION_ERRORS = "citadel_server_id_extraction_err_count"
ISTIO_CSR_SIGN_ERRORS = "citadel_server_csr_sign_err_count"
ISTIO_SUCCESSES = "citadel_server_success_cert_issuance_count"
ISTIO_ROOT_EXPIRY_TIMESTAMP = "citadel_server_root_cert_expiry_timestamp"
ISTIO_ROOT_EXPIRY_SECONDS = "citadel_server_root_cert_expiry_seconds"
ISTIO_CHAIN_EXPIRY_TIMESTAMP = "citadel_server_cert_chain_expiry_timestamp"
ISTIO_CHAIN_EXPIRY_SECONDS = "citadel_server_cert_chain_expiry_seconds"
