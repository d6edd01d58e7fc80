"""The server's own TLS certificate, read from files and read again when they change.

Decides whether a pair may be presented: it must parse, belong together, be in
force and name a host. A bad new pair is refused and the old one kept; a good one
holds from the next handshake on, and no connection is closed. Who made the pair
is none of its business.

Source: istio pilot/pkg/grpc/tls.go, ztunnel src/tls/control.rs (clients check a
DNS or IP name, never the CN); cert-manager/istio-csr pkg/tls/tls.go.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from meshsigner.errors import ConfigurationError
from meshsigner.model import Health
from meshsigner.observe.logs import get_logger
from meshsigner.observe.metrics import Metrics
from meshsigner.observe.names import Event

WATCH_INTERVAL_S = 5.0  # a kubelet takes up to a minute to swap a mounted Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingPair:
    """A certificate chain with its key, fit to be presented.

    Attributes:
        chain_pem: Leaf first.
        key_pem: Its private key.
        not_after: When the leaf expires.
        names: The host names and addresses in it.
    """

    chain_pem: bytes
    key_pem: bytes
    not_after: datetime
    names: tuple[str, ...]

    @classmethod
    def parse(cls, chain_pem: bytes, key_pem: bytes, now: datetime) -> "ServingPair":
        """Check a pair.

        Args:
            chain_pem: Leaf first.
            key_pem: Unencrypted private key, PKCS #8, SEC1 or PKCS #1.
            now: The time it must be in force.

        Raises:
            ValueError: The pair may not be presented; the text says why.
        """
        leaf = x509.load_pem_x509_certificates(chain_pem)[0]
        if _spki(_key(key_pem).public_key()) != _spki(leaf.public_key()):
            msg = "the private key does not belong to the certificate"
            raise ValueError(msg)
        if not leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc:
            msg = (
                f"the certificate is in force from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M:%S} "
                f"to {leaf.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC, not now"
            )
            raise ValueError(msg)
        return cls(
            chain_pem=chain_pem,
            key_pem=key_pem,
            not_after=leaf.not_valid_after_utc,
            names=_names(leaf),
        )


class ServingCertificate:
    """The pair that is presented now.

    Args:
        certificate_file: PEM, leaf first.
        key_file: PEM, unencrypted.
        metrics: Told of changes.
        now: The time.

    Raises:
        ConfigurationError: There is no usable pair to begin with.
    """

    def __init__(
        self,
        certificate_file: Path,
        key_file: Path,
        *,
        metrics: Metrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._files = (certificate_file, key_file)
        self._metrics = metrics
        self._now = now
        self._seen: tuple[bytes, bytes] | None = None
        self._problem: str | None = None
        self._handed: grpc.ServerCertificateConfiguration | None = None
        try:
            self.pair = self._take(self._read())
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            msg = (
                f"no serving certificate in {certificate_file} and {key_file}: {error}; "
                "give a PEM certificate with a DNS or IP name and its unencrypted key"
            )
            raise ConfigurationError(msg) from error

    def credentials(self) -> grpc.ServerCredentials:
        """Return TLS credentials that always present the pair of the moment.

        TLS 1.2 and 1.3; no client certificate is asked for, because grpcio knows
        only "never" and "always" (docs/divergences.md).
        """
        self._handed = self._presented
        return grpc.dynamic_ssl_server_credentials(
            self._handed,
            self._fetch,  # type: ignore[arg-type]  # None means "unchanged", which the stubs forgot
            require_client_authentication=False,
        )

    def reload(self) -> bool:
        """Read the files again.

        Returns:
            True when a new pair was taken; False when nothing changed, or when
            the new pair is bad and the old one is kept, which is logged once.
        """
        try:
            found = self._read()
            if found == self._seen:
                self._problem = None
                return False
            self.pair = self._take(found)
        except (OSError, ValueError, UnsupportedAlgorithm) as error:
            self._keep(str(error))
            return False
        self._problem = None
        get_logger().info(
            Event.SERVING_CERTIFICATE_RELOADED,
            not_after=self.pair.not_after.isoformat(),
            names=self.pair.names,
        )
        return True

    def _keep(self, problem: str) -> None:
        if problem != self._problem:
            self._metrics.serving_certificate(taken=False)
            get_logger().error(Event.SERVING_CERTIFICATE_KEPT, cause=problem)
        self._problem = problem

    def health(self) -> Sequence[Health]:
        """Say whether clients accept what is presented, and what is wrong with its successor."""
        until = f"{self.pair.not_after:%Y-%m-%d %H:%M:%S} UTC"
        detail = f"{', '.join(self.pair.names)}, in force until {until}"
        if self._problem is not None:
            detail += f"; what lies in its place is refused: {self._problem}"
        ready = self._now() <= self.pair.not_after
        return (Health(name="serving certificate", ready=ready, detail=detail),)

    async def watch(self, interval_s: float = WATCH_INTERVAL_S) -> None:
        """Read the files again and again, until cancelled.

        Contents are compared, not events awaited: it sees a Kubernetes `..data`
        swap, a copy over a network file system and a bind mount alike.

        Args:
            interval_s: Seconds between two looks.
        """
        while True:
            await asyncio.sleep(interval_s)
            self.reload()

    def _read(self) -> tuple[bytes, bytes]:
        certificate_file, key_file = self._files
        return certificate_file.read_bytes(), key_file.read_bytes()

    def _take(self, found: tuple[bytes, bytes]) -> ServingPair:
        pair = ServingPair.parse(*found, self._now())
        self._seen = found
        self._presented = _for_grpc(pair)
        self._metrics.serving_certificate(taken=True, not_after=pair.not_after)
        return pair

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Hand a new pair to gRPC, once; it asks in each handshake, from threads of its own."""
        presented = self._presented
        if presented is self._handed:
            return None
        self._handed = presented
        return presented


def _for_grpc(pair: ServingPair) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pair.key_pem, pair.chain_pem)])


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        san = x509.SubjectAlternativeName([])
    hosts = san.get_values_for_type(x509.DNSName)
    addresses = [str(address) for address in san.get_values_for_type(x509.IPAddress)]
    if not hosts and not addresses:
        msg = "the certificate names no host: it has no DNS or IP subject alternative name"
        raise ValueError(msg)
    return (*hosts, *addresses)


def _key(key_pem: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(key_pem, None)
    except TypeError as error:
        msg = "the private key is encrypted"
        raise ValueError(msg) from error
    except ValueError as error:
        msg = "the private key cannot be read"
        raise ValueError(msg) from error


def _spki(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]
