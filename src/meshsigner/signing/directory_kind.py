"""The kinds `directory` and `self_made`: a CA in a directory, signing in this process.

As `issuer` in the configuration does, but by name and beside other backends.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from meshsigner.config.sections import IssuerDirectory as DirectorySettings
from meshsigner.config.sections import IssuerSelfMade as SelfMadeSettings
from meshsigner.errors import ConfigurationError
from meshsigner.ports import Signer
from meshsigner.signing.embedded import DEFAULT_NAME, EmbeddedSigner
from meshsigner.signing.kind import Finding, SettingsType, Surroundings
from meshsigner.signing.self_made import SelfMadeCa
from meshsigner.spiffe import TrustDomain
from meshsigner.trust import IssuerDirectory, load_directory
from meshsigner.trust.pem import describe


def open_directory(
    name: str, settings: DirectorySettings | SelfMadeSettings, surroundings: Surroundings
) -> EmbeddedSigner:
    """Return what signs with the CA in a directory, and follows its changes.

    Raises:
        ConfigurationError: There is no good CA in it; holds every problem.
    """
    metrics = surroundings.metrics
    source = IssuerDirectory(
        settings.path,
        clock=surroundings.clock,
        upkeep=upkeep_of(settings, surroundings.trust_domain),
        # Istio's figures know one issuer: that of the one backend that needs no name.
        taken=lambda files: metrics.issuer_in_use(files.issuer) if name == DEFAULT_NAME else None,
        announced=surroundings.announced,
    )
    return EmbeddedSigner(source, name=name, followed=source)


def upkeep_of(
    settings: DirectorySettings | SelfMadeSettings, trust_domain: TrustDomain
) -> Callable[[datetime], object]:
    """Return what keeps the CA's directory fresh: nothing, for a CA of somebody else."""
    if isinstance(settings, SelfMadeSettings):
        return SelfMadeCa(
            directory=settings.path,
            trust_domain=trust_domain,
            root_lifetime=settings.root_lifetime,
            intermediate_lifetime=settings.intermediate_lifetime,
        ).ensure
    return lambda _: None


class DirectoryKind:
    """An operator's own CA, in Istio's `cacerts` layout."""

    type = "directory"
    summary = "a CA with its key in a directory, in Istio's cacerts layout"
    settings: SettingsType = DirectorySettings

    def open(self, name: str, settings: DirectorySettings, surroundings: Surroundings) -> Signer:
        """Make it; the directory is read at once.

        Raises:
            ConfigurationError: There is no good CA in it.
        """
        return open_directory(name, settings, surroundings)

    async def examine(
        self, settings: DirectorySettings, surroundings: Surroundings
    ) -> Sequence[Finding]:
        """Read the directory and say what is wrong with it, or what is there."""
        try:
            files = load_directory(settings.path, generation=1, now=surroundings.clock())
        except ConfigurationError as error:
            return [Finding(good=False, text=problem) for problem in error.problems]
        certificate = files.issuer.certificate
        found = f"{settings.path}: {describe(certificate)}, until {files.expires:%Y-%m-%d %H:%M}Z"
        return [
            Finding(good=True, text=found),
            *(Finding(good=True, text=remark) for remark in files.warnings),
        ]


class SelfMadeKind:
    """A CA that meshsigner makes for itself."""

    type = "self_made"
    summary = "a root and an intermediate that the server makes and renews in a directory"
    settings: SettingsType = SelfMadeSettings

    def open(self, name: str, settings: SelfMadeSettings, surroundings: Surroundings) -> Signer:
        """Make it, and the CA if there is none yet.

        Raises:
            ConfigurationError: The directory cannot be written or holds no good CA.
        """
        return open_directory(name, settings, surroundings)

    async def examine(
        self, settings: SelfMadeSettings, surroundings: Surroundings
    ) -> Sequence[Finding]:
        """Say what is there, without making anything."""
        if not settings.path.exists():
            text = f"{settings.path}: nothing there yet; a CA is made at the first start"
            return [Finding(good=True, text=text)]
        inner = DirectorySettings(type="directory", path=settings.path)
        return await DirectoryKind().examine(inner, surroundings)


DIRECTORY = DirectoryKind()
SELF_MADE = SelfMadeKind()
