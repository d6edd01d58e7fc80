"""docs/backends.md, its commands run as they stand: from nothing to a certificate by an HSM."""

import json
import os
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshsigner.cli.dev_state import DevState
from tests.conformance.softhsm.served import make_root, write_serving
from tests.conformance.softhsm.token import PIN
from tests.secret_scan import Secrets
from tests.wire.processes import command, invoke, running

PAGE = Path(__file__).resolve().parents[3] / "docs" / "backends.md"
PLACE = "/etc/meshsigner"
TIMEOUT_S = 60.0
LISTEN = "listen:\n  address: 127.0.0.1:0\n"
ADMIN = 'admin: {address: "127.0.0.1:0"}\nworkers: 1\n'


def blocks(language: str, *, heading: str) -> list[str]:
    """Return the blocks of one language below a heading of the page."""
    section = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    (text,) = (part for part in section if part.startswith(heading))
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a directory that stands for /etc/meshsigner, with what other pages tell how to get."""
    place = tmp_path / "etc"
    place.mkdir()
    DevState(place / ".state").prepare(datetime.now(UTC))
    (place / ".state" / "jwks.json").rename(place / "jwks.json")
    (place / "bin").mkdir()
    (place / "bin" / "meshsigner").symlink_to(request.config.getoption("--meshsigner"))
    write_serving(place, make_root(place), names=("tls.crt", "tls.key"))
    who = ("--namespace", "shop", "--service-account", "cart")
    (place / "token").write_text(invoke("dev", "token", *who, cwd=place).stdout)
    return place


def run(place: Path, *commands: str) -> str:
    """Run a page's commands in one shell, and return what they print."""
    text = "\n".join(["set -euo pipefail", *commands]).replace(PLACE, str(place))
    done = subprocess.run(
        ["bash", "-c", text],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=place,
        env={**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_key_in_an_hsm_from_nothing(
    place: Path, no_secrets: Secrets, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token, key, request, certificate, check and server: each command does its part."""
    (text,) = blocks("yaml", heading="A key in an HSM")
    text = text.replace(PLACE, str(place)).replace("listen:\n", LISTEN) + ADMIN
    (place / "meshsigner.yaml").write_text(text)
    told = run(place, *blocks("bash", heading="A key in an HSM"))
    assert "signs for the CA's certificate" in told
    assert PIN not in told
    monkeypatch.setenv("SOFTHSM2_CONF", str(place / "hsm" / "softhsm2.conf"))
    where = ("serve", "--config", "meshsigner.yaml")
    with running(*where, cwd=place, secrets=no_secrets) as server:
        ask = ("request", "--server", server.address(), "--root", "root.pem")
        done = command(*ask, "--token-file", "token", "--key-type", "p256", "--json", cwd=place)
        assert done.returncode == 0, done.stderr
        listed = command("inventory", "list", "--config", "meshsigner.yaml", "--json", cwd=place)
    assert [row["backend"] for row in json.loads(listed.stdout)] == ["hsm"]


def test_intermediate_in_files_from_nothing(place: Path) -> None:
    """Request, signature, installation and status for a CA whose key is in a file."""
    told = run(place, *blocks("bash", heading="An intermediate that people sign"))
    assert "meshsigner intermediate" in told
    assert (place / "cacerts" / "ca-key.pem").stat().st_mode & 0o777 == 0o600
