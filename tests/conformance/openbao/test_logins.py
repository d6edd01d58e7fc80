"""Every way to log in at a real OpenBao: granted, renewed, ended, and refused in words."""

import asyncio
import json
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey

from meshsigner.signing.openbao.kinds import PKI
from tests.conformance.kubernetes.cluster import ControlPlane
from tests.conformance.openbao.backend import driven, utc_now
from tests.conformance.openbao.mounts import Mesh


def token_of(mesh: Mesh, accessor_of: str) -> dict[str, Any]:
    """Look a token up."""
    return dict(mesh.bao.write("auth/token/lookup", {"token": accessor_of}))


def secret(path: Path, text: str) -> Path:
    """Write a secret's file."""
    path.write_text(text)
    path.chmod(0o600)
    return path


def set_up_approle(mesh: Mesh, **options: Any) -> dict[str, Any]:
    """Mount AppRole with a role that may sign; return the `auth` section."""
    mount = f"{mesh.name}-approle"
    mesh.bao.write(f"sys/auth/{mount}", {"type": "approle"})
    role = f"auth/{mount}/role/meshsigner"
    mesh.bao.write(role, {"token_policies": mesh.policy, **options})
    secret_id = mesh.bao.write(f"{role}/secret-id")["secret_id"]
    return {
        "type": "approle",
        "mount": mount,
        "role_id": mesh.bao.read(f"{role}/role-id")["role_id"],
        "secret_id_file": str(secret(mesh.folder / "secret-id", secret_id)),
    }


async def test_approle(own_mesh: Mesh, tmp_path: Path) -> None:
    """AppRole logs in with role id and secret id."""
    auth = set_up_approle(own_mesh)
    async with driven(PKI, own_mesh.settings("openbao_pki", auth=auth), tmp_path) as backend:
        await backend.sign()


async def test_short_lease_is_renewed_and_then_replaced(own_mesh: Mesh, tmp_path: Path) -> None:
    """A token of 3 s with a maximum of 6 s: renewed, then logged in anew; no order fails."""
    auth = set_up_approle(own_mesh, token_ttl="3s", token_max_ttl="6s")
    async with driven(PKI, own_mesh.settings("openbao_pki", auth=auth), tmp_path) as backend:
        ends_s = time.monotonic() + 10.0
        while time.monotonic() < ends_s:
            await backend.sign()
            await asyncio.sleep(0.1)


async def test_wrong_secret_id_is_told_without_it(own_mesh: Mesh, tmp_path: Path) -> None:
    """A refused login says where to look, never quotes the secret, and is made good later."""
    auth = set_up_approle(own_mesh)
    good = Path(auth["secret_id_file"])
    path = secret(own_mesh.folder / "wrong-secret-id", "wrong-secret-id-of-a-test")
    auth["secret_id_file"] = str(path)
    async with driven(PKI, own_mesh.settings("openbao_pki", auth=auth), tmp_path) as backend:
        detail = backend.signer.health(utc_now()).detail
        assert "the login was refused" in detail
        assert "wrong-secret-id" not in detail
        os.replace(good, path)  # noqa: PTH105 - as an agent of OpenBao does
        await backend.until(ready=True)
        await backend.sign()


async def test_token_that_ends_is_renewed_while_it_can_be(own_mesh: Mesh, tmp_path: Path) -> None:
    """A periodic token in a file is kept alive by renewals, for ever."""
    settings = own_mesh.settings("openbao_pki")
    own_mesh.token_file(period="3s")
    async with driven(PKI, settings, tmp_path) as backend:
        ends_s = time.monotonic() + 7.0
        while time.monotonic() < ends_s:
            await backend.sign()
            await asyncio.sleep(0.1)


async def test_jwt(own_mesh: Mesh, tmp_path: Path) -> None:
    """The JWT method takes a token of an identity provider from a file, fresh at each login."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    mount = f"{own_mesh.name}-jwt"
    own_mesh.bao.write(f"sys/auth/{mount}", {"type": "jwt"})
    own_mesh.bao.write(f"auth/{mount}/config", {"jwt_validation_pubkeys": [public.decode()]})
    own_mesh.bao.write(
        f"auth/{mount}/role/meshsigner",
        {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": ["openbao"],
            "token_policies": own_mesh.policy,
        },
    )
    claims = {
        "sub": "meshsigner",
        "aud": "openbao",
        "iat": int(utc_now().timestamp()),
        "nbf": int(utc_now().timestamp()) - 1,
        "exp": int((utc_now() + timedelta(minutes=5)).timestamp()),
    }
    jwk = ECKey.import_key(key)
    token = jwt.encode({"alg": "ES256"}, claims, jwk)
    path = secret(own_mesh.folder / "jwt", token)
    auth = {"type": "jwt", "mount": mount, "role": "meshsigner", "token_file": str(path)}
    async with driven(PKI, own_mesh.settings("openbao_pki", auth=auth), tmp_path) as backend:
        await backend.sign()


async def test_kubernetes(own_mesh: Mesh, tmp_path: Path, kubernetes: ControlPlane) -> None:
    """Kubernetes auth: OpenBao has the pod's token reviewed by a real API server."""
    admin, namespace = kubernetes.admin, "openbao-test"
    admin.create_namespace(namespace)
    admin.create_service_account(namespace, "meshsigner")
    mount = f"{own_mesh.name}-kubernetes"
    own_mesh.bao.write(f"sys/auth/{mount}", {"type": "kubernetes"})
    own_mesh.bao.write(
        f"auth/{mount}/config",
        {
            "kubernetes_host": kubernetes.server,
            "kubernetes_ca_cert": kubernetes.authority.roots.read_text(),
            "token_reviewer_jwt": "administrator",
            "disable_local_ca_jwt": True,
        },
    )
    own_mesh.bao.write(
        f"auth/{mount}/role/meshsigner",
        {
            "bound_service_account_names": ["meshsigner"],
            "bound_service_account_namespaces": [namespace],
            "token_policies": own_mesh.policy,
            "audience": "openbao",
        },
    )
    token = admin.token(namespace, "meshsigner", audiences=("openbao",))
    path = secret(own_mesh.folder / "kubernetes-token", token)
    auth = {"type": "kubernetes", "mount": mount, "role": "meshsigner", "token_file": str(path)}
    settings = own_mesh.settings("openbao_pki", auth=auth)
    async with driven(PKI, settings, tmp_path) as backend:
        await backend.sign()
    stranger = admin.token("default", "default", audiences=("openbao",))
    secret(path, stranger)
    async with driven(PKI, settings, tmp_path) as backend:
        assert "the login was refused" in backend.signer.health(utc_now()).detail


@pytest.mark.parametrize("kind", ["openbao_pki", "openbao_transit"])
def test_no_setting_shows_a_secret(own_mesh: Mesh, kind: str) -> None:
    """Settings name files of secrets; what is in them is in no representation of a value."""
    extra = {"key": "x", "certificates": "/nowhere"} if kind == "openbao_transit" else {}
    values = own_mesh.settings(kind, **extra)
    token = (own_mesh.folder / "token").read_text()
    assert token not in json.dumps(values)
