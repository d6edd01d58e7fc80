"""The kind `openbao_intermediate`: what the configuration finds."""

from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner.errors import ConfigurationError, MeshsignerError
from meshsigner.signing.intermediate.settings import OpenBaoIntermediateSettings
from meshsigner.signing.kind import Finding, SettingsType, Signer, Surroundings
from meshsigner.signing.pkcs11.kind import expect_binding
from meshsigner.signing.pkcs11.settings import Pkcs11Token

_CURVES = {"p256": ec.SECP256R1, "p384": ec.SECP384R1}


class OpenBaoIntermediateKind:
    """A short-lived CA below OpenBao's."""

    type = "openbao_intermediate"
    summary = "a short-lived CA below one of OpenBao or HashiCorp Vault; leaves are signed here"
    settings: SettingsType = OpenBaoIntermediateSettings

    def open(
        self, name: str, settings: OpenBaoIntermediateSettings, surroundings: Surroundings
    ) -> Signer:
        """Make it; the server is asked when it starts.

        Raises:
            ConfigurationError: The roots' file cannot be used; extra, module or
                PIN of the HSM are missing.
        """
        if settings.hsm is not None:
            expect_binding()
            problems = settings.hsm.problems()
            if problems:
                raise ConfigurationError(*problems)
        # imported once used: who lists kinds needs no HTTP client
        from meshsigner.signing.intermediate.assembly import open_backend  # noqa: PLC0415

        return open_backend(name, settings, surroundings)

    async def examine(
        self, settings: OpenBaoIntermediateSettings, surroundings: Surroundings
    ) -> Sequence[Finding]:
        """Log in and ask whether we may have intermediates signed; none is asked for.

        Raises:
            ConfigurationError: The extra for an HSM is missing.
        """
        from meshsigner.signing.openbao.client import OpenBaoClient  # noqa: PLC0415
        from meshsigner.signing.openbao.examination import examine_right  # noqa: PLC0415

        path = f"{settings.mount}/issuer/{settings.issuer}/sign-intermediate"
        async with OpenBaoClient(settings) as client:
            try:
                found = await client.call("POST", "sys/capabilities-self", {"paths": [path]})
            except MeshsignerError as error:
                return [Finding(good=False, text=f"{settings.address}: {error}")]
        return [
            examine_right(found.get(path), path, "have intermediates signed"),
            *_directory(settings.directory),
            *await _hsm(settings.hsm, surroundings),
        ]


def _directory(directory: Path | None) -> Sequence[Finding]:
    if directory is None:
        return []
    text = "what is kept there is used" if directory.exists() else "made at the first start"
    return [Finding(good=True, text=f"{directory}: {text}")]


async def _hsm(settings: Pkcs11Token | None, surroundings: Surroundings) -> Sequence[Finding]:
    if settings is None:
        return []
    expect_binding()
    from meshsigner.signing.pkcs11.examination import examine_token  # noqa: PLC0415 - the extra's

    return await examine_token(settings, surroundings)


def new_key(key_type: str) -> ec.EllipticCurvePrivateKey:
    """Make a key of a kind."""
    return ec.generate_private_key(_CURVES[key_type]())


OPENBAO_INTERMEDIATE = OpenBaoIntermediateKind()
