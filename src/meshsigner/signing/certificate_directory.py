"""Where a keyed backend's CA certificates come from: a directory without a key.

Decides when what is in the directory is another CA and may follow the one in
use; `trust` judges it by itself. The key is elsewhere: whether it belongs to
the certificate is asked by `keyed`.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from meshsigner.errors import ConfigurationError
from meshsigner.model import Issuer
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.trust import load_certificates
from meshsigner.trust.layout import Fingerprint, fingerprint
from meshsigner.trust.succession import succession_faults


class CertificateDirectory:
    """A directory in one of Istio's layouts, read when it changes.

    Args:
        directory: Holds ca-cert.pem, cert-chain.pem and root-cert.pem, or
            tls.crt and ca.crt.
        clock: Returns the time, UTC.
    """

    def __init__(self, directory: Path, *, clock: Callable[[], datetime]) -> None:
        self._directory = directory
        self._clock = clock
        self._seen: Fingerprint | None = None

    def look(self, before: Issuer | None) -> Issuer | None:
        """Return the CA that is there, or None when nothing has changed since the last look.

        Blocks on files: called in a thread.

        Args:
            before: The CA in use; None at the first look.

        Raises:
            ConfigurationError: What is there cannot be taken; it holds every problem.
        """
        seen = fingerprint(self._directory)
        if before is not None and seen == self._seen:
            return None
        generation = 1 if before is None else before.generation + 1
        found = load_certificates(self._directory, generation=generation, now=self._clock())
        if before is not None:
            self._check_succession(before, found.issuer)
        self._seen = seen  # a refused state is read again: it may become good by time alone
        if before is not None and _same(found.issuer, before):
            return None
        for remark in found.warnings:
            get_logger().warning(Event.ISSUER_REMARK, remark=remark)
        return found.issuer

    def _check_succession(self, before: Issuer, after: Issuer) -> None:
        faults = succession_faults(
            before.trust_bundle.certificates, after.trust_bundle.certificates
        )
        problems = [f"{self._directory}: {fault}" for fault in faults]
        if problems:
            raise ConfigurationError(*problems)


def _same(one: Issuer, other: Issuer) -> bool:
    return (
        one.certificate == other.certificate
        and one.chain_pem == other.chain_pem
        and one.trust_bundle == other.trust_bundle
    )
