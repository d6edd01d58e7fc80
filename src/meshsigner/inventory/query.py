"""What can be asked of the inventory, whichever database holds it.

Decides which questions are well-formed; how one is answered is the store's.
"""

import re
from dataclasses import dataclass
from datetime import datetime

_SERIAL = re.compile(r"[0-9a-f]+")


class InvalidSerial(ValueError):
    """A text is no serial number."""


class Unreadable(Exception):
    """The inventory cannot be read; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which certificates are wanted; all that is given must hold.

    The answer comes newest first; once a bound on the expiry is given, what
    expires soonest first.

    Attributes:
        identity: The whole SPIFFE ID.
        serial: As in `model.Record`; `parse_serial` makes it.
        issued_from: Issued then or later.
        expires_from: Last second of validity then or later.
        expires_until: Last second of validity then or earlier.
        limit: At most so many; None for all.
    """

    identity: str | None = None
    serial: str | None = None
    issued_from: datetime | None = None
    expires_from: datetime | None = None
    expires_until: datetime | None = None
    limit: int | None = None

    @property
    def by_expiry(self) -> bool:
        """Whether the answer is ordered by expiry."""
        return self.expires_from is not None or self.expires_until is not None


def parse_serial(text: str) -> str:
    """Read a serial number as people copy it.

    Args:
        text: Hexadecimal, any case, as openssl (`5F:0A`, `0x5f0a`, leading
            zeros) or meshsigner prints it.

    Returns:
        Lower-case hexadecimal without leading zeros.

    Raises:
        InvalidSerial: Anything else.
    """
    digits = text.strip().lower().removeprefix("0x").replace(":", "")
    if not _SERIAL.fullmatch(digits):
        msg = f"not a serial number in hexadecimal: {text[:80]!r}"
        raise InvalidSerial(msg)
    return digits.lstrip("0") or "0"
