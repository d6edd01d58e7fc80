"""Options of `meshsigner agent run`: the common case, one workload, without a file."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from meshsigner.agent.keys import KeyType
from meshsigner.cli.options import duration

ConfigFile = Annotated[Path | None, typer.Option(help="The YAML file; see docs/agent-config.md.")]
CaAddress = Annotated[str | None, typer.Option(help="The CA, HOST:PORT.")]
CaRoot = Annotated[Path, typer.Option(help="PEM file: roots of the CA's serving certificate.")]
CaName = Annotated[
    str | None, typer.Option(help="Name in the CA's certificate.", show_default="the host of --ca")
]
ClusterId = Annotated[str, typer.Option(help="The token's cluster.")]
TokenFile = Annotated[Path, typer.Option(help="File with the workload's token.")]
Identity = Annotated[
    str | None,
    typer.Option(help="The workload's SPIFFE ID.", show_default="its token's account"),
]
TrustDomain = Annotated[
    str, typer.Option(help="Trust domain of an identity that comes from the token.")
]
Socket = Annotated[Path, typer.Option(help="Unix socket where Envoy looks.")]
Key = Annotated[KeyType, typer.Option("--key-type", help="Kind of the keys.")]
Ttl = Annotated[
    timedelta,
    typer.Option(parser=duration, metavar="DURATION", show_default="24h", help="Wished lifetime."),
]
OutputCerts = Annotated[
    Path | None, typer.Option(help="Directory for key.pem, cert-chain.pem and root-cert.pem.")
]
Crl = Annotated[Path | None, typer.Option(help="PEM file of CRLs for Envoy.")]
StatusSocket = Annotated[
    Path | None,
    typer.Option(help="Unix socket for `agent status`.", show_default="--socket and .status"),
]
AdminAddress = Annotated[
    str | None, typer.Option(help="HOST:PORT for probes and metrics.", show_default="none")
]
StatusOf = Annotated[
    Path | None,
    typer.Option("--socket", help="The agent's status socket.", show_default="that of --config"),
]
ConfigOf = Annotated[Path | None, typer.Option("--config", help="The agent's YAML file.")]
