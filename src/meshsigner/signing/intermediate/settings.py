"""Settings of the intermediate mode over OpenBao."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from meshsigner.config.fields import FilePath, duration_from
from meshsigner.signing.openbao.settings import Mount, Name, OpenBaoServer
from meshsigner.signing.pkcs11.settings import Pkcs11Token

Life = Annotated[timedelta, *duration_from("1m", "3650d")]


class OpenBaoIntermediateSettings(OpenBaoServer):
    """A short-lived CA below OpenBao's, renewed ahead of its end; leaves are signed here."""

    type: Literal["openbao_intermediate"] = Field(description="`openbao_intermediate`.")
    mount: Mount = Field(
        default="pki",
        description="Where the PKI engine with the CA above is mounted. Default: pki.",
    )
    issuer: Name = Field(
        default="default", description="Which of the mount's issuers signs. Default: default."
    )
    roots_file: FilePath | None = Field(
        default=None,
        description="PEM file with the roots, the one in use first. Default: none, the root "
        "in the first answer's chain, or of the files that are kept.",
    )
    lifetime: Life = Field(
        default=timedelta(days=7),
        description="Of each intermediate; no leaf outlives it, so take more than twice the "
        "policy's longest. Default: 7d.",
    )
    renew_at: Annotated[float, Field(ge=0.1, le=0.8)] = Field(
        default=0.5,
        description="Share of its life after which it is renewed; the rest is how long the CA may "
        "be away. Default: 0.5.",
    )
    key_type: Literal["p256", "p384"] = Field(
        default="p256",
        description="Kind of its keys; each intermediate has a new one, but for one in an HSM, "
        "which is made once. Default: p256.",
    )
    keep: Literal["memory", "file", "pkcs11"] = Field(
        default="memory",
        description="`memory`: the key is never written; each worker has an intermediate of its "
        "own, and a restart asks for another. `file`: all workers share one, and a restart asks "
        "nobody. `pkcs11`: as `file`, with the key in an HSM (extra `pkcs11`), where it is made, "
        "SENSITIVE and not EXTRACTABLE, unless it is there; each renewal certifies the same key. "
        "Default: memory.",
    )
    directory: FilePath | None = Field(
        default=None,
        description="With `keep: file` and `keep: pkcs11`: where it is kept, with a key in a file "
        "at mode 0600; must be writable, and of one server alone. Default: none.",
    )
    hsm: Pkcs11Token | None = Field(
        default=None, description="With `keep: pkcs11`: where its key is. Default: none."
    )

    @model_validator(mode="after")
    def _directory_with_file(self) -> Self:
        problems = []
        if (self.keep == "memory") != (self.directory is None):
            problems.append("directory with `keep: file` or `keep: pkcs11`, and only then")
        if (self.keep == "pkcs11") != (self.hsm is not None):
            problems.append("hsm with `keep: pkcs11`, and only then")
        if problems:
            raise ValueError("; ".join(problems))
        return self
