"""The one map from our errors to gRPC statuses.

Istio's agent retries RESOURCE_EXHAUSTED, ABORTED, INTERNAL and UNAVAILABLE and
gives up on the rest, so a permanent refusal must be none of these and a fault
of ours must be one of these.

Source: istio pkg/security/retry.go.
"""

from collections.abc import Mapping

from grpc import StatusCode

from meshsigner import errors

STATUS: Mapping[type[errors.MeshsignerError], StatusCode] = {
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.ImpersonationRefused: StatusCode.UNAUTHENTICATED,
    errors.Forbidden: StatusCode.PERMISSION_DENIED,
    errors.InvalidCsr: StatusCode.INVALID_ARGUMENT,
    errors.SanNotAllowed: StatusCode.INVALID_ARGUMENT,
    errors.InvalidLifetime: StatusCode.INVALID_ARGUMENT,
    errors.UnknownSigner: StatusCode.INVALID_ARGUMENT,
    errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    errors.NotReady: StatusCode.UNAVAILABLE,
    errors.BackendUnavailable: StatusCode.UNAVAILABLE,
    errors.RecordFailed: StatusCode.UNAVAILABLE,
    errors.DeadlinePassed: StatusCode.UNAVAILABLE,
    errors.WrongCertificate: StatusCode.UNAVAILABLE,
    errors.BackendRefused: StatusCode.FAILED_PRECONDITION,
}


def status_of(error: BaseException) -> StatusCode:
    """Return the status that tells of an error.

    Args:
        error: What ended a call.

    Returns:
        The status of its class or nearest documented ancestor; INTERNAL when
        there is none, for then it is a bug.
    """
    documented = _documented(error)
    return StatusCode.INTERNAL if documented is None else STATUS[documented]


def client_text_of(error: BaseException) -> str:
    """Return all that a caller is told of an error."""
    if isinstance(error, errors.MeshsignerError) and _documented(error) is not None:
        return error.client_text
    return errors.MeshsignerError.client_text


def reason_of(error: BaseException) -> str:
    """Return the stable word for an error in logs and metrics, one of a closed set."""
    return (_documented(error) or errors.MeshsignerError).reason


def _documented(error: BaseException) -> type[errors.MeshsignerError] | None:
    return next((kind for kind in type(error).__mro__ if kind in STATUS), None)
