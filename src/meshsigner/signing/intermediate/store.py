"""Where an intermediate is kept: in memory, or in files that workers share.

Files are in Istio's `cacerts` layout, the key at mode 0600 unless it is in an
HSM, and replaced all at once (`trust.writing`), so that neither a crash nor a
reader sees half of them.
Who renews holds a lock: of N workers one asks, the others find what it got.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Generic, Protocol

from meshsigner.errors import ConfigurationError
from meshsigner.model import Issuer
from meshsigner.signing.intermediate.keys import K
from meshsigner.signing.issuers import pem_of
from meshsigner.signing.making import render_key
from meshsigner.trust import CaCertificates, CaFiles, load_certificates, load_directory
from meshsigner.trust.layout import CACERTS, Fingerprint, fingerprint
from meshsigner.trust.writing import PRIVATE_MODE, PUBLIC_MODE, is_swapped, locked, swap_files

RENEWAL_LOCK = ".renewal.lock"

Contents = dict[str, tuple[bytes, int]]  # of each file by its name, and its mode


class Store(Protocol[K]):
    """Keeps one intermediate; every method blocks at most on files."""

    def load(self, generation: int, now: datetime) -> K | None:
        """Return what is kept, if it is another one than the last that was loaded or saved.

        Args:
            generation: For `Issuer.generation`.
            now: Time at which it must be valid.

        Raises:
            ConfigurationError: What is kept cannot be used.
        """
        ...

    def save(self, files: K) -> None:
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


class _Directory(ABC, Generic[K]):
    """Keeps it in a directory.

    Args:
        directory: Made with mode 0700 when it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: Fingerprint | None = None

    def load(self, generation: int, now: datetime) -> K | None:
        """Return what is there, if that has changed.

        Raises:
            ConfigurationError: It cannot be used; holds every problem.
        """
        seen = fingerprint(self._directory)
        if seen == self._seen or not is_swapped(self._directory):
            return None
        found = self._read(self._directory, generation=generation, now=now)
        self._seen = seen
        return found

    def save(self, files: K) -> None:
        """Write it, all at once.

        Raises:
            ConfigurationError: The directory cannot be written.
        """
        try:
            with locked(self._directory):
                swap_files(self._directory, self._render(files))
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

    @abstractmethod
    def _read(self, directory: Path, *, generation: int, now: datetime) -> K:
        """Load what is in the directory."""

    @abstractmethod
    def _render(self, files: K) -> Contents:
        """Write it as the directory holds it."""


class FileStore(_Directory[CaFiles]):
    """Keeps it with its key."""

    def _read(self, directory: Path, *, generation: int, now: datetime) -> CaFiles:
        return load_directory(directory, generation=generation, now=now)

    def _render(self, files: CaFiles) -> Contents:
        key = {CACERTS.key: (render_key(files.key), PRIVATE_MODE)}
        return {**_certificates(files.issuer), **key}


class CertificateStore(_Directory[CaCertificates]):
    """Keeps it without its key, which is in an HSM."""

    def _read(self, directory: Path, *, generation: int, now: datetime) -> CaCertificates:
        return load_certificates(directory, generation=generation, now=now)

    def _render(self, files: CaCertificates) -> Contents:
        return _certificates(files.issuer)


def _try_lock(handle: int) -> bool:
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _certificates(issuer: Issuer) -> Contents:
    own = pem_of(issuer.certificate)
    above = "".join(issuer.chain_pem[1:])
    roots = issuer.trust_bundle.pem
    return {
        CACERTS.certificate: (own.encode(), PUBLIC_MODE),
        CACERTS.chain: ((own + above).encode(), PUBLIC_MODE),
        CACERTS.roots: (roots.encode(), PUBLIC_MODE),
    }
