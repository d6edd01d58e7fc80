"""Where an intermediate is kept with its key: in memory, or in files that workers share.

Files are in Istio's `cacerts` layout, the key at mode 0600, and replaced all at
once (`trust.writing`), so that neither a crash nor a reader sees half of them.
Who renews holds a lock: of N workers one asks, the others find what it got.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Protocol

from meshsigner.errors import ConfigurationError
from meshsigner.model import Issuer
from meshsigner.signing.issuers import pem_of
from meshsigner.signing.making import render_key
from meshsigner.trust import CaFiles, load_directory
from meshsigner.trust.layout import CACERTS, Fingerprint, fingerprint
from meshsigner.trust.pem import PrivateKey
from meshsigner.trust.writing import PRIVATE_MODE, PUBLIC_MODE, is_swapped, locked, swap_files

RENEWAL_LOCK = ".renewal.lock"


class Store(Protocol):
    """Keeps one intermediate; every method blocks at most on files."""

    def load(self, generation: int, now: datetime) -> CaFiles | None:
        """Return what is kept, if it is another one than the last that was loaded or saved.

        Args:
            generation: For `Issuer.generation`.
            now: Time at which it must be valid.

        Raises:
            ConfigurationError: What is kept cannot be used.
        """
        ...

    def save(self, files: CaFiles) -> None:
        """Keep another one in place of what was kept.

        Raises:
            ConfigurationError: It cannot be kept.
        """
        ...

    @contextmanager
    def renewing(self) -> Iterator[bool]:
        """Hold the right to renew for a block; false when somebody else has it."""
        ...


class MemoryStore:
    """Keeps nothing: each process has one of its own, and a restart asks for another."""

    def load(self, generation: int, now: datetime) -> CaFiles | None:
        """Return None."""
        del generation, now
        return None

    def save(self, files: CaFiles) -> None:
        """Keep nothing."""

    @contextmanager
    def renewing(self) -> Iterator[bool]:
        """Nobody else renews."""
        yield True


class FileStore:
    """Keeps it in a directory.

    Args:
        directory: Made with mode 0700 when it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: Fingerprint | None = None

    def load(self, generation: int, now: datetime) -> CaFiles | None:
        """Return what is there, if that has changed.

        Raises:
            ConfigurationError: It cannot be used; holds every problem.
        """
        seen = fingerprint(self._directory)
        if seen == self._seen or not is_swapped(self._directory):
            return None
        found = load_directory(self._directory, generation=generation, now=now)
        self._seen = seen
        return found

    def save(self, files: CaFiles) -> None:
        """Write it, all at once.

        Raises:
            ConfigurationError: The directory cannot be written.
        """
        try:
            with locked(self._directory):
                swap_files(self._directory, _rendered(files.issuer, files.key))
        except OSError as error:
            raise ConfigurationError(
                f"{self._directory}: the intermediate cannot be kept there ({error.strerror}); "
                "expected a directory that this user may write; choose another or fix its mode"
            ) from error
        self._seen = fingerprint(self._directory)

    @contextmanager
    def renewing(self) -> Iterator[bool]:
        """Hold the lock of the directory's renewal; it ends with the process that holds it.

        Raises:
            ConfigurationError: The directory cannot be written.
        """
        try:
            with locked(self._directory):  # makes it
                path = self._directory / RENEWAL_LOCK
                handle = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE_MODE)
        except OSError as error:
            raise ConfigurationError(
                f"{self._directory}: cannot be written ({error.strerror}); fix its mode"
            ) from error
        try:
            yield _try_lock(handle)
        finally:
            os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _rendered(issuer: Issuer, key: PrivateKey) -> dict[str, tuple[bytes, int]]:
    own = pem_of(issuer.certificate)
    above = "".join(issuer.chain_pem[1:])
    roots = issuer.trust_bundle.pem
    return {
        CACERTS.certificate: (own.encode(), PUBLIC_MODE),
        CACERTS.key: (render_key(key), PRIVATE_MODE),
        CACERTS.chain: ((own + above).encode(), PUBLIC_MODE),
        CACERTS.roots: (roots.encode(), PUBLIC_MODE),
    }
