"""Builds the Go program in `istio/` and runs its cases; what a case demands is decided there.

The binary is kept outside the tree, under a name that says from what it was built, so that it is
built once and shared by clones. Go's own build and module caches stay where Go puts them.
"""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).resolve().parent / "istio"
# No cgo, so that a C compiler is no prerequisite and the binary is the same with and without one.
BUILD_ENVIRONMENT = {"CGO_ENABLED": "0"}
RUN_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseReport:
    """What one case of the Go program saw, as its `report` type tells.

    Args:
        name: Name of the case.
        ok: Whether it held.
        code: gRPC status of the last attempt in Go's spelling, empty without a call.
        message: Text of that status.
        attempts: How often Istio's client sent the request.
        pem: The chain as received, leaf first.
        chain: What the leaf says of itself.
        tls: What the handshake agreed on.
        error: Why the case does not hold.
    """

    name: str
    ok: bool
    code: str = ""
    message: str = ""
    attempts: int = 0
    pem: tuple[str, ...] = ()
    chain: Mapping[str, Any] = field(default_factory=dict)
    tls: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    @classmethod
    def parse(cls, line: str) -> "CaseReport":
        """Read one line of the program's output."""
        raw = json.loads(line)
        return cls(
            name=raw["name"],
            ok=raw["ok"],
            code=raw.get("code", ""),
            message=raw.get("message", ""),
            attempts=raw.get("attempts", 0),
            pem=tuple(raw.get("pem", ())),
            chain=raw.get("chain", {}),
            tls=raw.get("tls", {}),
            error=raw.get("error", ""),
        )


def _cache_root() -> Path:
    """Return where built binaries are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "meshsigner"


def _fingerprint() -> str:
    """Name what the binary is made of: sources, locked modules, and the Go that builds them."""
    version = subprocess.run(
        ["go", "env", "GOVERSION", "GOOS", "GOARCH"],
        cwd=SOURCES,
        check=True,
        capture_output=True,
    )
    digest = hashlib.sha256(version.stdout)
    for source in sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"]):
        digest.update(f"{source.name}\0".encode() + source.read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def binary_path() -> Path:
    """Return where the binary of these very sources is, built or not.

    Raises:
        FileNotFoundError: No `go` on PATH.
        subprocess.CalledProcessError: Go does not run.
    """
    return _cache_root() / _fingerprint() / "istio-client"


def is_built() -> bool:
    """Tell whether the binary of these very sources is there."""
    try:
        return binary_path().is_file()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return False


def build() -> Path:
    """Build the program unless it is there, and return its path.

    A second build of the same sources waits for the first: CI starts one in the background.
    """
    binary = binary_path()
    binary.parent.mkdir(parents=True, exist_ok=True)
    with (binary.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.is_file():
            unfinished = binary.with_suffix(".new")
            subprocess.run(
                ["nice", "-n", "5", "go", "build", "-p", "2", "-trimpath", "-o", unfinished, "."],
                cwd=SOURCES,
                env=os.environ | BUILD_ENVIRONMENT,
                check=True,
            )
            unfinished.replace(binary)
    return binary


@dataclass(frozen=True, slots=True, kw_only=True)
class IstioClient:
    """The program with the server and the tokens it is to use.

    Args:
        server: host:port of the server under test.
        root: PEM file with the roots of its serving certificate.
        tokens: Token files by the role they play (valid, peer, expired, wrong-audience).
    """

    server: str
    root: Path
    tokens: Mapping[str, Path]

    def command(self, cases: Sequence[str], *options: str) -> list[str]:
        """Return the command line for these cases; no case means the program's own choice."""
        tokens = [f"-token={role}={path}" for role, path in self.tokens.items()]
        named = [f"-case={name}" for name in cases]
        base = [str(binary_path()), f"-server={self.server}", f"-root={self.root}"]
        return [*base, *tokens, *named, *options]

    def run(
        self, *cases: str, options: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> dict[str, CaseReport]:
        """Run cases and return their reports by name.

        Args:
            cases: Names of cases; none means all that need no preparation.
            options: Further flags of the program.
            environment: Variables that Istio's code reads, on top of this process's.

        Raises:
            RuntimeError: The program itself failed: wrong usage, or a crash.
        """
        done = subprocess.run(
            self.command(cases, *options),
            env=os.environ | dict(environment or {}),
            check=False,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )
        reports = {one.name: one for one in map(CaseReport.parse, done.stdout.splitlines())}
        failed = any(not one.ok for one in reports.values())
        if not reports or done.returncode != int(failed):
            raise RuntimeError(f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}")
        return reports


if __name__ == "__main__":
    sys.stdout.write(f"{build()}\n")
