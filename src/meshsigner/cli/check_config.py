"""`meshsigner check-config`: what a configuration means, before a server takes it."""

from pathlib import Path
from typing import Annotated

import typer

from meshsigner.cli.backends import TryPin, show_examined
from meshsigner.cli.exits import Exit, exit_codes
from meshsigner.cli.options import Json
from meshsigner.cli.terminal import fail, say, say_json
from meshsigner.config import Config, load_config
from meshsigner.config.agent import load_agent_config
from meshsigner.config.agent_reference import render_agent_reference
from meshsigner.config.model import Settings
from meshsigner.config.reference import render_effective, render_reference
from meshsigner.errors import ConfigurationError

Connect = Annotated[
    bool, typer.Option("--connect", help="Reach every signing backend and say what is missing.")
]
Agent = Annotated[bool, typer.Option("--agent", help="The agent's configuration.")]

HELP = f"""Check a configuration and print what is in effect, defaults and environment included.

Says all problems at once. Files that the configuration names are not opened, so that it can be
checked anywhere; `meshsigner serve` opens them before it starts. With --connect the signing
backends are reached instead, and what they lack is said in words: a role, a policy, a mechanism.

Example:

    meshsigner check-config meshsigner.yaml

{exit_codes(Exit.INPUT)}
"""


def check_config(
    file: Annotated[Path, typer.Argument(help="The YAML file.", metavar="FILE")],
    *,
    agent: Agent = False,
    connect: Connect = False,
    try_pin: TryPin = False,
    json: Json = False,
) -> None:
    """Check a file and print what it means."""
    try:
        config: Settings = load_agent_config(file) if agent else load_config(file)
    except ConfigurationError as error:
        count = len(error.problems)
        fail(Exit.INPUT, f"{file}: {count} problem{'s' if count > 1 else ''}", *error.problems)
    if connect and isinstance(config, Config):
        show_examined(config, try_pin=try_pin, json=json)
    elif json:
        say_json(config.model_dump(mode="json"))
    else:
        say(render_effective(config).rstrip())


REFERENCE_HELP = f"""Print all settings with units, defaults and their sources, as Markdown.

Example:

    meshsigner config-reference > docs/config.md

{exit_codes()}
"""


def config_reference(*, agent: Agent = False) -> None:
    """Print docs/config.md or docs/agent-config.md."""
    say((render_agent_reference() if agent else render_reference()).rstrip())
