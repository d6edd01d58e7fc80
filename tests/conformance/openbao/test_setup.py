"""The commands and configurations of docs/backends.md do what they say, from nothing."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import yaml
from cryptography import x509

from tests.conformance.openbao.served import served
from tests.conformance.openbao.server import OpenBao, openbao_server
from tests.conformance.prerequisites import OPENBAO, PROJECT
from tests.conformance.softhsm.token import SoftHsm

PAGE = PROJECT / "docs" / "backends.md"
COMMANDS_S = 60.0


def block(language: str, beginning: str) -> str:
    """Return the one block of the page that begins so."""
    found = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (text,) = [text for text in found if beginning in text]
    return str(text)


def run(bao: OpenBao, folder: Path, title: str) -> None:
    """Run a block of commands as a person does, ending at the first that fails."""
    environment = {
        "PATH": f"{OPENBAO.parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "BAO_ADDR": bao.url,
        "BAO_CACERT": str(bao.ca_file),
        "BAO_TOKEN": bao.root_token,
    }
    commands = block("sh", f"# OpenBao: {title}\n")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMANDS_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def backends_of(bao: OpenBao, folder: Path, hsm: SoftHsm, line: str) -> dict[str, object]:
    """Return the page's configuration that has a line, with this test's places in it."""
    text = block("yaml", f"{line}\n")
    places = {
        "https://openbao.example.org:8200": bao.url,
        "/etc/meshsigner/openbao/ca.pem": str(bao.ca_file),
        "/etc/meshsigner/openbao/secret-id": str(folder / "secret-id"),
        "/etc/meshsigner/cacerts": str(folder / "cacerts"),
        "/var/lib/meshsigner/intermediate": str(folder / "intermediate"),
        "/etc/meshsigner/hsm-pin": str(hsm.pin_file),
        "9a8b7c6d-0000-4000-8000-000000000000": (folder / "role-id").read_text().strip(),
    }
    for written, here in places.items():
        text = text.replace(written, here)
    backends: dict[str, object] = yaml.safe_load(text)["backends"]
    return backends


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OpenBao, Path]]:
    """Run an OpenBao in which there is nothing, and the page's first commands on it."""
    folder = tmp_path_factory.mktemp("operator")
    with openbao_server(tmp_path_factory.mktemp("fresh")) as bao:
        run(bao, folder, "root and login")
        yield bao, folder


@pytest.mark.parametrize(
    ("title", "line"),
    [
        ("PKI", "type: openbao_pki"),
        ("transit", "type: openbao_transit"),
        ("intermediate", "keep: file"),
        ("intermediate", "keep: pkcs11"),
    ],
)
async def test_commands_lead_to_certificates(
    fresh: tuple[OpenBao, Path], plain_hsm: SoftHsm, tmp_path: Path, title: str, line: str
) -> None:
    """After the page's commands, with the page's configuration, callers get certificates."""
    bao, folder = fresh
    run(bao, folder, title)
    backends = backends_of(bao, folder, plain_hsm, line)
    root = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
    async with served(tmp_path / "server", backends) as server:  # type: ignore[arg-type]
        answers = [await server.ask(number) for number in range(5)]
    for answer in answers:
        assert answer.code is grpc.StatusCode.OK, answer.text
        assert answer.faults([root]) == []
