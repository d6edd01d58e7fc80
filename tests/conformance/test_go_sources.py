"""The Go programs of the project are kept to Go's own rules, as ruff and mypy keep the rest."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.conformance.go_binary import (
    BUILD_ENVIRONMENT,
    ETCD,
    ISTIO_CA,
    ISTIO_CLIENT,
    KUBE_APISERVER,
    KUBERNETES_VERSION,
    PILOT_AGENT,
    GoBinary,
)


@pytest.mark.parametrize("binary", [ISTIO_CLIENT, ISTIO_CA], ids=lambda binary: binary.name)
def test_go_sources_are_formatted(binary: GoBinary) -> None:
    """`gofmt` would change nothing."""
    root = subprocess.check_output(["go", "env", "GOROOT"], cwd=binary.module, text=True).strip()
    gofmt = Path(root) / "bin" / "gofmt"  # the one of the Go that builds, on PATH or not
    done = subprocess.run([gofmt, "-l", binary.module], check=True, capture_output=True, text=True)
    assert done.stdout == ""


def test_go_vet_finds_nothing() -> None:
    """`go vet` has no complaint; of the CA it would look at half of istiod, for two minutes."""
    environment = os.environ | BUILD_ENVIRONMENT
    done = subprocess.run(
        ["go", "vet", "-trimpath", "."],  # as it was built, so that nothing is compiled again
        cwd=ISTIO_CLIENT.module,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr


def test_client_agent_and_ca_are_of_one_istio() -> None:
    """Istio's client code, agent and CA come from the same version of one module."""
    versions = set()
    for binary in (ISTIO_CLIENT, PILOT_AGENT, ISTIO_CA):
        lines = (binary.module / "go.mod").read_text().splitlines()
        (line,) = [line for line in lines if line.strip().startswith("istio.io/istio ")]
        versions.add(line.split()[1])
    assert len(versions) == 1, versions


def test_kubernetes_says_the_version_it_is_of() -> None:
    """The version that is linked into the API server is the one of the module it is built from."""
    lines = [line.split() for line in (KUBE_APISERVER.module / "go.mod").read_text().splitlines()]
    assert ["require", "k8s.io/kubernetes", KUBERNETES_VERSION] in lines
    assert KUBERNETES_VERSION in KUBE_APISERVER.linker_flags
    assert ETCD.module == KUBE_APISERVER.module
