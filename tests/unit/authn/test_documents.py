"""Which servers documents are read from, and what those cannot make us do."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshsigner.authn.documents import (
    MAX_DOCUMENT_BYTES,
    Documents,
    check_url,
    is_same_origin,
    url_problem,
)
from meshsigner.errors import BackendUnavailable, ConfigurationError
from tests.fakes.http_server import Handler, HttpServer, body, endless, half_body, redirect, serve
from tests.fakes.serving_tls import TestRoots, server_context

ROOTS = TestRoots()
SERVING = ROOTS.issue("127.0.0.1")
DOCUMENT = b'{"keys": []}'


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    """The roots of every server here."""
    path = tmp_path / "ca.crt"
    path.write_bytes(ROOTS.pem)
    return path


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    """A server with a document."""
    fake = HttpServer(paths={"/document": body(DOCUMENT)})
    async with serve(fake, server_context(SERVING, tmp_path)):
        yield fake


async def read(url: str, ca_file: Path | None, token_file: Path | None = None) -> bytes:
    """Read a document once, with the token where there is one."""
    documents = Documents(ca_file, token_file)
    try:
        return await documents.read(url, with_token=True)
    finally:
        await documents.aclose()


async def fault(url: str, ca_file: Path | None) -> str:
    """Return why a document cannot be read."""
    with pytest.raises(BackendUnavailable) as caught:
        await read(url, ca_file)
    return str(caught.value)


async def test_a_document_of_the_largest_size_is_read(server: HttpServer, ca_file: Path) -> None:
    """256 KiB pass, under the configured roots."""
    server.paths["/document"] = body(b" " * MAX_DOCUMENT_BYTES)
    assert len(await read(f"{server.url}/document", ca_file)) == MAX_DOCUMENT_BYTES


async def test_no_proxy_of_the_environment_is_asked(
    server: HttpServer, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where keys come from is configured here and nowhere else."""
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"]:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await read(f"{server.url}/document", ca_file) == DOCUMENT


async def test_connections_are_closed(server: HttpServer, ca_file: Path) -> None:
    """Also twice, and before anything was read."""
    documents = Documents(ca_file, None)
    await documents.aclose()
    await documents.read(f"{server.url}/document", with_token=False)
    session = documents._session
    assert session is not None
    assert not session.auto_decompress
    await documents.aclose()
    await documents.aclose()
    assert session.closed


async def test_a_token_is_read_again_after_a_refusal(
    server: HttpServer, ca_file: Path, tmp_path: Path
) -> None:
    """A server that turns us away may have got another credential meanwhile."""
    token_file = tmp_path / "token"
    token_file.write_text("outdated")
    documents = Documents(ca_file, token_file)
    good = server.paths["/document"]
    server.paths["/document"] = body(b"", 401)
    with pytest.raises(BackendUnavailable, match="status 401"):
        await documents.read(f"{server.url}/document", with_token=True)
    token_file.write_text("renewed")
    server.paths["/document"] = good
    assert await documents.read(f"{server.url}/document", with_token=True) == DOCUMENT
    assert await documents.read(f"{server.url}/document", with_token=False) == DOCUMENT
    await documents.aclose()
    sent = [headers.get("Authorization") for _, headers in server.requests]
    assert sent == ["Bearer outdated", "Bearer renewed", None]


@pytest.mark.parametrize(
    ("misbehaviour", "cause"),
    [
        (half_body(), "Client"),
        (endless(), "longer than 262144 bytes"),
        (redirect("https://127.0.0.1/document"), "status 302, expected 200"),
        (redirect("/other"), "status 302, expected 200"),
        (body(DOCUMENT, 404), "status 404, expected 200"),
        (body(DOCUMENT, 401), "status 401, expected 200"),
        (body(DOCUMENT, 500), "status 500, expected 200"),
        (body(DOCUMENT, 206), "status 206, expected 200"),
        (body(b"", 101), "status 101, expected 200"),
        (body(b" " * (MAX_DOCUMENT_BYTES + 1)), "longer than 262144 bytes"),
        (body(DOCUMENT, 200, {"Content-Encoding": "gzip"}), "a compressed answer"),
    ],
)
async def test_a_server_that_misbehaves_is_unavailable(
    server: HttpServer, ca_file: Path, misbehaviour: Handler, cause: str
) -> None:
    """Redirects, errors, endless, half and compressed answers are no document."""
    server.paths["/document"] = misbehaviour
    server.paths["/other"] = body(DOCUMENT)
    assert cause in await fault(f"{server.url}/document", ca_file)
    assert [path for path, _ in server.requests] == ["/document"]


async def test_a_server_under_other_roots_is_not_believed(
    server: HttpServer, tmp_path: Path
) -> None:
    """Neither with other roots nor with the system's: no request reaches it."""
    other = tmp_path / "other.crt"
    other.write_bytes(TestRoots().pem)
    for ca_file in [other, None]:
        for scheme in ["https", "HTTPS", "Https"]:
            url = check_url(f"{server.url}/document".replace("https", scheme))
            assert "Certificate" in await fault(url, ca_file)
    assert server.requests == []


async def test_a_server_of_another_name_is_not_believed(tmp_path: Path, ca_file: Path) -> None:
    """Roots alone are not enough."""
    fake = HttpServer(paths={"/document": body(DOCUMENT)})
    async with serve(fake, server_context(ROOTS.issue("elsewhere.example"), tmp_path)):
        assert "Certificate" in await fault(f"{fake.url}/document", ca_file)
    assert fake.requests == []


async def test_plain_http_works_on_loopback_for_development() -> None:
    """No certificate is needed to talk to oneself."""
    fake = HttpServer(paths={"/document": body(DOCUMENT)})
    async with serve(fake):
        assert await read(f"{fake.url}/document", None) == DOCUMENT


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://keys.example/jwks", "https is needed"),
        ("http://10.0.0.1/jwks", "https is needed"),
        ("http://127.0.0.1.example/jwks", "https is needed"),
        ("http://localhost.example/jwks", "https is needed"),
        ("ftp://127.0.0.1/jwks", "https is needed"),
        ("ldap://127.0.0.1/jwks", "https is needed"),
        ("wss://keys.example/jwks", "https is needed"),
        ("file:///etc/passwd", "no host"),
        ("https:///jwks", "no host"),
        ("jwks.json", "no host"),
        ("", "no host"),
        ("https://user:hunter2@keys.example/jwks", "a password has no place"),
        ("https://[::1/jwks", "not a URL"),
        ("https://keys.example:port/jwks", "not a URL"),
    ],
)
def test_urls_over_which_anybody_could_hand_us_keys_are_refused(url: str, problem: str) -> None:
    """HTTPS everywhere but on loopback, no passwords, nothing that is no URL."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        check_url(url)
    assert "hunter2" not in str(caught.value)
    assert url.rpartition("@")[2] in str(caught.value)
    assert problem in str(url_problem(url))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/j", "http://[::1]:1/j", "http://localhost/j"])
def test_loopback_has_several_names(url: str) -> None:
    """Addresses of both families and the name."""
    assert check_url(url) == url


def test_origins_are_scheme_host_and_port() -> None:
    """A port that is the scheme's own need not be written; all else makes another server."""
    assert is_same_origin("https://a.example/x", "https://a.example:443/y")
    assert is_same_origin("http://127.0.0.1/x", "http://127.0.0.1:80/y")
    for other in ["https://a.example:8443/", "https://b.example/", "http://a.example:443/"]:
        assert not is_same_origin("https://a.example/", other)
