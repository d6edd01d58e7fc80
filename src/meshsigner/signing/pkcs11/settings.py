"""The section of the configuration for a CA key in an HSM."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from meshsigner.config.fields import FilePath, Section, duration_from, text_like
from meshsigner.errors import ConfigurationError
from meshsigner.model import BackendLimits
from meshsigner.signing.pkcs11.pin import PinFile, PinSource, PinVariable

MAX_SESSIONS = 64
_ALTERNATIVES = (("token_label", "token_serial"), ("key_label", "key_id"))

Name = Annotated[str, text_like(r"[^\x00-\x1f]{1,255}", "1 to 255 characters, none of control")]
KeyId = Annotated[
    str, text_like(r"([0-9a-fA-F]{2}){1,64}", "the key's CKA_ID as hex digits, for example 01a7")
]
Variable = Annotated[
    str,
    text_like(r"[A-Za-z_][A-Za-z0-9_]*", "the name of an environment variable, never the PIN"),
]


class Pkcs11Token(Section):
    """A key on a token of an HSM, and how to reach it."""

    module: FilePath = Field(
        description="The HSM's PKCS #11 module, a shared library, for example "
        "/usr/lib/softhsm/libsofthsm2.so.",
    )
    token_label: Name | None = Field(
        default=None,
        description="Label of the token that holds the key. Default: none, but this or "
        "`token_serial` must be set.",
    )
    token_serial: Name | None = Field(
        default=None,
        description="Serial number of the token, where labels are not unique. Default: none.",
    )
    key_label: Name | None = Field(
        default=None,
        description="CKA_LABEL of the CA's private key. Default: none, but this or `key_id` must "
        "be set; together they must name one key.",
    )
    key_id: KeyId | None = Field(
        default=None,
        description="CKA_ID of the CA's private key, hex. Default: none.",
    )
    pin_file: FilePath | None = Field(
        default=None,
        description="File with the user PIN, mode 0600; read at each login. A PIN that the token "
        "refused is not tried again until this file is written anew. Default: none, but this or "
        "`pin_variable` must be set.",
    )
    pin_variable: Variable | None = Field(
        default=None,
        description="Environment variable with the user PIN; one that the token refused is not "
        "tried again before a restart. Default: none.",
    )
    sessions: int = Field(
        default=1,
        ge=1,
        le=MAX_SESSIONS,
        description="Sessions that sign at once, in a thread each. More than 1 initialises the "
        "module for several threads (CKF_OS_LOCKING_OK) and is faster where a signature takes "
        "milliseconds, as over a network. Default: 1, which every module stands.",
    )
    batch: int = Field(
        default=32,
        ge=1,
        le=1024,
        description="Most signatures that one call of the dispatcher brings, shared out to the "
        "sessions. Default: 32.",
    )
    rate_per_s: PositiveInt | None = Field(
        default=None,
        description="Most calls a second, where the HSM serves others too. Default: none.",
    )
    call: Annotated[timedelta, *duration_from("100ms", "10s")] = Field(
        default=timedelta(seconds=5),
        description="Longest one call may take; an HSM that is silent for longer is taken for "
        "away. Default: 5s.",
    )
    allow_extractable: bool = Field(
        default=False,
        description="Use a key that could be copied out of its token (not SENSITIVE, or "
        "EXTRACTABLE): for tests only. Default: false.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = [
            f"{one} or {other} set"
            for one, other in _ALTERNATIVES
            if getattr(self, one) is None and getattr(self, other) is None
        ]
        if (self.pin_file is None) == (self.pin_variable is None):
            problems.append("one of pin_file and pin_variable set")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def pin_source(self) -> PinSource:
        """Where the PIN comes from."""
        if self.pin_file is not None:
            return PinFile(self.pin_file)
        return PinVariable(self.pin_variable or "")

    @property
    def limits(self) -> BackendLimits:
        """What its dispatcher keeps: one call signs while the next is ready."""
        return BackendLimits(
            rate_per_s=self.rate_per_s,
            in_flight=2,
            batch=self.batch,
            call_s=self.call.total_seconds(),
        )

    def problems(self) -> list[str]:
        """Say what shows without the HSM: no module, no PIN."""
        found = []
        if not self.module.is_file():
            found.append(
                f"{self.module}: there is no such file; expected the HSM's PKCS #11 module; "
                "install the vendor's package, or set `module` to where it is"
            )
        try:
            self.pin_source.read()
        except ConfigurationError as error:
            found += error.problems
        return found


class Pkcs11Settings(Pkcs11Token):
    """A CA whose key is in an HSM, used through its PKCS #11 module (extra `pkcs11`).

    The key never leaves the HSM; the certificates are built here.
    """

    type: Literal["pkcs11"] = Field(description="`pkcs11`.")
    certificates: FilePath = Field(
        description="Directory with ca-cert.pem, cert-chain.pem and root-cert.pem, as Istio's "
        "secret `cacerts` holds them, without a key; taken anew when it changes.",
    )
