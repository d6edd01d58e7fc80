"""A revoked certificate is refused by the real Envoy once the CRL file says so, others are not.

The CRLs are the test's own: one of each CA in the chain, for Envoy wants them all.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.sds import agent, envoy
from tests.conformance.sds.authority import Authority, build_crl, new_ca
from tests.conformance.sds.conftest import short_directory
from tests.conformance.sds.mesh import Mesh, Pair, pair, wait_presented
from tests.conformance.server import Installation, running
from tests.fakes.authority import Ca

REFUSED = 503
VERIFY_ERRORS = r"^listener\.mtls\.ssl\.fail_verify_error$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoking:
    """A mesh whose CRLs the test holds.

    Attributes:
        pair: Two workloads that talk, and look at the CRLs.
        root: The root.
        issuer: The CA that signs.
        file: The CRLs' file.
    """

    pair: Pair
    root: Ca
    issuer: Ca
    file: Path

    def revoke(self, serials: Sequence[int]) -> None:
        """Write the CRLs anew, at one stroke, and wait until both agents have taken them."""
        taken = [len(one.lines("CRL taken")) for one in self.pair.agents]
        _write(self.file, self.root, self.issuer, serials)
        for one, count in zip(self.pair.agents, taken, strict=True):
            one.wait_for("CRL taken", count + 1)


def _write(file: Path, root: Ca, issuer: Ca, serials: Sequence[int] = ()) -> None:
    fresh = file.with_suffix(".new")
    fresh.write_bytes(build_crl(root) + build_crl(issuer, serials))
    fresh.replace(file)


@pytest.fixture
def revoking(command: Path) -> Iterator[Revoking]:
    """Run a mesh in which nothing is revoked yet."""
    root = new_ca("root")
    issuer = new_ca("issuer", root)
    with short_directory() as directory:
        authority, file = Authority(directory), directory / "crl.pem"
        authority.publish([root])
        authority.show(issuer, [root])
        _write(file, root, issuer)
        made = Installation(
            command=command,
            state_dir=directory / "state",
            options=("--ca-dir", str(authority.path)),
        )
        with running(made) as server:
            mesh = Mesh(
                installation=made, ca=server.listen, roots=authority.roots, directory=directory
            )
            with pair(mesh, workload={"crl_file": os.fspath(file)}) as both:
                yield Revoking(pair=both, root=root, issuer=issuer, file=file)


def test_statement_70_a_revoked_client_is_refused(revoking: Revoking) -> None:
    """The client is served, revoked, refused, and served again with its next certificate."""
    both = revoking.pair
    assert envoy.get(both.plain, "/new").status == 200
    before = both.server.total(VERIFY_ERRORS)
    revoking.revoke([int(both.client_agent.serial(), 16)])
    both.server.wait(lambda: envoy.get(both.plain, "/new").status == REFUSED, "refusing")
    assert both.server.total(VERIFY_ERRORS) > before
    both.client_agent.kill()
    with agent.running(both.client_agent.plan) as successor:
        successor.wait_for("certificate obtained")
        wait_presented(both.client, successor)
        assert envoy.get(both.plain, "/new").status == 200
    assert not [line for one in both.agents for line in one.lines("remark on the CRL")]
