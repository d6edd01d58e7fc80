"""Settings of the backends that are kept by OpenBao or HashiCorp Vault.

Decides nothing but what may be said: addresses are HTTPS, secrets are named by
their files and never written into the configuration. docs/config.md is made
from these descriptions.
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from meshsigner.config.fields import FilePath, Section, duration_from, text_like

_MAX_PORT = 65_535
_SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def _https(value: str) -> str:
    expected = "an https URL without path, for example https://openbao.example.org:8200"
    try:
        parts = urlsplit(value)
        port = parts.port or 0
    except ValueError:
        raise ValueError(expected) from None
    bare = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username)
    if parts.scheme != "https" or not parts.hostname or not bare or port > _MAX_PORT:
        raise ValueError(expected)
    return value.rstrip("/")


HttpsUrl = Annotated[str, AfterValidator(_https)]
Mount = Annotated[
    str,
    text_like(
        r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*",
        "the path of a mount without slashes at its ends, for example pki or team/pki",
    ),
]
Name = Annotated[str, text_like(r"[A-Za-z0-9_.-]{1,128}", "a name of letters, digits, _, . and -")]
CallTime = Annotated[timedelta, *duration_from("100ms", "10s")]
Leeway = Annotated[timedelta, *duration_from("0s", "1h")]


class TokenAuth(Section):
    """A token from a file; renewed while it can be, read again when it is refused."""

    type: Literal["token"] = Field(description="`token`.")
    token_file: FilePath = Field(
        description="File with the token alone, mode 0600. Something else, such as an agent of "
        "OpenBao, may replace it at any time."
    )


class AppRoleAuth(Section):
    """AppRole: a role's id, and a secret id from a file."""

    type: Literal["approle"] = Field(description="`approle`.")
    mount: Mount = Field(default="approle", description="Where it is mounted. Default: approle.")
    role_id: Name = Field(description="The role's id; not a secret by itself.")
    secret_id_file: FilePath = Field(description="File with the secret id alone, mode 0600.")


class JwtAuth(Section):
    """JWT: a token of an identity provider from a file, for example a projected one."""

    type: Literal["jwt"] = Field(description="`jwt`.")
    mount: Mount = Field(default="jwt", description="Where it is mounted. Default: jwt.")
    role: Name = Field(description="Role of that mount.")
    token_file: FilePath = Field(description="File with the JWT alone; read at each login.")


class KubernetesAuth(Section):
    """Kubernetes: the pod's own service-account token, reviewed by the API server."""

    type: Literal["kubernetes"] = Field(description="`kubernetes`.")
    mount: Mount = Field(
        default="kubernetes", description="Where it is mounted. Default: kubernetes."
    )
    role: Name = Field(description="Role of that mount.")
    token_file: FilePath = Field(
        default=_SERVICE_ACCOUNT_TOKEN,
        description="File with the service-account token; read at each login. Default: "
        f"{_SERVICE_ACCOUNT_TOKEN}, where the kubelet puts it.",
    )


Auth = TokenAuth | AppRoleAuth | JwtAuth | KubernetesAuth


class OpenBaoServer(Section):
    """Where OpenBao is and how we prove ourselves: what all its backends have in common."""

    address: HttpsUrl = Field(
        description="URL of the server, https only; best of the active node or of a load "
        "balancer that knows it."
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="PEM file with the roots that its certificate must chain to. Default: "
        "none, the system's.",
    )
    client_certificate: FilePath | None = Field(
        default=None,
        description="PEM file with our certificate, where the listener wants one. Default: none.",
    )
    client_key: FilePath | None = Field(
        default=None, description="PEM file with its private key, mode 0600. Default: none."
    )
    server_name: str | None = Field(
        default=None,
        description="Name in its certificate where it differs from the address. Default: none, the "
        "host of the address.",
    )
    namespace: Mount | None = Field(
        default=None, description="Namespace of every request. Default: none, the root namespace."
    )
    auth: Auth = Field(
        discriminator="type",
        description="How we log in: `token`, `approle`, `jwt` or `kubernetes`.",
    )
    timeout: CallTime = Field(
        default=timedelta(seconds=5),
        description="Longest time for one call. Default: 5s, half of the longest a caller waits.",
    )
    rate: PositiveInt | None = Field(
        default=None,
        description="Calls a second that are started at most, below the server's own quota; each "
        "worker counts by itself. Default: none, no limit.",
    )
    in_flight: PositiveInt = Field(
        default=8,
        description="Calls under way at most, in each worker. Default: 8; OpenBao signs faster "
        "than one connection asks.",
    )

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.client_certificate is None) != (self.client_key is None):
            msg = "client_certificate and client_key together, or neither"
            raise ValueError(msg)
        return self


class PkiSettings(OpenBaoServer):
    """The PKI engine as a remote CA: it builds and signs each certificate."""

    type: Literal["openbao_pki"] = Field(description="`openbao_pki`.")
    mount: Mount = Field(default="pki", description="Where the engine is mounted. Default: pki.")
    role: Name = Field(
        description="Role that signs; docs/backends.md has the one command that makes it right."
    )
    issuer: Name = Field(
        default="default",
        description="Which of the mount's issuers the role signs with. Default: default.",
    )
    roots_file: FilePath | None = Field(
        default=None,
        description="PEM file with the roots of the CA, the one in use first: nothing else is "
        "ever trusted. Default: none, the root in the mount's own chain at start, which must then "
        "hold one.",
    )
    validity: Literal["exact", "ttl"] = Field(
        default="exact",
        description="How the end is asked for: `exact` (not_after: the role's not_after_bound "
        "must be ttl-limited, so that too much is refused) or `ttl` (for roles that forbid "
        "not_after; the server shortens what is over its maximum). Default: exact.",
    )
    shorten: bool = Field(
        default=False,
        description="True accepts a certificate that ends before what was asked, and counts it "
        "(with `ttl`); false refuses it. Default: false.",
    )
    backdate: Leeway = Field(
        default=timedelta(minutes=2),
        description="How much earlier than policy.backdate asks a certificate may begin: the "
        "role's not_before_duration decides. Default: 2m.",
    )
    stored: bool = Field(
        default=False,
        description="True where the role keeps certificates (no_store=false) and one that nobody "
        "got must not be lost: the intent is recorded before each call, and after a lost answer "
        "the mount's list is searched. Default: false, for nothing is kept and asking again costs "
        "nothing.",
    )


class TransitSettings(OpenBaoServer):
    """A key of the transit engine: certificates are built here, a batch is signed by one call."""

    type: Literal["openbao_transit"] = Field(description="`openbao_transit`.")
    mount: Mount = Field(
        default="transit", description="Where the engine is mounted. Default: transit."
    )
    key: Name = Field(
        description="The key: ecdsa-p256, ecdsa-p384 or rsa-2048 to rsa-4096. Of its versions the "
        "one of the CA certificate signs, so that a rotation changes nothing by itself."
    )
    certificates: FilePath = Field(
        description="Directory with ca-cert.pem, cert-chain.pem and root-cert.pem, or tls.crt and "
        "ca.crt; the key is not in it. Taken anew when it changes."
    )
    batch: Annotated[int, Field(ge=1, le=500)] = Field(
        default=100, description="Certificates a call at most. Default: 100."
    )
    allow_exportable: bool = Field(
        default=False,
        description="True takes a key that can be copied out of OpenBao (exportable or with "
        "plaintext backup): for tests. Default: false.",
    )
