"""A release of the chart on a real API server, with the parts that a node would run as processes.

There is no kubelet: a thread runs the hook's command with the Job's own account and tells the API
server that its pod has succeeded; `serving` runs the server with the account of the Deployment.
Paths of the pods' volumes become folders; nothing else of the rendered configuration changes.
"""

import base64
import http
import json
import os
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.conformance.chart.rendering import CHART, HELM, RELEASE
from tests.conformance.kubernetes.admin import CORE, Admin, Refusal
from tests.conformance.kubernetes.cluster import ADMIN_TOKEN, ControlPlane
from tests.conformance.server import Installation, RunningServer, free_address

ISTIO = "istio-system"
PATIENCE_S = 20.0
_HOOK = f"{RELEASE}-bootstrap"


def _is_ready(admin: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://{admin}/healthz/ready") as answer:
        return bool(answer.status == http.HTTPStatus.OK)
    return False


def wait_for(what: str, condition: Any, within_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds.

    Raises:
        AssertionError: It did not in time; says what was waited for.
    """
    ends_s = time.monotonic() + within_s
    while time.monotonic() < ends_s:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within {within_s} s: {what}")


@dataclass(slots=True, kw_only=True)
class Release:
    """The chart in a cluster.

    Attributes:
        cluster: Where.
        command: The `meshsigner` command.
        folder: For files.
        settings: Values that are set.
        hook_runs: How often the hook's command has run, with its exit codes.
    """

    cluster: ControlPlane
    command: Path
    folder: Path
    settings: Sequence[str]
    hook_runs: list[int] = field(default_factory=list)

    @property
    def admin(self) -> Admin:
        """The administrator."""
        return self.cluster.admin

    def helm(self, *arguments: str) -> str:
        """Run helm against the cluster, a kubelet for its hooks beside it."""
        kubeconfig = self.cluster.kubeconfig(self.folder / "admin.kubeconfig", token=ADMIN_TOKEN)
        sets = [part for setting in self.settings for part in ("--set", setting)]
        command: list[str] = [
            os.fspath(HELM),
            *arguments,
            "-n",
            RELEASE,
            "--kubeconfig",
            os.fspath(kubeconfig),
        ]
        if arguments[0] in {"install", "upgrade"}:
            command += [os.fspath(CHART), *sets, "--timeout", "60s"]
        done = threading.Event()
        kubelet = threading.Thread(target=self._run_hooks, args=(done,))
        kubelet.start()
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            done.set()
            kubelet.join()
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def get(self, path: str) -> dict[str, Any] | None:
        """Return an object, None when it is not there."""
        try:
            return self.admin.get(path)
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise

    @contextmanager
    def serving(self, within_s: float = PATIENCE_S) -> Iterator[RunningServer]:
        """Run the server as the Deployment's pod would, for the length of a block.

        Args:
            within_s: So long it has to be ready; without a right it may never be.
        """
        listen = free_address()
        admin = free_address(besides=listen)
        config = self._configuration(listen, admin)
        log = self.folder / "serve.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [self.command, "serve", "--config", config],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        server = RunningServer(
            installation=Installation(command=self.command, state_dir=self.folder),
            listen=listen,
            admin=admin,
            process=process,
            log=log,
        )
        try:
            with suppress(AssertionError):
                wait_for("readiness", lambda: _is_ready(admin), within_s)
            yield server
        finally:
            server.stop()

    @property
    def roots(self) -> bytes:
        """PEM of the mesh's roots."""
        return (self.folder / "ca" / "root-cert.pem").read_bytes()

    def _configuration(self, listen: str, admin: str) -> Path:
        kept = self.admin.get(f"{CORE}/namespaces/{RELEASE}/configmaps/{RELEASE}")
        config = yaml.safe_load(kept["data"]["config.yaml"])
        token = self.admin.token(RELEASE, RELEASE, audiences=())
        kubeconfig = str(self.cluster.kubeconfig(self.folder / "kubeconfig", token=token))
        for cluster in config["clusters"]:
            for one in (*cluster["authenticators"], cluster["node_authorization"]):
                one["kubeconfig"] = kubeconfig
        config["controllers"] |= {"kubeconfig": kubeconfig, "settle": "10ms"}
        config["remote_clusters"]["kubeconfig"] = kubeconfig
        config["issuer"]["path"] = str(self._mounted("meshsigner-ca", self.folder / "ca"))
        config["listen"]["address"], config["admin"] = listen, {"address": admin}
        config["listen"]["tls"]["directory"] = str(self.folder / "serving")
        config["inventory"]["path"] = str(self.folder / "inventory.db")
        config |= {"workers": 1}
        path = self.folder / "serve.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    def _mounted(self, secret: str, folder: Path) -> Path:
        """Write a Secret as a volume would have it."""
        folder.mkdir(mode=0o700, exist_ok=True)
        kept = self.admin.get(f"{CORE}/namespaces/{RELEASE}/secrets/{secret}")
        for name, content in kept["data"].items():
            file = folder / name
            file.write_bytes(base64.b64decode(content))
            file.chmod(0o600)
        return folder

    def _run_hooks(self, done: threading.Event) -> None:
        """Be the kubelet of the hook's pods."""
        admin = Admin(self.cluster.server, self.cluster.authority.roots, ADMIN_TOKEN)
        seen: set[str] = set()
        while not done.wait(0.1):
            pods = admin.get(
                f"{CORE}/namespaces/{RELEASE}/pods"
                "?labelSelector=app.kubernetes.io%2Fname%3Dmeshsigner-bootstrap"
            )["items"]
            for pod in pods:
                if pod["metadata"]["uid"] not in seen and pod["status"]["phase"] == "Pending":
                    seen.add(pod["metadata"]["uid"])
                    self._run_hook(admin, pod)
        admin.close()

    def _run_hook(self, admin: Admin, pod: Mapping[str, Any]) -> None:
        (container,) = pod["spec"]["containers"]
        kept = admin.get(f"{CORE}/namespaces/{RELEASE}/configmaps/{_HOOK}")
        config = yaml.safe_load(kept["data"]["config.yaml"])
        token = admin.token(RELEASE, pod["spec"]["serviceAccountName"], audiences=())
        kubeconfig = self.cluster.kubeconfig(self.folder / "hook.kubeconfig", token=token)
        config["controllers"]["kubeconfig"] = str(kubeconfig)
        file = self.folder / "hook.yaml"
        file.write_text(json.dumps(config))
        arguments = [
            os.fspath(file) if part == "/etc/meshsigner/config.yaml" else part
            for part in container["args"]
        ]
        ended = subprocess.run(
            [self.command, *arguments], capture_output=True, text=True, check=False, timeout=90
        )
        self.hook_runs.append(ended.returncode)
        with (self.folder / "hook.log").open("a") as log:
            log.write(ended.stdout + ended.stderr)
        phase = "Failed" if ended.returncode else "Succeeded"
        admin.set_phase(RELEASE, pod["metadata"]["name"], phase)
