"""Where issued certificates are written down: in files of our own, or in PostgreSQL.

Decides what a complete store is. A section without `type` is SQLite's, as it
was when there was no other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, model_validator

from meshsigner.config.fields import FilePath, Section, duration_from, text_like
from meshsigner.config.sections import InventorySqlite

DEFAULT_PORT = 5432
_MAX_PORT = 65_535
_URL = re.compile(
    r"postgres(?:ql)?://(?P<user>[^\s:@/?#]+)@(?P<hosts>[^\s@/?#]+)/(?P<database>[^\s/?#]+)"
)
_HOST = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:,\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_EXPECTED = (
    "postgresql://USER@HOST[:PORT][,HOST[:PORT]...]/DATABASE without a password (it belongs into "
    "password_file), for example postgresql://meshsigner@db.example:5432/meshsigner"
)


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Where a database is.

    Attributes:
        user: Role name.
        hosts: (host, port) pairs; a host that begins with `/` is a socket's directory.
        database: Database name.
    """

    user: str
    hosts: tuple[tuple[str, int], ...]
    database: str

    @classmethod
    def parse(cls, value: object) -> Self:
        """Read a URL.

        Raises:
            ValueError: It is none, or holds a password or options.
        """
        if isinstance(value, cls):
            return value
        match = _URL.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(_EXPECTED)
        hosts = tuple(map(_host, match["hosts"].split(",")))
        return cls(unquote(match["user"]), hosts, unquote(match["database"]))

    def __str__(self) -> str:
        """Return the URL."""
        hosts = ",".join(f"{_shown(host)}:{port}" for host, port in self.hosts)
        return f"postgresql://{self.user}@{hosts}/{self.database}"

    @property
    def is_near(self) -> bool:
        """Whether no network is between: sockets and loopback alone."""
        return all(host.startswith("/") or _is_loopback(host) for host, _ in self.hosts)


class InventoryPostgres(Section):
    """Issued certificates in a PostgreSQL database, shared by all workers and replicas."""

    type: Literal["postgres"] = Field(description="`postgres`.")
    url: Annotated[DatabaseUrl, PlainValidator(DatabaseUrl.parse), PlainSerializer(str)] = Field(
        description="`postgresql://USER@HOST[:PORT][,HOST[:PORT]...]/DATABASE`: the first host "
        "that can be written is used, so that primary and standbys may all be named; a host that "
        "begins with `%2F` is the directory of a Unix socket. No password in it. Port 5432 unless "
        "given.",
    )
    password_file: FilePath | None = Field(
        default=None,
        description="File with the password, read at each connection. Default: none, for a server "
        "that takes a client certificate or the socket's peer.",
    )
    sslmode: Literal["verify-full", "verify-ca", "disable"] = Field(
        default_factory=lambda earlier: "disable" if _is_near(earlier) else "verify-full",
        description="`verify-full`: TLS, the certificate chains to our roots and names the host; "
        "`verify-ca`: it need not name the host; `disable`: no TLS, on loopback alone. Default: "
        "verify-full; disable where all hosts are loopback or sockets.",
    )
    ca_file: FilePath | None = Field(
        default=None,
        description="PEM file with the roots for the server's certificate. Default: none, the "
        "system's roots.",
    )
    certificate: FilePath | None = Field(
        default=None,
        description="PEM file: our certificate for the server. Default: none.",
    )
    key: FilePath | None = Field(
        default=None,
        description="PEM file with its private key. Default: none.",
    )
    schema_name: Annotated[
        str, text_like(r"[a-z_][a-z0-9_]{0,62}", "a name of lower-case letters, digits and _")
    ] = Field(
        default="meshsigner",
        description="Schema that holds the tables; it is made when it is not there. Default: "
        "meshsigner.",
    )
    timeout: Annotated[timedelta, *duration_from("500ms", "10s")] = Field(
        default=timedelta(seconds=4),
        description="Longest wait for one commit, the look-up after a broken connection included; "
        "then callers get UNAVAILABLE. Default: 4s, under limits.handling.",
    )
    retention: Annotated[timedelta, *duration_from("0s", "36500d")] = Field(
        default=timedelta(days=30),
        description="How long a row is kept after its certificate expired. Default: 30d.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        problems = []
        if self.sslmode == "disable" and not self.url.is_near:
            problems.append("sslmode verify-full or verify-ca, for the server is not on loopback")
        if (self.certificate is None) != (self.key is None):
            problems.append("certificate and key, both or neither")
        if problems:
            raise ValueError("; ".join(problems))
        return self


def _with_type(value: Any) -> Any:
    """Take a section that names no type for SQLite's."""
    if isinstance(value, Mapping) and "type" not in value:
        return {**value, "type": "sqlite"}
    return value


Inventory = Annotated[
    Annotated[InventorySqlite | InventoryPostgres, Field(discriminator="type")],
    BeforeValidator(_with_type),
]


def _host(text: str) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    port = int(match["port"] or DEFAULT_PORT) if match is not None else 0
    if match is None or not 0 < port <= _MAX_PORT:
        raise ValueError(_EXPECTED)
    return unquote(match["host"]).strip("[]"), port


def _shown(host: str) -> str:
    if host.startswith("/"):
        return host.replace("/", "%2F")
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_near(earlier: Mapping[str, Any]) -> bool:
    url = earlier.get("url")
    return isinstance(url, DatabaseUrl) and url.is_near
