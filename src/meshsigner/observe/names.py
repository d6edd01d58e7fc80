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
    DOOR_CLOSED = "new connections wait outside"
    DOOR_OPEN = "new connections come in again"
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
    TOKEN_REVIEWS_DOUBTED = "API server not ready, doubtful refusals are not believed"  # noqa: S105 - an event
    KUBECONFIG_TAKEN = "kubeconfig taken"
    KUBECONFIG_KEPT = "new kubeconfig refused, the one in use is kept"
    REMOTE_CLUSTER_ADDED = "remote cluster added"
    REMOTE_CLUSTER_CHANGED = "remote cluster changed"
    REMOTE_CLUSTER_REMOVED = "remote cluster removed"
    REMOTE_CLUSTERS_REFUSED = "remote clusters refused"
    KUBE_WATCH_SYNCED = "watch in sync"
    KUBE_WATCH_LOST = "watch lost, its objects are as they were"
    DENIED_TAKEN = "list of denied certificates taken"
    DENIED_KEPT = "list of denied certificates refused, the one in use is kept"
    RELOADED = "settings reloaded"
    RELOAD_REFUSED = "new settings refused, the old ones are kept"
    WATCH_FAILED = "a watch failed, it is taken up again"
    BACKEND_ISSUER = "backend has its issuer"
    BACKEND_ISSUER_MISSING = "backend has no other issuer yet"
    BACKEND_LOGIN_FAILED = "login at a backend not renewed"
    BACKEND_SHORTENED = "backend shortened a certificate"
    INTERMEDIATE_NOT_RENEWED = "intermediate not renewed, it is tried again"
    BACKEND_FAILED = "backend failed, orders go elsewhere"
    BACKEND_WRONG = "backend signed something else than was ordered"
    BACKEND_BACK = "backend signs again"
    INTENT_OPEN = "a call may have issued a certificate that nobody has seen"
    INTENT_RECOVERED = "certificate of an earlier process found and recorded"
    SIGNING_KEY_LOST = "signing key lost"
    SIGNING_KEY_BACK = "signing key usable again"
    PIN_UNGUARDED = "a refused PIN will be known to this process alone"
    # The cluster's controllers.
    LEADING = "leading, the cluster's objects are this process's"
    NOT_LEADING = "leading no more"
    ELECTION_FAULT = "lease not reached"
    ROOTS_NOT_WRITTEN = "roots not written into a namespace"
    ROOTS_PUBLISHED = "roots stand everywhere"
    TRUST_BUNDLE_NOT_WRITTEN = "trust bundle not written"
    SERVING_SECRET_WRITTEN = "serving certificate of istiod written"  # noqa: S105 - an event
    SERVING_SECRET_NOT_WRITTEN = (  # an event
        "serving certificate of istiod not written"  # noqa: S105
    )
    SERVING_SECRET_WAITS = (  # an event
        "serving certificate of istiod waits for its root"  # noqa: S105
    )
    # The supervisor's.
    WORKER_STARTED = "worker started"
    WORKER_SERVING = "worker serving"
    WORKER_ENDED = "worker ended"
    WORKER_NOT_STARTED = "worker could not start"
    WORKER_HUNG = "worker does not answer, it is killed"
    WORKER_CUT = "worker did not end in time, it is killed"
    WORKERS_REPLACED = "workers replaced"
    INVENTORY_NOT_TENDED = "inventory file at rest could not be tended"
    # The agent's.
    AGENT_SERVING = "serving secrets"
    AGENT_PROBES = "serving probes and figures"
    AGENT_STOPPED = "agent stopped"
    CERTIFICATE_OBTAINED = "certificate obtained"
    CERTIFICATE_RESTORED = "certificate restored from files"
    CERTIFICATE_NOT_RESTORED = "no certificate restored from files"
    CERTIFICATE_RETRIED = "asking the CA again"
    CERTIFICATE_FAILED = "no certificate obtained"
    CERTIFICATE_EXPIRED = "certificate expired, it is not served any more"
    FILES_NOT_WRITTEN = "certificate files not written"
    ROOTS_CHANGED = "roots changed"
    CA_ROOTS_CHANGED = "roots of the CA connection changed"
    CRL_TAKEN = "CRL taken"
    CRL_REFUSED = "CRL refused, the one in use is kept"
    CRL_REMARK = "remark on the CRL"
    SECRETS_SENT = "secrets sent"
    SECRETS_REFUSED = "Envoy refused secrets"
    STREAM_REFUSED = "secret stream refused"
    PEER_REFUSED = "process refused at the shared socket"
    SOCKET_OPEN_TO_ALL = "every user may enter the socket's directory"


