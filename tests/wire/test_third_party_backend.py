"""A package of somebody else adds a backend: installed, listed, configured, reached, signing."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.fakes.authority import make_ca, write_cacerts

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "third_party_backend"

# What a server does with a configuration, without its port: open, start, sign, end.
SIGN = """
import asyncio, sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from meshsigner.app.problems import Problems
from meshsigner.app.signers import Backends
from meshsigner.config import load_config
from meshsigner.observe.metrics import Metrics
from tests.fakes.signing_world import names_of, signing_world

async def main() -> None:
    now = lambda: datetime.now(UTC)
    backends = Backends(load_config(Path(sys.argv[1])), clock=now, metrics=Metrics())
    async with AsyncExitStack() as closing:
        await backends.start(closing, Problems())
        async with signing_world(*backends.signers) as world:
            world.now = now()
            chain = await world.issue()
            (row,) = world.inventory.rows
            print(row.backend, names_of(chain)[0])

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Install the example as pip does, apart from the project's own environment."""
    target = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    build = ["--no-build-isolation", "--target", str(target), str(EXAMPLE)]
    subprocess.run([*pip, *build], check=True, timeout=120)
    return {**os.environ, "PYTHONPATH": f"{target}{os.pathsep}{ROOT}"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration that signs with it."""
    root = make_ca("root")
    issuer = make_ca("issuer", issuer=root)
    write_cacerts(tmp_path / "ca", issuer, chain=[issuer, root], roots=[root])
    path = tmp_path / "meshsigner.yaml"
    path.write_text(
        "trust_domain: cluster.local\nclusters: [{id: Kubernetes}]\n"
        "listen: {tls: {type: files, certificate: /a, key: /b}}\n"
        f"backends: {{corporate: {{type: acme_slow_ca, path: {tmp_path}/ca, delay: 50ms}}}}\n"
    )
    return path


def _run(environment: Mapping[str, str], *command: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        cwd=ROOT,
    )
    return done.stdout


def test_an_installed_kind_is_listed_with_its_options(installed: Mapping[str, str]) -> None:
    """`meshsigner backends` names the kind, its package and its settings."""
    kinds = json.loads(_run(installed, "-m", "meshsigner", "backends", "--json"))
    (found,) = [kind for kind in kinds if kind["type"] == "acme_slow_ca"]
    assert found["package"] == "acme-meshsigner 1.0.0"
    assert set(found["options"]) == {"path", "delay"}


def test_its_backend_is_checked_and_reached(installed: Mapping[str, str], config: Path) -> None:
    """`check-config` knows its settings, and --connect says what is there."""
    assert "delay: 50ms" in _run(installed, "-m", "meshsigner", "check-config", config)
    found = _run(installed, "-m", "meshsigner", "check-config", config, "--connect")
    assert found.startswith("corporate (acme_slow_ca): can sign")


def test_its_backend_signs(installed: Mapping[str, str], config: Path) -> None:
    """An order through the pipeline is signed by it, checked, and recorded under its name."""
    said = _run(installed, "-c", SIGN, config)
    assert said.splitlines()[-1] == "corporate spiffe://cluster.local/ns/foo/sa/bar"
