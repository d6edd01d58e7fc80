"""A real Kubernetes control plane on loopback: etcd, API server, and the controllers if wanted.

    with control_plane(folder) as cluster:
        cluster.admin.create_namespace("foo")
        cluster.admin.create_service_account("foo", "bar")
        pod = cluster.admin.create_pod("foo", "bar-0", "bar", node="node-1", phase="Running")
        token = cluster.admin.token("foo", "bar", pod=pod)
        mine = cluster.admin.token("foo", "bar", audiences=())  # for the API server itself
        cluster.kubeconfig(path, token=mine)

Each call makes a cluster of its own, with its own CA, token keys and ports, so that two of them
share nothing, except the issuer name that most clusters in the world share. Start takes 3 to 4
seconds, and 300 MB (410 MB with controllers). There is no scheduler and no kubelet: tests bind
pods, set their phase and delete them at once.

Faults: `cluster.api_server.freeze()`, `.thaw()`, `.stop()`; `cluster.start_api_server()` starts it
again on the same port with the same data; `cluster.etcd` has the same. What was asked of the API
server is in `cluster.audit_log`, if it was asked for (`Options.audit_policy`).

The programs are built by `make conformance-build`.
"""

import base64
import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa

from tests.conformance.go_binary import ETCD, KUBE_APISERVER, KUBE_CONTROLLER_MANAGER
from tests.conformance.kubernetes.admin import Admin, Refusal
from tests.conformance.kubernetes.authority import ClusterAuthority, write_service_account_key
from tests.conformance.kubernetes.processes import Program
from tests.conformance.server import free_address

START_TIMEOUT_S = 60.0
RAM_DISK = Path("/dev/shm")  # noqa: S108 - a folder of our own in it
ADMIN_TOKEN = "administrator"
CONTROLLER_TOKEN = "controllers"
DEFAULT_ISSUER = "https://kubernetes.default.svc.cluster.local"
# Those that make namespaces, Deployments and Jobs work. None that minds nodes: nodes here have no
# kubelet, and their pods would be evicted.
CONTROLLERS = (
    "deployment-controller",
    "garbage-collector-controller",
    "job-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "statefulset-controller",
)
SERVED_BETA = "certificates.k8s.io/v1beta1/clustertrustbundles=true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a cluster is started with.

    Attributes:
        issuer: Issuer of service-account tokens; by default the name that most clusters share,
            empty for the API server's own URL, so that its keys can be discovered there.
        controllers: Whether the controllers run too, without which there are no default service
            accounts, namespaces stay `Terminating`, and Deployments make no pods.
        audit_policy: An audit.k8s.io/v1 Policy; None writes no audit log.
        flags: Further flags of kube-apiserver.
        trust_bundles: Whether ClusterTrustBundle (v1beta1) is served.
    """

    issuer: str = DEFAULT_ISSUER
    controllers: bool = True
    audit_policy: Mapping[str, Any] | None = None
    flags: tuple[str, ...] = ()
    trust_bundles: bool = True


@dataclass(slots=True, kw_only=True)
class ControlPlane:
    """A cluster that runs, or parts of which do not for now.

    Attributes:
        folder: Its files.
        options: What it was started with.
        authority: Its CA: `authority.client(user, group)` makes client certificates.
        token_key: Key of its service-account tokens, for tests that forge some.
        server: `https://host:port` of the API server.
        etcd: The store.
        api_server: The API server.
        controllers: The controllers; they run only if the options say so.
        admin: An administrator of it.
    """

    folder: Path
    options: Options
    authority: ClusterAuthority
    token_key: rsa.RSAPrivateKey
    server: str
    etcd: Program
    api_server: Program
    controllers: Program
    admin: Admin
    _etcd_address: str = field(repr=False)

    @property
    def audit_log(self) -> Path:
        """File with one audit event a line, if the options asked for it."""
        return self.folder / "audit.log"

    def as_account(self, namespace: str, service_account: str) -> Admin:
        """Return a client with the rights of a service account; the caller closes it."""
        token = self.admin.token(namespace, service_account, audiences=())
        return Admin(self.server, self.authority.roots, token)

    def kubeconfig(self, path: Path, *, token: str) -> Path:
        """Write a kubeconfig with everything inline, and return its path.

        Args:
            path: Where; replaced in one step if it is there, as Kubernetes does.
            token: Bearer token of its user.
        """
        unfinished = path.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(self.kubeconfig_document({"token": token})))
        unfinished.replace(path)
        return path

    def kubeconfig_document(self, user: Mapping[str, Any]) -> dict[str, Any]:
        """Return a kubeconfig's content for a user of it, for tests that change some of it."""
        return _kubeconfig(self.server, self.authority, user)

    def start_etcd(self) -> None:
        """Start the store and wait until it answers."""
        self.etcd.start(lambda: _accepts(self._etcd_address), timeout_s=START_TIMEOUT_S)

    def start_api_server(self) -> None:
        """Start the API server and wait until it is ready."""
        self.api_server.start(self._is_ready, timeout_s=START_TIMEOUT_S)

    def start_controllers(self) -> None:
        """Start the controllers; they are ready once the first default account is there."""
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        self.controllers.start(lambda: self.admin.exists(account), timeout_s=START_TIMEOUT_S)

    def stop(self) -> None:
        """End everything that still runs."""
        self.admin.close()
        for program in (self.controllers, self.api_server, self.etcd):
            program.stop()

    def _is_ready(self) -> bool:
        try:
            self.admin.get("/readyz")
        except (OSError, Refusal):
            return False
        return True


