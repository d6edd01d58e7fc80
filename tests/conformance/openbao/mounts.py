"""A mesh's mounts at an OpenBao: a root, an issuer with its role, and transit keys.

What a role must say stands in docs/backends.md, whose commands have a test of
their own; here the same is written by requests, so that each test may have it
for itself and changed.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from tests.conformance.openbao.server import OpenBao

ROLE: Mapping[str, Any] = {
    "allow_any_name": True,
    "enforce_hostnames": False,
    "require_cn": False,
    "use_csr_sans": False,
    "use_csr_common_name": False,
    "allowed_uri_sans": ["spiffe://cluster.local/*"],
    "key_type": "any",
    "server_flag": True,
    "client_flag": True,
    "key_usage": ["DigitalSignature", "KeyEncipherment"],
    "basic_constraints_valid_for_non_ca": True,
    "no_store": True,
    "not_before_duration": "2m",
    "not_after_bound": "ttl-limited",
    "max_ttl": "2160h",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mesh:
    """Mounts of one mesh; each has the mesh's name in it.

    Attributes:
        bao: Where.
        name: Prefix of its mounts.
        folder: For files of its settings.
    """

    bao: OpenBao
    name: str
    folder: Path

    @property
    def root(self) -> str:
        """Mount of the root."""
        return f"{self.name}-root"

    @property
    def pki(self) -> str:
        """Mount of the issuer; its role is `workloads`."""
        return f"{self.name}-pki"

    @property
    def transit(self) -> str:
        """Mount of the keys."""
        return f"{self.name}-transit"

    @property
    def policy(self) -> str:
        """Name of the policy that allows what meshsigner needs."""
        return f"{self.name}-meshsigner"

    def role(self, **changes: Any) -> None:
        """Write the role anew, with changes."""
        self.bao.write(f"{self.pki}/roles/workloads", {**ROLE, **changes})

    def token_file(self, **options: Any) -> Path:
        """Write a new token that may do what meshsigner needs into the token's file."""
        return self.put_token(self.bao.token(self.policy, **options))

    def put_token(self, token: str) -> Path:
        """Write a token into the token's file."""
        path = self.folder / "token"
        path.write_text(token)
        path.chmod(0o600)
        return path

    def settings(self, kind: str, **changes: Any) -> dict[str, Any]:
        """Return settings of a backend over these mounts, by a fresh token."""
        own: dict[str, dict[str, Any]] = {
            "openbao_pki": {"mount": self.pki, "role": "workloads"},
            "openbao_transit": {"mount": self.transit},
            "openbao_intermediate": {"mount": self.root},
        }
        values = {
            "type": kind,
            "address": self.bao.url,
            "ca_file": str(self.bao.ca_file),
            **own[kind],
            **changes,
        }
        if "auth" not in values:
            values["auth"] = {"type": "token", "token_file": str(self.token_file())}
        return values

    def sign_intermediate(self, csr_pem: str, **options: Any) -> Mapping[str, Any]:
        """Have the root sign a CA below it."""
        document = {
            "csr": csr_pem,
            "common_name": f"{self.name} issuer {os.urandom(4).hex()}",
            "max_path_length": 0,
            "ttl": "8760h",
            **options,
        }
        return self.bao.write(f"{self.root}/root/sign-intermediate", document)

    def new_issuer(self, **options: Any) -> None:
        """Give the PKI mount another issuer, which becomes its default."""
        made = self.bao.write(
            f"{self.pki}/intermediate/generate/internal",
            {"common_name": "x", "key_type": "ec", "key_bits": 256},
        )
        signed = self.sign_intermediate(made["csr"], **options)
        document = {"certificate": "\n".join([signed["certificate"], signed["issuing_ca"]])}
        done = self.bao.write(f"{self.pki}/intermediate/set-signed", document)
        issuer = self.issuer_of_key(done)
        self.bao.write(f"{self.pki}/config/issuers", {"default": issuer})

    def issuer_of_key(self, imported: Mapping[str, Any]) -> str:
        """Return which of the imported certificates has a key here: the issuer."""
        keys: Mapping[str, str] = imported["mapping"]
        return next(issuer for issuer in imported["imported_issuers"] or keys if keys[issuer])

    def make_default(self, common_name: str) -> None:
        """Let the PKI mount sign with the issuer of a name."""
        for issuer in self.bao.ask("LIST", f"{self.pki}/issuers").document["data"]["keys"]:
            pem = self.bao.read(f"{self.pki}/issuer/{issuer}")["certificate"].encode()
            if common_name in x509.load_pem_x509_certificate(pem).subject.rfc4514_string():
                self.bao.write(f"{self.pki}/config/issuers", {"default": issuer})

    def transit_key(self, name: str, kind: str = "ecdsa-p256", **options: Any) -> None:
        """Make a key."""
        self.bao.write(f"{self.transit}/keys/{name}", {"type": kind, **options})


def set_up_mesh(bao: OpenBao, name: str, folder: Path) -> Mesh:
    """Make the mounts of a mesh: root, issuer, role, transit, policy."""
    mesh = Mesh(bao=bao, name=name, folder=folder)
    _mount(bao, mesh.root, "pki")
    _mount(bao, mesh.pki, "pki")
    _mount(bao, mesh.transit, "transit")
    bao.write(
        f"{mesh.root}/root/generate/internal",
        {"common_name": f"{name} root", "ttl": "87600h", "key_type": "ec", "key_bits": 256},
    )
    mesh.new_issuer()
    mesh.role()
    bao.policy(mesh.policy, *_paths(mesh))
    return mesh


def _mount(bao: OpenBao, path: str, kind: str) -> None:
    bao.write(f"sys/mounts/{path}", {"type": kind, "config": {"max_lease_ttl": "87600h"}})


def _paths(mesh: Mesh) -> Sequence[str]:
    return (
        f"{mesh.pki}/sign/workloads",
        f"{mesh.pki}/issuer/default/json",
        f"{mesh.pki}/roles/workloads",
        f"{mesh.pki}/certs/detailed",
        f"{mesh.pki}/cert/*",
        f"{mesh.transit}/sign/*",
        f"{mesh.transit}/keys/*",
        f"{mesh.root}/root/sign-intermediate",
    )
