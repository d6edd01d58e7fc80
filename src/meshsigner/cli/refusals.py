"""What a refusal means and what to do about it, in words.

Chosen by status and text, as meshsigner and istiod send them; the hints that
only the caller's own token can give are in `token`.
"""

from dataclasses import dataclass

from meshsigner.cli.exits import Exit


@dataclass(frozen=True, slots=True)
class Advice:
    """What to tell about an error.

    Attributes:
        code: gRPC status that it is about.
        text: Part of the status text that it is about; empty for any.
        meaning: What happened.
        remedy: What to do.
        exit_code: How the command ends.
    """

    code: str
    text: str
    meaning: str
    remedy: str
    exit_code: Exit


_TABLE = (
    Advice(
        "UNAUTHENTICATED",
        "impersonation",
        "The server does not let this caller act for another identity.",
        "Only listed node proxies may do that, for pods of their own node.",
        Exit.REFUSED,
    ),
    Advice(
        "UNAUTHENTICATED",
        "",
        "The server does not accept the token; it never tells a caller why.",
        "Check that it is not expired, was made for the audience istio-ca, comes from the cluster "
        "that --cluster-id names, and that its pod still exists. The server's log line of this "
        "call has the cause.",
        Exit.REFUSED,
    ),
    Advice(
        "INVALID_ARGUMENT",
        "unable to validate SAN Identities",
        "The CSR names an identity that is not the token's.",
        "Leave out --identity, or use a token of that service account. If the identity has "
        "another trust domain than the mesh, pass --trust-domain.",
        Exit.REFUSED,
    ),
    Advice(
        "INVALID_ARGUMENT",
        "greater than the max allowed TTL",
        "More lifetime was asked than the server's policy gives.",
        "Pass a shorter --ttl, or raise policy.maximum_lifetime on the server.",
        Exit.REFUSED,
    ),
    Advice(
        "INVALID_ARGUMENT",
        "no such signer",
        "No rule of the server's policy has the signer that was asked for by name.",
        "Ask for one of policy.signers in the server's configuration, or for none.",
        Exit.REFUSED,
    ),
    Advice(
        "INVALID_ARGUMENT",
        "",
        "The server does not accept the CSR.",
        "The text says which rule it broke; try another --key-type.",
        Exit.REFUSED,
    ),
    Advice(
        "PERMISSION_DENIED",
        "",
        "The server knows the caller and its policy gives it nothing.",
        "Check the trust domain and namespaces of the caller's cluster in the configuration.",
        Exit.REFUSED,
    ),
    Advice(
        "FAILED_PRECONDITION",
        "",
        "The CA behind the server refused this order.",
        "The server's log line of this call has the CA's answer.",
        Exit.REFUSED,
    ),
    Advice(
        "UNIMPLEMENTED",
        "",
        "Something answers there, but no CA.",
        "Check --server; an istiod with ENABLE_CA_SERVER=false answers like this.",
        Exit.REFUSED,
    ),
    Advice(
        "RESOURCE_EXHAUSTED",
        "",
        "The server has too much to do, or the request is too large for it.",
        "Try again in a second; Istio's agent does so by itself.",
        Exit.UNAVAILABLE,
    ),
    Advice(
        "UNAVAILABLE",
        "CERTIFICATE_VERIFY_FAILED",
        "The server's certificate does not chain to the roots of --root.",
        "Take the root file of that server's mesh: `dev run` writes root-cert.pem, in a cluster "
        "it is the ConfigMap istio-ca-root-cert.",
        Exit.UNAVAILABLE,
    ),
    Advice(
        "UNAVAILABLE",
        "Hostname Verification",
        "The server's certificate is not made for the host in --server.",
        "Dial a name that it bears, or pass it as --server-name.",
        Exit.UNAVAILABLE,
    ),
    Advice(
        "UNAVAILABLE",
        "handshake",
        "No TLS could be agreed with what listens there.",
        "Check that --server is the TLS port (15012) and --root is its mesh's root.",
        Exit.UNAVAILABLE,
    ),
    Advice(
        "UNAVAILABLE",
        "connect",
        "Nobody answers at --server.",
        "Check address and port, and that the server runs.",
        Exit.UNAVAILABLE,
    ),
    Advice(
        "UNAVAILABLE",
        "",
        "The server is there but cannot issue now.",
        "Ask its /healthz/ready on the admin port: it names what is not ready.",
        Exit.UNAVAILABLE,
    ),
    Advice(
        "DEADLINE_EXCEEDED",
        "",
        "No answer came in time.",
        "Check the address, the network between, then the server's load.",
        Exit.UNAVAILABLE,
    ),
    Advice(
        "INTERNAL",
        "",
        "The server met an error that nobody foresaw.",
        "Its log has the traceback; please report it.",
        Exit.UNAVAILABLE,
    ),
)

_UNKNOWN = Advice(
    "",
    "",
    "An answer that a CA of Istio's kind does not give.",
    "Check that --server is a CA.",
    Exit.UNAVAILABLE,
)


def advice_for(code: str, text: str) -> Advice:
    """Find what to tell about a failed call.

    Args:
        code: Name of the gRPC status.
        text: The status text.
    """
    fits = (row for row in _TABLE if row.code == code and row.text.lower() in text.lower())
    return next(fits, _UNKNOWN)