class Outcome(StrEnum):
    """How a call ended when no documented error ended it."""

    OK = "ok"
    INTERNAL = "internal"
    CANCELLED = "cancelled"


class WorkerEnd(StrEnum):
    """How a worker ended."""

    CRASHED = "crashed"
    NOT_STARTED = "not_started"
    HUNG = "hung"
    REPLACED = "replaced"


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
FORWARDED_IGNORED = "meshsigner_forwarded_certificates_ignored"
DOOR_CLOSED = "meshsigner_door_closed_seconds"
TURN_MEMBERS = "meshsigner_turn_members"
TURN_SECONDS = "meshsigner_turn_duration_seconds"
ORDERS_QUEUED = "meshsigner_orders_queued"
REQUESTS_PARKED = "meshsigner_requests_parked"
COMMIT_RECORDS = "meshsigner_commit_records"
COMMIT_SECONDS = "meshsigner_commit_duration_seconds"
COMMIT_FAILURES = "meshsigner_commit_failures"
WRONG_CERTIFICATES = "meshsigner_wrong_certificates"
BACKEND_USABLE = "meshsigner_backend_usable"
BACKEND_HANDED_ON = "meshsigner_backend_orders_handed_on"
BACKEND_WAITING = "meshsigner_backend_orders_waiting"
BACKEND_WAIT = "meshsigner_backend_order_wait_seconds"
BACKEND_CALLS = "meshsigner_backend_call_duration_seconds"
BACKEND_ORDERS = "meshsigner_backend_orders_ended"
BACKEND_REJECTED = "meshsigner_backend_orders_rejected"
BACKEND_RETRIES = "meshsigner_backend_call_retries"
BACKEND_RATE = "meshsigner_backend_rate_limit_per_second"
BACKEND_INTENTS = "meshsigner_backend_open_intents"
SERVING_CERTIFICATE_EXPIRY = "meshsigner_serving_certificate_expiry_timestamp_seconds"
SERVING_CERTIFICATE_RELOADS = "meshsigner_serving_certificate_reloads"
BACKEND_SHORTENED = "meshsigner_backend_certificates_shortened"
INTERMEDIATE_EXPIRY = "meshsigner_intermediate_expiry_timestamp_seconds"
INTERMEDIATE_RENEWALS = "meshsigner_intermediate_renewals"
LOG_LINES_LOST = "meshsigner_log_lines_lost"
BUILD = "meshsigner_build"

# The cluster's controllers.
CONTROLLERS_LEADING = "meshsigner_controllers_leading"
CONTROLLER_WRITES = "meshsigner_controller_writes"
CONTROLLER_BEHIND = "meshsigner_controller_namespaces_behind"

# The supervisor's.
WORKERS_WANTED = "meshsigner_workers_wanted"
WORKERS_SERVING = "meshsigner_workers_serving"
WORKERS_ENDED = "meshsigner_workers_ended"
WORKER_CALLS_IN_FLIGHT = "meshsigner_worker_calls_in_flight"
WORKER_CPU_SECONDS = "meshsigner_worker_cpu_seconds"
WORKER_MEMORY = "meshsigner_worker_resident_memory_bytes"
# Which figures of a worker are shown apart as well, and how they are called then.
BY_WORKER = {
    CALLS_IN_FLIGHT: WORKER_CALLS_IN_FLIGHT,
    "process_cpu_seconds": WORKER_CPU_SECONDS,
    "process_resident_memory_bytes": WORKER_MEMORY,
}

# The agent's.
AGENT_CERTIFICATE_EXPIRY = "meshsigner_agent_certificate_expiry_timestamp_seconds"
AGENT_CERTIFICATES = "meshsigner_agent_certificates_obtained"
AGENT_CERTIFICATE_FAILURES = "meshsigner_agent_certificate_failures"
AGENT_CERTIFICATE_SECONDS = "meshsigner_agent_certificate_duration_seconds"
AGENT_STREAMS = "meshsigner_agent_streams"
AGENT_SECRETS_SENT = "meshsigner_agent_secrets_sent"
AGENT_SECRETS_REFUSED = "meshsigner_agent_secrets_refused"
AGENT_ACCEPTED_SECONDS = "meshsigner_agent_secret_accepted_duration_seconds"
AGENT_PEERS_REFUSED = "meshsigner_agent_peers_refused"

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
