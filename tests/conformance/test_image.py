"""The image's own steps: built from the locks and the wheel alone, served as a non-root user.

No container engine is needed; the steps are read from the Dockerfile itself. The server then runs
as the image's user, with nothing to write but its state directory.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conformance.image import Image, instructions
from tests.conformance.prerequisites import PROJECT
from tests.conformance.server import READY_TIMEOUT_S, _is_ready, free_address
from tests.fakes.tokens import ISSUER, jwk, jwks, make_token, rsa_key

DOCKERFILE = (PROJECT / "Dockerfile").read_text()
OLDEST_PYTHON = (3, 11)
_ENDS_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The image's server, running.

    Attributes:
        image: What it runs from.
        process: The started process.
        listen: host:port of the certificate service.
        admin: host:port of the probes.
        log: What it says.
    """

    image: Image
    process: "subprocess.Popen[bytes]"
    listen: str
    admin: str
    log: Path

    @property
    def state(self) -> Path:
        """Return the one directory that it may write."""
        return self.image.inside("/var/lib/meshsigner")


def _is_for_everybody(path: Path) -> bool:
    """Tell whether any user may run a program: all folders above it must let pass."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents))


def _base_python() -> Path:
    """Find an interpreter that the image's user may run, with the means to make environments.

    One under root's home is of no use, as nobody else may look there.
    """
    names = [f"python3.{minor}" for minor in range(20, OLDEST_PYTHON[1] - 1, -1)]
    own = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    for candidate in (own, *(Path("/usr/bin") / name for name in names)):
        if not candidate.exists():
            continue
        real = candidate.resolve()
        if os.getuid() and candidate == own:
            return real
        tried = subprocess.run([real, "-c", "import ensurepip, venv"], check=False)
        if _is_for_everybody(real) and tried.returncode == 0:
            return real
    pytest.fail("no Python that another user may run: apt-get install --yes python3 python3-venv")


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """Build the image in a folder that its user may enter."""
    root = Path(tempfile.mkdtemp(prefix="meshsigner-image-"))
    root.chmod(0o755)
    try:
        built = Image(root=root, context=PROJECT, python=_base_python())
        built.build(DOCKERFILE)
        yield built
    finally:
        shutil.rmtree(root)


def _write_config(image: Image, listen: str, admin: str) -> Path:
    """Write what a person mounts: a configuration and the cluster's keys, both read-only."""
    mounted = image.inside("/etc/meshsigner")
    mounted.mkdir(parents=True)
    state = image.inside("/var/lib/meshsigner")
    keys = mounted / "jwks.json"
    keys.write_bytes(jwks(jwk(rsa_key())))
    authenticator = {"type": "jwks", "issuer": ISSUER, "jwks_file": str(keys)}
    tls = {"type": "issuer", "dns_names": ["localhost"], "directory": str(state / "serving")}
    config = mounted / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "trust_domain": "cluster.local",
                "clusters": [{"id": "Kubernetes", "authenticators": [authenticator]}],
                "issuer": {"type": "self_made", "path": str(state / "ca")},
                "listen": {"address": listen, "tls": tls},
                "inventory": {"path": str(state / "inventory.db")},
                "admin": {"address": admin},
            },
        ),
    )
    return config


def _as_its_user(image: Image) -> dict[str, object]:
    """Return how a process becomes the image's user; who is not root already is none."""
    if os.getuid():
        return {}
    user, group = image.ids
    return {"user": user, "group": group, "extra_groups": ()}


