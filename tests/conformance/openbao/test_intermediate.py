"""Intermediate mode over a real OpenBao: renewed with overlap, through quotas and outages."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from meshsigner.errors import NotReady
from meshsigner.model import Chain
from meshsigner.observe.metrics import Metrics
from meshsigner.ports import LocalSigner
from meshsigner.signing.intermediate.kind import OPENBAO_INTERMEDIATE
from meshsigner.verify import check_issued
from tests.conformance.openbao.backend import make_errand, surroundings_in, utc_now
from tests.conformance.openbao.mounts import Mesh
from tests.conformance.openbao.proxy import proxy_before


@dataclass(frozen=True, slots=True)
class Running:
    """A started backend."""

    signer: LocalSigner
    metrics: Metrics

    def sign(self, number: int = 0) -> Chain:
        """Have one order signed, checked as the pipeline checks it."""
        errand = make_errand(self.signer.issuer(utc_now()), number=number)
        return check_issued(self.signer.sign(errand.order), errand.order)


@asynccontextmanager
async def running(settings: dict[str, Any], directory: Path) -> AsyncIterator[Running]:
    """Have the backend running, as a server has it."""
    around = surroundings_in(directory)
    checked = OPENBAO_INTERMEDIATE.settings.model_validate(settings)
    signer = OPENBAO_INTERMEDIATE.open("short", checked, around)  # type: ignore[arg-type]
    try:
        await signer.start()
        yield Running(signer, around.metrics)  # type: ignore[arg-type] # a local kind
    finally:
        await signer.aclose()


def settings_of(mesh: Mesh, **changes: Any) -> dict[str, Any]:
    """Return settings of the backend."""
    mesh.bao.policy(mesh.policy, f"{mesh.root}/issuer/default/sign-intermediate")
    return mesh.settings("openbao_intermediate", **changes)


def kept_in(directory: Path, **changes: Any) -> dict[str, Any]:
    """Return the settings that keep it in files."""
    return {"keep": "file", "directory": str(directory), **changes}


@pytest.mark.parametrize("key_type", ["p256", "p384"])
async def test_leaves_are_signed_here(own_mesh: Mesh, tmp_path: Path, key_type: str) -> None:
    """One request gives an intermediate with path length 0; leaves under it pass every check."""
    async with running(settings_of(own_mesh, key_type=key_type), tmp_path) as backend:
        chains = [backend.sign(number) for number in range(20)]
        shown = backend.metrics.render().decode()
    issuer = chains[0].issuer
    constraints = issuer.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value.path_length == 0
    assert [c.issuer == c.subject for c in issuer.intermediates] == [False]
    assert 'meshsigner_intermediate_renewals_total{backend="short",result="taken"} 1.0' in shown
    assert "meshsigner_intermediate_expiry_timestamp_seconds" in shown
    assert os.listdir(tmp_path) == ["token"]  # noqa: PTH208 - memory: nothing else is written


async def test_renewal_overlaps(own_mesh: Mesh, tmp_path: Path) -> None:
    """Renewed with a new key at its share of life; orders of the old one are still signed."""
    settings = settings_of(own_mesh, lifetime="1m", renew_at=0.1)
    async with running(settings, tmp_path) as backend:
        first = backend.signer.issuer(utc_now())
        pending = make_errand(first)
        async with asyncio.timeout(45.0):
            while backend.signer.issuer(utc_now()) is first:
                await asyncio.sleep(0.1)
        second = backend.sign()
        late = check_issued(backend.signer.sign(pending.order), pending.order)
    assert second.issuer.certificate.public_key() != first.certificate.public_key()
    assert late.issuer is first
    assert second.issuer.trust_bundle.certificates == first.trust_bundle.certificates


async def test_restart_asks_nobody(own_mesh: Mesh, tmp_path: Path) -> None:
    """Kept in files it survives a restart while OpenBao is sealed; the key's mode is 0600."""
    settings = settings_of(own_mesh, **kept_in(tmp_path / "ca"))
    async with running(settings, tmp_path) as backend:
        before = backend.sign()
    await asyncio.to_thread(own_mesh.bao.seal)
    try:
        async with running(settings, tmp_path) as backend:
            after = backend.sign()
            health = backend.signer.health(utc_now())
    finally:
        await asyncio.to_thread(own_mesh.bao.unseal)
    assert health.ready
    assert before.issuer.certificate == after.issuer.certificate
    key = (tmp_path / "ca" / "ca-key.pem").stat()
    assert stat.S_IMODE(key.st_mode) == 0o600


