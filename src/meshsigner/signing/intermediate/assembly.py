"""Puts the parts of the intermediate mode over OpenBao together."""

from collections.abc import Callable
from functools import partial

from meshsigner.signing.intermediate.keeper import IntermediateKeeper, Plan
from meshsigner.signing.intermediate.kind import new_key
from meshsigner.signing.intermediate.settings import OpenBaoIntermediateSettings
from meshsigner.signing.intermediate.signer import IntermediateSigner
from meshsigner.signing.intermediate.store import FileStore, MemoryStore, Store
from meshsigner.signing.kind import Surroundings
from meshsigner.signing.openbao.client import OpenBaoClient
from meshsigner.signing.openbao.intermediate_source import OpenBaoIntermediates
from meshsigner.signing.openbao.mount_issuer import load_roots
from meshsigner.trust import CaFiles


def open_backend(
    name: str, settings: OpenBaoIntermediateSettings, surroundings: Surroundings
) -> IntermediateSigner:
    """Make the backend.

    Raises:
        ConfigurationError: The roots' file cannot be used.
    """
    source = OpenBaoIntermediates(
        client=OpenBaoClient(settings), mount=settings.mount, issuer=settings.issuer
    )
    metrics = surroundings.metrics.remote_ca
    plan = Plan(
        lifetime=settings.lifetime,
        renew_at=settings.renew_at,
        new_key=partial(new_key, settings.key_type),
        roots=load_roots(settings.roots_file) if settings.roots_file else (),
        trust_domain=surroundings.trust_domain,
        announced=surroundings.announced,
    )

    def make_keeper(taken: Callable[[CaFiles], None]) -> IntermediateKeeper:
        def told(files: CaFiles) -> None:
            metrics.intermediate(name, not_after=files.expires)
            taken(files)

        return IntermediateKeeper(
            name=name,
            source=source,
            store=_store(settings),
            plan=plan,
            clock=surroundings.clock,
            taken=told,
            counted=partial(metrics.renewal, name),
        )

    return IntermediateSigner(name=name, source=source, make_keeper=make_keeper)


def _store(settings: OpenBaoIntermediateSettings) -> Store:
    return MemoryStore() if settings.directory is None else FileStore(settings.directory)
