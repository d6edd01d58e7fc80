"""Tests of our token at OpenBao: one login at a time, renewals, and refusals that stay quiet."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshsigner.errors import BackendUnavailable
from meshsigner.signing.openbao import tokens
from meshsigner.signing.openbao.answers import Answer
from meshsigner.signing.openbao.connection import OpenBaoConnection
from meshsigner.signing.openbao.login import login_request, read_secret
from meshsigner.signing.openbao.settings import (
    AppRoleAuth,
    Auth,
    JwtAuth,
    KubernetesAuth,
    PkiSettings,
    TokenAuth,
)
from meshsigner.signing.openbao.tokens import Lease, TokenKeeper

Handler = Callable[[str, str], Answer]


class FakeConnection(OpenBaoConnection):
    """Answers from a function of path and token; counts."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.paths: list[str] = []

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        deadline_s: float | None = None,
        maybe_issued: bool = False,
    ) -> Answer:
        """Answer after a moment, as a network does."""
        del method, body, deadline_s, maybe_issued
        self.paths.append(path)
        await asyncio.sleep(0)
        return self.handler(path, token)


def granted(token: str, lasts_s: int = 3_600, *, renewable: bool = True) -> Answer:
    """Return the answer of a login or a renewal."""
    auth = {"client_token": token, "lease_duration": lasts_s, "renewable": renewable}
    return Answer(status=200, body=json.dumps({"auth": auth}).encode())


def looked_up(ttl: int, *, renewable: bool = True) -> Answer:
    """Return the answer of lookup-self."""
    data = {"ttl": ttl, "creation_ttl": 60, "renewable": renewable}
    return Answer(status=200, body=json.dumps({"data": data}).encode())


@pytest.fixture
def approle(tmp_path: Path) -> AppRoleAuth:
    """Return an AppRole with a secret id."""
    path = tmp_path / "secret-id"
    path.write_text("the-secret-id\n")
    return AppRoleAuth(type="approle", role_id="role", secret_id_file=path)


def keeper(auth: Auth, handler: Handler) -> tuple[TokenKeeper, FakeConnection]:
    """Return a keeper over a fake connection."""
    connection = FakeConnection(handler)
    return TokenKeeper(connection, auth), connection


async def test_many_requests_share_one_login(approle: AppRoleAuth) -> None:
    """However many want a token at once, there is one login."""
    one, connection = keeper(approle, lambda *_: granted("t1"))
    assert set(await asyncio.gather(*(one.token() for _ in range(20)))) == {"t1"}
    assert connection.paths == ["auth/approle/login"]


async def test_refused_login_is_not_tried_again_at_once(approle: AppRoleAuth) -> None:
    """A wrong secret id does not become a flood: within a second nobody asks again."""
    refused = Answer(status=400, body=b'{"errors": ["invalid role or secret ID"]}')
    one, connection = keeper(approle, lambda *_: refused)
    for _ in range(5):
        with pytest.raises(BackendUnavailable, match="the login was refused"):
            await one.token()
    assert len(connection.paths) == 1


