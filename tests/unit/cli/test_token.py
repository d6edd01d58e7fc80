"""What the client reads from a token, without believing it."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshsigner.cli.token import NoToken, parse_token, read_token

RECORDED = Path(__file__).parents[2] / "vectors" / "recorded" / "tokens.json"
NOW = datetime(2026, 11, 24, tzinfo=UTC)


def _token(**claims: object) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


def test_recorded_token_names_its_account() -> None:
    """Namespace, account, audience and expiry of a real token are read."""
    token = parse_token(json.loads(RECORDED.read_text())["sidecar_pod_bound"])
    assert (token.namespace, token.service_account) == ("bookinfo", "productpage")
    assert token.audiences == ("istio-ca",)
    assert token.hints(NOW, "istio-ca") == []


def test_token_is_not_shown_by_its_representation() -> None:
    """A token that ends up in a traceback or a log is left out."""
    token = parse_token(_token(sub="system:serviceaccount:a:b"))
    assert token.text not in repr(token)


@pytest.mark.parametrize(
    ("claims", "hint"),
    [
        ({"exp": 1}, "expired at 1970-01-01 00:00:01 UTC"),
        ({"aud": ["vault"]}, "is for vault"),
        ({"aud": "vault"}, "is for vault"),
        ({}, "is for nobody"),
        ({"sub": "alice"}, "no service account"),
        ({"sub": "system:serviceaccount:a:b:c"}, "no service account"),
    ],
)
def test_token_that_servers_refuse_gets_a_hint(claims: dict[str, object], hint: str) -> None:
    """What the caller can see for itself is told, where the server tells nothing."""
    assert any(hint in text for text in parse_token(_token(**claims)).hints(NOW, "istio-ca"))


def test_blanks_around_a_token_are_dropped(tmp_path: Path) -> None:
    """A token file is read as istio-agent reads it."""
    path = tmp_path / "token"
    path.write_text(f"  {_token(aud='x')}\n")
    assert read_token(path).text == _token(aud="x")


@pytest.mark.parametrize(
    "content", [b"", b"one.two", b"a.b.c.d", b"e30.!!!.c2ln", b"e30.W10.c2ln", b"\xff\xfe", None]
)
def test_file_without_a_token_is_named_and_not_repeated(
    tmp_path: Path, content: bytes | None
) -> None:
    """A missing, empty or foreign file is told by its path; what it holds is not."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NoToken, match=str(path)) as caught:
        read_token(path)
    assert not content or content.decode(errors="replace") not in str(caught.value)
