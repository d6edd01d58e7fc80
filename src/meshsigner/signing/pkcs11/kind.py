"""The kind `pkcs11`: what the configuration finds; needs python-pkcs11 only once it is used."""

from collections.abc import Sequence
from importlib.util import find_spec

from meshsigner.errors import ConfigurationError
from meshsigner.signing.kind import Finding, SettingsType, Signer, Surroundings
from meshsigner.signing.pkcs11.settings import Pkcs11Settings


class Pkcs11Kind:
    """A CA key in an HSM."""

    type = "pkcs11"
    summary = "a CA whose key is in an HSM, by PKCS #11 (extra pkcs11)"
    settings: SettingsType = Pkcs11Settings

    def open(self, name: str, settings: Pkcs11Settings, surroundings: Surroundings) -> Signer:
        """Make it; the module is loaded when it starts.

        Raises:
            ConfigurationError: The extra, the module or the PIN is missing.
        """
        expect_binding()
        problems = settings.problems()
        if problems:
            raise ConfigurationError(*problems)
        from meshsigner.signing.pkcs11.assembly import open_backend  # noqa: PLC0415 - the extra's

        return open_backend(name, settings, surroundings)

    async def examine(
        self, settings: Pkcs11Settings, surroundings: Surroundings
    ) -> Sequence[Finding]:
        """Look at module, token, mechanisms and key; log in only if that was asked for.

        Raises:
            ConfigurationError: The extra is missing.
        """
        expect_binding()
        from meshsigner.signing.pkcs11.examination import examine  # noqa: PLC0415 - the extra's

        return await examine(settings, surroundings)


def expect_binding() -> None:
    """Expect that python-pkcs11 is installed.

    Raises:
        ConfigurationError: It is not; says how it is.
    """
    if find_spec("pkcs11") is None:
        raise ConfigurationError(
            "a backend of type pkcs11 needs python-pkcs11, which is not installed; expected the "
            "extra; install it: pip install 'meshsigner[pkcs11]'"
        )


PKCS11 = Pkcs11Kind()
