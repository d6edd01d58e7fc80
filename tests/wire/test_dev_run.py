"""`meshsigner dev run`, `dev token`, `request` and `inventory`, as a person uses them."""

import json
import signal
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshsigner.cli.exits import Exit
from tests.secret_scan import Secrets
from tests.wire.processes import Running, command, invoke, running

DEV_RUN = ("dev", "run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
IDENTITY = "spiffe://cluster.local/ns/shop/sa/cart"


@pytest.fixture(scope="module")
def said() -> Secrets:
    """Return where everything is collected that the servers say."""
    return Secrets()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, said: Secrets) -> Iterator[Running]:
    """Return a development server that has shown its demonstration."""
    directory = tmp_path_factory.mktemp("dev")
    with running(*DEV_RUN, "--demo", cwd=directory, secrets=said) as server:
        server.wait_for("Ctrl-C ends the server")
        yield server


def _token(server: Running, *options: str) -> Path:
    """Have a token made for the shop's cart, into a file."""
    who = ("--namespace", "shop", "--service-account", "cart")
    done = invoke("dev", "token", *who, *options, cwd=server.directory)
    assert done.exit_code == 0, done.stderr
    path = server.directory / "token"
    path.write_text(done.stdout)
    return path


def _request(server: Running, *options: object, address: str = "") -> tuple[int, str, str]:
    where = ("--server", address or server.address(), "--root", ".state/root-cert.pem")
    done = invoke("request", *where, "--token-file", "token", *options, cwd=server.directory)
    return done.exit_code, done.stdout, done.stderr


def test_demonstration_shows_a_recorded_certificate(server: Running) -> None:
    """A sidecar's certificate is shown in words, and its record is where the words say."""
    serial = server.wait_for(r"serial +([0-9a-f]+)")[1]
    for words in (
        "identity  spiffe://cluster.local/ns/bookinfo/sa/productpage",
        "key       RSA, 2048 bits",
        "(24h2m)",
        "<- CN=meshsigner root",
        "ms, connection included",
        f"inventory show {serial}",
    ):
        assert words in server.said
    shown = invoke("inventory", "show", serial, "--json", cwd=server.directory)
    (record,) = json.loads(shown.stdout)
    assert record["identity"] == "spiffe://cluster.local/ns/bookinfo/sa/productpage"
    assert record["delivered"]


def test_development_server_says_that_it_is_one(server: Running) -> None:
    """Nobody can overlook that its token issuer is for development."""
    assert "Development server: its token issuer" in server.said


def test_request_is_a_command_of_its_own(server: Running) -> None:
    """As a process, too, it prints what was issued and ends with 0."""
    _token(server)
    where = ("--server", server.address(), "--root", ".state/root-cert.pem")
    done = command("request", *where, "--token-file", "token", cwd=server.directory)
    assert done.returncode == Exit.DONE
    assert IDENTITY in done.stdout


def test_request_gets_files_and_a_record(server: Running, tmp_path: Path) -> None:
    """A token from `dev token` is good for a certificate, which is in the inventory."""
    _token(server)
    code, shown, _ = _request(server, "--out", tmp_path / "certs", "--json")
    assert code == Exit.DONE
    assert json.loads(shown)["identity"] == IDENTITY
    assert stat.S_IMODE((tmp_path / "certs" / "key.pem").stat().st_mode) == 0o600
    assert (tmp_path / "certs" / "root-cert.pem").read_bytes() == (
        server.directory / ".state" / "root-cert.pem"
    ).read_bytes()
    listed = invoke("inventory", "list", "--identity", IDENTITY, "--json", cwd=server.directory)
    assert json.loads(shown)["serial"] in {row["serial"] for row in json.loads(listed.stdout)}


@pytest.mark.parametrize("kind", ["rsa2048", "p256", "p384"])
def test_request_shows_each_step(server: Running, kind: str) -> None:
    """Each kind of key is certified, and the steps are told on standard error."""
    _token(server)
    code, shown, steps = _request(server, "--key-type", kind, "--ttl", "1h")
    assert code == Exit.DONE
    assert "Certificate issued" in shown
    assert "(1h2m)" in shown
    for step in (f"making a {kind} key", f"a CSR for {IDENTITY}", "calling", "checking the answer"):
        assert step in steps


