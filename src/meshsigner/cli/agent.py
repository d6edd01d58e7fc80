"""`meshsigner agent`: keys, certificates and roots for an Envoy, over SDS."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import typer

from meshsigner.agent.keys import KeyType
from meshsigner.cli import agent_options as options
from meshsigner.cli.agent_status import ask, render_status
from meshsigner.cli.exits import Exit, exit_codes
from meshsigner.cli.options import Json
from meshsigner.cli.terminal import fail, say, say_json
from meshsigner.config.agent import (
    ISTIO_ROOT,
    ISTIO_SOCKET,
    ISTIO_TOKEN,
    build_agent_config,
    load_agent_config,
)
from meshsigner.config.fields import render_duration
from meshsigner.errors import ConfigurationError

HELP = "Serve an Envoy its key, certificate and roots over SDS, and keep them fresh."

RUN_HELP = f"""Run the agent until SIGTERM or Ctrl-C; SIGHUP renews all certificates.

Everything comes from the file of --config, or from the options: then there is one workload, whose
identity is its token's unless --identity says otherwise.

Example:

    meshsigner agent run --ca 127.0.0.1:15012 --ca-root root-cert.pem --token-file token

{exit_codes(Exit.INPUT)}
"""

STATUS_HELP = f"""Show what a running agent has: secrets, versions, expiry, renewal, subscribers.

Only the agent's own user, and root, may ask.

Example:

    meshsigner agent status --socket sds/socket.status

{exit_codes(Exit.INPUT, Exit.UNAVAILABLE)}
"""

_DAY = timedelta(hours=24)

app = typer.Typer(no_args_is_help=True)


@app.command("run", help=RUN_HELP)
def run(
    *,
    config: options.ConfigFile = None,
    ca: options.CaAddress = None,
    ca_root: options.CaRoot = ISTIO_ROOT,
    ca_name: options.CaName = None,
    cluster_id: options.ClusterId = "Kubernetes",
    token_file: options.TokenFile = ISTIO_TOKEN,
    identity: options.Identity = None,
    trust_domain: options.TrustDomain = "cluster.local",
    socket: options.Socket = ISTIO_SOCKET,
    key_type: options.Key = KeyType.P256,
    ttl: options.Ttl = _DAY,
    output_certs: options.OutputCerts = None,
    crl: options.Crl = None,
    status_socket: options.StatusSocket = None,
    admin: options.AdminAddress = None,
) -> None:
    """Serve secrets."""
    if (config is None) == (ca is None):
        raise typer.BadParameter("give one of the two", param_hint="--config, --ca")
    server = {"address": ca, "root_file": ca_root, "server_name": ca_name, "cluster_id": cluster_id}
    workload = {"identity": identity, "token_file": token_file, "socket": socket}
    workload |= {"key_type": key_type.value, "lifetime": render_duration(ttl)}
    workload |= {"output_directory": output_certs, "crl_file": crl}
    values = {"ca": server, "workloads": [workload], "trust_domain": trust_domain}
    _run(config, values | {"status_socket": status_socket, "admin": admin})


def _run(file: Path | None, values: Mapping[str, Any]) -> None:
    # The agent's libraries are only loaded where one is started.
    from meshsigner.cli.agent_parts import plan_of  # noqa: PLC0415
    from meshsigner.sidecar import become  # noqa: PLC0415

    source = "options" if file is None else str(file)
    try:
        config = (
            build_agent_config(_given(values), name=source)
            if file is None
            else load_agent_config(file)
        )
        plan = plan_of(config, source)
    except ConfigurationError as error:
        fail(Exit.INPUT, f"{source}: the agent cannot start with this", *error.problems)
    become(plan)


def _given(values: Any) -> Any:
    """Leave out options that were not given, so that the environment may say them."""
    if isinstance(values, Mapping):
        return {name: _given(value) for name, value in values.items() if value is not None}
    return [_given(value) for value in values] if isinstance(values, list) else values


@app.command("status", help=STATUS_HELP)
def status(
    *, socket: options.StatusOf = None, config: options.ConfigOf = None, json: Json = False
) -> None:
    """Show what an agent has."""
    path = _status_socket(socket, config)
    try:
        document = ask(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "what answers is no agent"
        advice = "Pass --socket or --config as the agent has them, and ask as its user."
        fail(Exit.UNAVAILABLE, f"no agent tells its status at {path}: {reason}", advice)
    if json:
        say_json(document)
    else:
        say(render_status(document))


def _status_socket(socket: Path | None, config: Path | None) -> Path:
    from meshsigner.cli.agent_parts import status_socket_of  # noqa: PLC0415

    if socket is not None or config is None:
        return socket or ISTIO_SOCKET.with_name(f"{ISTIO_SOCKET.name}.status")
    try:
        return status_socket_of(load_agent_config(config))
    except ConfigurationError as error:
        fail(Exit.INPUT, f"{config}: no configuration of an agent", *error.problems)
