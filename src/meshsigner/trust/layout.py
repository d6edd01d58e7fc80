"""Which files hold a CA, and reading them as one consistent set.

Knows Istio's two directory layouts and the rules for the files themselves:
present, regular, of a sane size, the key closed to strangers. What is in them
is judged elsewhere. A set that changed while it was read is read again, so a
Kubernetes `..data` swap in the middle never mixes two generations.

Source: istio pilot/pkg/bootstrap/istio_ca.go detectSigningCABundle;
security/pkg/pki/ca/ca.go (file names).
"""

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meshsigner.errors import ConfigurationError
from meshsigner.trust.findings import Findings

MAX_FILE_BYTES = 1_048_576  # Kubernetes' bound on a whole Secret
READ_ATTEMPTS = 5  # a swap is over in well under one reading
# Open to anybody but the owner: a key in a file is the owner's alone, 0600 or less.
_OPEN_KEY_BITS = stat.S_IRWXO | stat.S_IRWXG

Fingerprint = tuple[tuple[str, int, int, int, int, int] | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """File names of one layout.

    Attributes:
        certificate: The signing CA; its first certificate where it holds more.
        key: Its private key.
        chain: From the signing CA towards the root.
        roots: The trust bundle.
    """

    certificate: str
    key: str
    chain: str
    roots: str

    @property
    def names(self) -> tuple[str, ...]:
        """All file names, each once."""
        return tuple(dict.fromkeys((self.certificate, self.key, self.chain, self.roots)))

    @property
    def public_names(self) -> tuple[str, ...]:
        """File names without the key's, for a CA whose key is elsewhere."""
        return tuple(name for name in self.names if name != self.key)


CACERTS = Layout(
    certificate="ca-cert.pem",
    key="ca-key.pem",
    chain="cert-chain.pem",
    roots="root-cert.pem",
)
TLS_SECRET = Layout(certificate="tls.crt", key="tls.key", chain="tls.crt", roots="ca.crt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a directory held at one moment.

    Attributes:
        directory: Where it was read.
        layout: Which layout it has.
        data: Bytes by file name; a file that could not be taken is missing.
    """

    directory: Path
    layout: Layout
    data: Mapping[str, bytes] = field(repr=False)


def fingerprint(directory: Path) -> Fingerprint:
    """Tell one state of the directory from another without reading the files.

    The first element is the directory itself, which may be replaced as a whole.
    """
    names = (*CACERTS.names, *TLS_SECRET.names)
    return (_identity(directory), *(_identity(directory / name) for name in names))


def _identity(path: Path) -> tuple[str, int, int, int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    if stat.S_ISDIR(found.st_mode):
        return (str(path), found.st_dev, found.st_ino, 0, 0, 0)
    times = (found.st_mtime_ns, found.st_ctime_ns)
    return (str(path), found.st_dev, found.st_ino, found.st_size, *times)


def read_directory(
    directory: Path,
    findings: Findings,
    read: Callable[[Path, Findings], bytes | None] | None = None,
    *,
    with_key: bool = True,
) -> Contents:
    """Read one consistent set of CA files.

    Args:
        directory: Where they are.
        findings: Gets a problem for each file that cannot be taken.
        read: Reads one file; `read_file` unless told.
        with_key: False leaves the key's file alone: it may be there or not.
    """
    read = read or read_file
    for _ in range(READ_ATTEMPTS):
        before = fingerprint(directory)
        attempt = Findings()
        contents = _read(directory, attempt, read, with_key=with_key)
        if fingerprint(directory) == before:
            findings.add(attempt)
            return contents
    findings.problem(directory, "its files keep changing while they are read; write them once")
    return Contents(directory=directory, layout=CACERTS, data={})


def _read(
    directory: Path,
    findings: Findings,
    read: Callable[[Path, Findings], bytes | None],
    *,
    with_key: bool,
) -> Contents:
    layout = _find_layout(directory, findings)
    if layout is None:
        return Contents(directory=directory, layout=CACERTS, data={})
    data = {}
    for name in layout.names if with_key else layout.public_names:
        content = read(directory / name, findings)
        if content is not None:
            data[name] = content
    # Kubernetes mounts a Secret as 0644 unless told otherwise, on a file system
    # of this pod alone: the mode says nothing there.
    if with_key and not (directory / "..data").is_symlink():
        check_key_mode(directory / layout.key, findings)
    return Contents(directory=directory, layout=layout, data=data)


def _find_layout(directory: Path, findings: Findings) -> Layout | None:
    try:
        present = set(os.listdir(directory))  # noqa: PTH208 - names, not paths, are compared
    except OSError as error:
        findings.problem(
            directory,
            f"cannot be listed ({error.strerror}); expected a directory with a CA's files; "
            "check the path and the mount",
        )
        return None
    cacerts, tls = ", ".join(CACERTS.names), ", ".join(TLS_SECRET.names)
    if present.issuperset((*CACERTS.names, *TLS_SECRET.names)):
        # Istio would silently take the second; which CA signs is no matter of chance.
        findings.problem(
            directory,
            f"holds both layouts; expected either {cacerts} or {tls}; remove one set",
        )
        return None
    if present.isdisjoint((*CACERTS.names, *TLS_SECRET.names)):
        findings.problem(directory, f"holds no CA; expected {cacerts}, or {tls}; put them there")
        return None
    return max((CACERTS, TLS_SECRET), key=lambda layout: _share(layout, present))


def _share(layout: Layout, present: set[str]) -> float:
    """Return how much of a layout is there; what is missing of the nearest is then told."""
    return len(present.intersection(layout.names)) / len(layout.names)


def read_file(path: Path, findings: Findings) -> bytes | None:
    """Read one file that holds PEM.

    Args:
        path: Where it is.
        findings: Gets a problem when it cannot be taken.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would hang
            findings.problem(path, "is not a regular file; expected PEM; replace it")
            return None
        if found.st_size > MAX_FILE_BYTES:
            findings.problem(
                path,
                f"holds {found.st_size} bytes; expected at most {MAX_FILE_BYTES}; replace it",
            )
            return None
        content = path.read_bytes()
    except FileNotFoundError:
        findings.problem(path, "is missing; expected a PEM file; add it")
        return None
    except OSError as error:
        findings.problem(
            path,
            f"cannot be read ({error.strerror}); let user id {os.geteuid()} read it",
        )
        return None
    if not content.strip():
        findings.problem(path, "is empty; expected PEM; write it again")
        return None
    return content


def check_key_mode(path: Path, findings: Findings) -> None:
    """Refuse a private key that anybody but its owner can read or change.

    Args:
        path: The key's file, outside a Kubernetes Secret mount.
        findings: Gets the problem.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return  # told already by the one who read it
    if mode & _OPEN_KEY_BITS:
        findings.problem(
            path,
            f"has mode {mode:04o}, open to other users; expected 0600, its owner alone, who runs "
            f"the server; the key may be known to others: chmod 600 {path}, or make a new one",
        )


def expect_closed(path: Path) -> None:
    """Refuse a private key's file that is open to anybody but its owner, wherever it is read.

    Raises:
        ConfigurationError: It is, outside a Kubernetes Secret mount.
    """
    findings = Findings()
    if not (path.parent / "..data").is_symlink():
        check_key_mode(path, findings)
    if findings.problems:
        raise ConfigurationError(*findings.problems)
