"""`meshsigner serve` with several workers: they serve, die, come back, are replaced and end."""

import asyncio
import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshsigner.cli.dev_state import DevState
from meshsigner.cli.exits import Exit
from meshsigner.inventory.query import Query
from meshsigner.inventory.whole import WholeInventory
from meshsigner.model import Record
from meshsigner.signing.self_made import SelfMadeCa
from meshsigner.spiffe import TrustDomain
from tests.secret_scan import Secrets
from tests.wire.agents import agents
from tests.wire.processes import PATIENCE_S, Running, command, invoke, running
from tests.wire.test_serve import CONFIG

TWO_WORKERS = CONFIG + "workers: 2\n"
SERVE = ("serve", "--config", "meshsigner.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a directory with a CA, a token issuer, a token and a configuration for two workers."""
    DevState(tmp_path / ".state").prepare(datetime.now(UTC))
    (tmp_path / "meshsigner.yaml").write_text(TWO_WORKERS)
    who = ("--namespace", "shop", "--service-account", "cart")
    (tmp_path / "token").write_text(invoke("dev", "token", *who, cwd=tmp_path).stdout)
    return tmp_path


@pytest.fixture
def server(folder: Path, no_secrets: Secrets) -> Iterator[Running]:
    """Return a server that is ready."""
    with running(*SERVE, cwd=folder, secrets=no_secrets) as server:
        server.address()
        yield server


def _pids(server: Running) -> list[int]:
    """Return the workers that serve, by the server's own words."""
    status, page = _page(server, "/healthz/ready")
    assert status in {200, 503}
    return [int(pid) for pid in re.findall(r"serving, process (\d+)", page)]


def _page(server: Running, path: str) -> tuple[int, str]:
    url = f"http://{server.address('admin')}{path}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def _metric(server: Running, name: str) -> float:
    """Return the sum of a metric's samples, labels as given."""
    found = re.findall(rf"^{re.escape(name)} (\S+)$", _page(server, "/metrics")[1], re.MULTILINE)
    return sum(map(float, found))


def _records(folder: Path) -> list[Record]:
    with WholeInventory(folder / "inventory.db") as inventory:
        return list(inventory.find(Query()))


async def _until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Wait for something to become true, without stopping the agents."""
    async with asyncio.timeout(timeout_s):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def test_both_workers_serve_and_add_up(server: Running, folder: Path) -> None:
    """Connections reach both; figures, readiness and inventory are of the whole server."""
    async with agents(server.address(), folder, fresh=6) as tally:
        await tally.grown_by(60)
    assert tally.lost == []
    status, page = await asyncio.to_thread(_page, server, "/healthz/ready")
    assert status == 200
    assert "ready      worker 1, inventory: " in page
    assert page.endswith("ready      server: 2 of 2 workers serve\n")
    total = len(tally.leaves)
    assert _metric(server, 'meshsigner_calls_total{reason="ok"}') == total
    assert _metric(server, "meshsigner_call_duration_seconds_count") == total
    assert _metric(server, "citadel_server_success_cert_issuance_count") == total
    assert _metric(server, "meshsigner_workers_serving") == 2
    for number in (0, 1):
        assert _metric(server, f'meshsigner_worker_cpu_seconds_total{{worker="{number}"}}') > 0
    records = _records(folder)
    assert {record.serial for record in records} == tally.serials
    files = [folder / f"inventory-{number}.db" for number in (0, 1)]
    parts = [len(_records_of(file)) for file in files]
    assert sum(parts) == total
    assert all(parts)
    shown = invoke("inventory", "list", "--database", "inventory.db", "--json", cwd=folder)
    assert {row["serial"] for row in json.loads(shown.stdout)} == tally.serials


def _records_of(file: Path) -> list[Record]:
    with WholeInventory(file) as inventory:
        return list(inventory.find(Query()))


async def test_killed_worker_comes_back(server: Running, folder: Path) -> None:
    """While one is dead the other serves; nothing that was answered is lost, nor counted twice."""
    first, second = _pids(server)
    async with agents(server.address(), folder, fresh=4, warm=2) as tally:
        await tally.grown_by(20)
        os.kill(first, signal.SIGKILL)
        await asyncio.to_thread(server.wait_for, f'"pid":{first},"exit_code":-9')
        assert (await asyncio.to_thread(_page, server, "/healthz/ready"))[0] == 200
        await tally.grown_by(20)
        await _until(lambda: len(_pids(server)) == 2)
        await tally.grown_by(20)
    assert second in _pids(server)
    assert first not in _pids(server)
    assert tally.lost == []
    assert set(tally.codes) <= {"OK", "UNAVAILABLE"}
    assert tally.serials <= {record.serial for record in _records(folder)}
    assert _metric(server, 'meshsigner_workers_ended_total{how="crashed"}') == 1


async def test_killed_supervisor_leaves_nothing(
    server: Running, folder: Path, no_secrets: Secrets
) -> None:
    """Its workers end with it; the next start takes port and inventory and finds every row."""
    workers = _pids(server)
    address = server.address()
    async with agents(address, folder, fresh=3) as tally:
        await tally.grown_by(20)
        server.process.kill()
        server.process.wait()
        await _until(lambda: not any(map(_is_alive, workers)), timeout_s=5)
    (folder / "meshsigner.yaml").write_text(TWO_WORKERS.replace("127.0.0.1:0", address, 1))
    with running(*SERVE, cwd=folder, secrets=no_secrets) as again:
        assert again.address() == address
        assert tally.serials <= {record.serial for record in _records(folder)}
        assert again.stop() == Exit.DONE


async def test_termination_drains(server: Running, folder: Path) -> None:
    """SIGTERM under load: calls in flight are answered, later ones told UNAVAILABLE."""
    workers = _pids(server)
    async with agents(server.address(), folder, fresh=3, warm=3) as tally:
        await tally.grown_by(30)
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.process.wait, PATIENCE_S) == 0
    assert set(tally.codes) == {"OK", "UNAVAILABLE"}
    assert tally.serials <= {record.serial for record in _records(folder)}
    assert not any(map(_is_alive, workers))


async def test_hangup_reaches_every_worker(server: Running, folder: Path) -> None:
    """After SIGHUP all workers have the new policy, under the same generation, and still run."""
    workers = _pids(server)
    (folder / "meshsigner.yaml").write_text(TWO_WORKERS + "policy: {backdate: 1m}\n")
    server.process.send_signal(signal.SIGHUP)
    for number in (0, 1):
        await asyncio.to_thread(
            server.wait_for,
            rf'"policy_generation":2[^\n]*"settings reloaded"[^\n]*"worker":{number}',
        )
    async with agents(server.address(), folder, fresh=6) as tally:
        await tally.grown_by(40)
    assert {leaf.not_valid_after_utc - leaf.not_valid_before_utc for leaf in tally.leaves} == {
        tally.leaves[0].not_valid_after_utc - tally.leaves[0].not_valid_before_utc
    }
    records = _records(folder)
    assert {record.policy_generation for record in records} == {2}
    assert {(r.issued_at - r.not_before).total_seconds() // 10 for r in records} == {6}
    assert _pids(server) == workers


async def test_replacement_under_load_loses_nothing(server: Running, folder: Path) -> None:
    """Settings that a worker takes at its start, their number too: no agent loses a call."""
    workers = _pids(server)
    async with agents(server.address(), folder, fresh=4, warm=4) as tally:
        await tally.grown_by(20)
        for parked in (71, 72):
            (folder / "meshsigner.yaml").write_text(f"{TWO_WORKERS}limits: {{parked: {parked}}}\n")
            server.process.send_signal(signal.SIGHUP)
            await asyncio.to_thread(
                server.wait_for, rf'(?s)("workers":2,"event":"workers replaced".*){{{parked - 70}}}'
            )
        (folder / "meshsigner.yaml").write_text(CONFIG + "workers: 1\n")
        server.process.send_signal(signal.SIGHUP)
        await asyncio.to_thread(server.wait_for, '"workers":1,"event":"workers replaced"')
        await tally.grown_by(20)
    assert tally.lost == []
    assert set(tally.codes) <= {"OK", "UNAVAILABLE"}
    assert len(_pids(server)) == 1
    assert not set(workers) & set(_pids(server))
    assert not any(map(_is_alive, workers))
    assert tally.serials == {record.serial for record in _records(folder)}
    assert _metric(server, 'meshsigner_calls_total{reason="ok"}') == len(tally.leaves)
    assert _metric(server, 'meshsigner_workers_ended_total{how="replaced"}') == 6


async def test_settings_with_which_no_worker_starts_are_refused(
    server: Running, folder: Path
) -> None:
    """A worker that cannot start with new settings replaces nobody, and the reason is told."""
    workers = _pids(server)
    (folder / "meshsigner.yaml").write_text(TWO_WORKERS.replace("jwks.json", "jwks.txt"))
    server.process.send_signal(signal.SIGHUP)
    await asyncio.to_thread(server.wait_for, r"jwks\.txt[^\n]*new settings refused")
    assert _pids(server) == workers
    async with agents(server.address(), folder, fresh=2) as tally:
        await tally.grown_by(5)
    assert set(tally.codes) == {"OK"}


async def test_worker_that_returns_takes_no_unannounced_ca(server: Running, folder: Path) -> None:
    """Two roots never share the port: a worker waits rather than sign under another root."""
    now = datetime.now(UTC)
    SelfMadeCa(directory=folder / "other", trust_domain=TrustDomain("cluster.local")).ensure(now)
    (folder / ".state" / "ca").rename(folder / "old")
    (folder / "other").rename(folder / ".state" / "ca")
    first, second = _pids(server)
    os.kill(first, signal.SIGKILL)
    await asyncio.to_thread(server.wait_for, r"was never announced[^\n]*worker could not start")
    async with agents(server.address(), folder, fresh=3) as tally:
        await tally.grown_by(10)
        assert _pids(server) == [second]
        (folder / ".state" / "ca").rename(folder / "other")
        (folder / "old").rename(folder / ".state" / "ca")
        await _until(lambda: len(_pids(server)) == 2)
        await tally.grown_by(10)
    assert len({leaf.issuer for leaf in tally.leaves}) == 1
    assert tally.lost == []


def test_second_start_is_refused(server: Running, folder: Path) -> None:
    """Neither port nor inventory is shared: whoever has them is named, and goes on."""
    busy = TWO_WORKERS.replace("127.0.0.1:0", server.address(), 1)
    (folder / "meshsigner.yaml").write_text(busy.replace("inventory.db", "other.db"))
    same_port = command(*SERVE, cwd=folder)
    assert same_port.returncode == Exit.INPUT
    assert re.search(rf"cannot listen on {server.address()}: \S+ \(process \d+\)", same_port.stderr)
    assert not list(folder.glob("other*.db"))
    (folder / "meshsigner.yaml").write_text(TWO_WORKERS)
    same_inventory = command(*SERVE, cwd=folder)
    assert same_inventory.returncode == Exit.INPUT
    assert f"process {server.process.pid} on " in same_inventory.stderr
    assert len(_pids(server)) == 2


def test_problems_that_all_workers_meet_are_told_once(folder: Path) -> None:
    """None serves unless all can; a problem of the shared settings stands there once."""
    (folder / "meshsigner.yaml").write_text(TWO_WORKERS.replace(".state/ca", "no-ca"))
    began_s = time.monotonic()
    done = command(*SERVE, cwd=folder)
    assert done.returncode == Exit.INPUT
    assert done.stderr.count("no-ca: ") == 1
    assert time.monotonic() - began_s < PATIENCE_S


def test_development_server_with_workers(tmp_path: Path, no_secrets: Secrets) -> None:
    """`dev run --workers 2 --demo` shows a certificate that one of two workers signed."""
    ports = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    with running(
        "dev", "run", "--workers", 2, "--demo", *ports, cwd=tmp_path, secrets=no_secrets
    ) as server:
        server.wait_for("Ctrl-C ends the server")
        assert len(_pids(server)) == 2
        assert len(_records(tmp_path / ".state")) == 1
        assert server.stop(signal.SIGINT) == Exit.DONE