def _environment(image: Image) -> dict[str, str]:
    """Return the image's environment; neither home nor temporary folder is there to be written."""
    return image.environment | {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"}


@pytest.fixture(scope="module")
def serving(image: Image) -> Iterator[Serving]:
    """Start the image's own command as its own user and wait until it is ready."""
    listen, admin = free_address(), free_address()
    config = _write_config(image, listen, admin)
    argv = [word.replace("/etc/meshsigner/config.yaml", str(config)) for word in image.argv()]
    log = image.root / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=image.inside(image.work_dir),
            env=_environment(image),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **_as_its_user(image),  # type: ignore[call-overload] # the overloads spell out each key
        )
    until_s = time.monotonic() + READY_TIMEOUT_S
    try:
        while not _is_ready(admin):
            ended = process.poll()
            if ended is not None or time.monotonic() > until_s:
                pytest.fail(f"not ready, exit status {ended}:\n{log.read_text()[-3_000:]}")
            time.sleep(0.05)
        yield Serving(image=image, process=process, listen=listen, admin=admin, log=log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(_ENDS_WITHIN_S)


def _token() -> str:
    now_s = int(time.time())
    return make_token(iat=now_s, nbf=now_s, exp=now_s + 600)


def _request(serving: Serving, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Ask the image's server for a certificate, with the image's own client."""
    token = folder / "token"
    token.write_text(_token())
    root = serving.state / "ca" / "root-cert.pem"
    port = serving.listen.rpartition(":")[2]
    where = ("--server", f"localhost:{port}", "--root", str(root), "--token-file", str(token))
    return subprocess.run(
        serving.image.argv("request", *where, "--out", str(folder / "out")),
        env=serving.image.environment,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_environment_holds_the_locks_and_the_wheel_alone(image: Image) -> None:
    """The image's packages are those of runtime.lock, meshsigner as a wheel, and pip's own."""
    python = image.inside("/opt/meshsigner/bin/python")
    listing = ("list", "--format=json", "--disable-pip-version-check")
    done = subprocess.run(
        [python, "-m", "pip", *listing], check=True, capture_output=True, text=True, timeout=60
    )
    installed = {entry["name"].lower().replace("_", "-") for entry in json.loads(done.stdout)}
    locked = (PROJECT / "requirements" / "runtime.lock").read_text().splitlines()
    allowed = {line.partition("==")[0] for line in locked if "==" in line}
    assert "meshsigner" in installed
    assert installed - allowed <= {"meshsigner", "pip", "setuptools"}


def test_package_is_not_the_work_tree(image: Image) -> None:
    """What the image imports lies in its own environment, with the generated messages in it."""
    program = "import meshsigner._proto.istio.v1.auth.ca_pb2 as m; print(m.__file__)"
    python = image.inside("/opt/meshsigner/bin/python")
    done = subprocess.run(
        [python, "-c", program],
        cwd="/",
        env=image.environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert Path(done.stdout.strip()).is_relative_to(image.inside("/opt/meshsigner"))


def test_user_is_a_number_and_not_root(image: Image) -> None:
    """Kubernetes can see that the image does not run as root."""
    user, group = image.ids
    assert user > 0
    assert group > 0


def test_everything_but_the_state_is_read_only_for_its_user(image: Image) -> None:
    """Nothing of the program belongs to the image's user or may be written by anybody."""
    program = image.inside("/opt/meshsigner")
    writable = [
        path
        for path in program.rglob("*")
        if not path.is_symlink() and path.stat().st_mode & stat.S_IWOTH
    ]
    assert writable == []
    if os.getuid() == 0:
        owners = {path.lstat().st_uid for path in program.rglob("*")}
        assert owners == {0}


def test_every_copied_file_is_let_into_the_context() -> None:
    """.dockerignore lets in just what the Dockerfile copies."""
    let_in = {
        line.removeprefix("!")
        for line in (PROJECT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied: set[str] = set()
    for name, arguments in instructions(DOCKERFILE):
        if name == "COPY" and "--from=" not in arguments:
            copied.update(arguments.split()[:-1])
    assert copied == let_in


def test_image_serves_as_its_user(serving: Serving, tmp_path: Path) -> None:
    """The image's command, run as its user, gives a caller a certificate and records it."""
    if os.getuid() == 0:
        status = Path(f"/proc/{serving.process.pid}/status").read_text()
        assert f"Uid:\t{serving.image.ids[0]}\t" in status
    done = _request(serving, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BEGIN CERTIFICATE" in (tmp_path / "out" / "cert-chain.pem").read_text()
    files = list(serving.state.glob("inventory*.db"))  # one of each worker
    assert files
    assert any(file.stat().st_size > 0 for file in files)


def test_nothing_is_written_outside_the_state(serving: Serving) -> None:
    """The server's user owns no file but those in its state directory."""
    if os.getuid():
        assert (serving.state / "ca").is_dir()
        assert list(serving.state.glob("inventory*.db"))
        return
    user, _ = serving.image.ids
    places = [serving.image.root, Path("/tmp"), Path("/var/tmp"), Path("/dev/shm")]  # noqa: S108 - where a stray file would be
    stray = [
        path
        for place in places
        for path in place.rglob("*")
        if path.lstat().st_uid == user and not path.is_relative_to(serving.state)
    ]
    assert stray == []


def test_image_stops_when_it_is_asked(serving: Serving) -> None:
    """SIGTERM, which a container engine sends, ends the server cleanly."""
    serving.process.send_signal(signal.SIGTERM)
    assert serving.process.wait(_ENDS_WITHIN_S) == 0
