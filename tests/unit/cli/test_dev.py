"""`meshsigner dev token`: tokens as Kubernetes issues them, from a kept state."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import KeySet, RSAKey
from typer.testing import Result

from meshsigner.cli.dev_state import DevState
from meshsigner.cli.dev_tokens import TokenIssuer, TokenWish
from meshsigner.cli.exits import Exit
from meshsigner.config.fields import Address
from meshsigner.config.sections import InventorySqlite, IssuerDirectory, IssuerSelfMade
from meshsigner.errors import ConfigurationError

Run = Callable[..., Result]

RECORDED = Path(__file__).parents[2] / "vectors" / "recorded" / "tokens.json"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return _decode(header), _decode(claims)


def _decode(segment: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    )
    return decoded


def _shape(value: object) -> object:
    """Reduce claims to names, order and types."""
    if isinstance(value, dict):
        return [(name, _shape(inner)) for name, inner in value.items()]
    return [_shape(inner) for inner in value] if isinstance(value, list) else type(value)


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> TokenIssuer:
    """Return a development token issuer."""
    directory = tmp_path_factory.mktemp("state")
    return TokenIssuer.load_or_create(directory / "key.pem", directory / "jwks.json")


@pytest.fixture
def state(tmp_path: Path) -> DevState:
    """Return a prepared state directory."""
    state = DevState(tmp_path / "state")
    state.prepare(datetime.now(UTC))
    return state


def _wish(**changes: object) -> TokenWish:
    values: dict[str, Any] = {
        "namespace": "bookinfo",
        "service_account": "productpage",
        "audiences": ("istio-ca",),
        "lifetime": timedelta(hours=1),
        "pod": "productpage-v1-0",
    }
    return TokenWish(**{**values, **changes})


@pytest.mark.parametrize(
    ("recorded", "changes"),
    [
        ("sidecar_pod_bound", {}),
        ("not_pod_bound", {"pod": ""}),
        ("sidecar_two_audiences", {"audiences": ("istio-ca", "vault")}),
    ],
)
def test_token_has_the_shape_of_a_recorded_one(
    issuer: TokenIssuer, recorded: str, changes: dict[str, object]
) -> None:
    """Header and claims have the names, order and types that a kube-apiserver gave them."""
    real = _parts(json.loads(RECORDED.read_text())[recorded])
    made = _parts(issuer.issue(_wish(**changes), NOW))
    assert [_shape(part) for part in made] == [_shape(part) for part in real]


def test_token_says_what_was_wished(issuer: TokenIssuer) -> None:
    """Subject, audience, times and pod are those of the wish."""
    _, claims = _parts(issuer.issue(_wish(), NOW))
    assert claims["sub"] == "system:serviceaccount:bookinfo:productpage"
    assert claims["aud"] == ["istio-ca"]
    assert claims["exp"] - claims["iat"] == 3600
    assert claims["nbf"] == claims["iat"] == int(NOW.timestamp())
    assert claims["kubernetes.io"]["pod"]["name"] == "productpage-v1-0"


def test_object_keeps_its_uid_and_token_its_own_id(issuer: TokenIssuer) -> None:
    """Two tokens of a pod name the same pod and are two tokens."""
    first, second = (_parts(issuer.issue(_wish(), NOW))[1] for _ in range(2))
    assert first["kubernetes.io"] == second["kubernetes.io"]
    assert first["jti"] != second["jti"]


def test_token_is_verified_by_the_published_keys(issuer: TokenIssuer) -> None:
    """The key set has the one key, by its RFC 7638 thumbprint, and it verifies tokens."""
    token = issuer.issue(_wish(), NOW)
    keys = KeySet.import_key_set(issuer.jwks())  # type: ignore[arg-type]
    assert jws.deserialize_compact(token, keys, algorithms=["RS256"]).headers()["alg"] == "RS256"
    (entry,) = issuer.jwks()["keys"]
    assert entry["kid"] == RSAKey.import_key(entry).thumbprint()
    assert "d" not in entry


def test_state_is_kept(state: DevState) -> None:
    """A second start finds CA, token issuer and root as they were."""
    files = (state.root_cert, state.token_issuer_key, state.jwks, state.ca_dir / "ca-key.pem")
    before = [file.read_bytes() for file in files]
    state.prepare(datetime.now(UTC))
    assert [file.read_bytes() for file in files] == before


def test_state_is_not_for_others(state: DevState) -> None:
    """The directory and the keys in it are readable by their owner alone."""
    assert state.directory.stat().st_mode & 0o777 == 0o700
    assert state.token_issuer_key.stat().st_mode & 0o777 == 0o600
    assert (state.ca_dir / "ca-key.pem").stat().st_mode & 0o777 == 0o600


def test_state_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    """A file in the way is told in words."""
    (tmp_path / "state").write_text("")
    with pytest.raises(ConfigurationError, match="choose another"):
        DevState(tmp_path / "state").prepare(NOW)


def test_configuration_uses_the_state(state: DevState) -> None:
    """The server that `dev run` starts keeps everything in the state directory."""
    config = state.config(Address("127.0.0.1", 0), Address("127.0.0.1", 0))
    assert isinstance(config.issuer, IssuerSelfMade)
    assert str(config.trust_domain) == "cluster.local"
    assert (config.clusters[0].id, config.clusters[0].local) == ("Kubernetes", True)
    assert isinstance(config.inventory, InventorySqlite)
    assert config.inventory.path == state.inventory


def test_ca_of_somebody_else_is_used_as_it_is(state: DevState, tmp_path: Path) -> None:
    """With --ca-dir nothing is made in that directory, and its roots are the mesh's."""
    other = DevState(tmp_path / "other", state.ca_dir)
    before = sorted(path.name for path in state.ca_dir.iterdir())
    other.prepare(datetime.now(UTC))
    assert sorted(path.name for path in state.ca_dir.iterdir()) == before
    assert other.root_cert.read_bytes() == (state.ca_dir / "root-cert.pem").read_bytes()
    config = other.config(Address("127.0.0.1", 0), Address("127.0.0.1", 0))
    assert isinstance(config.issuer, IssuerDirectory)


