"""The kinds `openbao_pki` and `openbao_transit`: what the configuration finds.

The HTTP client is imported once one is used. What `examine` says is for people
who set a backend up: what is missing, and which command adds it.
"""

from collections.abc import Sequence

from meshsigner.model import BackendLimits
from meshsigner.signing.kind import Finding, SettingsType, Signer, Surroundings
from meshsigner.signing.openbao.settings import PkiSettings, TransitSettings


class PkiKind:
    """OpenBao's PKI engine as a remote CA."""

    type = "openbao_pki"
    summary = "a role of the PKI engine of OpenBao or HashiCorp Vault signs each certificate"
    settings: SettingsType = PkiSettings

    def open(self, name: str, settings: PkiSettings, surroundings: Surroundings) -> Signer:
        """Make it; the server is asked when it starts."""
        from meshsigner.signing.openbao.client import OpenBaoClient  # noqa: PLC0415 - once used
        from meshsigner.signing.openbao.pki import PkiSigner  # noqa: PLC0415 - once used

        return PkiSigner(
            name=name,
            client=OpenBaoClient(settings),
            settings=settings,
            clock=surroundings.clock,
            shortened=lambda: surroundings.metrics.remote_ca.shortened(name),
            known=surroundings.announced,
        )

    async def examine(self, settings: PkiSettings, surroundings: Surroundings) -> Sequence[Finding]:
        """Log in, look at rights, role and issuer."""
        from meshsigner.signing.openbao.client import OpenBaoClient  # noqa: PLC0415 - once used
        from meshsigner.signing.openbao.examination import examine_pki  # noqa: PLC0415 - once used

        async with OpenBaoClient(settings) as client:
            return await examine_pki(client, settings, surroundings.clock())


class TransitKind:
    """A key of OpenBao's transit engine."""

    type = "openbao_transit"
    summary = "a key of the transit engine of OpenBao or HashiCorp Vault, whole batches a call"
    settings: SettingsType = TransitSettings

    def open(self, name: str, settings: TransitSettings, surroundings: Surroundings) -> Signer:
        """Make it; the server is asked when it starts."""
        from meshsigner.signing.certificate_directory import (  # noqa: PLC0415 - once used
            CertificateDirectory,
        )
        from meshsigner.signing.keyed import KeyedSigner  # noqa: PLC0415 - once used
        from meshsigner.signing.openbao.client import OpenBaoClient  # noqa: PLC0415 - once used
        from meshsigner.signing.openbao.transit import TransitStore  # noqa: PLC0415 - once used

        return KeyedSigner(
            name=name,
            source=CertificateDirectory(settings.certificates, clock=surroundings.clock),
            keys=TransitStore(client=OpenBaoClient(settings), settings=settings),
            limits=BackendLimits(
                rate_per_s=settings.rate,
                in_flight=settings.in_flight,
                batch=settings.batch,
                call_s=settings.timeout.total_seconds(),
            ),
            clock=surroundings.clock,
        )

    async def examine(
        self, settings: TransitSettings, surroundings: Surroundings
    ) -> Sequence[Finding]:
        """Log in, look at the key, compare it with the CA certificate, sign one message."""
        from meshsigner.signing.openbao.client import OpenBaoClient  # noqa: PLC0415 - once used
        from meshsigner.signing.openbao.examination import (  # noqa: PLC0415 - once used
            examine_transit,
        )

        async with OpenBaoClient(settings) as client:
            return await examine_transit(client, settings, surroundings.clock())


PKI = PkiKind()
TRANSIT = TransitKind()
