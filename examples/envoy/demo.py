"""Two real Envoys that trust each other by certificates which they get, and change, while they run.

Tells what happens in words and ends by itself: with 0, or with 1 when a request failed on the way.
Everything is on loopback, in a directory that is removed at the end.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from examples.envoy.processes import PartFailedError, Stage, free_port, get, is_ok

PROJECT: Final = Path(__file__).resolve().parents[2]
LIFETIME_S: Final = 20
# The CA grants no less than ten times its backdate; an agent renews when this part is left.
BACKDATE: Final = {"MESHSIGNER_POLICY__BACKDATE": "2s"}
GRACE: Final = {"MESHSIGNER_AGENT_RENEWAL__GRACE_RATIO": "0.75"}
PAUSE_S: Final = 0.02
ENOUGH_FAILURES: Final = 20

console = Console(highlight=False, soft_wrap=True)


def identity(name: str) -> str:
    """Return a workload's SPIFFE ID."""
    return f"spiffe://cluster.local/ns/demo/sa/{name}"


@dataclass(slots=True)
class Tally:
    """What became of the requests.

    Attributes:
        sent: How many there were.
        failures: Each that failed, in words.
        connections: Connections between the Envoys that carried them.
        seen: The last certificate of each side, by when it ends.
        renewals: How often another certificate was seen, of either side.
    """

    sent: int = 0
    failures: list[str] = field(default_factory=list)
    connections: set[str] = field(default_factory=set)
    seen: dict[str, str] = field(default_factory=dict)
    renewals: int = 0

    def send(self, port: int) -> None:
        """Send one request and say when a new certificate shows in its answer."""
        self.sent += 1
        try:
            reply = get(port)
        except OSError as error:
            self.failures.append(f"{error}")
            return
        if reply.status != 200:  # noqa: PLR2004 - HTTP's OK
            self.failures.append(f"status {reply.status}")
            return
        self.connections.add(reply.headers["x-connection"])
        for side in ("client", "server"):
            self._look(side, reply.headers[f"x-{side}-until"])

    def _look(self, side: str, until: str) -> None:
        before = self.seen.get(side)
        self.seen[side] = until
        if before is not None and before != until:
            self.renewals += 1
            told = f"{self.sent} requests, {len(self.failures)} failed so far"
            console.print(f"  the {side} shows a new certificate, until {until} ({told})")


@dataclass(slots=True, kw_only=True)
class Demo:
    """The demonstration, step by step.

    Attributes:
        stage: Starts the processes.
        ca: Port of the CA.
        mtls: Port where the server's Envoy takes mTLS.
    """

    stage: Stage
    ca: int = field(default_factory=free_port)
    mtls: int = field(default_factory=free_port)

    @property
    def state(self) -> Path:
        """Where the CA keeps what it made for itself."""
        return self.stage.directory / "state"

    def start_ca(self) -> None:
        """Start a meshsigner of its own making."""
        admin = free_port()
        where = ("--listen", f"127.0.0.1:{self.ca}", "--admin", f"127.0.0.1:{admin}")
        command = [str(self.stage.meshsigner), "dev", "run", "--state-dir", str(self.state), *where]
        server = self.stage.start("ca", command, BACKDATE)
        server.wait(lambda: is_ok(admin, "/healthz/ready"))
        console.print(f"  a CA at 127.0.0.1:{self.ca} (meshsigner dev run)")

    def start_agent(self, name: str) -> Path:
        """Start a workload's agent and return the socket where its Envoy finds its secrets."""
        meshsigner, directory = str(self.stage.meshsigner), self.stage.directory
        who = ("--namespace", "demo", "--service-account", name)
        token = [meshsigner, "dev", "token", "--state-dir", str(self.state), *who]
        token_file, uds = directory / f"{name}.token", directory / name / "socket"
        token_file.write_bytes(subprocess.check_output(token))
        options = {
            "--ca": f"127.0.0.1:{self.ca}",
            "--ca-root": self.state / "root-cert.pem",
            "--token-file": token_file,
            "--socket": uds,
            "--ttl": f"{LIFETIME_S}s",
        }
        words = [str(word) for pair in options.items() for word in pair]
        agent = self.stage.start(f"{name}-agent", [meshsigner, "agent", "run", *words], GRACE)
        agent.wait(uds.exists)
        console.print(f"  an agent for {identity(name)} (meshsigner agent run)")
        return uds

    def start_server(self, uds: Path) -> None:
        """Start the Envoy that serves, and wait until it does."""
        admin = free_port()
        values = {
            "ADMIN_PORT": admin,
            "MTLS_PORT": self.mtls,
            "CLIENT_ID": identity("client"),
            "SOCKET": uds,
        }
        server = self.stage.start_envoy("server-envoy", "server.yaml", values)
        server.wait(lambda: is_ok(admin, "/ready"))
        pid = server.process.pid
        who = identity("client")
        console.print(f"  the server's Envoy (process {pid}), which takes {who} alone")

    def start_client(self, name: str, uds: Path) -> int:
        """Start an Envoy that carries a workload's requests, and return where they begin."""
        admin, plain = free_port(), free_port()
        values = {
            "NAME": name,
            "ADMIN_PORT": admin,
            "PLAIN_PORT": plain,
            "MTLS_PORT": self.mtls,
            "SERVER_ID": identity("server"),
            "SOCKET": uds,
        }
        client = self.stage.start_envoy(f"{name}-envoy", "client.yaml", values)
        client.wait(lambda: is_ok(admin, "/ready"))
        console.print(f"  the {name}'s Envoy, which believes {identity('server')} alone")
        return plain


