"""Prepared calls, kept on disk outside the tree between runs: made once, named by what is in them.

A token lives twelve hours, so a file of calls is made anew once two hours or less are
left of its tokens; one that waits may be older than the run that uses it.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization

from benchmarks.load.keys import RSA_POOL_SIZE, Key, KeyType, key_pool
from benchmarks.load.loads import CallSlice
from benchmarks.load.records import write_calls
from benchmarks.load.tokens import LIFETIME_S, TokenIssuer
from benchmarks.load.workload import Recipe
from benchmarks.scenarios.material import OnStage
from benchmarks.scenarios.poison import Spoil

CHUNK: Final = 2_000
_FORM: Final = 2  # of the files; another number makes all of them anew
_LEFT_S: Final = 7_200


def cache_directory() -> Path:
    """Return where prepared material stays (XDG base directories)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "meshsigner-bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mint:
    """Makes calls, or finds them.

    Args:
        tokens: Issuer of their tokens.
        trust_domain: Of their identities.
        cache: Where they stay.
        on_stage: Told what goes on.
    """

    tokens: TokenIssuer
    trust_domain: str
    cache: Path
    on_stage: OnStage

    def calls(
        self, prefix: str, count: int, key_type: KeyType, spoil: Spoil | None = None
    ) -> CallSlice:
        """Return that many calls; equal arguments give equal identities.

        Args:
            prefix: Start of their service accounts' names.
            count: How many.
            key_type: Of their keys. P-256 keys are all different; RSA keys come round
                again after 512, each time with another identity.
            spoil: Makes them wrong, for a load that must be refused.
        """
        chunks = -(-count // CHUNK)
        name = self._name(prefix, key_type, spoil)
        files = tuple(self.cache / "calls" / f"{name}-{number}.bin" for number in range(chunks))
        stale = [number for number, file in enumerate(files) if not _fresh(file)]
        if stale:
            self._make(files, stale, prefix, key_type, spoil)
        return CallSlice(files=files, chunk=CHUNK, start=0, count=count)

    def _make(
        self,
        files: tuple[Path, ...],
        stale: list[int],
        prefix: str,
        key_type: KeyType,
        spoil: Spoil | None,
    ) -> None:
        files[0].parent.mkdir(parents=True, exist_ok=True)
        made = self.on_stage(f"calls {prefix}, {key_type}", len(stale) * CHUNK)
        keys = self._pool(key_type)
        for number in stale:
            recipe = Recipe(
                tokens=self.tokens,
                keys=keys() if callable(keys) else keys,
                trust_domain=self.trust_domain,
                prefix=f"{prefix}-{number}",
            )
            calls = recipe.make_calls(CHUNK, made)
            write_calls(files[number], map(spoil.apply, calls) if spoil else calls)

    def _pool(self, key_type: KeyType) -> list[Key] | Callable[[], list[Key]]:
        """Return the RSA pool, or what makes new P-256 keys for each file."""
        if key_type == "rsa2048":
            return key_pool(key_type, RSA_POOL_SIZE, self.cache, self._lazy_stage())
        return lambda: key_pool(key_type, CHUNK, self.cache, lambda: None)

    def _lazy_stage(self) -> Callable[[], None]:
        """Return what shows that keys are made, if any are."""
        begun: list[Callable[[], None]] = []

        def step() -> None:
            if not begun:
                begun.append(self.on_stage("rsa2048 keys", RSA_POOL_SIZE))
            begun[0]()

        return step

    def _name(self, prefix: str, key_type: KeyType, spoil: Spoil | None) -> str:
        issuer = self.tokens.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        content = [
            *(_FORM, CHUNK, prefix, key_type, spoil.name if spoil else "", self.trust_domain),
            *(issuer.hex(), self.tokens.key_id, self.tokens.issuer, self.tokens.audience),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def _fresh(file: Path) -> bool:
    try:
        return time.time() - file.stat().st_mtime < LIFETIME_S - _LEFT_S
    except FileNotFoundError:
        return False