@pytest.mark.parametrize(
    ("token", "options", "code", "words"),
    [
        (("--ttl=-5m",), (), Exit.REFUSED, "The token expired at"),
        (("--audience", "vault"), (), Exit.REFUSED, "The token is for vault"),
        ((), ("--cluster-id", "elsewhere"), Exit.REFUSED, "--cluster-id names"),
        (
            (),
            ("--identity", "spiffe://cluster.local/ns/a/sa/b"),
            Exit.REFUSED,
            "names an identity that is not the token's",
        ),
        ((), ("--ttl", "91d"), Exit.REFUSED, "Pass a shorter --ttl"),
        ((), ("--server-name", "a.example"), Exit.UNAVAILABLE, "not made for the host"),
        ((), ("--root", "token"), Exit.INPUT, "holds no PEM certificates"),
        ((), ("--token-file", "none"), Exit.INPUT, "cannot read the token file"),
        ((), ("--identity", "me"), Exit.INPUT, "no identity for the CSR"),
        ((), ("--out", "token"), Exit.INPUT, "cannot write into token"),
    ],
)
def test_refusal_is_told_in_words(
    server: Running, token: tuple[str, ...], options: tuple[str, ...], code: Exit, words: str
) -> None:
    """What is refused, here or there, says why and what to do, with its own exit code."""
    _token(server, *token)
    found, shown, told = _request(server, *options)
    assert words in told
    assert (found, shown) == (code, "")


def test_server_that_is_not_there_is_told(server: Running) -> None:
    """A wrong address is told as such."""
    _token(server)
    code, _, told = _request(server, address="127.0.0.1:9")
    assert code == Exit.UNAVAILABLE
    assert "Nobody answers at --server" in told


def test_readiness_names_every_part(server: Running) -> None:
    """The admin port says that CA, inventory and token keys are usable."""
    with urllib.request.urlopen(f"http://{server.address('admin')}/healthz/ready") as page:
        text = page.read().decode()
    assert all(f"ready      {part}" in text for part in ("issuer", "inventory", "authn/Kubernetes"))


def test_second_server_on_the_same_state_is_refused(server: Running) -> None:
    """Two servers never write one inventory; the second says who has it."""
    done = command(*DEV_RUN, cwd=server.directory)
    assert done.returncode == Exit.INPUT
    assert f"process {server.process.pid}" in done.stderr


def test_second_server_on_the_same_port_is_refused(server: Running, tmp_path: Path) -> None:
    """A port that is taken is told with its holder, not shared."""
    ports = ("--listen", server.address(), "--admin", "127.0.0.1:0")
    done = command("dev", "run", *ports, cwd=tmp_path)
    assert done.returncode == Exit.INPUT
    assert f"cannot listen on {server.address()}" in done.stderr


def test_nothing_secret_was_said(server: Running, said: Secrets) -> None:
    """Neither tokens nor keys are in anything that the server wrote."""
    said.register((server.directory / ".state" / "token-issuer-key.pem").read_text()[40:80])
    assert said.leaks(server.said) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_state_survives_a_restart(
    tmp_path: Path, no_secrets: Secrets, number: signal.Signals
) -> None:
    """A signal ends the server in good order; the next one has the same CA and inventory."""
    roots = []
    for _ in range(2):
        with running(*DEV_RUN, "--demo", cwd=tmp_path, secrets=no_secrets) as server:
            server.wait_for("Ctrl-C ends the server")
            assert server.stop(number) == Exit.DONE
            assert '"event":"stopped"' in server.said
        roots.append((tmp_path / ".state" / "root-cert.pem").read_bytes())
    listed = invoke("inventory", "list", "--json", cwd=tmp_path)
    assert roots[0] == roots[1]
    assert len(json.loads(listed.stdout)) == 2
