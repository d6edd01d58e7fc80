"""The second net under secrets in logs; the first is that nobody logs one.

Decides which fields and which texts hold secret material. Tokens, private
keys and CSRs are what this service handles.
"""

import re
from collections.abc import MutableMapping
from typing import Any

REDACTED = "[redacted]"

# Names under which such material travels in our own code and in libraries'.
SECRET_FIELDS = frozenset(
    {
        "authorization",
        "bearer_token",
        "credentials",
        "csr",
        "csr_der",
        "csr_pem",
        "key",
        "key_pem",
        "password",
        "private_key",
        "secret",
        "token",
    },
)

# RFC 7519: a JWS begins with the base64url of `{"`; RFC 7468: encapsulation lines.
MATERIAL = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*"
    r"|-----BEGIN (?:[A-Z0-9 ]*PRIVATE KEY|(?:NEW )?CERTIFICATE REQUEST)-----"
    r"(?:.*?-----END [A-Z0-9 ]+-----|.*)"
    r"|(?<=Bearer )[\w.~+/=-]{8,}",
    re.DOTALL,
)


def redact(
    _logger: object, _method: str, line: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Blank secret fields, and secret material inside texts that come from exceptions.

    A structlog processor. Only texts that may quote foreign input are searched:
    the others are ours, and a search costs time in every call.

    Args:
        line: The log line's fields; changed in place.
    """
    if not SECRET_FIELDS.isdisjoint(line):
        for field in SECRET_FIELDS.intersection(line):
            line[field] = REDACTED
    for field in ("event", "cause", "exception"):
        text = line.get(field)
        if text is not None:
            line[field] = without_material(str(text))
    return line


def without_material(text: str) -> str:
    """Return a text with tokens, private keys and CSRs blanked."""
    if "eyJ" not in text and "-----BEGIN" not in text and "Bearer " not in text:
        return text
    return MATERIAL.sub(REDACTED, text)
