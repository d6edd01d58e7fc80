"""What the small measurements stand on: one CA, one token issuer, keys, and calls made of them."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load.calls import Call
from benchmarks.load.driver import ignore_progress
from benchmarks.load.keys import Key, KeyType, key_pool
from benchmarks.load.tokens import TokenIssuer
from benchmarks.load.workload import Recipe
from benchmarks.peers.authority import TRUST_DOMAIN, Authority, make_authority, make_token_issuer
from benchmarks.peers.servers import Place
from benchmarks.scenarios.material import OnStage

SERVER_CORE: Final = 0
DRIVER_CORE: Final = 1

_RSA_KEYS: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Files and keys that all servers of a run share.

    Args:
        work: Directory of the run, on a real disk.
        authority: A P-256 CA with a P-256 serving certificate.
        tokens: Issuer that the servers trust.
        keys: The callers' RSA keys, as sidecars have them.
    """

    work: Path
    authority: Authority
    tokens: TokenIssuer
    keys: list[Key]

    @classmethod
    def prepare(cls, work: Path, cache: Path, on_stage: OnStage) -> "Ground":
        """Make everything that takes time.

        Args:
            work: Directory of the run.
            cache: Where the callers' keys stay between runs.
            on_stage: Told what goes on.
        """
        kind: KeyType = "rsa2048"
        return cls(
            work=work,
            authority=make_authority(work / "ca", ca_key="p256", serving_key="p256"),
            tokens=make_token_issuer(work / "jwks.json"),
            keys=key_pool(kind, _RSA_KEYS, cache, on_stage("RSA keys", _RSA_KEYS)),
        )

    def place(
        self,
        name: str,
        *,
        core: int | None = SERVER_CORE,
        environment: Mapping[str, str] | None = None,
    ) -> Place:
        """Return where a server of that name runs, with its variables."""
        return Place(
            work=self.work / name,
            authority=self.authority,
            jwks=self.work / "jwks.json",
            core=core,
            environment=environment or {},
        )

    def calls(self, number: int) -> list[Call]:
        """Return calls whose identities and tokens nobody has used before."""
        prefix = f"micro-{secrets.token_hex(4)}"
        recipe = Recipe(
            tokens=self.tokens, keys=self.keys, trust_domain=TRUST_DOMAIN, prefix=prefix
        )
        return recipe.make_calls(number, ignore_progress)