@contextlib.contextmanager
def control_plane(folder: Path, options: Options | None = None) -> Iterator[ControlPlane]:
    """Have a cluster for the length of a block.

    Args:
        folder: An empty folder for its files and logs.
        options: What it is started with.

    Raises:
        RuntimeError: A part of it did not start; the text holds the end of its log.
    """
    ram_disk = RAM_DISK if os.access(RAM_DISK, os.W_OK) else None
    data = Path(tempfile.mkdtemp(prefix="meshsigner-etcd-", dir=ram_disk))
    cluster = _prepare(folder, data, options or Options())
    try:
        cluster.start_etcd()
        cluster.start_api_server()
        if cluster.options.controllers:
            cluster.start_controllers()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(data)


def _prepare(folder: Path, data: Path, options: Options) -> ControlPlane:
    """Write all files and command lines of a cluster."""
    authority = ClusterAuthority.create(folder)
    token_key = write_service_account_key(folder / "service-accounts.key")
    _write_users(folder / "tokens.csv")
    addresses = _free_addresses(3)
    etcd_address, api_address, peer_address = addresses
    server = f"https://{api_address}"
    admin = Admin(server, authority.roots, ADMIN_TOKEN)
    return ControlPlane(
        folder=folder,
        options=options,
        authority=authority,
        token_key=token_key,
        server=server,
        admin=admin,
        etcd=Program(
            command=_etcd_command(data, etcd_address, peer_address), log=folder / "etcd.log"
        ),
        api_server=Program(
            command=_api_server_command(folder, authority, etcd_address, api_address, options),
            log=folder / "kube-apiserver.log",
        ),
        controllers=Program(
            command=_controllers_command(folder, server, authority),
            log=folder / "kube-controller-manager.log",
        ),
        _etcd_address=etcd_address,
    )


def _etcd_command(data: Path, client: str, peer: str) -> list[str]:
    urls = {
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
    }
    flags = [f"--{name}=http://{address}" for name, address in urls.items()]
    # Nothing here outlives the machine, so nothing waits for a disk.
    more = ["--unsafe-no-fsync", f"--initial-cluster=default=http://{peer}", "--log-level=warn"]
    return [str(ETCD.path), f"--data-dir={data}", *flags, *more]


def _api_server_command(
    folder: Path, authority: ClusterAuthority, etcd: str, address: str, options: Options
) -> list[str]:
    certificate, key = authority.serving()
    token_key = folder / "service-accounts.key"
    flags = {
        "etcd-servers": f"http://{etcd}",
        "bind-address": "127.0.0.1",
        "secure-port": address.rpartition(":")[2],
        "tls-cert-file": certificate,
        "tls-private-key-file": key,
        "client-ca-file": authority.roots,
        "cert-dir": folder,
        "service-account-issuer": options.issuer or f"https://{address}",
        "service-account-jwks-uri": f"https://{address}/openid/v1/jwks",
        "service-account-key-file": token_key,
        "service-account-signing-key-file": token_key,
        "service-cluster-ip-range": "10.0.0.0/24",
        "authorization-mode": "RBAC",
        "token-auth-file": folder / "tokens.csv",
        **(_trust_bundle_flags() if options.trust_bundles else {}),
        **(_audit_flags(folder, options.audit_policy) if options.audit_policy else {}),
    }
    given = [f"--{name}={value}" for name, value in flags.items()]
    return [str(KUBE_APISERVER.path), *given, *options.flags]


def _trust_bundle_flags() -> dict[str, object]:
    return {"feature-gates": "ClusterTrustBundle=true", "runtime-config": SERVED_BETA}


def _audit_flags(folder: Path, policy: Mapping[str, Any]) -> dict[str, object]:
    file = folder / "audit-policy.json"  # JSON is YAML
    file.write_text(json.dumps(policy))
    return {"audit-policy-file": file, "audit-log-path": folder / "audit.log"}


def _controllers_command(folder: Path, server: str, authority: ClusterAuthority) -> list[str]:
    kubeconfig = folder / "controllers.kubeconfig"
    kubeconfig.write_text(json.dumps(_kubeconfig(server, authority, {"token": CONTROLLER_TOKEN})))
    flags = {
        "kubeconfig": kubeconfig,
        "root-ca-file": authority.roots,
        "controllers": ",".join(CONTROLLERS),
        "leader-elect": "false",
        "secure-port": "0",
        "use-service-account-credentials": "false",
        "allocate-node-cidrs": "false",
    }
    return [str(KUBE_CONTROLLER_MANAGER.path), *(f"--{k}={v}" for k, v in flags.items())]


def _kubeconfig(
    server: str, authority: ClusterAuthority, user: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of a kubeconfig with an inline CA."""
    roots = base64.b64encode(authority.roots.read_bytes()).decode()
    cluster = {"server": server, "certificate-authority-data": roots}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": dict(user)}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }


def _write_users(path: Path) -> None:
    """Write the static users: token, name, uid, groups."""
    lines = [
        f"{ADMIN_TOKEN},administrator,administrator,system:masters",
        f"{CONTROLLER_TOKEN},controllers,controllers,system:masters",
    ]
    path.write_text("\n".join(lines) + "\n")


def _free_addresses(count: int) -> list[str]:
    addresses: list[str] = []
    while len(addresses) < count:
        address = free_address()
        if address not in addresses:
            addresses.append(address)
    return addresses


def _accepts(address: str) -> bool:
    where = urlsplit(f"//{address}")
    try:
        socket.create_connection((where.hostname, where.port), timeout=1.0).close()
    except OSError:
        return False
    return True
