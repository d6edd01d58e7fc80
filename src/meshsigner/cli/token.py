"""Reads what a token says, without believing it: for defaults and hints in the client.

A token is proven by the server alone. Nothing here is ever printed as a whole.
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_SEGMENTS = 3
_SUBJECT_PARTS = 4


class NoToken(Exception):
    """A file holds no token that could be sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token and what it says of itself.

    Attributes:
        text: The token: a secret.
        namespace: From its subject, empty if that is no service account.
        service_account: Likewise.
        audiences: Whom it is for.
        expires: When it expires, None if it does not say.
    """

    text: str = field(repr=False)
    namespace: str
    service_account: str
    audiences: tuple[str, ...]
    expires: datetime | None

    def hints(self, now: datetime, audience: str) -> list[str]:
        """List what would make a server refuse it.

        Args:
            now: The present.
            audience: What servers of Istio's kind expect.
        """
        found = []
        if self.expires is not None and self.expires <= now:
            found.append(f"The token expired at {self.expires:%Y-%m-%d %H:%M:%S} UTC.")
        if audience not in self.audiences:
            names = ", ".join(self.audiences) or "nobody"
            found.append(f"The token is for {names}; most servers want {audience}.")
        if not self.service_account:
            found.append("The token's subject is no service account.")
        return found


def read_token(path: Path) -> Token:
    """Read a token file, as istio-agent does before each call: blanks around it are dropped.

    Raises:
        NoToken: The file cannot be read, is empty or no JWT; the text says so
            and never repeats the content.
    """
    try:
        text = path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise NoToken(f"cannot read the token file {path}: {reason}") from error
    try:
        return parse_token(text.strip())
    except NoToken as error:
        raise NoToken(f"{path} holds no token: {error}") from None


def parse_token(text: str) -> Token:
    """Read what a token says.

    Raises:
        NoToken: It is no JWT.
    """
    segments = text.split(".")
    if len(segments) != _SEGMENTS:
        raise NoToken(f"expected {_SEGMENTS} parts with dots between, found {len(segments)}")
    padded = segments[1] + "=" * (-len(segments[1]) % 4)
    try:
        claims = json.loads(base64.urlsafe_b64decode(padded))
    except (binascii.Error, ValueError):
        claims = None
    if not isinstance(claims, dict):
        raise NoToken("expected JSON claims in its second part")
    return _token(text, claims)


def _token(text: str, claims: dict[str, Any]) -> Token:
    subject = str(claims.get("sub", "")).split(":")
    is_account = len(subject) == _SUBJECT_PARTS and subject[:2] == ["system", "serviceaccount"]
    audience, expires = claims.get("aud", []), claims.get("exp")
    return Token(
        text=text,
        namespace=subject[2] if is_account else "",
        service_account=subject[3] if is_account else "",
        audiences=tuple(map(str, audience if isinstance(audience, list) else [audience])),
        expires=datetime.fromtimestamp(expires, UTC) if isinstance(expires, int) else None,
    )
