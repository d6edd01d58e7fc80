"""Reads the recorded calls of real clients and istiod's answers to them."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """One CreateCertificate call as it was on the wire, and what istiod answered.

    Attributes:
        client: Which client made it, in words.
        token: Name of its token in tokens.json.
        headers: Its request metadata; `<bearer token>` stands for the token.
        request: The serialized IstioCertificateRequest.
        csr: The CSR in it.
        status: Name of istiod's gRPC status.
        details: istiod's status text, None with OK.
        chain: istiod's certificate chain, empty unless OK.
    """

    client: str
    token: str
    headers: tuple[tuple[str, str], ...]
    request: bytes
    csr: str
    status: str
    details: str | None
    chain: tuple[str, ...]


@cache
def recorded_calls() -> tuple[RecordedCall, ...]:
    """Return every recorded call, in the order of the recording."""
    entries = json.loads((FOLDER / "create_certificate.json").read_bytes())
    return tuple(
        RecordedCall(
            client=entry["client"],
            token=entry["token"],
            headers=tuple((name, value) for name, value in entry["headers"]),
            request=base64.b64decode(entry["request_b64"]),
            csr=entry["csr"],
            status=entry["status"],
            details=entry["details"],
            chain=tuple(entry.get("istiod_cert_chain", ())),
        )
        for entry in entries
    )


@cache
def recorded_tokens() -> Mapping[str, str]:
    """Return the recorded service-account tokens by name."""
    return {
        name: entry if isinstance(entry, str) else entry["token"]
        for name, entry in json.loads((FOLDER / "tokens.json").read_bytes()).items()
    }
