"""OpenBao for the tests of this folder: one server for those that leave it running."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.openbao.mounts import Mesh, set_up_mesh
from tests.conformance.openbao.server import OpenBao, openbao_server
from tests.conformance.softhsm.conftest import hsm, plain_hsm, shim

__all__ = ["hsm", "plain_hsm", "shim"]


@pytest.fixture(scope="session")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """Run one server for all."""
    with openbao_server(tmp_path_factory.mktemp("openbao")) as server:
        yield server


@pytest.fixture(scope="session")
def mesh(bao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """Set up PKI and transit once, for tests that change neither."""
    return set_up_mesh(bao, "mesh", tmp_path_factory.mktemp("mesh"))


@pytest.fixture
def own_mesh(bao: OpenBao, request: pytest.FixtureRequest, tmp_path: Path) -> Mesh:
    """Set up PKI and transit for one test that changes them."""
    return set_up_mesh(bao, f"m{abs(hash(request.node.nodeid)):x}", tmp_path)
