"""The server's own TLS certificate, issued to itself under the CA of the moment.

Decides when it is made anew: when it nears its end, when its CA or its names
have changed. It is kept in two files, which whoever presents it reads again on
change; the key stays the same, so the pair fits together at every moment.

Source: docs/standards.md 47, 49, 60; istio pilot/pkg/bootstrap/server.go
(istiod's own DNS certificate).
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.errors import ConfigurationError
from meshsigner.signing.embedded import IssuerSource
from meshsigner.signing.making import (
    SERVING_BACKDATE,
    build_serving,
    new_key,
    render_certificate,
    render_key,
)
from meshsigner.trust import CaFiles
from meshsigner.trust.authority import extension_of
from meshsigner.trust.findings import Findings
from meshsigner.trust.layout import check_key_mode, read_file
from meshsigner.trust.path import issued_by
from meshsigner.trust.pem import parse_certificates, parse_private_key
from meshsigner.trust.writing import PRIVATE_MODE, PUBLIC_MODE, locked, write_file

LIFETIME = timedelta(days=1)  # as a workload's (istiod's DEFAULT_WORKLOAD_CERT_TTL)
LOOK_INTERVAL_S = 30.0

Names = Sequence[str | IPv4Address | IPv6Address]


class CurrentCa(Protocol):
    """Where the CA of the moment is."""

    @property
    def current(self) -> CaFiles:
        """The CA that signs now."""
        ...


class ServingChains:
    """Serving certificates under the CA of the moment, wherever they are kept.

    Args:
        source: Where the CA comes from.
        lifetime: Of each certificate; half of it must be left.
    """

    def __init__(self, source: CurrentCa, *, lifetime: timedelta = LIFETIME) -> None:
        self._source = source
        self._lifetime = lifetime

    def root(self) -> x509.Certificate:
        """Return the root that they chain to."""
        return self._source.current.issuer.trust_bundle.certificates[0]

    def roots_pem(self) -> str:
        """Return all roots of the moment, PEM."""
        return self._source.current.issuer.trust_bundle.pem

    def issue(self, public_key: ec.EllipticCurvePublicKey, names: Names, now: datetime) -> bytes:
        """Issue one; return its chain, leaf first, PEM.

        Args:
            public_key: The server's.
            names: What clients dial.
            now: The time.
        """
        files = self._source.current
        leaf = build_serving(
            public_key,
            issuer=files.issuer.certificate,
            issuer_key=files.key,
            names=names,
            validity=(now - SERVING_BACKDATE, min(now + self._lifetime, files.expires)),
        )
        return render_certificate(leaf) + "".join(files.issuer.chain_pem).encode()

    def will_do(self, chain: bytes, names: Names, now: datetime) -> bool:
        """Tell whether a chain is ours, under this CA, for these names, and lasts.

        Args:
            chain: PEM, leaf first; may be anything.
            names: What clients dial.
            now: The time.
        """
        files = self._source.current
        kept = parse_certificates(chain, Path("chain"), Findings()) if chain else ()
        if not kept or not chain.endswith("".join(files.issuer.chain_pem).encode()):
            return False
        leaf = kept[0].certificate
        end = leaf.not_valid_after_utc
        return (
            issued_by(leaf, files.issuer.certificate)
            and _names_of(leaf) == set(names)
            and leaf.not_valid_before_utc <= now
            # Near the CA's own end a new one would last no longer.
            and (end - now > self._lifetime / 2 or end >= files.expires)
        )


class ServingIssuer:
    """Keeps a serving certificate in files, fresh and under the CA of the moment.

    Args:
        directory: Gets `serving-cert.pem` and `serving-key.pem`; made when it is
            not there.
        source: Where the CA comes from.
        names: DNS names and addresses that clients dial.
        clock: Returns the time, UTC.
        lifetime: Of each certificate; it is renewed at half of it.
        may_show: Tells whether a certificate under this CA may take the place of
            one that is still good: not before its root has reached all clients.
    """

    def __init__(
        self,
        directory: Path,
        source: IssuerSource,
        *,
        names: Names,
        clock: Callable[[], datetime],
        lifetime: timedelta = LIFETIME,
        may_show: Callable[[CaFiles, x509.Certificate], bool] = lambda *_: True,
    ) -> None:
        self.certificate_file = directory / "serving-cert.pem"
        self.key_file = directory / "serving-key.pem"
        self._directory = directory
        self._source = source
        self._names = tuple(names)
        self._clock = clock
        self._chains = ServingChains(source, lifetime=lifetime)
        self._may_show = may_show

    def ensure(self) -> bool:
        """Issue a certificate unless the one in the files will do.

        Returns:
            True when one was written.

        Raises:
            ConfigurationError: The files cannot be written, or the key in them
                cannot be used.
        """
        now = self._clock()
        try:
            with locked(self._directory):
                key = self._key()
                kept = self._kept(key)
                if self._chains.will_do(kept, self._names, now) or self._must_wait(kept, now):
                    return False
                chain = self._chains.issue(key.public_key(), self._names, now)
                write_file(self.certificate_file, chain, mode=PUBLIC_MODE)
        except OSError as error:
            raise ConfigurationError(
                f"{self._directory}: the serving certificate cannot be kept there "
                f"({error.strerror}); expected a directory that this user may write; choose "
                "another or fix its mode",
            ) from error
        return True

    async def watch(self, interval_s: float = LOOK_INTERVAL_S) -> None:
        """Look again and again, until cancelled.

        Args:
            interval_s: Seconds between two looks.

        Raises:
            ConfigurationError: As `ensure`.
        """
        while True:
            await asyncio.sleep(interval_s)
            await asyncio.to_thread(self.ensure)

    def _key(self) -> ec.EllipticCurvePrivateKey:
        """Return the kept key; make it when there is none."""
        if not self.key_file.exists():
            key = new_key()
            write_file(self.key_file, render_key(key), mode=PRIVATE_MODE)
            return key
        findings = Findings()
        check_key_mode(self.key_file, findings)
        data = read_file(self.key_file, findings)
        kept = None if data is None else parse_private_key(data, self.key_file, findings)
        if findings.problems or not isinstance(kept, ec.EllipticCurvePrivateKey):
            raise ConfigurationError(
                *findings.problems,
                f"{self.key_file}: holds no key that was made here; remove the file",
            )
        return kept

    def _kept(self, key: ec.EllipticCurvePrivateKey) -> bytes:
        """Return the chain in the file, empty when it is not this key's."""
        data = read_file(self.certificate_file, Findings())
        kept = () if data is None else parse_certificates(data, self.certificate_file, Findings())
        if data is None or not kept or kept[0].certificate.public_key() != key.public_key():
            return b""
        return data

    def _must_wait(self, chain: bytes, now: datetime) -> bool:
        """Tell whether its root may not be shown yet, while the certificate at hand is good."""
        if not chain:
            return False
        leaf = x509.load_pem_x509_certificate(chain)
        return leaf.not_valid_after_utc > now and not self._may_show(self._source.current, leaf)


def _names_of(certificate: x509.Certificate) -> set[object]:
    san = extension_of(certificate, x509.SubjectAlternativeName) or x509.SubjectAlternativeName([])
    return {*san.get_values_for_type(x509.DNSName), *san.get_values_for_type(x509.IPAddress)}
