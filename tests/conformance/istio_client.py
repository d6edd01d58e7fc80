"""Runs the cases of the Go program in `istio/`; what a case demands is decided there."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.go_binary import ISTIO_CLIENT

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
        base = [str(ISTIO_CLIENT.path), f"-server={self.server}", f"-root={self.root}"]
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
