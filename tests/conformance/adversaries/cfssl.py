"""CFSSL as Debian has it: it answers 200, and drops the URI of the CSR."""

import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
from cryptography import x509

from meshsigner.model import Order
from tests.conformance.adversaries.remote import (
    RealRemote,
    ServerProcess,
    free_port,
    http_session,
)

TIMEOUT_S = 30.0
CA_REQUEST = {"CN": "cfssl root", "key": {"algo": "ecdsa", "size": 256}, "ca": {"expiry": "8760h"}}
SIGNING = {
    "signing": {
        "default": {
            "expiry": "1h",
            "usages": ["signing", "key encipherment", "server auth", "client auth"],
        }
    }
}


class Cfssl(RealRemote):
    """A running CFSSL.

    Args:
        root: Its CA, which signs by itself.
        url: Where it listens.
        session: To ask with.
    """

    def __init__(self, root: x509.Certificate, url: str, session: aiohttp.ClientSession) -> None:
        super().__init__("cfssl", [root], [root])
        self._url = url
        self._session = session

    async def ask(self, order: Order) -> str | None:
        """Call `sign`."""
        body = {"certificate_request": order.csr_pem.decode()}
        async with self._session.post(f"{self._url}/api/v1/cfssl/sign", json=body) as response:
            answer = await response.json()
        if not answer["success"]:
            return None
        certificate: str = answer["result"]["certificate"]
        return certificate


@contextlib.asynccontextmanager
async def running_cfssl(directory: Path) -> AsyncIterator[Cfssl]:
    """Make a CA and have CFSSL serve it for the length of a block."""
    request = json.dumps(CA_REQUEST).encode()
    made = json.loads(_run("cfssl", "gencert", "-initca", "-", stdin=request))
    for name, part in (("ca.pem", "cert"), ("ca-key.pem", "key")):
        (directory / name).touch(mode=0o600)
        (directory / name).write_text(made[part])
    (directory / "config.json").write_text(json.dumps(SIGNING))
    port = free_port()
    where = ("-address", "127.0.0.1", "-port", str(port))
    files = ("-ca", directory / "ca.pem", "-ca-key", directory / "ca-key.pem")
    command = ["cfssl", "serve", *where, *map(str, files), "-config"]
    command.append(str(directory / "config.json"))
    root = x509.load_pem_x509_certificate(made["cert"].encode())
    server = ServerProcess(command, port=port, log=directory / "cfssl.log")
    async with server, http_session() as session:
        yield Cfssl(root, f"http://127.0.0.1:{port}", session)


def _run(*command: str, stdin: bytes) -> bytes:
    done = subprocess.run(command, check=False, input=stdin, capture_output=True, timeout=TIMEOUT_S)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
