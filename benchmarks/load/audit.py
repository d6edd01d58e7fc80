"""Whether every certificate is its own caller's: compared after the run, one by one.

Pure. It looks at what clients received and at nothing else: grpc-status, not HTTP
status; the leaf's key and SAN against the call's own; the chain against the roots;
serials against each other and against what the server has written down.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from benchmarks.load.calls import NO_ANSWER, Answer, Call, Outcome
from benchmarks.load.headers import OK, status_name
from benchmarks.load.messages import decode_chain


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What a run's answers are worth.

    Args:
        statuses: How often each status came, by name.
        messages: The refusals' texts, with how often each came.
        wrong: What is wrong with answers that claim to be fine, one text each.
        right: How many certificates are exactly what was asked for.
    """

    statuses: dict[str, int]
    messages: dict[str, int]
    wrong: tuple[str, ...]
    right: int

    @property
    def clean(self) -> bool:
        """Whether every single call got its own certificate."""
        return not self.wrong and set(self.statuses) <= {status_name(OK)}


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryCheck:
    """What clients received beside what the server has recorded.

    Args:
        received: Certificates that clients got.
        recorded: Rows of the inventory.
        missing: Serials that were received and are not recorded.
        different: Serials whose recorded certificate is another one.
        doubled: Serials that are recorded more than once.
        undelivered: Rows whose certificate no client got; right after a crash or for a
            caller who gave up, wrong otherwise.
    """

    received: int
    recorded: int
    missing: tuple[str, ...]
    different: tuple[str, ...]
    doubled: tuple[str, ...]
    undelivered: int

    @property
    def clean(self) -> bool:
        """Whether no certificate is without its one row."""
        return not (self.missing or self.different or self.doubled)


class Auditor:
    """Judges answers one after the other, and remembers what was given out.

    Args:
        roots: Trust anchors that chains must lead to; none: chains are not looked at.

    Attributes:
        issued: Digests of all certificates that were right, by serial.
        issuers: How often each chain above the leaf came.
    """

    def __init__(self, roots: Sequence[x509.Certificate] = ()) -> None:
        self._roots = list(roots)
        self._chains = ChainCheck(self._roots) if roots else None
        self.issued: dict[int, bytes] = {}
        self.issuers: Counter[tuple[str, ...]] = Counter()

    def trust(self, roots: Sequence[x509.Certificate]) -> None:
        """Take further roots for good, if chains are looked at."""
        self._roots += roots

    def fault(self, call: Call, answer: Answer) -> str:
        """Return what is wrong with an answer that claims to be fine; empty if nothing is."""
        try:
            pem = decode_chain(answer.body)
            leaf = x509.load_pem_x509_certificate(pem[0].encode())
        except (ValueError, IndexError) as error:
            return f"not a certificate chain ({error})"
        self.issuers[tuple(pem[1:])] += 1
        return (
            self._wrong_caller(call, leaf)
            or (self._chains.fault(leaf, pem[1:]) if self._chains else "")
            or self._doubled(leaf)
        )

    def _wrong_caller(self, call: Call, leaf: x509.Certificate) -> str:
        if call.wanted != OK:
            return f"granted, though {status_name(call.wanted)} was due"
        if _public_key_der(leaf) != call.public_key_der:
            return "another's public key"
        if _uri_sans(leaf) != [call.uri_san]:
            return f"another's identity {_uri_sans(leaf)}"
        return ""

    def _doubled(self, leaf: x509.Certificate) -> str:
        if leaf.serial_number in self.issued:
            return f"serial {leaf.serial_number:x} given out twice"
        self.issued[leaf.serial_number] = certificate_digest(leaf)
        return ""


