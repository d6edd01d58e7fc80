"""Builds the Go programs of this tier and finds them; what they are run for is others' matter.

A binary is kept outside the tree, under a name that says from what it was built, so that it is
built once and shared by clones. Go's own build and module caches stay where Go puts them.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# No cgo, so that a C compiler is no prerequisite and the binary is the same with and without one.
BUILD_ENVIRONMENT = {"CGO_ENABLED": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class GoBinary:
    """A Go program.

    Attributes:
        name: File name of the binary.
        module: Folder with its go.mod.
        package: What is built there, an import path or `.`.
        linker_flags: What the linker writes into it, such as a version.
    """

    name: str
    module: Path
    package: str = "."
    linker_flags: str = ""

    @property
    def path(self) -> Path:
        """Where the binary of these very sources is, built or not.

        Raises:
            FileNotFoundError: No `go` on PATH.
            subprocess.CalledProcessError: Go does not run.
        """
        return _cache_root() / self._fingerprint() / self.name

    def is_built(self) -> bool:
        """Tell whether the binary of these very sources is there."""
        try:
            return self.path.is_file()
        except (FileNotFoundError, subprocess.CalledProcessError):
            return False

    def build(self) -> Path:
        """Build the program unless it is there, and return its path.

        A second build of the same sources waits for the first: CI starts one in the background.
        """
        binary = self.path
        binary.parent.mkdir(parents=True, exist_ok=True)
        with (binary.parent / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not binary.is_file():
                unfinished = binary.with_suffix(".new")
                build = ["go", "build", "-p", "2", "-trimpath", "-ldflags", self.linker_flags]
                subprocess.run(
                    ["nice", "-n", "5", *build, "-o", str(unfinished), self.package],
                    cwd=self.module,
                    env=os.environ | BUILD_ENVIRONMENT,
                    check=True,
                )
                unfinished.replace(binary)
        return binary

    def _fingerprint(self) -> str:
        """Name what the binary is made of: sources, locked modules, and the Go that builds them."""
        version = subprocess.run(
            ["go", "env", "GOVERSION", "GOOS", "GOARCH"],
            cwd=self.module,
            check=True,
            capture_output=True,
        )
        digest = hashlib.sha256(version.stdout)
        locks = [self.module / "go.mod", self.module / "go.sum"]
        for source in sorted([*self.module.glob("*.go"), *locks]):
            digest.update(f"{source.name}\0".encode() + source.read_bytes() + b"\0")
        digest.update(self.linker_flags.encode())
        return digest.hexdigest()[:20]


def _cache_root() -> Path:
    """Return where built binaries are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "meshsigner"


ISTIO_CLIENT = GoBinary(name="istio-client", module=FOLDER / "istio")
# Istio's own agent as it is: the module in this folder only says which version.
PILOT_AGENT = GoBinary(
    name="pilot-agent",
    module=FOLDER / "pilot_agent",
    package="istio.io/istio/pilot/cmd/pilot-agent",
)
# Istio's own CA without Kubernetes, to be measured beside meshsigner.
ISTIO_CA = GoBinary(name="istio-ca", module=FOLDER.parents[1] / "benchmarks" / "peers" / "istio_ca")

KUBERNETES = FOLDER / "kubernetes"
KUBERNETES_VERSION = "v1.34.4"
_VERSION_PACKAGE = "k8s.io/component-base/version"
# Clients read the version, which is otherwise that of no release; helm refuses such a server.
_KUBERNETES_FLAGS = (
    f"-s -w -X {_VERSION_PACKAGE}.gitVersion={KUBERNETES_VERSION}"
    f" -X {_VERSION_PACKAGE}.gitMajor=1 -X {_VERSION_PACKAGE}.gitMinor=34"
)
KUBE_APISERVER = GoBinary(
    name="kube-apiserver",
    module=KUBERNETES,
    package="k8s.io/kubernetes/cmd/kube-apiserver",
    linker_flags=_KUBERNETES_FLAGS,
)
# After the API server, whose dependencies hold nearly all of its.
ETCD = GoBinary(
    name="etcd",
    module=KUBERNETES,
    package="go.etcd.io/etcd/server/v3",
    linker_flags=_KUBERNETES_FLAGS,
)
KUBE_CONTROLLER_MANAGER = GoBinary(
    name="kube-controller-manager",
    module=KUBERNETES,
    package="k8s.io/kubernetes/cmd/kube-controller-manager",
    linker_flags=_KUBERNETES_FLAGS,
)
ALL = (ISTIO_CLIENT, PILOT_AGENT, ISTIO_CA, KUBE_APISERVER, ETCD, KUBE_CONTROLLER_MANAGER)


if __name__ == "__main__":
    for each in ALL:
        sys.stdout.write(f"{each.build()}\n")
