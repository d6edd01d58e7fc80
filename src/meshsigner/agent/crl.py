"""Certificate revocation lists beside the roots: read, judged, handed to Envoy as they are.

Decides whether a file holds CRLs at all, for Envoy would refuse the whole
secret otherwise, and says in words what would make Envoy refuse every peer: it
wants a current CRL of every CA in a chain as soon as there is any.

Source: RFC 5280 5; envoy CertificateValidationContext.crl; istio
security/pkg/nodeagent/sds/sdsservice.go (attached only when the file is there).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from cryptography import x509

from meshsigner.agent.secrets import SecretStore
from meshsigner.errors import UNREADABLE_X509
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

Crl = x509.CertificateRevocationList
_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----\s*", re.DOTALL)


class InvalidCrl(ValueError):
    """A file is not empty and holds no CRL, or something beside CRLs."""


def parse_crls(pem: bytes) -> tuple[Crl, ...]:
    """Read a file of CRLs.

    Args:
        pem: PEM blocks; empty means none, as istiod writes it.

    Raises:
        InvalidCrl: Anything else.
    """
    if _BLOCK.sub(b"", pem).strip():
        raise InvalidCrl("something beside PEM blocks of X509 CRLs")
    try:
        return tuple(_load(block[0]) for block in _BLOCK.finditer(pem))
    except UNREADABLE_X509 as error:
        raise InvalidCrl("a block that is no CRL") from error


def _load(block: bytes) -> Crl:
    crl = x509.load_pem_x509_crl(block)
    _ = crl.issuer, crl.next_update_utc  # read when asked for, and needed later
    return crl


def remarks(crls: Sequence[Crl], cas: Sequence[x509.Certificate], now: datetime) -> Iterator[str]:
    """Say what would make Envoy refuse peers that are not revoked.

    Args:
        crls: What is handed to Envoy; with none there is nothing to say.
        cas: The CAs of the own chain, roots included: most peers have the same.
        now: Time at which the CRLs must be current.
    """
    issuers = {crl.issuer for crl in crls}
    for ca in cas if crls else ():
        if ca.subject not in issuers:
            yield f"no CRL of {ca.subject.rfc4514_string()}: Envoy refuses every peer under it"
    for crl in crls:
        if crl.next_update_utc is not None and crl.next_update_utc < now:
            yield f"the CRL of {crl.issuer.rfc4514_string()} ended at {crl.next_update_utc:%F %T}Z"


class CrlFile:
    """What one workload's Envoy is told about revoked certificates.

    Args:
        workload: The workload's name, for the log.
        store: Offers the CRLs beside the roots.
        clock: Returns the time, UTC.
    """

    def __init__(self, workload: str, store: SecretStore, clock: Callable[[], datetime]) -> None:
        self._workload = workload
        self._store = store
        self._clock = clock
        self._crls: tuple[Crl, ...] = ()
        self._told: tuple[str, ...] = ()
        store.listen(self._remark)

    def take(self, pem: bytes | None) -> None:
        """Offer another file's content; what is no CRL changes nothing.

        Args:
            pem: The content; None or empty offers no CRL.
        """
        try:
            crls = parse_crls(pem or b"")
        except InvalidCrl as invalid:
            self._refuse(str(invalid))
            return
        self._crls = crls
        get_logger().info(Event.CRL_TAKEN, workload=self._workload, count=len(crls))
        self._store.take_crl((pem or b"") if crls else b"")

    def _refuse(self, cause: str) -> None:
        get_logger().error(Event.CRL_REFUSED, workload=self._workload, cause=cause)

    def _remark(self) -> None:
        """Say what is unwise about CRL and chain together, when either has changed."""
        svid = self._store.svid
        if svid is None:
            return
        _, *cas = x509.load_pem_x509_certificates(svid.chain_pem + svid.roots_pem)
        told = tuple(remarks(self._crls, cas, self._clock()))
        if told != self._told:
            self._told = told
            for remark in told:
                get_logger().warning(Event.CRL_REMARK, workload=self._workload, remark=remark)
