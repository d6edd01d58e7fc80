"""What must be there before anything runs is made once, and what is there is left alone."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from meshsigner.app.bootstrap import CaSecret, bootstrap
from meshsigner.config import Config, build_config
from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.kube import NotAllowed
from tests.fakes.http_server import serve
from tests.fakes.kubernetes_objects import KubernetesObjects
from tests.fakes.kubernetes_store import Address, Document
from tests.fakes.serving_tls import TestRoots, server_context

ROOTS = TestRoots()
SERVING = ROOTS.issue("127.0.0.1")
SECRET = CaSecret(namespace="meshsigner", name="own-ca")
CA = Address("/api/v1", "secrets", "meshsigner", "own-ca")
ISTIOD = Address("/api/v1", "secrets", "istio-system", "istiod-tls")
MAP = Address("/api/v1", "configmaps", "istio-system", "istio-ca-root-cert")
SHORT = timedelta(seconds=2)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[KubernetesObjects]:
    """Run an API server with both namespaces."""
    server = KubernetesObjects()
    for name in ("meshsigner", "istio-system"):
        server.store.create(Address("/api/v1", "namespaces"), {"metadata": {"name": name}})
    async with serve(server.http, server_context(SERVING, tmp_path)):
        yield server


@pytest.fixture
def config(server: KubernetesObjects, tmp_path: Path) -> Config:
    """Return settings that lead to the server."""
    (tmp_path / "roots.pem").write_bytes(ROOTS.pem)
    cluster = {"server": server.http.url, "certificate-authority": "roots.pem"}
    kubeconfig = {
        "clusters": [{"name": "a", "cluster": cluster}],
        "users": [{"name": "a", "user": {"token": "reviewer"}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "current-context": "a",
    }
    (tmp_path / "kubeconfig").touch(0o600)
    (tmp_path / "kubeconfig").write_text(json.dumps(kubeconfig))
    return build_config(
        {
            "trust_domain": "cluster.local",
            "clusters": [{"id": "Kubernetes"}],
            "issuer": {"type": "directory", "path": str(tmp_path / "nowhere")},
            "listen": {"tls": {"type": "issuer", "dns_names": ["a.svc"]}},
            "controllers": {"kubeconfig": str(tmp_path / "kubeconfig")},
        },
        name="test",
    )


def _text(document: Document, key: str) -> str:
    return base64.b64decode(document["data"][key]).decode()


async def test_everything_is_made_once(server: KubernetesObjects, config: Config) -> None:
    """CA, the root's key apart, roots and certificate; a second run changes nothing."""
    said: list[str] = []
    await bootstrap(config, secret=SECRET, wait=SHORT, say=said.append)
    ca, istiod = server.store.get(CA), server.store.get(ISTIOD)
    assert set(ca["data"]) == {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"}
    assert set(server.store.get(CA._replace(name="own-ca-root"))["data"]) == {"root-key.pem"}
    roots = _text(ca, "root-cert.pem")
    assert server.store.get(MAP)["data"]["root-cert.pem"] == roots
    assert _text(istiod, "ca.crt") == roots
    assert len(said) == 3
    await bootstrap(config, secret=SECRET, wait=SHORT, say=said.append)
    assert (server.store.get(CA), server.store.get(ISTIOD)) == (ca, istiod)
    assert "is good" in said[-1]


async def test_run_that_was_cut_is_finished(server: KubernetesObjects, config: Config) -> None:
    """With the root's key alone the CA is made under that very root."""
    await bootstrap(config, secret=SECRET, wait=SHORT, say=print)
    key = _text(server.store.get(CA._replace(name="own-ca-root")), "root-key.pem")
    for address in (CA, ISTIOD, MAP):
        server.store.delete(address)
    await bootstrap(config, secret=SECRET, wait=SHORT, say=print)
    assert _text(server.store.get(CA._replace(name="own-ca-root")), "root-key.pem") == key
    assert "BEGIN CERTIFICATE" in _text(server.store.get(CA), "root-cert.pem")


async def test_what_is_others_is_left_alone(server: KubernetesObjects, config: Config) -> None:
    """Roots and a certificate of another CA stay, and are told."""
    others = {"metadata": {"name": MAP.name}, "data": {"root-cert.pem": "theirs"}}
    server.store.create(MAP._replace(name=""), others)
    theirs = {"metadata": {"name": ISTIOD.name}, "data": {"tls.crt": "", "tls.key": ""}}
    server.store.create(ISTIOD._replace(name=""), theirs)
    said: list[str] = []
    await bootstrap(config, secret=SECRET, wait=SHORT, say=said.append)
    assert server.store.get(MAP)["data"]["root-cert.pem"] == "theirs"
    assert sum("left for the controllers" in line for line in said) == 2


async def test_missing_namespace_is_waited_for_and_told(
    server: KubernetesObjects, config: Config
) -> None:
    """It is not made: whose it is, is not ours to say."""
    server.store.delete(Address("/api/v1", "namespaces", "", "istio-system"))
    with pytest.raises(BackendUnavailable, match="namespaces/istio-system"):
        await bootstrap(config, secret=SECRET, wait=timedelta(0), say=print)


async def test_missing_right_is_told_at_once(server: KubernetesObjects, config: Config) -> None:
    """No waiting mends it."""
    server.refuse(1, 403)
    with pytest.raises(NotAllowed):
        await bootstrap(config, secret=SECRET, wait=timedelta(minutes=1), say=print)


async def test_ca_in_files_is_taken_if_no_secret_is_named(config: Config) -> None:
    """Then it must be there."""
    with pytest.raises(ConfigurationError, match="nowhere"):
        await bootstrap(config, secret=None, wait=SHORT, say=print)
