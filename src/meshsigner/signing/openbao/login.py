"""The ways to log in to OpenBao, each as one request.

Decides what is sent for a kind of login; when it is sent is `session`'s matter.
Secrets are read from their files at each login and kept nowhere.

Source: OpenBao API documentation: auth/approle, auth/jwt, auth/kubernetes, auth/token.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from meshsigner.errors import BackendUnavailable
from meshsigner.signing.openbao.answers import JsonObject
from meshsigner.signing.openbao.settings import AppRoleAuth, JwtAuth, KubernetesAuth

MAX_SECRET_BYTES = 16_384  # a service-account token has about 1,000

_VISIBLE = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRequest:
    """One login.

    Attributes:
        path: Where to post it.
        body: What to post; holds a secret.
    """

    path: str
    body: JsonObject

    def __repr__(self) -> str:
        """Name the path alone."""
        return f"LoginRequest({self.path!r})"


def login_request(auth: AppRoleAuth | JwtAuth | KubernetesAuth) -> LoginRequest:
    """Return the login of a kind.

    Raises:
        BackendUnavailable: The file with the secret cannot be used.
    """
    match auth:
        case AppRoleAuth():
            secret = read_secret(auth.secret_id_file)
            body = {"role_id": auth.role_id, "secret_id": secret}
        case JwtAuth() | KubernetesAuth():
            body = {"role": auth.role, "jwt": read_secret(auth.token_file)}
    return LoginRequest(path=f"auth/{auth.mount}/login", body=body)


def read_secret(path: Path) -> str:
    """Read a file that holds a secret and nothing else.

    Raises:
        BackendUnavailable: It is not readable or holds something else; the
            text never quotes it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except OSError as error:
        raise BackendUnavailable(f"{path}: cannot be read ({error.strerror})") from None
    if len(content) > MAX_SECRET_BYTES:
        raise BackendUnavailable(f"{path}: is longer than {MAX_SECRET_BYTES} bytes; no secret")
    secret = content.decode("ascii", errors="replace").strip()
    if not _VISIBLE.fullmatch(secret):
        raise BackendUnavailable(f"{path}: expected a secret in one line of ASCII and nothing else")
    return secret
