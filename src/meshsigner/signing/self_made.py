"""The CA that meshsigner makes for itself: a root, and an intermediate that signs.

Decides when it is made and when its intermediate is renewed, and keeps it in
the same `cacerts` layout that an operator's own CA has, so that everything
behind it is one code path. The root's key lies in `root-key.pem` alone: take
the file away and the root is offline; the intermediate signs on until it ends,
and is renewed when the file is back.

Source: istio security/pkg/pki/ca/selfsignedcarootcertrotator.go (renewal ahead
of expiry); RFC 5280 4.2.1.9.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from meshsigner.errors import ConfigurationError
from meshsigner.signing.making import (
    build_intermediate,
    build_root,
    new_key,
    render_certificate,
    render_key,
)
from meshsigner.spiffe import TrustDomain
from meshsigner.trust.findings import Findings
from meshsigner.trust.layout import CACERTS, check_key_mode, read_file
from meshsigner.trust.pem import PrivateKey, parse_certificates, parse_private_key
from meshsigner.trust.writing import (
    PRIVATE_MODE,
    PUBLIC_MODE,
    is_swapped,
    locked,
    swap_files,
    write_file,
)

ROOT_KEY = "root-key.pem"
ROOT_LIFETIME = timedelta(days=3_650)  # istiod's CITADEL_SELF_SIGNED_ROOT_CERT_TTL
INTERMEDIATE_LIFETIME = timedelta(days=365)
_RENEW_AT = 3  # renewed when less than one third of its life remains


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfMadeCa:
    """A CA of one's own making in a directory.

    Attributes:
        directory: Where it is kept; made with mode 0700 when it is not there.
        trust_domain: Becomes the organization of its names.
        root_lifetime: Of a new root.
        intermediate_lifetime: Of each intermediate.
    """

    directory: Path
    trust_domain: TrustDomain
    root_lifetime: timedelta = ROOT_LIFETIME
    intermediate_lifetime: timedelta = INTERMEDIATE_LIFETIME

    def ensure(self, now: datetime) -> bool:
        """Make the CA if there is none, renew its intermediate if it is time.

        Several processes may call it at once: one makes, the others find.

        Args:
            now: The time.

        Returns:
            True when files were written.

        Raises:
            ConfigurationError: The directory cannot be written, or the root's
                files cannot be used.
        """
        try:
            with locked(self.directory):
                return self._ensure(now)
        except OSError as error:
            raise ConfigurationError(
                f"{self.directory}: the CA cannot be kept there ({error.strerror}); expected a "
                "directory that this user may write; choose another or fix its mode",
            ) from error

    def _ensure(self, now: datetime) -> bool:
        if not is_swapped(self.directory):
            if any((self.directory / name).exists() for name in CACERTS.names):
                return False  # an operator's own files: theirs to renew
            self._make(now)
            return True
        # A damaged CA is never made anew: another root would cut off every
        # workload that trusts this one. Whoever loads the directory tells it.
        if not (self.directory / ROOT_KEY).exists() or not self._due(now):
            return False
        self._renew(now)
        return True

    def _make(self, now: datetime) -> None:
        key: PrivateKey = new_key()
        if (self.directory / ROOT_KEY).exists():  # an earlier start ended before the rest
            key = self._root_key()
        else:
            write_file(self.directory / ROOT_KEY, render_key(key), mode=PRIVATE_MODE)
        root = build_root(
            key,
            trust_domain=self.trust_domain,
            now=now,
            lifetime=self.root_lifetime,
        )
        self._write_intermediate(root, key, now)

    def _renew(self, now: datetime) -> None:
        root, key = self._certificate(CACERTS.roots), self._root_key()
        if root.public_key() != key.public_key():
            raise ConfigurationError(
                f"{self.directory / ROOT_KEY}: is no key of {CACERTS.roots}; expected the root's; "
                "bring the right one back, or take it away until then",
            )
        self._write_intermediate(root, key, now)

    def _write_intermediate(
        self,
        root: x509.Certificate,
        root_key: PrivateKey,
        now: datetime,
    ) -> None:
        key = new_key()
        certificate = build_intermediate(
            key,
            root=root,
            root_key=root_key,
            trust_domain=self.trust_domain,
            now=now,
            lifetime=self.intermediate_lifetime,
        )
        own, above = render_certificate(certificate), render_certificate(root)
        swap_files(
            self.directory,
            {
                CACERTS.certificate: (own, PUBLIC_MODE),
                CACERTS.key: (render_key(key), PRIVATE_MODE),
                CACERTS.chain: (own + above, PUBLIC_MODE),
                CACERTS.roots: (above, PUBLIC_MODE),
            },
        )

    def _due(self, now: datetime) -> bool:
        """Tell whether the intermediate is near its end, and a new one would last longer."""
        own, root = self._certificate(CACERTS.certificate), self._certificate(CACERTS.roots)
        end = own.not_valid_after_utc
        near = end - now < (end - own.not_valid_before_utc) / _RENEW_AT
        return near and min(now + self.intermediate_lifetime, root.not_valid_after_utc) > end

    def _certificate(self, name: str) -> x509.Certificate:
        path, findings = self.directory / name, Findings()
        data = read_file(path, findings)
        found = () if data is None else parse_certificates(data, path, findings)
        if findings.problems or not found:
            raise ConfigurationError(*findings.problems)
        return found[0].certificate

    def _root_key(self) -> PrivateKey:
        path, findings = self.directory / ROOT_KEY, Findings()
        check_key_mode(path, findings)
        data = read_file(path, findings)
        key = None if data is None else parse_private_key(data, path, findings)
        if findings.problems or key is None:
            raise ConfigurationError(*findings.problems)
        return key
