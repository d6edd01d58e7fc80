"""A real PostgreSQL on loopback, with everything that can happen to one.

Debian's own binaries, run as a user of their own: PostgreSQL refuses to be root. A server here is
initialised, started, killed, frozen, restarted, made a standby and promoted; it lives in a
directory of its own, which goes with it.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql/bin"))
TIMEOUT_S = 60.0
_POLL_S = 0.05
# Small, and never forgiving: what is committed is on the disk.
_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "32MB",
    "max_connections": "40",
    "wal_level": "replica",
    "max_wal_senders": "4",
    "hot_standby": "on",
    "unix_socket_directories": "",
    "logging_collector": "off",
    "log_min_messages": "warning",
}


def identity() -> tuple[int, int]:
    """Return the user and group that the server runs as: ours, or for root Debian's own."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    entry = pwd.getpwnam("postgres")
    return entry.pw_uid, entry.pw_gid


@dataclass(kw_only=True)
class Database:
    """A server's directory and, while it runs, its process.

    Args:
        root: Directory of its own.
        port: On 127.0.0.1.
        settings: Beyond the usual ones.
        small_mib: Size of a file system of its own in `small`, for a tablespace, MiB; 0 for none.
            It is gone with the server's process.
    """

    root: Path
    port: int
    settings: dict[str, str] = field(default_factory=dict)
    small_mib: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.root / "data"

    @property
    def url(self) -> str:
        """Where it is, for the configuration."""
        return f"postgresql://signer@127.0.0.1:{self.port}/meshsigner"

    def initialise(self) -> None:
        """Make an empty database and a role that is no superuser."""
        how = ("--username=admin", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        self.run("initdb", "--pgdata", str(self.data), *how)
        self.start()
        self.sql("CREATE ROLE signer LOGIN", database="postgres")
        self.sql("CREATE DATABASE meshsigner OWNER signer", database="postgres")

    def follow(self, primary: "Database") -> None:
        """Become a standby of another server, and start."""
        source = f"host=127.0.0.1 port={primary.port} user=admin application_name=standby"
        how = ("--write-recovery-conf", "--checkpoint=fast", "--no-sync")
        self.run("pg_basebackup", "--pgdata", str(self.data), "--dbname", source, *how)
        self.start()

    def promote(self) -> None:
        """Make the standby the primary."""
        self.run("pg_ctl", "promote", "--pgdata", str(self.data), "--wait")

    def start(self) -> None:
        """Start, and wait until it can be asked."""
        options = {**_SETTINGS, "port": str(self.port), **self.settings}
        options["listen_addresses"] = "127.0.0.1,127.0.0.2"
        arguments = [f"--{name}={value}" for name, value in options.items()]
        with (self.root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self._small_disk(),
                    *_as_its_user(),
                    BINARIES / "postgres",
                    "-D",
                    self.data,
                    *arguments,
                ],
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + TIMEOUT_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = (self.root / "log").read_text(errors="replace")[-2_000:]
                raise RuntimeError(f"PostgreSQL did not start:\n{tail}")
            time.sleep(_POLL_S)

    def kill(self) -> None:
        """End every process of it at once, by SIGKILL; the next start recovers."""
        self._signal_all(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(TIMEOUT_S)
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """Shut down fast: sessions are ended, data is safe."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(TIMEOUT_S)

    def freeze(self) -> None:
        """Let it stand still, connections and all."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def answers(self) -> bool:
        """Tell whether it takes connections."""
        asked = self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port))
        return asked.returncode == 0

    def sql(self, statement: str, *, database: str = "meshsigner", user: str = "admin") -> str:
        """Run a statement, as the administrator unless told otherwise; return what it prints."""
        where = f"host=127.0.0.1 port={self.port} user={user} dbname={database}"
        done = self._run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", where, "-c", statement)
        if done.returncode:
            raise RuntimeError(f"psql ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs to its end."""
        done = self._run(program, *arguments)
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")

    def _small_disk(self) -> list[str]:
        """Return what mounts a small disk that this server alone sees."""
        if not self.small_mib:
            return []
        small = self.root / "small"
        small.mkdir(exist_ok=True)
        user, group = identity()
        options = f"size={self.small_mib}m,mode=0700,uid={user},gid={group}"
        script = f'mount -t tmpfs -o {options} small "{small}" && exec "$@"'
        mounts = ["unshare", "--mount"]
        if os.geteuid() != 0:
            mounts = ["unshare", "--map-current-user", "--keep-caps", "--mount"]
        return [*mounts, "sh", "-c", script, "sh"]

    def _processes(self) -> list[int]:
        """Return its processes, the first one first: each backend is a group of its own."""
        if self.process is None or self.process.poll() is not None:
            return []
        listing = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [self.process.pid, *map(int, listing.split())]

    def _signal_all(self, number: int) -> None:
        for pid in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*_as_its_user(), str(BINARIES / program), *arguments],
            cwd=self.root,
            env={"PATH": f"{BINARIES}:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )


def _as_its_user() -> list[str]:
    """Return what starts a program as another than root.

    A program in between, for the tests' process holds gRPC: what is forked and not
    spawned from it dies now and then (GRPC_ENABLE_FORK_SUPPORT).
    """
    if os.geteuid() != 0:
        return []
    user, group = identity()
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups"]


@contextlib.contextmanager
def databases(count: int = 1) -> Iterator[list[Database]]:
    """Have directories for so many servers; what still runs at the end is killed."""
    root = Path(tempfile.mkdtemp(prefix="meshsigner-postgres-"))
    made = [Database(root=root / str(number), port=free_port()) for number in range(count)]
    for path in (root, *(database.root for database in made)):
        path.mkdir(exist_ok=True, mode=0o700)
        os.chown(path, *identity())
    try:
        yield made
    finally:
        for database in made:
            database.kill()
        shutil.rmtree(root, ignore_errors=True)


def free_port() -> int:
    """Return a port of the loopback that nobody has now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
