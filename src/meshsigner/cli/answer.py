"""Describes what a CA answered, to a person or a program; `agent.answer` has checked it."""

from collections.abc import Iterator, Sequence

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from meshsigner.agent.answer import identities_of, read_answer, render_name
from meshsigner.config.fields import render_duration

_TIME = "%Y-%m-%d %H:%M:%S"


def describe_answer(chain: Sequence[str], call_s: float) -> Iterator[tuple[str, str]]:
    """Put a checked answer into words.

    Args:
        chain: Elements of `cert_chain`.
        call_s: How long the call took, seconds.
    """
    answer = read_answer(chain)
    leaf = answer.leaf
    start, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    yield "identity", ", ".join(identities_of(leaf))
    yield "issuer", leaf.issuer.rfc4514_string()
    yield (
        "valid",
        f"{start:{_TIME}} to {end:{_TIME}} UTC ({render_duration(end - start)})",
    )
    yield "serial", f"{leaf.serial_number:x}"
    yield "key", _render_key(leaf.public_key())
    for number, certificate in enumerate([leaf, *answer.intermediates, *answer.roots]):
        arrow = "" if number == 0 else "<- "
        yield "chain" if number == 0 else "", arrow + render_name(certificate)
    yield "took", f"{call_s * 1000:.1f} ms, connection included"


def _render_key(key: CertificatePublicKeyTypes) -> str:
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA, {key.key_size} bits"
    return key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__


def answer_as_json(chain: Sequence[str], call_s: float) -> dict[str, object]:
    """Return what is known of a checked answer, for programs.

    Args:
        chain: Elements of `cert_chain`.
        call_s: How long the call took, seconds.
    """
    answer = read_answer(chain)
    leaf = answer.leaf
    return {
        "identity": identities_of(leaf)[0],
        "issuer": leaf.issuer.rfc4514_string(),
        "not_before": leaf.not_valid_before_utc.isoformat(),
        "not_after": leaf.not_valid_after_utc.isoformat(),
        "serial": f"{leaf.serial_number:x}",
        "chain": [render_name(c) for c in (leaf, *answer.intermediates, *answer.roots)],
        "call_ms": round(call_s * 1000, 1),
    }


def serial_of(chain: Sequence[str]) -> str:
    """Return the leaf's serial number as the inventory writes it: lower-case hex.

    Args:
        chain: Elements of a checked `cert_chain`.
    """
    return f"{read_answer(chain).leaf.serial_number:x}"
