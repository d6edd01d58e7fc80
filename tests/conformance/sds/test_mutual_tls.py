"""Two real Envoys trust each other by what the agent gave them, and nobody else.

The client's Envoy speaks delta to its agent, the server's the state of the world.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conformance.sds import agent, envoy
from tests.conformance.sds.bootstrap import Sds, Upstream
from tests.conformance.sds.envoy import Envoy
from tests.conformance.sds.mesh import CLIENT, SERVER, Mesh, Pair, client_of, identity, pair
from tests.conformance.server import free_address

STRANGER = "stranger"
WAY = "other"
REFUSED = 503  # what a client's Envoy answers when it gets no connection


@pytest.fixture(scope="module")
def talking(mesh: Mesh) -> Iterator[Pair]:
    """Run two workloads that talk."""
    with pair(mesh) as both:
        yield both


@contextmanager
def _other_client(
    mesh: Mesh, talking: Pair, sds: Sds, expected: str = SERVER
) -> Iterator[tuple[Envoy, str]]:
    """Have another client Envoy with a way to the server, and where its requests begin."""
    way = Upstream(name=WAY, address=talking.mtls, identity=identity(expected))
    plain = free_address()
    with envoy.running(client_of("other-envoy", plain, [way], sds), mesh.directory) as started:
        started.wait_live()
        yield started, plain


def _refusals(server: Envoy, why: str) -> int:
    return server.total(rf"^listener\.mtls\.ssl\.{why}$")


def test_statement_69_both_sides_prove_who_they_are(talking: Pair) -> None:
    """Each side sees the other's SPIFFE ID, in the certificate that its agent obtained last."""
    reply = envoy.get(talking.plain, "/new")
    assert reply.status == 200, reply
    assert reply.headers["x-client"] == identity(CLIENT)
    assert reply.headers["x-server"] == identity(SERVER)
    assert reply.headers["x-client-serial"] == talking.client_agent.serial()
    assert talking.server.serials() == {talking.server_agent.serial()}


def test_status_tells_who_is_served(talking: Pair) -> None:
    """`agent status` shows what each Envoy presents, and that it is subscribed to both secrets."""
    for one, running in (
        (talking.client_agent, talking.client),
        (talking.server_agent, talking.server),
    ):
        (status,) = one.status()
        assert {status["serial"]} == running.serials()
        wanted = {secret["name"] for secret in status["secrets"] if secret["subscribers"]}
        assert wanted == {"default", "ROOTCA"}


def test_another_identity_is_refused(mesh: Mesh, talking: Pair) -> None:
    """A workload of the same mesh whose SPIFFE ID is not the expected one gets no answer."""
    before = _refusals(talking.server, "fail_verify_san")
    with (
        agent.running(mesh.plan(STRANGER)),
        _other_client(mesh, talking, mesh.sds(STRANGER)) as (_, plain),
    ):
        assert envoy.get(plain, f"/{WAY}").status == REFUSED
    assert _refusals(talking.server, "fail_verify_san") > before


def test_no_certificate_is_refused(mesh: Mesh, talking: Pair) -> None:
    """A client that has the mesh's roots but shows no certificate gets no answer."""
    before = _refusals(talking.server, "fail_verify_no_cert")
    bare = mesh.sds(CLIENT, certificate=None)
    with _other_client(mesh, talking, bare) as (_, plain):
        assert envoy.get(plain, f"/{WAY}").status == REFUSED
    assert _refusals(talking.server, "fail_verify_no_cert") > before


def test_a_server_with_another_identity_is_refused(mesh: Mesh, talking: Pair) -> None:
    """The client is as strict: a server that proves another SPIFFE ID is sent nothing."""
    with _other_client(mesh, talking, mesh.sds(CLIENT), STRANGER) as (client, plain):
        assert envoy.get(plain, f"/{WAY}").status == REFUSED
        assert client.total(rf"^cluster\.{WAY}\.ssl\.fail_verify_san$") > 0


@pytest.mark.parametrize(
    ("certificate", "roots"),
    [(identity(CLIENT), "spiffe://cluster.local"), ("default", "ALL")],
    ids=["SPIFFE names", "SPIFFE validator"],
)
def test_statement_63_names_of_spire_are_served(
    mesh: Mesh, talking: Pair, certificate: str, roots: str
) -> None:
    """The SPIFFE ID and the trust domain, and Envoy's SPIFFE validator, do as well."""
    sds = mesh.sds(CLIENT, certificate=certificate, roots=roots)
    with _other_client(mesh, talking, sds) as (_, plain):
        reply = envoy.get(plain, f"/{WAY}")
    assert reply.status == 200, reply
    assert reply.headers["x-client"] == identity(CLIENT)
