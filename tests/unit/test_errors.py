"""The error tree: who is at fault, what a caller is told, and that secrets stay inside."""

import pytest

from meshsigner import errors
from meshsigner.errors import (
    BackendRefused,
    BackendUnavailable,
    ConfigurationError,
    DeadlinePassed,
    Forbidden,
    ImpersonationRefused,
    InvalidCsr,
    InvalidLifetime,
    MeshsignerError,
    NotReady,
    Overloaded,
    RecordFailed,
    Refusal,
    SanNotAllowed,
    ServiceFault,
    Unauthenticated,
    UnknownSigner,
    WrongCertificate,
)

FAMILIES: tuple[type[MeshsignerError], ...] = (MeshsignerError, Refusal, ServiceFault)


def _leaves() -> list[type[MeshsignerError]]:
    """Return every error class of the module that is raised itself, by name."""
    found = []
    for _, kind in sorted(vars(errors).items()):
        if isinstance(kind, type) and issubclass(kind, MeshsignerError) and kind not in FAMILIES:
            found.append(kind)
    return found


LEAVES = _leaves()


def test_callers_faults_are_refusals() -> None:
    """What fails again however often it is tried is one family."""
    assert set(Refusal.__subclasses__()) == {
        Unauthenticated,
        ImpersonationRefused,
        Forbidden,
        InvalidCsr,
        SanNotAllowed,
        InvalidLifetime,
        UnknownSigner,
    }


def test_our_own_faults_are_service_faults() -> None:
    """What may pass in a moment is one family."""
    assert set(ServiceFault.__subclasses__()) == {
        NotReady,
        BackendUnavailable,
        RecordFailed,
        DeadlinePassed,
        WrongCertificate,
    }


def test_every_leaf_has_a_reason_of_its_own() -> None:
    """A reason names one class, so that a log line and a metric tell which."""
    reasons = [kind.reason for kind in LEAVES]
    assert len(set(reasons)) == len(LEAVES) == 15
    assert MeshsignerError.reason not in reasons


@pytest.mark.parametrize("kind", LEAVES)
def test_reason_is_the_class_name_in_snake_case(kind: type[MeshsignerError]) -> None:
    """The reason can be guessed from the class and the class from the reason."""
    name = kind.__name__.removesuffix("Error").lower()
    assert kind.reason.replace("_", "") == name


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Unauthenticated("token expired"), "request authenticate failure"),
        (
            ImpersonationRefused("no such pod"),
            "request impersonation authentication failure",
        ),
        (Forbidden("x"), "the policy does not allow this caller a certificate"),
        (InvalidCsr("a fixed sentence"), "CSR signing error (a fixed sentence)"),
        (
            SanNotAllowed("spiffe://other"),
            "CSR signing error (unable to validate SAN Identities in CSR)",
        ),
        (
            InvalidLifetime(asked_s=100, maximum_s=60),
            "CSR signing error (requested TTL 100s is greater than the max allowed TTL 60s)",
        ),
        (Overloaded("order_queue"), "the server is overloaded, try again"),
        (NotReady("expired"), "the server is not ready"),
        (
            BackendUnavailable("10.0.0.1 refused"),
            "a service that the server depends on is unavailable",
        ),
        (RecordFailed("disk full"), "the certificate could not be recorded"),
        (DeadlinePassed("late"), "the request took too long"),
        (WrongCertificate(("key",)), "the certificate failed its check"),
        (BackendRefused("quota"), "the signing backend refused the request"),
        (ConfigurationError("a", "b"), "the server is misconfigured"),
        (MeshsignerError("a bug"), "internal error"),
    ],
)
def test_caller_is_told_the_fixed_text(error: MeshsignerError, text: str) -> None:
    """The client's text says what class it is and nothing of the cause inside."""
    assert error.client_text == text


def test_causes_stay_inside() -> None:
    """The inner text is for the log: it is kept there, and absent from the client's text."""
    for error in (
        Unauthenticated("inner"),
        SanNotAllowed("inner"),
        BackendUnavailable("inner"),
        RecordFailed("inner"),
    ):
        assert str(error) == "inner"
        assert "inner" not in error.client_text


def test_overload_says_which_bound_was_met() -> None:
    """The bound is a field for the metric's label and stands in the log's text."""
    error = Overloaded("calls_per_connection")
    assert error.what == "calls_per_connection"
    assert str(error) == "bound met: calls_per_connection"


def test_lifetime_refusal_tells_both_numbers_inside_too() -> None:
    """The log's text of a refused lifetime has asked and maximum, in seconds."""
    assert str(InvalidLifetime(asked_s=5, maximum_s=4)) == "asked 5 s, maximum 4 s"


def test_backend_says_whether_something_may_have_been_issued() -> None:
    """Nothing was issued unless the backend's adapter says that it may have been."""
    assert not BackendUnavailable("away").maybe_issued
    assert BackendUnavailable("timed out", maybe_issued=True).maybe_issued


def test_wrong_certificate_lists_every_difference() -> None:
    """All mismatches are kept as data and joined for the log."""
    error = WrongCertificate(("public key", "SAN"))
    assert error.mismatches == ("public key", "SAN")
    assert str(error) == "public key; SAN"


def test_configuration_error_lists_every_problem() -> None:
    """All problems are kept as data, one a line for people."""
    error = ConfigurationError("listen: no port", "ca_dir: missing")
    assert error.problems == ("listen: no port", "ca_dir: missing")
    assert str(error) == "listen: no port\nca_dir: missing"
