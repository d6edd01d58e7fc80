"""Every error that a server may send is explained."""

import pytest

from meshsigner import errors
from meshsigner.cli.exits import Exit
from meshsigner.cli.refusals import advice_for
from meshsigner.rpc.status import STATUS, client_text_of

_DETAILS: dict[type[errors.MeshsignerError], errors.MeshsignerError] = {
    errors.InvalidCsr: errors.InvalidCsr("a detail"),
    errors.InvalidLifetime: errors.InvalidLifetime(asked_s=2, maximum_s=1),
    errors.UnknownSigner: errors.UnknownSigner("vault"),
    errors.Overloaded: errors.Overloaded("calls"),
    errors.BackendUnavailable: errors.BackendUnavailable("away"),
    errors.WrongCertificate: errors.WrongCertificate(("key",)),
}


@pytest.mark.parametrize("kind", STATUS, ids=lambda kind: kind.__name__)
def test_every_error_of_the_server_has_its_own_advice(kind: type[errors.MeshsignerError]) -> None:
    """Status and text of each documented error lead to an explanation."""
    advice = advice_for(STATUS[kind].name, client_text_of(_DETAILS.get(kind) or kind()))
    assert advice.code == STATUS[kind].name


@pytest.mark.parametrize("kind", STATUS, ids=lambda kind: kind.__name__)
def test_exit_code_tells_whether_to_try_again(kind: type[errors.MeshsignerError]) -> None:
    """Faults of the server ask to try again, refusals say that it is no use."""
    advice = advice_for(STATUS[kind].name, client_text_of(_DETAILS.get(kind) or kind()))
    again = issubclass(kind, errors.ServiceFault | errors.Overloaded)
    assert advice.exit_code is (Exit.UNAVAILABLE if again else Exit.REFUSED)


@pytest.mark.parametrize(
    ("code", "text", "meaning"),
    [
        (
            "INVALID_ARGUMENT",
            "CSR signing error (unable to validate SAN Identities in CSR)",
            "token's",
        ),
        ("UNAUTHENTICATED", "request impersonation authentication failure", "act for another"),
        ("UNAVAILABLE", "Tls handshake failed: CERTIFICATE_VERIFY_FAILED", "chain to the roots"),
        ("UNAVAILABLE", "Hostname Verification Check failed.", "not made for the host"),
        ("UNAVAILABLE", "failed to connect to all addresses; Connection refused", "Nobody answers"),
        ("UNAVAILABLE", "failed to connect to all addresses; Tls handshake failed", "No TLS"),
        ("UNIMPLEMENTED", "unknown service", "no CA"),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", "No answer"),
        ("OUT_OF_RANGE", "?", "does not give"),
    ],
)
def test_the_way_to_the_server_is_explained_too(code: str, text: str, meaning: str) -> None:
    """What gRPC, TLS and other servers answer has an explanation of its own."""
    assert meaning in advice_for(code, text).meaning