async def test_another_token_for_a_refused_one(
    approle: AppRoleAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused token is replaced once; a young one is not, for then the path is denied."""
    answers = iter([granted("t1"), granted("t2")])
    one, connection = keeper(approle, lambda *_: next(answers))
    assert await one.token() == "t1"
    assert await one.another("t1") is None
    monkeypatch.setattr(tokens, "YOUNG_S", 0.0)
    found = await asyncio.gather(*(one.another("t1") for _ in range(5)))
    assert set(found) == {"t2"}
    assert len(connection.paths) == 2


async def test_token_in_a_file_is_looked_up(tmp_path: Path) -> None:
    """A token from a file is asked how long it lasts; a refused one is told without it."""
    path = tmp_path / "token"
    path.write_text("s.first")
    auth = TokenAuth(type="token", token_file=path)
    one, _ = keeper(auth, lambda *_: looked_up(60))
    assert await one.token() == "s.first"
    two, _ = keeper(auth, lambda *_: Answer(status=403, body=b""))
    with pytest.raises(BackendUnavailable, match="OpenBao refuses this token") as raised:
        await two.token()
    assert "s.first" not in str(raised.value)


async def test_lease_is_renewed_and_replaced(
    approle: AppRoleAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At two thirds it is renewed; where that gives too little, or is refused, a login follows."""
    monkeypatch.setattr(tokens, "PAUSE_S", 0.005)
    monkeypatch.setattr(tokens, "RENEW_AT", 0.01)
    renewals = iter([granted("t1", 1), granted("t1", 0), Answer(status=403, body=b"")])
    logins = iter([granted("t1", 1), granted("t2", 1), granted("t3", 3_600, renewable=False)])

    def handler(path: str, token: str) -> Answer:
        del token
        return next(renewals if path.endswith("renew-self") else logins)

    one, connection = keeper(approle, handler)
    await one.token()
    keeping = asyncio.create_task(one.keep())
    async with asyncio.timeout(5.0):
        while await one.token() != "t3":
            await asyncio.sleep(0.01)
    keeping.cancel()
    renew, login = "auth/token/renew-self", "auth/approle/login"
    assert connection.paths == [login, renew, renew, login, renew, login]


async def test_renewal_that_fails_is_tried_again(
    approle: AppRoleAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While OpenBao is away the token is kept and the renewal tried again."""
    monkeypatch.setattr(tokens, "PAUSE_S", 0.005)
    monkeypatch.setattr(tokens, "RENEW_AT", 0.01)
    sealed = Answer(status=503, body=b"")
    renewals = iter([sealed, sealed, granted("t1", 3_600)])

    def handler(path: str, token: str) -> Answer:
        del token
        return next(renewals) if path.endswith("renew-self") else granted("t1", 1)

    one, connection = keeper(approle, handler)
    await one.token()
    keeping = asyncio.create_task(one.keep())
    async with asyncio.timeout(5.0):
        while len(connection.paths) < 4:
            await asyncio.sleep(0.01)
    keeping.cancel()
    assert await one.token() == "t1"


def test_lease_is_due_at_two_thirds() -> None:
    """A lease of an hour is due after forty minutes; one without end once an hour."""
    lease = Lease(token="t", lasts_s=3_600.0, renewable=True, at_s=100.0, granted_s=3_600.0)
    assert lease.due_in_s(100.0) == 2_400.0
    assert lease.due_in_s(9_000.0) == 0.0
    endless = Lease(token="t", lasts_s=0.0, renewable=False, at_s=0.0, granted_s=0.0)
    assert endless.due_in_s(0.0) == tokens.NEVER_S
    assert "'t'" not in repr(lease)


@pytest.mark.parametrize(
    "auth",
    [
        {},
        {"client_token": ""},
        {"client_token": "t"},
        {"client_token": "t", "lease_duration": -1},
        {"client_token": "t", "lease_duration": True},
        {"client_token": 7, "lease_duration": 1},
    ],
)
async def test_answer_without_a_token_is_none(approle: AppRoleAuth, auth: dict[str, Any]) -> None:
    """A login's answer that lacks token or lease is no login."""
    body = json.dumps({"auth": auth}).encode()
    one, _ = keeper(approle, lambda *_: Answer(status=200, body=body))
    with pytest.raises(BackendUnavailable, match="an answer without"):
        await one.token()


def test_each_kind_logs_in_its_own_way(tmp_path: Path, approle: AppRoleAuth) -> None:
    """AppRole sends ids, JWT and Kubernetes role and token; none shows a secret."""
    path = tmp_path / "jwt"
    path.write_text("the-token")
    jwt = JwtAuth(type="jwt", role="r", token_file=path)
    pod = KubernetesAuth(type="kubernetes", role="r", token_file=path, mount="k8s/a")
    found = [login_request(auth) for auth in (approle, jwt, pod)]
    assert [(one.path, one.body) for one in found] == [
        ("auth/approle/login", {"role_id": "role", "secret_id": "the-secret-id"}),
        ("auth/jwt/login", {"role": "r", "jwt": "the-token"}),
        ("auth/k8s/a/login", {"role": "r", "jwt": "the-token"}),
    ]
    assert not any("the-" in repr(one) for one in found)


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff", b"a\nb", b"x" * 20_000])
def test_file_that_is_no_secret_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file with anything but one secret is refused without being quoted."""
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(BackendUnavailable, match=r"expected a secret|no secret"):
        read_secret(path)
    with pytest.raises(BackendUnavailable, match="cannot be read"):
        read_secret(tmp_path / "nothing")


@pytest.mark.parametrize(
    "address",
    [
        "http://openbao:8200",
        "https://",
        "https://a/v1",
        "https://user@a",
        "https://a:99999",
        "https://a?x=1",
        "openbao",
    ],
)
def test_address_is_https_and_nothing_else(address: str) -> None:
    """A token is never sent in the clear, and an address holds no path or user."""
    values = {"type": "openbao_pki", "address": address, "role": "r"}
    values["auth"] = {"type": "token", "token_file": "/t"}  # type: ignore[assignment]
    with pytest.raises(ValueError, match="an https URL without path"):
        PkiSettings.model_validate(values)
