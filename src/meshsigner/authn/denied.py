"""Certificates that prove nobody any more, from a file that may change at any time.

Decides what a line of the file means and that a bad file never lets anybody in:
the list in use is kept until a whole good one is there. When it is asked is
decided in `mtls`.
"""

import asyncio
import re
from dataclasses import dataclass
from pathlib import Path

from meshsigner.authn.client_chain import ClientCertificate
from meshsigner.background import Background
from meshsigner.errors import ConfigurationError
from meshsigner.model import Health
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.spiffe import InvalidSpiffeId, SpiffeId

WATCH_INTERVAL_S = 5.0
MAX_FILE_BYTES = 16 * 1024**2

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SERIAL = re.compile(r"[0-9a-f]{1,40}")  # 20 octets, RFC 5280 4.1.2.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Denials:
    """A list that was read.

    Attributes:
        serials: Serial numbers, lower-case hex without leading zeros.
        sha256: Digests of certificates, lower-case hex.
        identities: SPIFFE IDs: none of their certificates is taken.
    """

    serials: frozenset[str] = frozenset()
    sha256: frozenset[str] = frozenset()
    identities: frozenset[str] = frozenset()

    def __len__(self) -> int:
        """Count the entries."""
        return len(self.serials) + len(self.sha256) + len(self.identities)

    def match(self, certificate: ClientCertificate) -> bool:
        """Tell whether a certificate is on the list."""
        return (
            certificate.serial in self.serials
            or certificate.sha256 in self.sha256
            or str(certificate.spiffe_id) in self.identities
        )


def parse_denials(text: str, where: str) -> Denials:
    """Read a list: one entry a line; what follows a `#` is a remark.

    Args:
        text: Serial numbers in hex, SHA-256 fingerprints in hex (colons are
            allowed in both), SPIFFE IDs.
        where: Names the file in a problem.

    Raises:
        ConfigurationError: A line is none of these; holds every such line.
    """
    serials, digests, identities, problems = set(), set(), set(), []
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.partition("#")[0].strip()
        plain = entry.replace(":", "").lower()
        if not entry:
            continue
        if _is_spiffe_id(entry):
            identities.add(entry)
        elif _SHA256.fullmatch(plain):
            digests.add(plain)
        elif _SERIAL.fullmatch(plain):
            serials.add(plain.lstrip("0") or "0")
        else:
            problems.append(
                f"{where}, line {number}: {entry[:80]!r} is no entry; expected a serial number "
                "or a SHA-256 fingerprint in hex, or a SPIFFE ID; correct the line"
            )
    if problems:
        raise ConfigurationError(*problems)
    return Denials(
        serials=frozenset(serials), sha256=frozenset(digests), identities=frozenset(identities)
    )


def _is_spiffe_id(entry: str) -> bool:
    try:
        SpiffeId.parse(entry)
    except InvalidSpiffeId:
        return False
    return True


class DenyList:
    """The list in use, and the file that it follows.

    Args:
        path: The file; None denies nobody.

    Raises:
        ConfigurationError: There is no usable file to begin with.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._problem: str | None = None
        self._seen = b""
        self._background: Background | None = None
        self.current = Denials()
        if path is not None:
            self._seen = _read(path)
            self.current = parse_denials(_text(self._seen, path), str(path))

    async def start(self) -> None:
        """Follow the file."""
        if self._path is not None:
            self._background = Background(self._watch)

    async def aclose(self) -> None:
        """Follow it no more."""
        if self._background is not None:
            await self._background.stop()

    def reload(self) -> None:
        """Take the file's content if it is new and whole, else keep the list in use."""
        if self._path is None:
            return
        try:
            found = _read(self._path)
            if found != self._seen:
                self.current = parse_denials(_text(found, self._path), str(self._path))
                self._seen = found
                get_logger().info(Event.DENIED_TAKEN, entries=len(self.current))
        except ConfigurationError as error:
            if str(error) != self._problem:
                get_logger().error(Event.DENIED_KEPT, problems=error.problems)
            self._problem = str(error)
        else:
            self._problem = None

    def health(self) -> Health:
        """Say what is denied; a list that cannot be renewed is no reason to serve nobody."""
        detail = f"{len(self.current)} denied"
        if self._problem is not None:
            detail += f"; what lies in the list's place is refused: {self._problem}"
        return Health(name="authn/client_certificates", ready=True, detail=detail)

    async def _watch(self) -> None:
        """Compare contents, not events: it sees a Kubernetes `..data` swap as well."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            await asyncio.to_thread(self.reload)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: {error.strerror}; expected the list of denied certificates; make it, empty "
            "if nobody is denied"
        ) from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigurationError(f"{path}: more than 16 MiB; expected a list of denied ones")
    return data


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: no UTF-8 text; write the list again") from error
