"""Takes what people signed: certificate and chain, checked as a whole before anything changes.

Decides what becomes of a CA's directory. The certificate must be for the key
that waits, its path must be complete, and the whole is judged as the server
would judge it. The old roots stay in the bundle, so that what was issued under
them stays good; a new root is announced before anything is signed under it,
because a workload that has not heard of it would refuse its neighbours.
Everything is replaced in one step.

Source: istio-contract statements 5 to 10; `trust.succession`.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from cryptography import x509

from meshsigner.errors import ConfigurationError
from meshsigner.signing.by_hand.keys import NEXT_KEY, FileKey, HeldKey
from meshsigner.signing.issuers import pem_of
from meshsigner.trust import load_certificates, load_directory
from meshsigner.trust.authority import is_self_signed
from meshsigner.trust.findings import Findings
from meshsigner.trust.layout import CACERTS, TLS_SECRET, check_key_mode, read_file
from meshsigner.trust.path import issued_by
from meshsigner.trust.pem import describe, parse_certificates
from meshsigner.trust.succession import succession_faults
from meshsigner.trust.writing import PRIVATE_MODE, PUBLIC_MODE, locked, swap_files

MAX_CHAIN = 8  # longer ones are no path, but a collection

Certificates = tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a handover did.

    Attributes:
        installed: True when the new CA is in use; False when only its root was announced.
        certificate: The new CA's.
        expires: First end on its path.
        roots: The bundle that is handed out now, the root in use first.
        remarks: What works, but somebody should know.
    """

    installed: bool
    certificate: x509.Certificate
    expires: datetime
    roots: Certificates
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Standing:
    """The CA in use, as its files have it; empty where there is none.

    Attributes:
        files: Their bytes by name, the key's among them if it is in a file.
        roots: Its bundle.
    """

    files: Mapping[str, bytes]
    roots: Certificates = ()

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read it.

        Raises:
            ConfigurationError: What is there is no CA that could be followed.
        """
        if (directory / TLS_SECRET.certificate).exists():
            raise ConfigurationError(
                f"{directory}: holds {TLS_SECRET.certificate}, which somebody else writes; "
                f"expected {', '.join(CACERTS.names)}, or nothing; choose another directory"
            )
        findings = Findings()
        present = [name for name in CACERTS.names if (directory / name).exists()]
        files = {name: read_file(directory / name, findings) for name in present}
        if CACERTS.key in files:
            check_key_mode(directory / CACERTS.key, findings)
        found = files.get(CACERTS.roots)
        parsed = parse_certificates(found, directory / CACERTS.roots, findings) if found else ()
        if findings.problems:
            raise ConfigurationError(*findings.problems)
        whole = {name: data for name, data in files.items() if data is not None}
        return cls(files=whole, roots=tuple(root.certificate for root in parsed))


def read_delivery(paths: Sequence[Path]) -> Certificates:
    """Read everything that came back.

    Args:
        paths: PEM files, in any order.

    Raises:
        ConfigurationError: A file cannot be read, or holds something else.
    """
    findings = Findings()
    found: list[x509.Certificate] = []
    for path in paths:
        data = read_file(path, findings)
        if data is not None:
            found += (member.certificate for member in parse_certificates(data, path, findings))
    if findings.problems:
        raise ConfigurationError(*findings.problems)
    return tuple(dict.fromkeys(found))


def hand_over(
    directory: Path,
    delivery: Certificates,
    key: HeldKey,
    *,
    now: datetime,
    at_once: bool = False,
) -> Outcome:
    """Take a new CA, or announce its root first.

    Args:
        directory: Of the CA in use, or where the first one goes.
        delivery: What people returned: certificate, chain, root, in any order.
        key: The key that the certificate was asked for.
        now: The time.
        at_once: True takes it though no workload trusts its root yet.

    Raises:
        ConfigurationError: It cannot be taken; nothing has changed. It holds
            every problem.
    """
    try:
        with locked(directory):
            return _hand_over(directory, delivery, key, now=now, at_once=at_once)
    except OSError as error:
        raise ConfigurationError(
            f"{directory}: the CA cannot be written ({error.strerror}); expected a directory that "
            "this user may write; choose another or fix its mode"
        ) from error


def _hand_over(
    directory: Path, delivery: Certificates, key: HeldKey, *, now: datetime, at_once: bool
) -> Outcome:
    standing = _Standing.read(directory)
    path, root = _path(_of_key(delivery, key), (*delivery, *standing.roots))
    roots = _bundle(root, (*filter(is_self_signed, delivery), *standing.roots), now)
    fresh = _files(path, roots, key)
    _expect_one_place(directory, standing, fresh)
    expires, remarks = _judge(directory, fresh, now)
    waits = not at_once and _is_unheard_of(root, standing.roots)
    if waits:
        roots = (*standing.roots, root)
        _announce(directory, standing, roots, now)
    else:
        _write(directory, fresh)
        (directory / NEXT_KEY).unlink(missing_ok=True)
    return Outcome(
        installed=not waits, certificate=path[0], expires=expires, roots=roots, remarks=remarks
    )


def _expect_one_place(directory: Path, standing: _Standing, fresh: Mapping[str, bytes]) -> None:
    """Refuse to let a key in a file lie beside a CA whose key is in an HSM."""
    if CACERTS.key in standing.files and CACERTS.key not in fresh:
        raise ConfigurationError(
            f"{directory / CACERTS.key}: is a key in a file, and the new CA's is in an HSM; "
            "expected a directory without a key; choose another one for the HSM's certificates"
        )


def _is_unheard_of(root: x509.Certificate, before: Certificates) -> bool:
    """Tell whether workloads, which know the roots before, would not trust a root."""
    return bool(before) and any(succession_faults(before, (root, *before)))


def _announce(directory: Path, standing: _Standing, roots: Certificates, now: datetime) -> None:
    """Put the new root behind those of the CA in use, which signs on."""
    bundle = "".join(map(pem_of, roots)).encode()
    files = {**standing.files, CACERTS.roots: bundle}
    try:
        _judge(directory, files, now)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{directory}: the new CA has a root that no workload knows yet, and the CA in use, "
            "which would announce it, is not good; expected one that signs on meanwhile; install "
            "with --at-once",
            *error.problems,
        ) from error
    _write(directory, files)


def _of_key(delivery: Certificates, key: HeldKey) -> x509.Certificate:
    """Find the certificate that was issued for the key; of several the newest."""
    found = [c for c in delivery if c.public_key() == key.public_key]
    if found:
        return max(found, key=lambda certificate: certificate.not_valid_before_utc)
    names = ", ".join(map(describe, delivery)) or "no certificate"
    raise ConfigurationError(
        f"what came back ({names}) holds no certificate for the key of the request; expected the "
        "one that was issued for it; install what belongs to the last request, or make another"
    )


def _path(
    certificate: x509.Certificate, known: Certificates
) -> tuple[Certificates, x509.Certificate]:
    """Follow a certificate to a root.

    Returns:
        The path from the certificate towards the root, and the root.
    """
    path = [certificate]
    while len(path) <= MAX_CHAIN:
        above = [c for c in known if c is not path[-1] and issued_by(path[-1], c)]
        roots = [c for c in above if is_self_signed(c)]
        if roots:
            return tuple(path), max(roots, key=lambda root: root.not_valid_after_utc)
        if not above:
            break
        path.append(max(above, key=lambda ca: ca.not_valid_after_utc))
    issuer = path[-1].issuer.rfc4514_string()
    raise ConfigurationError(
        f"the path of {describe(certificate)} ends at {describe(path[-1])}: the certificate of its "
        f"issuer {issuer!r} is missing; expected all of the path and its root; add it with --chain"
    )


def _bundle(root: x509.Certificate, others: Certificates, now: datetime) -> Certificates:
    """Put the root in use first, and behind it all others that may still be needed."""
    kept = (other for other in others if other.not_valid_after_utc >= now)
    return tuple(dict.fromkeys((root, *kept)))


def _files(path: Certificates, roots: Certificates, key: HeldKey) -> dict[str, bytes]:
    files = {
        CACERTS.certificate: pem_of(path[0]).encode(),
        CACERTS.chain: "".join(map(pem_of, path)).encode(),
        CACERTS.roots: "".join(map(pem_of, roots)).encode(),
    }
    return {**files, CACERTS.key: key.render()} if isinstance(key, FileKey) else files


def _judge(
    directory: Path, files: Mapping[str, bytes], now: datetime
) -> tuple[datetime, tuple[str, ...]]:
    """Let the server's own reader judge the files, from a directory of their own.

    Raises:
        ConfigurationError: It would refuse them.
    """
    with tempfile.TemporaryDirectory(dir=directory, prefix=".handover-") as name:
        aside = Path(name)
        for file, data in files.items():
            (aside / file).touch(mode=_mode(file))
            (aside / file).write_bytes(data)
        try:
            load = load_directory if CACERTS.key in files else load_certificates
            found = load(aside, generation=1, now=now)
        except ConfigurationError as error:
            problems = (problem.replace(f"{aside}/", "") for problem in error.problems)
            raise ConfigurationError(*problems) from error
        return found.issuer.not_after, tuple(w.replace(f"{aside}/", "") for w in found.warnings)


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    swap_files(directory, {name: (data, _mode(name)) for name, data in files.items()})


def _mode(name: str) -> int:
    return PRIVATE_MODE if name == CACERTS.key else PUBLIC_MODE