class ChainCheck:
    """Whether leaves lead to the roots, by signatures and names; each issuer checked once.

    Args:
        roots: Trust anchors.
    """

    def __init__(self, roots: Sequence[x509.Certificate]) -> None:
        self._roots = roots
        self._issuers: dict[tuple[str, ...], x509.Certificate | str] = {}

    def fault(self, leaf: x509.Certificate, rest: Sequence[str]) -> str:
        """Return why a leaf does not lead to a root; empty if it does.

        Args:
            leaf: The first element.
            rest: The others as PEM, the last one the announced roots.
        """
        key = tuple(rest)
        if key not in self._issuers:
            self._issuers[key] = self._find_issuer(key)
        issuer = self._issuers[key]
        if isinstance(issuer, str):
            return issuer
        return "" if _issued(leaf, issuer) else "the leaf is not signed by its chain's issuer"

    def _find_issuer(self, rest: Sequence[str]) -> x509.Certificate | str:
        """Return the certificate that signs leaves, or what is wrong with the chain."""
        try:
            path = [x509.load_pem_x509_certificate(pem.encode()) for pem in rest[:-1]]
            announced = x509.load_pem_x509_certificates(rest[-1].encode())
        except (ValueError, IndexError):
            return "a chain without readable issuers and roots"
        if not any(root in self._roots for root in announced):
            return "none of the announced roots is one that clients trust"
        path = path or [announced[0]]
        return self._broken(path) or path[0]

    def _broken(self, path: Sequence[x509.Certificate]) -> str:
        """Return where a path from the issuer upwards does not lead to a trusted root."""
        if not all(_issued(lower, upper) for lower, upper in pairwise(path)):
            return "the chain's certificates do not sign each other"
        top = path[-1]
        if not any(top == root or _issued(top, root) for root in self._roots):
            return "the chain does not lead to a trusted root"
        return ""


def audit(outcomes: Sequence[Outcome], *, certificates: bool = True) -> Audit:
    """Judge a run.

    Args:
        outcomes: Every call of the run.
        certificates: False for the empty server, whose answers are no certificates.
    """
    granted = [outcome for outcome in outcomes if outcome.answer.status == OK]
    faults = _faults(granted) if certificates else []
    refused = [outcome.answer.message for outcome in outcomes if outcome.answer.status != OK]
    return Audit(
        statuses=dict(Counter(name_status(outcome.answer.status) for outcome in outcomes)),
        messages=dict(Counter(refused)),
        wrong=tuple(faults),
        right=len(granted) - len(faults) if certificates else 0,
    )


def compare_inventory(
    received: Mapping[int, bytes], recorded: Iterable[tuple[int, bytes]]
) -> InventoryCheck:
    """Compare what clients got with what is recorded.

    Args:
        received: Digests of certificates by serial.
        recorded: Serial and digest of each row.
    """
    rows: Counter[int] = Counter()
    different = []
    for serial, digest in recorded:
        rows[serial] += 1
        if received.get(serial, digest) != digest:
            different.append(serial)
    return InventoryCheck(
        received=len(received),
        recorded=rows.total(),
        missing=_named(serial for serial in received if serial not in rows),
        different=_named(different),
        doubled=_named(serial for serial, count in rows.items() if count > 1),
        undelivered=sum(serial not in received for serial in rows),
    )


def certificate_digest(certificate: x509.Certificate) -> bytes:
    """Return what a certificate is told from others by."""
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).digest()


def name_status(status: int) -> str:
    """Return a status in words, that of a call without an answer too."""
    return "NO_ANSWER" if status == NO_ANSWER else status_name(status)


def _named(serials: Iterable[int]) -> tuple[str, ...]:
    return tuple(f"{serial:x}" for serial in serials)


def _faults(granted: Sequence[Outcome]) -> list[str]:
    auditor = Auditor()
    faults = []
    for outcome in granted:
        fault = auditor.fault(outcome.call, outcome.answer)
        if fault:
            faults.append(f"{outcome.call.uri_san}: {fault}")
    return faults


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _public_key_der(leaf: x509.Certificate) -> bytes:
    return leaf.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _uri_sans(leaf: x509.Certificate) -> list[str]:
    """Return all names, so that an extra DNS name counts as another identity too."""
    try:
        sans = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in sans]
