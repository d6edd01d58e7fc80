"""A server that is killed between a costly CA's issue and the row: the next one finds it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

ROOT = Path(__file__).parents[3]

# A server's pipeline over the real inventory, and a CA that keeps a ledger in a
# file. With `crash` the process kills itself once the CA has issued.
PROCESS = """
import asyncio, json, os, signal, sys
from pathlib import Path
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from meshsigner.inventory.sqlite import SqliteInventory
from meshsigner.model import Capabilities, Chain
from tests.fakes.pipeline import FakeSigner
from tests.fakes.remote_ca import FakeRemote
from tests.fakes.signing_world import signing_world

folder, mode = Path(sys.argv[1]), sys.argv[2]
costly = FakeRemote("costly", capabilities=Capabilities(builds_x509=True, finds=True, intents=True))
key = load_pem_private_key((folder / "ca.pem").read_bytes(), None)
costly.signer = FakeSigner(key, name="costly")
ledger = folder / "ledger.json"
if ledger.exists():
    for token, (leaf, serial) in json.loads(ledger.read_text()).items():
        issuer = costly.signer.current
        costly.issued[token] = Chain(
            leaf_der=bytes.fromhex(leaf), issuer=issuer, serial=serial, backend="costly"
        )

def crash(chains, errands):
    book = {e.token: (c.leaf_der.hex(), c.serial) for c, e in zip(chains, errands, strict=True)}
    ledger.write_text(json.dumps(book))
    if mode == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    return chains

costly.adversary = crash

async def main():
    inventory = SqliteInventory(folder / "inventory.db")
    async with signing_world(costly, inventory=inventory) as world:
        left = await world.issuance.recovery.start()
        if mode == "crash":
            await world.issue()
        print(json.dumps({"left": left, "looked_up": len(costly.looked_up)}))

asyncio.run(main())
"""


def _run(folder: Path, mode: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROCESS, str(folder), mode],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def _rows(folder: Path) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "meshsigner", "inventory", "list", "--json"]
    done = subprocess.run(
        [*command, "--database", str(folder / "inventory.db")],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    rows: list[dict[str, object]] = json.loads(done.stdout)
    return rows


def test_a_kill_between_issue_and_row_loses_no_certificate(tmp_path: Path) -> None:
    """After a kill -9 the intent is in the store; the next start records the certificate, once."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "ca.pem").write_bytes(pem)
    killed = _run(tmp_path, "crash")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ((_, serial),) = json.loads((tmp_path / "ledger.json").read_text()).values()
    assert _rows(tmp_path) == []
    for looked_up in (1, 0):
        restarted = _run(tmp_path, "restart")
        assert restarted.returncode == 0, restarted.stderr
        said = json.loads(restarted.stdout.splitlines()[-1])
        assert said == {"left": False, "looked_up": looked_up}
        (row,) = _rows(tmp_path)
        assert (row["serial"], row["delivered"]) == (f"{serial:x}", False)
