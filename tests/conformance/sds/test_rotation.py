"""Certificates, intermediates and roots change under steady traffic, and no request fails.

Leaves live for 20 s and are renewed with 14 s left, so that seconds show what days would. The tests
of this file follow one another on one mesh, as the changes of a CA do.
"""

import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509

from tests.conformance.sds import envoy, traffic
from tests.conformance.sds.authority import Authority, answered, new_ca, write_leaf
from tests.conformance.sds.conftest import LIFETIME_S, SHORT_LIVES, short_directory
from tests.conformance.sds.mesh import CLIENT, Mesh, Pair, identity, pair
from tests.conformance.sds.traffic import Load
from tests.conformance.server import Installation, running
from tests.fakes.authority import Ca

GRACE_RATIO = 0.7
SHORT_S, LONG_S = 30.0, 180.0
LEAST_REQUESTS = 20  # of each kind in each test, on the slowest machine
RENEWED_WITHIN_S = LIFETIME_S * 3.0
ROOT_UPDATES = r"^sds\.ROOTCA\.update_success$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotating:
    """A mesh whose CA the test holds.

    Attributes:
        authority: The CA.
        pair: Two workloads that talk.
        directory: For files.
        old_root: The root at first.
        old_issuer: The CA under it that signs at first.
        next_issuer: The one that follows it.
        new_root: The root in the end.
        new_issuer: The CA under that.
    """

    authority: Authority
    pair: Pair
    directory: Path
    old_root: Ca
    old_issuer: Ca
    next_issuer: Ca
    new_root: Ca
    new_issuer: Ca

    @contextmanager
    def load(self) -> Iterator[Load]:
        """Send requests for the length of a block; none may fail."""
        with traffic.running(self.pair.plain) as load:
            yield load
            self.pair.wait_fresh()
        load.check(least=LEAST_REQUESTS)

    def wait_issued_by(self, issuer: Ca) -> None:
        """Wait until both Envoys prove themselves with certificates of a CA."""
        name = issuer.certificate.subject.rfc4514_string()
        for one, used in (
            (self.pair.server, self._server_issuer),
            (self.pair.client, self._client_issuer),
        ):
            one.wait(lambda used=used: used() == name, f"certified by {name}", RENEWED_WITHIN_S)  # type: ignore[misc]  # bound now

    @contextmanager
    def new_roots_arrive(self) -> Iterator[None]:
        """Wait behind a block until both Envoys have taken other roots than before it."""
        both = (self.pair.server, self.pair.client)
        before = {one.name: one.total(ROOT_UPDATES) for one in both}
        yield
        for one in both:
            one.wait(
                lambda one=one: one.total(ROOT_UPDATES) > before[one.name],  # type: ignore[misc]  # bound now
                "with other roots",
                RENEWED_WITHIN_S,
            )

    def is_trusted(self, issuer: Ca) -> bool:
        """Tell whether the server takes a client whose certificate this CA has issued."""
        leaf = write_leaf(self.directory / "leaf.pem", issuer, identity(CLIENT))
        return answered(self.pair.mtls, leaf)

    def _server_issuer(self) -> str:
        host, _, port = self.pair.mtls.rpartition(":")
        leaf = x509.load_pem_x509_certificate(
            ssl.get_server_certificate((host, int(port))).encode()
        )
        return leaf.issuer.rfc4514_string()

    def _client_issuer(self) -> str:
        return envoy.get(self.pair.plain, "/new").headers["x-client-issuer"]


@pytest.fixture(scope="module")
def rotating(command: Path) -> Iterator[Rotating]:
    """Run a mesh under the old root."""
    old_root, new_root = new_ca("old root"), new_ca("new root")
    old_issuer, next_issuer = new_ca("issuer 1", old_root), new_ca("issuer 2", old_root)
    with short_directory() as directory:
        authority = Authority(directory)
        authority.publish([old_root, new_root])
        authority.show(old_issuer, [old_root])
        made = Installation(
            command=command,
            state_dir=directory / "state",
            options=("--ca-dir", str(authority.path)),
            environment=SHORT_LIVES,
        )
        with running(made) as server:
            mesh = Mesh(
                installation=made, ca=server.listen, roots=authority.roots, directory=directory
            )
            with pair(
                mesh,
                workload={"lifetime": f"{LIFETIME_S}s"},
                renewal={"grace_ratio": GRACE_RATIO},
            ) as both:
                yield Rotating(
                    authority=authority,
                    pair=both,
                    directory=directory,
                    old_root=old_root,
                    old_issuer=old_issuer,
                    next_issuer=next_issuer,
                    new_root=new_root,
                    new_issuer=new_ca("issuer 3", new_root),
                )


def test_statement_66_certificates_are_renewed(rotating: Rotating, *, soak: bool) -> None:
    """Leaf after leaf takes the place of the last; connections that are kept stay."""
    before = [len(one.lines("certificate obtained")) for one in rotating.pair.agents]
    with rotating.load() as load:
        time.sleep(LONG_S if soak else SHORT_S)
    renewed = [
        len(one.lines("certificate obtained")) - count
        for one, count in zip(rotating.pair.agents, before, strict=True)
    ]
    assert min(renewed) >= 3, renewed
    assert len(load.client_serials) >= 3, "the server never saw the client's new certificates"
    assert len(load.connections) <= 2, "kept connections were closed between the Envoys"


def test_another_intermediate_signs(rotating: Rotating) -> None:
    """A change of the intermediate under one root needs nothing but the next renewal."""
    with rotating.load():
        rotating.authority.show(rotating.next_issuer, [rotating.old_root])
        rotating.wait_issued_by(rotating.next_issuer)


def test_statement_61_a_new_root_is_announced(rotating: Rotating) -> None:
    """First phase of a change of roots: both are trusted, the old one still signs."""
    assert not rotating.is_trusted(rotating.new_issuer)
    with rotating.load(), rotating.new_roots_arrive():
        rotating.authority.show(rotating.next_issuer, [rotating.old_root, rotating.new_root])
    assert rotating.is_trusted(rotating.new_issuer)
    assert rotating.is_trusted(rotating.next_issuer)


def test_the_new_root_signs(rotating: Rotating) -> None:
    """Second phase: leaves come from the new root, old ones are trusted to their end."""
    with rotating.load():
        rotating.authority.show(rotating.new_issuer, [rotating.new_root, rotating.old_root])
        rotating.wait_issued_by(rotating.new_issuer)
    assert rotating.is_trusted(rotating.next_issuer)


def test_the_old_root_is_dropped(rotating: Rotating) -> None:
    """Last phase: with no leaf of the old root left, nobody trusts it any more."""
    with rotating.load(), rotating.new_roots_arrive():
        rotating.authority.show(rotating.new_issuer, [rotating.new_root])
    assert rotating.is_trusted(rotating.new_issuer)
    assert not rotating.is_trusted(rotating.next_issuer)
