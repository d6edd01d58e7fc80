"""Whether the command line describes a run, and says what is wrong with it."""

import os
from pathlib import Path

import pytest
import typer
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.commands import Options
from benchmarks.scenarios.ambient import AMBIENT
from benchmarks.scenarios.churn import CHURN
from benchmarks.scenarios.every import EVERY
from benchmarks.scenarios.subjects import Foreign


def test_every_scenario_is_a_command_with_the_same_options() -> None:
    """Each scenario's command takes the options of a run and shows them."""
    for scenario in EVERY:
        shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, [scenario.name, "--help"])
        assert shown.exit_code == 0
        for option in ("--seconds", "--rate", "--workers", "--rsa-csr", "--ca", "--server"):
            assert option in shown.output


def test_defaults_are_the_scenarios_own() -> None:
    """Sidecars have RSA keys, ztunnels EC keys, unless the command line says otherwise."""
    assert Options().settings(CHURN).csr == "rsa2048"
    assert Options().settings(AMBIENT).csr == "p256"
    assert Options(rsa_csr=True).settings(AMBIENT).csr == "rsa2048"
    assert Options(short=True).settings(AMBIENT).connections == 20
    assert Options(minutes=2).settings(CHURN).seconds == 120


def test_drivers_get_the_cores_that_the_server_leaves() -> None:
    """A server on one CPU has its drivers on the others; one on all shares them."""
    every = tuple(sorted(os.sched_getaffinity(0)))
    settings = Options(cores=str(every[0])).settings(CHURN)
    assert settings.server_cores == every[:1]
    assert settings.driver_cores == (every[1:] or every)
    assert Options(workers=len(every)).settings(CHURN).driver_cores == every


def test_server_of_somebody_else_is_taken_as_it_is(tmp_path: Path) -> None:
    """Address, roots, token issuer and process of a foreign server come from the options."""
    key = rsa.generate_private_key(65537, 2048)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    settings = Options(
        server="127.0.0.1:15012",
        root=tmp_path / "root.pem",
        token_key=tmp_path / "key.pem",
        token_key_id="k1",
        token_issuer="https://issuer.example",
        server_pid=42,
        trust_domain="mesh.example",
    ).settings(CHURN)
    assert isinstance(settings.subject, Foreign)
    assert (settings.subject.server.host, settings.subject.server.port) == ("127.0.0.1", 15012)
    assert (settings.subject.pid, settings.trust_domain) == (42, "mesh.example")
    assert settings.tokens is not None
    assert (settings.tokens.key_id, settings.tokens.issuer) == ("k1", "https://issuer.example")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"server": "127.0.0.1:1"}, "--server needs --root and --token-key"),
        ({"server": "nowhere", "root": Path("r"), "token_key": Path("k")}, "is not HOST:PORT"),
        ({"cores": "0-1"}, "no list of CPUs"),
    ],
)
def test_contradictions_are_told(options: dict[str, object], problem: str) -> None:
    """A command line that describes no run is refused in words."""
    with pytest.raises(typer.BadParameter, match=problem):
        Options(**options).settings(CHURN)  # type: ignore[arg-type]
