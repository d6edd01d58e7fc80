"""Signing with a key in SoftHSM2: every kind of key, one session and several, other processes."""

import asyncio
import time

import pytest

from meshsigner.model import Chain
from tests.conformance.softhsm.bench import make_issuer_ca, settings_of, started
from tests.conformance.softhsm.elsewhere import COUNT, PROJECT, READ, SIGN
from tests.conformance.softhsm.token import LABEL, SoftHsm

PATIENCE_S = 60.0


async def test_private_value_cannot_be_read(plain_hsm: SoftHsm) -> None:
    """The token refuses to give out the key's value, to the one who is logged in, too."""
    plain_hsm.add_key(make_issuer_ca().key)
    assert await answer_of(*READ) == "AttributeSensitive"


async def answer_of(*command: str) -> str:
    """Run a process to its end, and return the last line that it prints."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, cwd=PROJECT
    )
    output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0
    return output.decode().splitlines()[-1]  # behind its log


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa2048", "rsa3072"])
@pytest.mark.parametrize("sessions", [1, 3])
async def test_batch_is_signed_as_ordered(plain_hsm: SoftHsm, kind: str, sessions: int) -> None:
    """Each order of a batch gets its own certificate, with any key, in any number of sessions."""
    ca = make_issuer_ca(kind)
    plain_hsm.add_key(ca.key, "--no-public")
    async with started(plain_hsm, settings_of(plain_hsm, ca, sessions=sessions)) as bench:
        found = await bench.sign(20)
        assert len({chain.serial for chain in found if isinstance(chain, Chain)}) == 20
        assert "HSM token with label 'mesh'" in await bench.until(ready=True)


async def test_several_sessions_sign_at_once_without_harm(plain_hsm: SoftHsm) -> None:
    """A thousand signatures in 8 sessions at once are all right: the module knows of threads."""
    ca = make_issuer_ca()
    plain_hsm.add_key(ca.key)
    async with started(plain_hsm, settings_of(plain_hsm, ca, sessions=8)) as bench:
        for _ in range(3):
            batches = await asyncio.gather(*(bench.sign(50) for _ in range(8)))
            assert all(isinstance(chain, Chain) for batch in batches for chain in batch)


async def test_two_backends_share_one_module(plain_hsm: SoftHsm) -> None:
    """Two backends of one process, one with several sessions, use the module without harm."""
    one, other = make_issuer_ca("p256", 1), make_issuer_ca("rsa2048", 2)
    plain_hsm.add_key(one.key, label="one")
    plain_hsm.add_key(other.key, label="other", number=2)
    first = settings_of(plain_hsm, one, key_label="one")
    async with started(plain_hsm, first) as bench:
        second = settings_of(plain_hsm, other, key_label="other", sessions=4)
        async with started(plain_hsm, second) as beside:
            for _ in range(5):
                both = await asyncio.gather(bench.sign(40), beside.sign(40))
                assert all(isinstance(chain, Chain) for batch in both for chain in batch)
        assert all(isinstance(chain, Chain) for chain in await bench.sign(5))


async def test_key_is_found_by_id_and_token_by_serial(plain_hsm: SoftHsm) -> None:
    """CKA_ID tells two keys with one label apart, the serial number two tokens."""
    ca = make_issuer_ca()
    plain_hsm.add_key(ca.key, number=7)
    plain_hsm.add_key(make_issuer_ca("p256", 3).key, number=8)
    (serial,) = plain_hsm.serials()
    plain_hsm.add_token(LABEL)
    settings = settings_of(plain_hsm, ca, token_label=None, token_serial=serial, key_id="07")
    async with started(plain_hsm, settings) as bench:
        assert isinstance((await bench.sign())[0], Chain)


async def test_workers_initialise_after_spawn(plain_hsm: SoftHsm) -> None:
    """Processes spawned while this one signs do so as well: each has a module of its own."""
    ca = make_issuer_ca()
    plain_hsm.add_key(ca.key)
    settings = settings_of(plain_hsm, ca)
    what = (str(plain_hsm.directory), settings.model_dump_json(exclude_none=True))
    async with started(plain_hsm, settings) as bench:
        workers = [asyncio.create_task(answer_of(*SIGN, *what)) for _ in range(2)]
        while not all(worker.done() for worker in workers):
            assert isinstance((await bench.sign())[0], Chain)
            await asyncio.sleep(0.05)
        assert [await worker for worker in workers] == [str(COUNT)] * 2


async def test_sessions_hide_a_slow_hsm(hsm: SoftHsm) -> None:
    """Where a signature takes 20 ms, eight sessions sign a batch several times as fast as one."""
    ca = make_issuer_ca()
    hsm.add_key(ca.key)
    took_s = {}
    for sessions in (1, 8):
        async with started(hsm, settings_of(hsm, ca, sessions=sessions)) as bench:
            await bench.sign(16)  # every session is open
            hsm.order(sign_ms=20)
            began_s = time.monotonic()
            assert all(isinstance(chain, Chain) for chain in await bench.sign(24))
            took_s[sessions] = time.monotonic() - began_s
            hsm.order()
    assert took_s[1] > 24 * 0.02
    assert took_s[8] < took_s[1] / 3