def test_command_prints_the_token_alone(run: Run, state: DevState) -> None:
    """Standard output holds nothing but the token, for a file or a variable."""
    output = run(
        "dev", "token", "--state-dir", state.directory, "--namespace", "a", "--service-account", "b"
    ).stdout
    assert output.count("\n") == 1
    assert _parts(output.strip())[1]["sub"] == "system:serviceaccount:a:b"


def test_command_prints_json(run: Run, state: DevState) -> None:
    """With --json the token comes with what it says."""
    where = (
        "dev",
        "token",
        "--state-dir",
        state.directory,
        "--namespace",
        "a",
        "--service-account",
        "b",
    )
    shown = json.loads(
        run(*where, "--audience", "x", "--audience", "y", "--ttl=-5m", "--json").stdout
    )
    assert shown["audiences"] == ["x", "y"]
    assert datetime.fromisoformat(shown["expires"]) < datetime.now(UTC)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--namespace", "UPPER"), "not a namespace"),
        (("--service-account", "a b"), "not a service account"),
        (("--ttl", "soon"), "is not a duration"),
    ],
)
def test_name_that_kubernetes_could_not_have_given_is_refused(
    run: Run, state: DevState, options: tuple[str, str], words: str
) -> None:
    """A wrong name or duration is a wrong command line."""
    where = (
        "dev",
        "token",
        "--state-dir",
        state.directory,
        "--namespace",
        "a",
        "--service-account",
        "b",
    )
    assert words in run(*where, *options, code=Exit.USAGE).stderr


def test_token_without_a_state_is_refused(run: Run, tmp_path: Path) -> None:
    """No issuer is made by asking for a token: no server would believe it."""
    where = ("--state-dir", tmp_path / "none", "--namespace", "a", "--service-account", "b")
    assert "dev run --state-dir" in run("dev", "token", *where, code=Exit.INPUT).stderr
    assert not (tmp_path / "none").exists()
