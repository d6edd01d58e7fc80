"""What `check-config --connect` says about OpenBao: what is there, what is missing, in words.

Asks only; the one signature that it makes is of a digest that is no certificate.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from meshsigner.errors import ConfigurationError, MeshsignerError
from meshsigner.signing.issuers import checked_issuer
from meshsigner.signing.kind import Finding
from meshsigner.signing.openbao.client import OpenBaoApi
from meshsigner.signing.openbao.mount_issuer import load_roots
from meshsigner.signing.openbao.replies import chain_of, self_signed
from meshsigner.signing.openbao.settings import PkiSettings, TransitSettings
from meshsigner.signing.openbao.transit import TransitStore
from meshsigner.trust import load_certificates
from meshsigner.trust.pem import describe

# What a role must say so that its certificates pass the check of every answer.
_ROLE = {
    "use_csr_sans": (False, "names come from meshsigner alone"),
    "require_cn": (False, "workload certificates have no common name"),
    "enforce_hostnames": (False, "names are SPIFFE IDs"),
    "server_flag": (True, "workloads are servers"),
    "client_flag": (True, "workloads are clients"),
    "basic_constraints_valid_for_non_ca": (True, "CA:FALSE must be told"),
    "key_usage": (["DigitalSignature", "KeyEncipherment"], "istiod's key usages, no other"),
}


async def examine_pki(
    client: OpenBaoApi, settings: PkiSettings, now: datetime
) -> Sequence[Finding]:
    """Look at the login, our rights, the role and the issuer."""
    sign, role = (f"{settings.mount}/{part}/{settings.role}" for part in ("sign", "roles"))
    try:
        rights = await client.call("POST", "sys/capabilities-self", {"paths": [sign]})
        data = await client.call("GET", f"{settings.mount}/issuer/{settings.issuer}/json")
    except MeshsignerError as error:
        return [Finding(good=False, text=f"{settings.address}: {error}")]
    return [
        Finding(good=True, text=f"{settings.address}: logged in by {settings.auth.type}"),
        examine_right(rights.get(sign), sign, "sign"),
        *await _role(client, settings, role),
        *_told(lambda: _issuer(settings, data, now)),
    ]


def examine_right(granted: object, path: str, may: str) -> Finding:
    """Say whether a token may use a path, and what its policy lacks if it may not.

    Args:
        granted: What `sys/capabilities-self` says of the path.
        path: Below /v1/.
        may: What the token may do there if it may, in words.
    """
    rights = list(map(str, granted)) if isinstance(granted, list) else []
    if {"update", "root"}.intersection(rights):
        return Finding(good=True, text=f"{path}: the token may {may}")
    return Finding(
        good=False,
        text=f"{path}: the token may {', '.join(rights) or 'nothing'} there; expected update; add "
        f'to its policy: path "{path}" {{ capabilities = ["update"] }}',
    )


async def _role(client: OpenBaoApi, settings: PkiSettings, path: str) -> Sequence[Finding]:
    try:
        role = await client.call("GET", path)
    except MeshsignerError as error:
        return [Finding(good=True, text=f"{path}: not looked at, for we may not read it ({error})")]
    wrong = [
        Finding(
            good=False,
            text=f"{path}: {field} is {role.get(field)!r}; expected {wanted!r}, for {reason}; "
            f"write the role as docs/backends.md has it",
        )
        for field, (wanted, reason) in _expected(settings).items()
        if role.get(field) != wanted
    ]
    return wrong or [Finding(good=True, text=f"{path}: signs workload certificates")]


def _expected(settings: PkiSettings) -> Mapping[str, tuple[object, str]]:
    if settings.validity == "ttl":
        return _ROLE
    bound = ("ttl-limited", "an end beyond the role's maximum must be refused, not granted")
    return {**_ROLE, "not_after_bound": bound}


def _issuer(settings: PkiSettings, data: Mapping[str, Any], now: datetime) -> str:
    where = f"{settings.mount}/issuer/{settings.issuer}"
    chain = chain_of(data, where)
    roots = load_roots(settings.roots_file) if settings.roots_file else self_signed(chain)
    if not roots:
        raise ConfigurationError(f"{where}: its chain has no root; name its file: roots_file")
    issuer = checked_issuer(chain, roots, where=where, generation=1, now=now)
    certificate = describe(issuer.certificate)
    return f"{where}: {certificate}, until {issuer.not_after:%Y-%m-%d %H:%M}Z"


async def examine_transit(
    client: OpenBaoApi, settings: TransitSettings, now: datetime
) -> Sequence[Finding]:
    """Look at the certificates, the login, the key, and whether we may sign with it."""
    try:
        loaded = load_certificates(settings.certificates, generation=1, now=now)
    except ConfigurationError as error:
        return [Finding(good=False, text=problem) for problem in error.problems]
    public_key = loaded.issuer.certificate.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return [Finding(good=False, text=f"{settings.certificates}: no RSA, P-256 or P-384 CA")]
    try:
        key = await TransitStore(client=client, settings=settings).find_key(public_key)
        (signed,) = await key.sign_batch([b"meshsigner check-config: no certificate"])
    except ConfigurationError as error:
        return [Finding(good=False, text=problem) for problem in error.problems]
    except MeshsignerError as error:
        return [Finding(good=False, text=f"{settings.address}: {error}")]
    if isinstance(signed, MeshsignerError):
        return [Finding(good=False, text=str(signed))]
    where = f"{settings.mount}/keys/{settings.key}"
    return [
        Finding(good=True, text=f"{settings.address}: logged in by {settings.auth.type}"),
        Finding(
            good=True,
            text=f"{where}: signs for {describe(loaded.issuer.certificate)}, cannot be copied out"
            if not settings.allow_exportable
            else f"{where}: signs, and may be one that can be copied out: for tests only",
        ),
    ]


def _told(look: Callable[[], str]) -> Sequence[Finding]:
    try:
        return [Finding(good=True, text=look())]
    except ConfigurationError as error:
        return [Finding(good=False, text=problem) for problem in error.problems]
    except MeshsignerError as error:
        return [Finding(good=False, text=str(error))]
