"""Starts Istio's own agent as in a pod, with a CA's address at which only connections are counted.

What it finds in its folder is the tests' matter. Only processes that were started here are ended.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.go_binary import PILOT_AGENT
from tests.conformance.sds import envoy
from tests.conformance.sds.bootstrap import Bootstrap
from tests.conformance.server import free_address

# Where istio-agent looks, below its working directory.
SECRETS = Path("var/run/secrets")
SOCKET = SECRETS / "workload-spiffe-uds" / "socket"
TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.05
LOG_TAIL = 4_000  # characters


@dataclass(slots=True)
class Door:
    """A place where a CA could be: counts who knocks, and closes on them.

    Attributes:
        address: host:port.
        knocks: How many connections came.
    """

    address: str
    knocks: int = 0


@contextlib.contextmanager
def door() -> Iterator[Door]:
    """Have such a place for the length of a block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(POLL_S)
        host, port = listener.getsockname()
        made, closing = Door(address=f"{host}:{port}"), threading.Event()

        def answer() -> None:
            while not closing.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = listener.accept()
                    made.knocks += 1
                    connection.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            closing.set()
            thread.join()


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotAgent:
    """Istio's agent that runs.

    Attributes:
        process: The process.
        log: File that gets its output, Envoy's in it.
    """

    process: "subprocess.Popen[bytes]"
    log: Path

    def wait(self, reached: Callable[[], bool], what: str) -> None:
        """Wait for a state.

        Raises:
            AssertionError: It was not reached, or the agent ended.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while not reached():
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                msg = f"no {what} (exit status {ended}):\n{self.text()[-LOG_TAIL:]}"
                raise AssertionError(msg)
            time.sleep(POLL_S)

    def text(self) -> str:
        """Return its log so far."""
        return self.log.read_text(errors="replace")


def prepare(pod: Path, roots: Path, token: Path) -> None:
    """Lay out what a pod's volumes hold, but for the socket."""
    for name, source in (("istio/root-cert.pem", roots), ("tokens/istio-token", token)):
        path = pod / SECRETS / name
        path.parent.mkdir(parents=True)
        path.write_bytes(source.read_bytes())


@contextlib.contextmanager
def running(pod: Path, ca: Door, bootstrap: Bootstrap, account: str) -> Iterator[PilotAgent]:
    """Have Istio's agent with an Envoy for the length of a block.

    Args:
        pod: Its working directory.
        ca: Where it is told that the CA is.
        bootstrap: What its Envoy is started with.
        account: Its service account, in namespace `foo`.
    """
    log = pod / "pilot-agent.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [PILOT_AGENT.path, "proxy", "sidecar"],
            cwd=pod,
            env=os.environ | _environment(pod, ca, bootstrap, account),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield PilotAgent(process=process, log=log)
    finally:
        _stop(process)


def _environment(pod: Path, ca: Door, bootstrap: Bootstrap, account: str) -> dict[str, str]:
    """Tell it what a pod's template would."""
    config = pod / "bootstrap.json"
    config.write_text(json.dumps(bootstrap.document()))
    proxy = {
        "discoveryAddress": free_address(),  # no istiod: Envoy's whole bootstrap is in the file
        "binaryPath": os.fspath(envoy.binary()),
        "configPath": os.fspath(pod / "proxy"),
        "customConfigFile": os.fspath(config),
        "statusPort": _port(free_address()),  # it must have one; nobody asks there
        "proxyAdminPort": _port(bootstrap.admin),
        "concurrency": 1,
        "terminationDrainDuration": "0.1s",
    }
    return {
        "CA_ADDR": ca.address,
        "PROXY_CONFIG": json.dumps(proxy),
        "POD_NAME": f"{account}-0",
        "POD_NAMESPACE": "foo",
        "SERVICE_ACCOUNT": account,
        "INSTANCE_IP": "127.0.0.1",
        "TRUST_DOMAIN": "cluster.local",
        "ISTIO_META_CLUSTER_ID": "Kubernetes",
        "MINIMUM_DRAIN_DURATION": "0s",
    }


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the session that was made for it and its Envoy
        process.wait(STOP_TIMEOUT_S)
