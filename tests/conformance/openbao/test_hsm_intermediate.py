"""Intermediate mode with its key in an HSM: real OpenBao, SoftHSM2, and a server over both."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from pkcs11 import Attribute, ObjectClass

from meshsigner.errors import NotReady
from meshsigner.model import Chain
from meshsigner.signing.intermediate.keyed import KeyedIntermediateSigner
from meshsigner.signing.intermediate.kind import OPENBAO_INTERMEDIATE
from meshsigner.signing.pkcs11.module import Module
from meshsigner.signing.pkcs11.opening import Place, find_token
from meshsigner.verify import check_issued
from tests.conformance.openbao.backend import make_errand, surroundings_in, utc_now
from tests.conformance.openbao.mounts import Mesh
from tests.conformance.openbao.served import Answer, Served, served
from tests.conformance.softhsm.token import KEY_LABEL, LABEL, PIN, SoftHsm

SECONDS, PER_SECOND = 15, 20


def settings_of(
    mesh: Mesh,
    hsm: SoftHsm,
    directory: Path,
    *,
    sessions: int = 1,
    token_label: str = LABEL,
    **changes: Any,
) -> dict[str, Any]:
    """Return settings of the backend; the token is empty."""
    mesh.bao.policy(mesh.policy, f"{mesh.root}/issuer/default/sign-intermediate")
    place = {"token_label": token_label, "key_label": KEY_LABEL, "pin_file": str(hsm.pin_file)}
    return mesh.settings(
        "openbao_intermediate",
        keep="pkcs11",
        directory=str(directory),
        hsm={"module": str(hsm.module), **place, "sessions": sessions},
        **changes,
    )


@asynccontextmanager
async def running(
    settings: dict[str, Any], directory: Path
) -> AsyncIterator[KeyedIntermediateSigner]:
    """Have the backend running, as a server has it."""
    checked = OPENBAO_INTERMEDIATE.settings.model_validate(settings)
    signer = OPENBAO_INTERMEDIATE.open("short", checked, surroundings_in(directory))  # type: ignore[arg-type]
    assert isinstance(signer, KeyedIntermediateSigner)
    try:
        await signer.start()
        yield signer
    finally:
        await signer.aclose()


async def sign(signer: KeyedIntermediateSigner, count: int = 1) -> list[Chain]:
    """Have orders signed by one call, each checked."""
    issuer = signer.issuer(utc_now())
    errands = [make_errand(issuer, number=number) for number in range(count)]
    found = await signer.sign(errands, asyncio.get_running_loop().time() + 5.0)
    return [
        check_issued(chain, errand.order)
        for errand, chain in zip(errands, found, strict=True)
        if isinstance(chain, Chain)
    ]


def key_attributes(hsm: SoftHsm) -> list[tuple[object, ...]]:
    """Ask the token how closed its private keys are."""
    user = object()
    module = Module.join(hsm.module, user)
    wanted = (Attribute.LABEL, Attribute.SENSITIVE, Attribute.EXTRACTABLE)
    try:
        module.load(locking=False)
        token = find_token(module, Place(token_label=LABEL))
        with token.open(user_pin=PIN) as session:
            found = list(session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY}))
            return [tuple(key[attribute] for attribute in wanted) for key in found]
    finally:
        module.leave(user)


async def test_renewal_under_load_over_grpc(
    own_mesh: Mesh, plain_hsm: SoftHsm, tmp_path: Path
) -> None:
    """Two workers over one key: every call answered and recorded, across at least one renewal."""
    settings = settings_of(own_mesh, plain_hsm, tmp_path / "ca", lifetime="1m", renew_at=0.1)
    async with served(tmp_path / "server", {"corporate": settings}, workers=2) as server:
        answers = await _spread(server)
        rows = await asyncio.to_thread(server.recorded)
    pem = own_mesh.bao.read(f"{own_mesh.root}/issuer/default/json")["certificate"]
    roots = [x509.load_pem_x509_certificate(pem.encode())]
    assert {(answer.code, answer.text) for answer in answers} == {(grpc.StatusCode.OK, "")}
    assert [answer.faults(roots) for answer in answers] == [[]] * (SECONDS * PER_SECOND)
    recorded = {rows[answer.leaf.serial_number]["backend"] for answer in answers}
    assert recorded == {"corporate"}
    issuers = [x509.load_pem_x509_certificate(p.encode()) for p in {a.chain[1] for a in answers}]
    assert len(issuers) >= 2
    assert len({issuer.public_key().public_numbers() for issuer in issuers}) == 1  # type: ignore[union-attr]
    assert key_attributes(plain_hsm) == [(KEY_LABEL, True, False)]
    assert not list((tmp_path / "ca").rglob("ca-key.pem"))


async def _spread(server: Served) -> list[Answer]:
    tasks = []
    for number in range(SECONDS * PER_SECOND):
        tasks.append(asyncio.create_task(server.ask(number)))
        await asyncio.sleep(1 / PER_SECOND)
    return list(await asyncio.gather(*tasks))


@pytest.mark.parametrize(("key_type", "sessions"), [("p256", 1), ("p384", 4)])
async def test_restart_uses_the_key_that_is_there(
    own_mesh: Mesh, plain_hsm: SoftHsm, tmp_path: Path, key_type: str, sessions: int
) -> None:
    """A restart finds certificate and key while OpenBao is sealed; a lost directory, the key."""
    directory = tmp_path / "ca"
    settings = settings_of(own_mesh, plain_hsm, directory, key_type=key_type, sessions=sessions)
    async with running(settings, tmp_path) as signer:
        first = await sign(signer, 20)
    await asyncio.to_thread(own_mesh.bao.seal)
    try:
        async with running(settings, tmp_path) as signer:
            second = await sign(signer)
    finally:
        await asyncio.to_thread(own_mesh.bao.unseal)
    directory.rename(tmp_path / "lost")
    async with running(settings, tmp_path) as signer:
        third = await sign(signer)
    assert len(first) == 20
    one, two, three = (chains[0].issuer.certificate for chains in (first, second, third))
    assert one == two != three
    assert one.public_key() == three.public_key()
    assert key_attributes(plain_hsm) == [(KEY_LABEL, True, False)]


async def test_refused_pin_is_tried_once(own_mesh: Mesh, hsm: SoftHsm, tmp_path: Path) -> None:
    """Request and signer share what they know of a wrong PIN: one login, and words."""
    hsm.write_pin("000000")
    settings = settings_of(own_mesh, hsm, tmp_path / "ca")
    async with running(settings, tmp_path) as signer:
        for _ in range(3):
            await asyncio.sleep(1.1)  # longer than the pause after a failure
            await signer.look()
        with pytest.raises(NotReady, match="not tried again"):
            signer.issuer(utc_now())
        tried = hsm.count("C_Login")
        hsm.write_pin(PIN)
        async with asyncio.timeout(20.0):
            while not signer.health(utc_now()).ready:
                await asyncio.sleep(0.1)
        await sign(signer)
    assert tried == 1


async def test_examination_makes_no_key(own_mesh: Mesh, plain_hsm: SoftHsm, tmp_path: Path) -> None:
    """`check-config --connect` looks at OpenBao and token, and says that a key will be made."""
    settings = settings_of(own_mesh, plain_hsm, tmp_path / "ca")
    checked = OPENBAO_INTERMEDIATE.settings.model_validate(settings)
    around = replace(surroundings_in(tmp_path), try_pin=True)
    before = await OPENBAO_INTERMEDIATE.examine(checked, around)  # type: ignore[arg-type]
    assert all(finding.good for finding in before), before
    assert f"a key with label '{KEY_LABEL}' is made at the first start" in before[-1].text
    assert key_attributes(plain_hsm) == []
    async with running(settings, tmp_path):
        pass
    after = await OPENBAO_INTERMEDIATE.examine(checked, around)  # type: ignore[arg-type]
    assert "is closed to copying" in after[-1].text
    other = settings_of(own_mesh, plain_hsm, tmp_path / "ca", token_label="elsewhere")
    checked = OPENBAO_INTERMEDIATE.settings.model_validate(other)
    bad = await OPENBAO_INTERMEDIATE.examine(checked, around)  # type: ignore[arg-type]
    assert not bad[-1].good
    assert "no token has label 'elsewhere'" in bad[-1].text