def play(stage: Stage, seconds: float) -> int:
    """Play the demonstration and return the exit status."""
    demo = Demo(stage=stage)
    console.print("[bold]1. What is started[/bold]")
    demo.start_ca()
    demo.start_server(demo.start_agent("server"))
    port = demo.start_client("client", demo.start_agent("client"))
    console.print("  neither Envoy was given a file: key, certificate and root came over SDS")
    show_one(port)
    tally = load(port, seconds)
    return verdict(tally, refused=not tally.failures and show_stranger(demo))


def show_one(port: int) -> None:
    """Send one request and tell what each side has proven to the other."""
    console.print("\n[bold]2. One request through both[/bold]")
    reply = get(port)
    console.print(f"  the client has proven to be {reply.headers.get('x-client')}")
    console.print(f"  the server has proven to be {reply.headers.get('x-server')}")
    console.print(f"  status {reply.status}")


def load(port: int, seconds: float) -> Tally:
    """Send requests for a time, while certificates change."""
    console.print(f"\n[bold]3. {seconds:.0f} s of requests while the certificates change[/bold]")
    console.print(f"  each lives for {LIFETIME_S} s and is renewed after a quarter of that")
    tally, end = Tally(), time.monotonic() + seconds
    while time.monotonic() < end and len(tally.failures) < ENOUGH_FAILURES:
        tally.send(port)
        time.sleep(PAUSE_S)
    return tally


def show_stranger(demo: Demo) -> bool:
    """Let a workload with another identity try, and tell whether it is refused."""
    console.print("\n[bold]4. A stranger of the same mesh[/bold]")
    port = demo.start_client("stranger", demo.start_agent("stranger"))
    status = get(port).status
    refused = status == 503  # noqa: PLR2004 - Envoy's answer when it gets no connection
    console.print(f"  {'refused' if refused else 'NOT REFUSED'}: status {status}")
    return refused


def verdict(tally: Tally, *, refused: bool) -> int:
    """Tell how it went, and return the exit status."""
    failed = len(tally.failures)
    console.print("\n[bold]5. How it went[/bold]")
    console.print(
        f"  {tally.sent} requests over {len(tally.connections)} connections, "
        f"{tally.renewals} certificates renewed meanwhile, {failed} requests failed"
    )
    for failure in tally.failures[:5]:
        console.print(f"  [red]{failure}[/red]")
    good = tally.sent and not failed and tally.renewals and refused
    console.print("[green]as it should[/green]" if good else "[red]not as it should[/red]")
    return 0 if good else 1


def main(
    seconds: Annotated[float, typer.Option(min=12, help="How long requests are sent.")] = 16,
    meshsigner: Annotated[Path, typer.Option(help="The meshsigner command.")] = PROJECT
    / ".venv/bin/meshsigner",
    envoy: Annotated[Path, typer.Option(help="Envoy's command.")] = PROJECT / ".servers/bin/envoy",
) -> None:
    """Two real Envoys with mTLS between them, by certificates that change under a load."""
    directory = Path(tempfile.mkdtemp(prefix="demo-"))
    stage = Stage(meshsigner=meshsigner, envoy=envoy, directory=directory)
    try:
        with stage.parts:
            status = play(stage, seconds)
    except PartFailedError as error:
        console.print(f"[red]{error}[/red]")
        status = 1
    if status:
        console.print(f"logs are kept in {directory}")
    else:
        shutil.rmtree(directory)
    sys.exit(status)


if __name__ == "__main__":
    typer.run(main)
