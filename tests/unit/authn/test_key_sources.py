"""Where keys are read from, and where discovery cannot lead us."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from meshsigner.authn.key_sets import MAX_KEY_SET_BYTES, KeyOwners, parse_key_set
from meshsigner.authn.key_sources import ApiServerKeys, DiscoveredKeys, FileKeys, UrlKeys
from meshsigner.authn.public_keys import PublicKeys
from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.kube import BearerToken, Connection, KubernetesApi, TlsFiles
from tests.fakes.http_server import (
    Handler,
    HttpServer,
    body,
    serve,
    stall,
)
from tests.fakes.serving_tls import TestRoots, server_context
from tests.fakes.tokens import jwk, jwks, rsa_key

ROOTS = TestRoots()
SERVING = ROOTS.issue("127.0.0.1")
KEYS = jwks(jwk(rsa_key()))
DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    """The roots of every server here."""
    path = tmp_path / "ca.crt"
    path.write_bytes(ROOTS.pem)
    return path


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A token that a server may ask for."""
    path = tmp_path / "token"
    path.write_text("cluster-credential\n")
    return path


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[HttpServer]:
    """A server with a key set."""
    fake = HttpServer(paths={"/jwks": body(KEYS)})
    async with serve(fake, server_context(SERVING, tmp_path)):
        yield fake


def configuration(of: str, jwks_uri: object = None, **changes: object) -> Handler:
    """Answer with a discovery document; changes override its members."""
    uri = f"{of.rstrip('/')}/jwks" if jwks_uri is None else jwks_uri
    return body(json.dumps({"issuer": of, "jwks_uri": uri} | changes).encode())


async def fetch(source: FileKeys | UrlKeys | DiscoveredKeys | ApiServerKeys) -> bytes:
    """Read a source once."""
    try:
        return await source.fetch()
    finally:
        await source.aclose()


async def fault(source: UrlKeys | DiscoveredKeys | ApiServerKeys) -> str:
    """Return why a source cannot be read; it never quotes a token."""
    with pytest.raises(BackendUnavailable) as caught:
        await fetch(source)
    assert "cluster-credential" not in str(caught.value)
    return str(caught.value)


async def test_a_file_is_read_as_it_is_now(tmp_path: Path) -> None:
    """Also after somebody replaced it, in place or by a swap."""
    path = tmp_path / "jwks.json"
    path.write_bytes(KEYS)
    source = FileKeys(path)
    assert await source.fetch() == KEYS
    other = jwks(jwk(rsa_key("two")))
    path.write_bytes(other)
    assert await source.fetch() == other
    assert (source.where, source.every_s) == (str(path), 2.0)


async def test_a_file_that_is_missing_or_huge(tmp_path: Path) -> None:
    """A missing one is our fault; of a huge one only so much is read that it is refused."""
    with pytest.raises(BackendUnavailable, match="No such file"):
        await FileKeys(tmp_path / "missing").fetch()
    path = tmp_path / "huge"
    path.write_bytes(b" " * (2 * MAX_KEY_SET_BYTES))
    assert len(await FileKeys(path).fetch()) == MAX_KEY_SET_BYTES + 1


async def test_a_url_is_read_with_the_token_it_asks_for(
    server: HttpServer, ca_file: Path, token_file: Path
) -> None:
    """HTTPS under the configured roots; the token only where one is configured."""
    url = f"{server.url}/jwks"
    assert await fetch(UrlKeys(url, ca_file=ca_file)) == KEYS
    assert "Authorization" not in server.requests[0][1]
    source = UrlKeys(url, ca_file=ca_file, token_file=token_file)
    assert await fetch(source) == KEYS
    assert server.requests[1][1]["Authorization"] == "Bearer cluster-credential"
    assert (source.where, source.every_s) == (url, 300.0)


@pytest.mark.parametrize("url", ["http://keys.example/", "https://user:hunter2@a.example", ""])
def test_sources_take_protected_urls_only(url: str) -> None:
    """URLs and issuers over which anybody could hand us keys are configuration errors."""
    for make in (UrlKeys, DiscoveredKeys):
        with pytest.raises(ConfigurationError, match="key URL"):
            make(url)


@pytest.mark.parametrize("slash", ["", "/"])
async def test_discovery_leads_to_the_keys(
    server: HttpServer, ca_file: Path, token_file: Path, slash: str
) -> None:
    """The issuer's document names the keys; both are read from the issuer with its token."""
    issuer = server.url + slash
    server.paths[DISCOVERY] = configuration(issuer)
    source = DiscoveredKeys(issuer, ca_file=ca_file, token_file=token_file)
    assert await fetch(source) == KEYS
    assert [path for path, _ in server.requests] == [DISCOVERY, "/jwks"]
    assert all(h["Authorization"] == "Bearer cluster-credential" for _, h in server.requests)


async def test_the_token_is_for_the_issuer_alone(
    server: HttpServer, ca_file: Path, token_file: Path, tmp_path: Path
) -> None:
    """Where the document points to another server, that one sees no token."""
    other = HttpServer(paths={"/jwks": body(KEYS)})
    folder = tmp_path / "other"
    folder.mkdir()
    async with serve(other, server_context(SERVING, folder)):
        server.paths[DISCOVERY] = configuration(server.url, f"{other.url}/jwks")
        source = DiscoveredKeys(server.url, ca_file=ca_file, token_file=token_file)
        assert await fetch(source) == KEYS
    assert "Authorization" in server.requests[0][1]
    assert "Authorization" not in other.requests[0][1]


