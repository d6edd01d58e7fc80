"""The map from errors to statuses; the wire tests try each row from outside."""

import pytest
from grpc import StatusCode

from meshsigner import errors
from meshsigner.rpc.status import STATUS, client_text_of, reason_of, status_of

NEVER_END_A_CALL = {
    errors.MeshsignerError,
    errors.Refusal,
    errors.ServiceFault,
    errors.ConfigurationError,
}


def _classes(root: type[errors.MeshsignerError]) -> set[type[errors.MeshsignerError]]:
    below = (_classes(kind) for kind in root.__subclasses__() if kind.__module__ == errors.__name__)
    return {root}.union(*below)


def test_every_class_has_a_row() -> None:
    """A class of errors.py without a status is noticed."""
    assert set(STATUS) == _classes(errors.MeshsignerError) - NEVER_END_A_CALL


def test_a_class_below_takes_its_parents_row() -> None:
    """An adapter's own kind of error ends a call as its documented ancestor does."""

    class ExpiredToken(errors.Unauthenticated):
        """More exact, for the log."""

    assert status_of(ExpiredToken("x")) is StatusCode.UNAUTHENTICATED
    assert client_text_of(ExpiredToken("x")) == "request authenticate failure"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        errors.MeshsignerError("secret"),
        errors.ServiceFault("secret"),
        errors.ConfigurationError("secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_undocumented_is_internal(error: Exception) -> None:
    """Whatever has no row is a bug, and its text stays inside."""
    assert status_of(error) is StatusCode.INTERNAL
    assert client_text_of(error) == "internal error"


def test_reason_of_a_bug() -> None:
    """A bug's reason is `internal`, a documented error's its own."""
    assert reason_of(ValueError()) == "internal"
    assert reason_of(errors.Forbidden()) == "forbidden"
    assert reason_of(errors.ConfigurationError("x")) == "internal"


def test_reasons_are_a_closed_set() -> None:
    """A class below with a reason of its own is counted under its documented ancestor's."""

    class Throttled(errors.Overloaded):
        """Of a backend that somebody else wrote."""

        reason = "throttled"

    assert reason_of(Throttled("backend")) == "overloaded"