async def test_workers_share_one(own_mesh: Mesh, tmp_path: Path) -> None:
    """Of several workers over one directory one asks, at the start and at each renewal."""
    settings = settings_of(own_mesh, **kept_in(tmp_path / "ca", lifetime="1m", renew_at=0.1))
    async with (
        running(settings, tmp_path) as one,
        running(settings, tmp_path) as two,
        running(settings, tmp_path) as three,
    ):
        await _agree(one, two, three)
        first = one.signer.issuer(utc_now()).certificate
        async with asyncio.timeout(45.0):
            while one.signer.issuer(utc_now()).certificate == first:
                await asyncio.sleep(0.1)
        await _agree(one, two, three)
        asked = sum(_taken(worker) for worker in (one, two, three))
    assert asked <= 3  # one start, one renewal, and the next may be on its way


async def _agree(*workers: Running) -> None:
    """Wait until all sign with the same intermediate."""
    async with asyncio.timeout(10.0):
        while True:
            try:
                found = {w.signer.issuer(utc_now()).certificate for w in workers}
            except NotReady:
                found = set()
            if len(found) == 1:
                return
            await asyncio.sleep(0.05)


def _taken(worker: Running) -> float:
    name = 'meshsigner_intermediate_renewals_total{backend="short",result="taken"} '
    lines = worker.metrics.render().decode().splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


async def test_damaged_files_are_asked_for_anew(own_mesh: Mesh, tmp_path: Path) -> None:
    """What is kept and cannot be used is told and replaced."""
    settings = settings_of(own_mesh, **kept_in(tmp_path / "ca"))
    async with running(settings, tmp_path) as backend:
        before = backend.sign()
    (tmp_path / "ca" / "ca-cert.pem").resolve().write_text("damaged")
    async with running(settings, tmp_path) as backend:
        after = backend.sign()
    assert before.issuer.certificate != after.issuer.certificate


async def test_ca_that_is_away_at_the_start(own_mesh: Mesh, tmp_path: Path) -> None:
    """Sealed at our start: not ready, told why; an intermediate comes once it is unsealed."""
    settings = settings_of(own_mesh)
    await asyncio.to_thread(own_mesh.bao.seal)
    async with running(settings, tmp_path) as backend:
        health = backend.signer.health(utc_now())
        with pytest.raises(NotReady, match="sealed"):
            backend.signer.issuer(utc_now())
        await asyncio.to_thread(own_mesh.bao.unseal)
        async with asyncio.timeout(5.0):
            while not backend.signer.health(utc_now()).ready:
                await asyncio.sleep(0.05)
        backend.sign()
    assert not health.ready


async def test_danger_is_told_and_nothing_outlives_it(own_mesh: Mesh, tmp_path: Path) -> None:
    """While the CA is away health says that the renewal is in danger; after the end none signs."""
    async with proxy_before(own_mesh.bao.address) as proxy:
        settings = settings_of(
            own_mesh, address=f"https://{proxy.address}", lifetime="1m", renew_at=0.1
        )
        async with running(settings, tmp_path) as backend:
            issuer = backend.signer.issuer(utc_now())
            proxy.cut()
            in_danger = issuer.not_after - timedelta(seconds=5)
            async with asyncio.timeout(20.0):
                while "renewal" not in backend.signer.health(utc_now()).detail:
                    await asyncio.sleep(0.1)
            health = backend.signer.health(in_danger)
            assert health.ready
            assert "its renewal is in danger" in health.detail
            leaf = backend.sign()
            end = x509.load_der_x509_certificate(leaf.leaf_der).not_valid_after_utc
            assert end <= issuer.not_after
            after = issuer.not_after + timedelta(seconds=1)
            assert not backend.signer.health(after).ready
            with pytest.raises(NotReady, match="expired"):
                backend.signer.issuer(after)
            proxy.heal()
            async with asyncio.timeout(10.0):
                while backend.signer.issuer(utc_now()) is issuer:
                    await asyncio.sleep(0.05)


async def test_examination_asks_for_nothing(own_mesh: Mesh, tmp_path: Path) -> None:
    """`check-config --connect` says whether we may, without having anything signed."""
    checked = OPENBAO_INTERMEDIATE.settings.model_validate(settings_of(own_mesh))
    around = surroundings_in(tmp_path)
    good = await OPENBAO_INTERMEDIATE.examine(checked, around)  # type: ignore[arg-type]
    own_mesh.bao.policy(own_mesh.policy, "sys/nothing")
    bad = await OPENBAO_INTERMEDIATE.examine(checked, around)  # type: ignore[arg-type]
    assert [finding.good for finding in good] == [True]
    assert [finding.good for finding in bad] == [False]
    assert "expected update" in bad[0].text