async def test_the_discovered_issuer_equals_the_configured_one(
    server: HttpServer, ca_file: Path
) -> None:
    """OpenID Connect Discovery 4.3: another issuer's document is refused before its keys."""
    for other in ["https://attacker.example", server.url + "/", server.url.upper(), None, 1]:
        server.paths[DISCOVERY] = configuration(server.url, issuer=other)
        assert "its issuer is not" in await fault(DiscoveredKeys(server.url, ca_file=ca_file))
    assert {path for path, _ in server.requests} == {DISCOVERY}


@pytest.mark.parametrize(
    ("jwks_uri", "cause"),
    [
        (1, "no jwks_uri"),
        ("http://keys.example/jwks", "https is needed"),
        ("http://127.0.0.1:1/jwks", "not protected as the issuer itself is"),
        ("file:///etc/passwd", "no host"),
        ("https://user:pw@keys.example/jwks", "a password has no place"),
        ("https://[::1/", "not a URL"),
    ],
)
async def test_discovery_leads_nowhere_unprotected(
    server: HttpServer, ca_file: Path, jwks_uri: object, cause: str
) -> None:
    """An https issuer cannot send us to plain http, not even on loopback."""
    server.paths[DISCOVERY] = configuration(server.url, jwks_uri)
    assert cause in await fault(DiscoveredKeys(server.url, ca_file=ca_file))


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_development_issuer_may_lead_to_either(
    server: HttpServer, ca_file: Path, scheme: str
) -> None:
    """An issuer on plain loopback may have its keys there, or better protected."""
    issuer = HttpServer(paths={"/jwks": body(KEYS)})
    async with serve(issuer):
        keys_at = issuer.url if scheme == "http" else server.url
        issuer.paths[DISCOVERY] = configuration(issuer.url, f"{keys_at}/jwks")
        assert await fetch(DiscoveredKeys(issuer.url, ca_file=ca_file)) == KEYS


@pytest.mark.parametrize("document", [b"", b"[]", b'{"issuer": "a", "issuer": "b"}'])
async def test_a_discovery_document_is_strict_json(
    server: HttpServer, ca_file: Path, document: bytes
) -> None:
    """What has two meanings has none."""
    server.paths[DISCOVERY] = body(document)
    cause = await fault(DiscoveredKeys(server.url, ca_file=ca_file))
    assert cause.startswith("discovery document: not ")


async def test_the_api_server_gives_its_own_keys(server: HttpServer) -> None:
    """With our own credential, from fixed paths, after a look at whose keys they are."""
    issuer = "https://kubernetes.default.svc.cluster.local"
    server.paths[DISCOVERY] = configuration(issuer, "https://10.0.0.1:6443/openid/v1/jwks")
    server.paths["/openid/v1/jwks"] = body(KEYS)

    def make(expected: str) -> ApiServerKeys:
        connection = Connection(
            server=server.url, tls=TlsFiles(ca=ROOTS.pem), token=BearerToken("cluster-credential")
        )
        return ApiServerKeys(KubernetesApi(connection), expected)

    assert await fetch(make(issuer)) == KEYS
    assert all(h["Authorization"] == "Bearer cluster-credential" for _, h in server.requests)
    assert "its issuer is not https://other" in await fault(make("https://other"))
    assert len(server.requests) == 3


async def test_a_recorded_discovery_and_key_set_are_taken(ca_file: Path, tmp_path: Path) -> None:
    """The documents of a real kube-apiserver, served from where its issuer is expected."""
    recorded = Path(__file__).parents[2] / "vectors" / "recorded"
    document = json.loads((recorded / "openid-configuration.json").read_bytes())
    fake = HttpServer()
    async with serve(fake, server_context(SERVING, tmp_path)):
        document |= {"issuer": fake.url, "jwks_uri": f"{fake.url}/openid/v1/jwks"}
        fake.paths[DISCOVERY] = body(json.dumps(document).encode())
        fake.paths["/openid/v1/jwks"] = body((recorded / "jwks.json").read_bytes())
        data = await fetch(DiscoveredKeys(fake.url, ca_file=ca_file))
    assert list(parse_key_set(data).keys) == ["zDzQkRwChMEVrwEZ_4-WVkme4YS-h0bcHFaaBGrD0yY"]


async def test_a_stalled_server_ends_with_the_refresh(server: HttpServer, ca_file: Path) -> None:
    """Sources have no time limit of their own: the refresh as a whole has one."""
    server.paths["/jwks"] = stall
    keys = PublicKeys(
        cluster="Kubernetes",
        source=UrlKeys(f"{server.url}/jwks", ca_file=ca_file),
        owners=KeyOwners(),
        timeout=timedelta(milliseconds=300),
    )
    with pytest.raises(BackendUnavailable, match=r"no answer within 0\.3 s"):
        await keys.refresh()
    await keys.aclose()
