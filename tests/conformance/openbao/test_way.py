"""The whole way: a CSR over gRPC, signed through OpenBao, checked, recorded, answered."""

import asyncio
import re
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.conformance.openbao.certificates import root
from tests.conformance.openbao.mounts import Mesh
from tests.conformance.openbao.proxy import proxy_before
from tests.conformance.openbao.served import Served, served
from tests.conformance.openbao.test_transit import set_up_key

KINDS = ("openbao_pki", "openbao_transit", "openbao_intermediate")


def settings_of(mesh: Mesh, kind: str, **changes: Any) -> dict[str, Any]:
    """Return settings of a kind of backend."""
    if kind == "openbao_transit":
        return {**set_up_key(mesh, "ca"), **changes}
    if kind == "openbao_intermediate":
        mesh.bao.policy(mesh.policy, f"{mesh.root}/issuer/default/sign-intermediate")
    return mesh.settings(kind, **changes)


def roots_of(mesh: Mesh, kind: str) -> list[x509.Certificate]:
    """Return the mesh's roots under a kind of backend."""
    if kind == "openbao_transit":
        return [root().certificate]
    pem = mesh.bao.read(f"{mesh.root}/issuer/default/json")["certificate"]
    return [x509.load_pem_x509_certificate(pem.encode())]


@pytest.mark.parametrize("kind", KINDS)
async def test_csr_becomes_a_recorded_certificate(
    own_mesh: Mesh, tmp_path: Path, kind: str
) -> None:
    """A caller's certificate is its own, chains to the mesh's root and has a row."""
    backends = {"corporate": settings_of(own_mesh, kind)}
    async with served(tmp_path / "server", backends) as server:
        answers = []
        for first in range(0, 120, 20):  # fewer than a busy machine would shed
            answers += await asyncio.gather(*(server.ask(first + n) for n in range(20)))
        rows = await asyncio.to_thread(server.recorded)
        shown = server.metrics()
    for answer in answers:
        assert answer.code is grpc.StatusCode.OK, answer.text
        assert answer.faults(roots_of(own_mesh, kind)) == []
        row = rows[answer.leaf.serial_number]
        assert row["backend"] == "corporate"
        assert x509.load_pem_x509_certificate(row["certificate"].encode()) == answer.leaf
    assert 'meshsigner_certificates_issued_total{auth_method="jwt",backend="corporate"}' in shown


async def test_transit_key_is_not_in_the_memory_of_any_process(
    own_mesh: Mesh, tmp_path: Path
) -> None:
    """A search of all memory finds the token that a worker holds, and nowhere the key's bytes."""
    settings = set_up_key(own_mesh, "ca", exportable=True)
    async with served(
        tmp_path / "server", {"corporate": {**settings, "allow_exportable": True}}
    ) as server:
        for number in range(60):
            assert (await server.ask(number)).code is grpc.StatusCode.OK
        path = f"{own_mesh.transit}/export/signing-key/ca"
        pem = own_mesh.bao.read(path)["keys"]["1"].encode()
        key = load_pem_private_key(pem, password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        scalar = key.private_numbers().private_value
        token = (own_mesh.folder / "token").read_bytes()
        needles = {  # each holds private bytes alone: the public half is in the certificate
            "scalar": scalar.to_bytes(32, "big"),
            "scalar, other end first": scalar.to_bytes(32, "little"),
            "hexadecimal": f"{scalar:064x}".encode(),
            "PEM": pem.splitlines()[1],  # 48 bytes of SEC 1: header and scalar
            "token": token,
        }
        found = set()
        for pid in processes_of(server):
            found |= await asyncio.to_thread(found_in_memory, pid, needles)
    assert found == {"token"}


def processes_of(server: Served) -> list[int]:
    """Return the supervisor and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            match = re.search(r"PPid:\t(\d+)", _read(entry / "status"))
            if match:
                children.setdefault(int(match[1]), []).append(int(entry.name))
    found, todo = [], [server.program.pid]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def found_in_memory(pid: int, needles: dict[str, bytes]) -> set[str]:
    """Search all readable memory of a process, and tell which needles are there."""
    found: set[str] = set()
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            place, rights = line.split()[:2]
            if "r" not in rights or "[v" in line:
                continue
            begin, end = (int(part, 16) for part in place.split("-"))
            try:
                memory.seek(begin)
                content = memory.read(end - begin)
            except (OSError, OverflowError):
                continue
            found |= {name for name, needle in needles.items() if needle in content}
    return found


async def test_throttled_ca_serves_2000_new_pods_over_grpc(own_mesh: Mesh, tmp_path: Path) -> None:
    """Behind a CA of 1 request/s, away for 30 s, 2,000 calls are all answered with certificates."""
    quota = f"sys/quotas/rate-limit/{own_mesh.name}"
    async with proxy_before(own_mesh.bao.address) as proxy:
        settings = settings_of(
            own_mesh,
            "openbao_intermediate",
            address=f"https://{proxy.address}",
            lifetime="90s",
            renew_at=0.1,
        )
        document = {"path": f"{own_mesh.root}/", "rate": 1, "interval": "1s"}
        own_mesh.bao.write(quota, document)
        try:
            async with served(tmp_path / "server", {"corporate": settings}, workers=2) as server:
                proxy.cut()
                answers = await _spread(server, calls=1_900, over_s=30.0)
                proxy.heal()
                answers += await _spread(server, calls=100, over_s=8.0)
                log = server.log
        finally:
            own_mesh.bao.delete(quota)
    assert {answer.code for answer in answers} == {grpc.StatusCode.OK}
    assert len(answers) == 2_000
    assert log.count("intermediate not renewed") >= 2
    issuers = {answer.chain[1] for answer in answers}
    assert len(issuers) >= 3  # two workers, one intermediate each, and at least one renewal


async def _spread(server: Served, *, calls: int, over_s: float) -> list[Any]:
    """Send calls evenly over a time, and wait for all answers."""
    tasks = []
    for number in range(calls):
        tasks.append(asyncio.create_task(server.ask(number)))
        await asyncio.sleep(over_s / calls)
    return list(await asyncio.gather(*tasks))
