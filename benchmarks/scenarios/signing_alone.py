"""How fast a backend signs by itself: no callers, no inventory, one process that asks it.

What is left between this and the whole server is everything else that a certificate costs.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from benchmarks.scenarios.signers import Signer
from meshsigner.config.backends import installed_kinds
from meshsigner.model import Chain, Errand
from meshsigner.ports import LocalSigner, RemoteSigner
from meshsigner.signing.kind import BackendKind
from tests.conformance.openbao.backend import make_errand, surroundings_in, utc_now

_PATIENCE_S: Final = 10.0
_CALLS_IN_FLIGHT: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """What was measured.

    Args:
        per_s: Certificates a second.
        cpu_us: CPU of the asking process for each, microseconds.
    """

    per_s: float
    cpu_us: float


def sign_alone(signer: Signer, directory: Path, seconds: float) -> Alone:
    """Measure one backend."""
    with signer.in_environment():
        return asyncio.run(_measure(signer, directory, seconds))


async def _measure(signer: Signer, directory: Path, seconds: float) -> Alone:
    kind = cast("BackendKind", installed_kinds()[str(signer.settings["type"])].load())
    settings = kind.settings.model_validate(dict(signer.settings))
    backend = kind.open("bench", settings, surroundings_in(directory))
    await backend.start()
    try:
        errand = make_errand(backend.issuer(utc_now()))
        if hasattr(backend, "limits"):
            return await _remote(cast("RemoteSigner", backend), [errand] * signer.batch, seconds)
        return _local(backend, errand, seconds)
    finally:
        await backend.aclose()


def _local(backend: LocalSigner, errand: Errand, seconds: float) -> Alone:
    began_s, cpu_s, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began_s < seconds:
        backend.sign(errand.order)
        count += 1
    return _alone(count, time.perf_counter() - began_s, time.process_time() - cpu_s)


async def _remote(backend: RemoteSigner, errands: Sequence[Errand], seconds: float) -> Alone:
    count = 0
    began_s, cpu_s = time.perf_counter(), time.process_time()

    async def ask() -> None:
        nonlocal count
        while time.perf_counter() - began_s < seconds:
            deadline_s = asyncio.get_running_loop().time() + _PATIENCE_S
            for found in await backend.sign(errands, deadline_s):
                if not isinstance(found, Chain):
                    raise found
                count += 1

    await asyncio.gather(*(ask() for _ in range(_CALLS_IN_FLIGHT)))
    return _alone(count, time.perf_counter() - began_s, time.process_time() - cpu_s)


def _alone(count: int, wall_s: float, cpu_s: float) -> Alone:
    return Alone(per_s=count / wall_s, cpu_us=cpu_s / count * 1e6)
