"""The secrets of one workload: what can be asked for by which name, and in which version.

Turns a certificate with its key and roots into the secrets that Envoy takes,
and tells the streams when one has changed. A version is made of what is public
in a secret (certificates, CRL), so that it changes with the content, is the
same again after a restart with the same content, and gives nothing away.
Getting certificates is left to `life`, the protocol to `session`.

Names, as Istio and SPIRE have them: `default` and the SPIFFE ID for the
certificate; `ROOTCA` and `spiffe://<trust domain>` for the roots; `ALL` for the
roots in the form of Envoy's SPIFFE validator, which binds each to its trust
domain. That validator looks at no CRL, so that with a CRL there is no `ALL`.

Source: istio security/pkg/nodeagent/sds/sdsservice.go toEnvoySecret,
pkg/model/authentication.go; spire pkg/agent/endpoints/sdsv3/handler.go.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from meshsigner._proto.envoy.config.core.v3.base_pb2 import DataSource, TypedExtensionConfig
from meshsigner._proto.envoy.extensions.private_key_providers.cryptomb.v3alpha.cryptomb_pb2 import (
    CryptoMbPrivateKeyMethodConfig,
)
from meshsigner._proto.envoy.extensions.private_key_providers.qat.v3alpha.qat_pb2 import (
    QatPrivateKeyMethodConfig,
)
from meshsigner._proto.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import (
    CertificateValidationContext,
    PrivateKeyProvider,
    SPIFFECertValidatorConfig,
    TlsCertificate,
)
from meshsigner._proto.envoy.extensions.transport_sockets.tls.v3.secret_pb2 import (
    Secret as EnvoySecret,
)
from meshsigner.spiffe import SpiffeId

CERTIFICATE = "default"
ROOTS = "ROOTCA"
ALL_ROOTS = "ALL"

_SPIFFE_VALIDATOR = "envoy.tls.cert_validator.spiffe"
_VERSION_CHARACTERS = 16  # 64 bits of a digest: versions of one name only have to differ


@dataclass(frozen=True, slots=True, kw_only=True)
class Svid:
    """A certificate that passed its check, with its key and roots; made by `life`.

    Attributes:
        key_pem: The private key.
        chain_pem: Leaf, then intermediates; no roots.
        roots_pem: Every root, as the CA sent them.
        serial: The leaf's serial number, lower-case hex.
        not_before: First second of validity.
        not_after: Last second of validity.
        taken_at: When it came, by this machine's clock.
    """

    key_pem: bytes
    chain_pem: bytes
    roots_pem: bytes
    serial: str
    not_before: datetime
    not_after: datetime
    taken_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyProvider:
    """Who uses the private key in place of Envoy itself (Istio's privateKeyProvider).

    Attributes:
        name: `cryptomb` or `qat`.
        poll_delay: How long operations are gathered or polled for.
        fallback: True: Envoy uses the key itself where the provider does not work.
    """

    name: str
    poll_delay: timedelta
    fallback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """One secret, ready to leave.

    Attributes:
        name: How it is asked for.
        version: Changes with the content.
        body: Envoy's message, encoded; it may hold the private key.
    """

    name: str
    version: str
    body: bytes


class SecretStore:
    """Everything that one workload can ask for.

    Args:
        identity: The workload's SPIFFE ID.
        key_provider: Who uses the private key; None for Envoy itself.
        with_crl: True when a CRL may come.

    Attributes:
        identity: The same.
        svid: The certificate that is served, None when there is none.
        roots_pem: The roots that are served, empty when there are none yet.
    """

    def __init__(
        self,
        identity: SpiffeId,
        *,
        key_provider: KeyProvider | None = None,
        with_crl: bool = False,
    ) -> None:
        self.identity = identity
        self.svid: Svid | None = None
        domain = f"spiffe://{identity.trust_domain}"
        self._root_names = (ROOTS, domain, *(() if with_crl else (ALL_ROOTS,)))
        self._certificate_names = (CERTIFICATE, str(identity))
        self._key_provider = key_provider
        self.roots_pem = b""
        self._crl_pem = b""
        self._current: dict[str, Secret] = {}
        self._listeners: set[Callable[[], object]] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that can be asked for, whether there is something yet or not."""
        return (*self._certificate_names, *self._root_names)

    @property
    def current(self) -> Mapping[str, Secret]:
        """What there is, by name; roots first, for who gets both should know whom to believe."""
        return self._current

    @property
    def versions(self) -> Mapping[str, str]:
        """Version of everything that there is, in the same order."""
        return {name: secret.version for name, secret in self._current.items()}

    def listen(self, listener: Callable[[], object]) -> Callable[[], None]:
        """Be told when something has changed.

        Args:
            listener: Called in the event loop, must not wait.

        Returns:
            Ends it.
        """
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def take(self, svid: Svid) -> None:
        """Offer a new certificate, and its roots if they are others than before."""
        self.svid = svid
        self.roots_pem = svid.roots_pem
        self._make()

    def withdraw(self) -> None:
        """Offer no certificate any more, for it has expired; the roots stay."""
        self.svid = None
        self._make()

    def take_crl(self, crl_pem: bytes) -> None:
        """Offer another CRL beside the roots; empty for none."""
        self._crl_pem = crl_pem
        self._make()

    def _make(self) -> None:
        before = self.versions
        secrets = [*self._make_roots(), *self._make_certificates()]
        self._current = {secret.name: secret for secret in secrets}
        if self.versions != before:
            for listener in tuple(self._listeners):
                listener()

    def _make_roots(self) -> Iterator[Secret]:
        version = _version(self.roots_pem, self._crl_pem)
        for name in self._root_names if self.roots_pem else ():
            yield self._roots(name, version, DataSource(inline_bytes=self.roots_pem))

    def _make_certificates(self) -> Iterator[Secret]:
        if self.svid is None:
            return
        version = _version(self.svid.chain_pem, repr(self._key_provider).encode())
        for name in self._certificate_names:
            yield self._certificate(name, version, self.svid)

    def _certificate(self, name: str, version: str, svid: Svid) -> Secret:
        key = DataSource(inline_bytes=svid.key_pem)
        certificate = TlsCertificate(certificate_chain=DataSource(inline_bytes=svid.chain_pem))
        if self._key_provider is None:
            certificate.private_key.CopyFrom(key)
        else:
            certificate.private_key_provider.CopyFrom(_provider(self._key_provider, key))
        return _secret(EnvoySecret(name=name, tls_certificate=certificate), version)

    def _roots(self, name: str, version: str, roots: DataSource) -> Secret:
        if name == ALL_ROOTS:
            context = CertificateValidationContext(custom_validator_config=self._validator(roots))
        else:
            context = CertificateValidationContext(trusted_ca=roots)
            if self._crl_pem:
                context.crl.inline_bytes = self._crl_pem
        return _secret(EnvoySecret(name=name, validation_context=context), version)

    def _validator(self, roots: DataSource) -> TypedExtensionConfig:
        domain = SPIFFECertValidatorConfig.TrustDomain(
            name=str(self.identity.trust_domain), trust_bundle=roots
        )
        config = SPIFFECertValidatorConfig(trust_domains=[domain])
        return TypedExtensionConfig(name=_SPIFFE_VALIDATOR, typed_config=_packed(config))


def _version(*public: bytes) -> str:
    digest = hashlib.sha256()
    for part in public:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:_VERSION_CHARACTERS]


def _secret(secret: EnvoySecret, version: str) -> Secret:
    return Secret(name=secret.name, version=version, body=secret.SerializeToString())


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed


def _provider(provider: KeyProvider, key: DataSource) -> PrivateKeyProvider:
    kinds: Mapping[str, type[CryptoMbPrivateKeyMethodConfig | QatPrivateKeyMethodConfig]] = {
        "cryptomb": CryptoMbPrivateKeyMethodConfig,
        "qat": QatPrivateKeyMethodConfig,
    }
    config = kinds[provider.name](private_key=key)
    config.poll_delay.FromTimedelta(provider.poll_delay)
    return PrivateKeyProvider(
        provider_name=provider.name, typed_config=_packed(config), fallback=provider.fallback
    )
