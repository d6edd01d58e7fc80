"""What all commands have in common: help, examples, exit codes, completion."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import typer
from typer.testing import Result

from meshsigner.cli import app
from meshsigner.cli.exits import Exit

Run = Callable[..., Result]


def _commands(group: typer.Typer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for command in group.registered_commands:
        yield (*path, command.name or "")
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from _commands(inner.typer_instance, (*path, inner.name or ""))


COMMANDS = list(_commands(app))


def test_commands_are_those_of_the_documentation() -> None:
    """Every command that people are told of is there."""
    assert {" ".join(command) for command in COMMANDS} == {
        "serve",
        "request",
        "backends",
        "check-config",
        "config-reference",
        "version",
        "dev run",
        "dev token",
        "agent run",
        "agent status",
        "inventory list",
        "inventory show",
        "cluster bootstrap",
        "cluster run",
        "intermediate request",
        "intermediate install",
        "intermediate status",
    }


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example_and_the_exit_codes(run: Run, command: tuple[str, ...]) -> None:
    """Each command's help has an example of itself, and says what its exit codes mean."""
    text = run(*command, "--help").output
    assert re.search(r"Examples?:", text)
    assert " ".join(("meshsigner", *command)) in text.partition("Example")[2]
    assert "Exit codes: 0 " in text


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_unknown_option_is_a_wrong_command_line(run: Run, command: tuple[str, ...]) -> None:
    """A misspelt option ends with the exit code for a wrong command line."""
    run(*command, "--no-such-option", code=Exit.USAGE)


@pytest.mark.parametrize("group", [(), ("dev",), ("inventory",)])
def test_group_alone_shows_its_commands(run: Run, group: tuple[str, ...]) -> None:
    """Without a command, the commands that there are are shown."""
    text = run(*group, code=Exit.USAGE).output
    depth = len(group) + 1
    assert all(c[depth - 1] in text for c in COMMANDS if c[: depth - 1] == group)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown_for_a_shell(shell: str) -> None:
    """Shell completion is there for the usual shells."""
    done = _completion(way=f"complete_{shell}", words="meshsigner dev ")
    assert {"run", "token"} <= set(re.findall(r"\w+", done))


def _completion(*, way: str, words: str) -> str:
    environment = {
        **os.environ,
        "_MESHSIGNER_COMPLETE": way,
        "COMP_WORDS": words,
        "COMP_CWORD": "2",
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'meshsigner'; import meshsigner.cli as c; c.main()",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout


def test_help_does_not_load_the_server() -> None:
    """Help and completion answer at once: they do not load what only a server needs."""
    code = "import sys, meshsigner.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    only_of_servers = {"meshsigner.app", "uvloop", "aiohttp", "prometheus_client"}
    assert not only_of_servers & set(loaded.stdout.split())


def test_version_names_what_security_rests_on(run: Run) -> None:
    """The versions of the libraries that do TLS and signatures are shown."""
    text = run("version").output
    assert "cryptography" in text
    assert "grpcio" in text


@pytest.mark.parametrize(("environment", "known"), [({}, True), ({"GRPC_EXPERIMENTS": "x"}, False)])
def test_grpc_still_knows_what_it_is_told(environment: dict[str, str], *, known: bool) -> None:
    """A grpcio that has dropped the switch is noticed here; whoever sets another has that one."""
    serve = (
        "import meshsigner.cli, grpc; from concurrent.futures import ThreadPoolExecutor as Pool; "
        "server = grpc.server(Pool(1)); server.start(); server.stop(None).wait()"
    )
    done = subprocess.run(
        [sys.executable, "-c", serve],
        env={"PATH": os.environ["PATH"], "GRPC_VERBOSITY": "ERROR", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ("Unknown experiment" not in done.stderr) == known
