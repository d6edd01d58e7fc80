"""Every error that may end a request, split by who is at fault.

    MeshsignerError
    |- Refusal            the caller, its credential or its request
    |  |- Unauthenticated, ImpersonationRefused, Forbidden
    |  `- InvalidCsr, SanNotAllowed, InvalidLifetime, UnknownSigner
    |- Overloaded         too much at once: come back in a moment
    |- ServiceFault       ours: the same request may pass later
    |  |- NotReady, BackendUnavailable, RecordFailed, DeadlinePassed
    |  `- WrongCertificate
    `- BackendRefused     the signing backend said no to this order

`reason` is stable: it stands in logs, metrics and docs/errors.md. `client_text`
is all that a caller is told; the exception's own text is for the log alone.
This module knows no gRPC: statuses are mapped in `rpc.status`. What is wrong
with a configuration is `ConfigurationError`, which no request ever raises.
"""

from typing import ClassVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

# Whatever cryptography raises on malformed certificates, requests and CRLs; the
# fuzz and property tests of all who read such input hold it to that.
UNREADABLE_X509 = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

_MAX_NAME = 128  # characters of a stranger's text that are repeated to it


class MeshsignerError(Exception):
    """Root of all documented errors.

    Attributes:
        reason: Stable snake_case word for logs, metrics and docs.
        client_text: What the caller is told.
    """

    reason: ClassVar[str] = "internal"
    client_text: str = "internal error"


class Refusal(MeshsignerError):
    """The caller's credential or request is at fault; the same call fails again."""


class Unauthenticated(Refusal):
    """No credential, or one that is malformed, expired, foreign or refused.

    The text is opaque and exactly istiod's.

    Source: istio security/pkg/server/ca/server.go CreateCertificate.
    """

    reason = "unauthenticated"
    client_text = "request authenticate failure"


class ImpersonationRefused(Refusal):
    """A refused impersonation, whatever the cause; the cause is only logged.

    Source: istio security/pkg/server/ca/server.go CreateCertificate.
    """

    reason = "impersonation_refused"
    client_text = "request impersonation authentication failure"


class Forbidden(Refusal):
    """A known caller whom the policy gives nothing."""

    reason = "forbidden"
    client_text = "the policy does not allow this caller a certificate"


class InvalidCsr(Refusal):
    """The CSR cannot be read, is not signed by its own key, or asks for what no leaf may have.

    Args:
        detail: A fixed sentence, never text from the CSR itself: it is told to
            the caller in istiod's form.
    """

    reason = "invalid_csr"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.client_text = f"CSR signing error ({detail})"


class SanNotAllowed(Refusal):
    """The CSR names somebody else than the caller."""

    reason = "san_not_allowed"
    client_text = "CSR signing error (unable to validate SAN Identities in CSR)"


class InvalidLifetime(Refusal):
    """More lifetime asked than the policy's maximum, which says reject.

    Args:
        asked_s: Asked lifetime, seconds.
        maximum_s: The policy's maximum, seconds.
    """

    reason = "invalid_lifetime"

    def __init__(self, *, asked_s: int, maximum_s: int) -> None:
        super().__init__(f"asked {asked_s} s, maximum {maximum_s} s")
        self.client_text = (
            f"CSR signing error (requested TTL {asked_s}s is greater than "
            f"the max allowed TTL {maximum_s}s)"
        )


class UnknownSigner(Refusal):
    """A signer asked for by name (metadata key `CertSigner`) that no rule of the policy has.

    Args:
        name: As the caller wrote it; cut, for the log and for the caller itself.
    """

    reason = "unknown_signer"
    client_text = "no such signer"

    def __init__(self, name: str) -> None:
        shown = name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}..."
        super().__init__(f"no rule of the policy has the signer {shown!r}")
        self.client_text = f"{type(self).client_text}: {shown!r}"


class Overloaded(MeshsignerError):
    """A queue, a cap or a rate limit is full.

    Args:
        what: Which bound was met, for the log and the metric's label.
        retry_after_s: When a backend says how long to leave it alone, seconds.
    """

    reason = "overloaded"
    client_text = "the server is overloaded, try again"

    def __init__(self, what: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"bound met: {what}")
        self.what = what
        self.retry_after_s = retry_after_s


class ServiceFault(MeshsignerError):
    """Our own fault: the same request may pass in a moment."""


class NotReady(ServiceFault):
    """No usable issuer, an authenticator that cannot work, or the server is draining."""

    reason = "not_ready"
    client_text = "the server is not ready"


class BackendUnavailable(ServiceFault):
    """The signing backend or the API server that knows our callers did not answer.

    Args:
        detail: What failed, for the log.
        maybe_issued: True when the backend may have issued a certificate all
            the same, so that nobody may ask another one blindly.
    """

    reason = "backend_unavailable"
    client_text = "a service that the server depends on is unavailable"

    def __init__(self, detail: str, *, maybe_issued: bool = False) -> None:
        super().__init__(detail)
        self.maybe_issued = maybe_issued


class RecordFailed(ServiceFault):
    """The inventory cannot write: the certificate is withheld.

    Args:
        detail: What failed, for the log.
        may_pass: True when the store is away and may come back by itself: a
            server then starts and is not ready, instead of not starting.
    """

    reason = "record_failed"
    client_text = "the certificate could not be recorded"

    def __init__(self, detail: str = "", *, may_pass: bool = False) -> None:
        super().__init__(detail)
        self.may_pass = may_pass


class DeadlinePassed(ServiceFault):
    """The time for this request is over; it was not signed, or not in time."""

    reason = "deadline_passed"
    client_text = "the request took too long"


class WrongCertificate(ServiceFault):
    """What the signer returned is not what was ordered; it does not leave.

    Args:
        mismatches: Every difference found, for the log.
    """

    reason = "wrong_certificate"
    client_text = "the certificate failed its check"

    def __init__(self, mismatches: tuple[str, ...]) -> None:
        super().__init__("; ".join(mismatches))
        self.mismatches = mismatches


class BackendRefused(MeshsignerError):
    """The signing backend answered no to this order; another try changes nothing."""

    reason = "backend_refused"
    client_text = "the signing backend refused the request"


class ConfigurationError(MeshsignerError):
    """Everything that is wrong with a configuration, all at once.

    Args:
        problems: One sentence each: where, what was found, what was expected,
            what to do.
    """

    reason = "configuration"
    client_text = "the server is misconfigured"

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
