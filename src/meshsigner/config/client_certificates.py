"""Whose certificates prove a caller, and where they are shown; nobody's unless asked for.

Decides what a complete section is. What a certificate must be is judged by
`authn`, how it is shown by `rpc`.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, model_validator

from meshsigner.config.clusters import Namespace
from meshsigner.config.fields import Address, FilePath, ListenAddress, Section, spiffe_id_like
from meshsigner.spiffe import SpiffeId


def _fixed_port(address: Address) -> Address:
    if not address.port:
        msg = "host:port with a port from 1 to 65535, for example 0.0.0.0:15013"
        raise ValueError(msg)
    return address


SideAddress = Annotated[ListenAddress, AfterValidator(_fixed_port)]
SpiffeIdName = Annotated[
    SpiffeId,
    PlainValidator(spiffe_id_like("spiffe://cluster.local/ns/istio-system/sa/proxy")),
    PlainSerializer(str),
]


class MutualTls(Section):
    """A port that demands a client certificate under the mesh's roots."""

    address: SideAddress = Field(
        default=Address("0.0.0.0", 15013),  # noqa: S104 - pods are reached on all interfaces
        description="host:port; the serving certificate is that of `listen`. Default: "
        "0.0.0.0:15013, next to `listen.address` and none of Istio's ports, on every IPv4 "
        "interface.",
    )


class ForwardedUnix(Section):
    """A Unix socket that only a proxy on the same machine may enter."""

    type: Literal["unix"] = Field(description="`unix`.")
    socket: FilePath = Field(
        default=Path("/run/meshsigner/xfcc.sock"),
        description="Path of the socket; mode 0600, so that the proxy runs as the server's user. "
        "Each worker of several has one of its own: `.0`, `.1` and so on is added. Default: "
        "/run/meshsigner/xfcc.sock (run-time state, Filesystem Hierarchy Standard 3.15).",
    )


class ForwardedMutualTls(Section):
    """A port for one proxy, which proves itself by its own certificate under the mesh's roots."""

    type: Literal["mutual_tls"] = Field(description="`mutual_tls`.")
    address: SideAddress = Field(
        default=Address("0.0.0.0", 15016),  # noqa: S104 - the proxy may be anywhere
        description="host:port. Default: 0.0.0.0:15016, none of Istio's ports, on every IPv4 "
        "interface.",
    )
    proxy: SpiffeIdName = Field(
        description="The proxy's SPIFFE ID; nobody else is served here, not even for a token.",
    )


class ClientCertificates(Section):
    """Whose certificates prove a caller, and where they are shown."""

    mutual_tls: MutualTls | None = Field(
        default=None,
        description="A port for clients that show their certificate themselves. Default: none.",
    )
    forwarded: ForwardedUnix | ForwardedMutualTls | None = Field(
        default=None,
        discriminator="type",
        description="A listener for a proxy that ends TLS and says in x-forwarded-client-cert "
        "who its client is: `unix` or `mutual_tls`. Everywhere else that header is ignored. "
        "Default: none.",
    )
    namespaces: tuple[Namespace, ...] | None = Field(
        default=None,
        min_length=1,
        description="The only namespaces whose workloads may renew by certificate; the others "
        "need a token each time. Default: none, all of them.",
    )
    denied: FilePath | None = Field(
        default=None,
        description="File with certificates that prove nobody any more, taken anew when it "
        "changes: one a line, by serial number or SHA-256 fingerprint in hex, or all of a SPIFFE "
        "ID; `#` begins a remark. Default: none.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.mutual_tls is None and self.forwarded is None:
            msg = "mutual_tls or forwarded, for without a listener nobody shows a certificate"
            raise ValueError(msg)
        return self

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The ports that it takes."""
        sections = (self.mutual_tls, self.forwarded)
        return tuple(
            one.address for one in sections if isinstance(one, MutualTls | ForwardedMutualTls)
        )
