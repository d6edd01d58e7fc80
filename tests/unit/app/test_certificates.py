"""From the section about client certificates to parts of the server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from meshsigner.app.certificates import MeshRoots, places_of
from meshsigner.app.place import Place
from meshsigner.config.client_certificates import ClientCertificates
from meshsigner.errors import NotReady
from meshsigner.model import Capabilities, Health, Issuer
from meshsigner.observe.metrics import Metrics
from meshsigner.rpc.serving_certificate import ServingCertificate
from meshsigner.rpc.side import TcpPlace, UnixPlace
from tests.fakes.client_certificates import Mesh
from tests.fakes.pipeline import NOW
from tests.fakes.serving_tls import TestRoots


class _Backend:
    """A backend that has its issuer, or not yet."""

    name = "fake"
    capabilities = Capabilities(builds_x509=False)

    def __init__(self, issuer: Issuer | None) -> None:
        self.current = issuer

    def issuer(self, now: object) -> Issuer:
        del now
        if self.current is None:
            raise NotReady("no issuer yet")
        return self.current

    async def start(self) -> None:
        """Nothing."""

    async def aclose(self) -> None:
        """Nothing."""

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        del roots

    def health(self, now: object) -> Health:
        del now
        return Health(name=self.name, ready=self.current is not None, detail="")


@pytest.fixture
def certificate(tmp_path: Path) -> ServingCertificate:
    """A serving certificate."""
    identity = TestRoots().issue("localhost")
    (tmp_path / "tls.crt").write_bytes(identity.certificate)
    (tmp_path / "tls.key").write_bytes(identity.key)
    return ServingCertificate(tmp_path / "tls.crt", tmp_path / "tls.key", metrics=Metrics())


def test_roots_are_those_of_the_first_backend_that_has_any() -> None:
    """Each backend announces the roots of all; one that is away takes nothing from the others."""
    mesh = Mesh()
    away, here = _Backend(None), _Backend(mesh.issuer)
    roots = MeshRoots([away, here], lambda: NOW)
    assert roots.issuer(NOW) is here.current
    assert roots.pem() == mesh.root.pem.decode()


def test_without_roots_nobody_can_be_judged() -> None:
    """For a call that is our fault; a handshake gets none, and so lets nobody in."""
    roots = MeshRoots([_Backend(None)], lambda: NOW)
    assert roots.pem() == ""
    with pytest.raises(NotReady):
        roots.issuer(NOW)


def _places(content: Any, certificate: ServingCertificate, place: Place | None) -> list[Any]:
    section = ClientCertificates.model_validate(content)
    roots = MeshRoots([_Backend(Mesh().issuer)], lambda: NOW)
    return list(places_of(section, roots=roots, certificate=certificate, place=place))


def test_ports_are_shared_by_workers(certificate: ServingCertificate) -> None:
    """All listen at the configured address, and the proxy's port is marked."""
    proxy = "spiffe://cluster.local/ns/istio-system/sa/proxy"
    content = {
        "mutual_tls": {"address": "127.0.0.1:15013"},
        "forwarded": {"type": "mutual_tls", "address": "127.0.0.1:15016", "proxy": proxy},
    }
    worker = Place(number=3, policy_generation=1)
    first, second = _places(content, certificate, worker)
    assert isinstance(first, TcpPlace)
    assert (first.listen, first.believes_proxy) == ("127.0.0.1:15013", False)
    assert (second.listen, second.believes_proxy) == ("127.0.0.1:15016", True)


def test_each_worker_has_a_path_of_its_own(certificate: ServingCertificate) -> None:
    """A path cannot be shared; a server that is one process takes the path as it is."""
    content = {"forwarded": {"type": "unix", "socket": "/run/a/xfcc.sock"}}
    worker = Place(number=3, policy_generation=1)
    assert _places(content, certificate, None) == [UnixPlace(path=Path("/run/a/xfcc.sock"))]
    assert _places(content, certificate, worker) == [UnixPlace(path=Path("/run/a/xfcc.sock.3"))]
