"""Puts the parts of the intermediate mode over OpenBao together."""

from collections.abc import Callable
from functools import partial

from meshsigner.signing.intermediate.keeper import IntermediateKeeper, MakeKeeper, Plan
from meshsigner.signing.intermediate.keyed import KeyedIntermediateSigner
from meshsigner.signing.intermediate.keys import K, Prepare, with_new_key
from meshsigner.signing.intermediate.kind import new_key
from meshsigner.signing.intermediate.settings import OpenBaoIntermediateSettings
from meshsigner.signing.intermediate.signer import IntermediateSigner
from meshsigner.signing.intermediate.source import IntermediateSource
from meshsigner.signing.intermediate.store import CertificateStore, FileStore, MemoryStore, Store
from meshsigner.signing.kind import Signer, Surroundings
from meshsigner.signing.openbao.client import OpenBaoClient
from meshsigner.signing.openbao.intermediate_source import OpenBaoIntermediates
from meshsigner.signing.openbao.mount_issuer import load_roots
from meshsigner.trust import CaFiles


def open_backend(
    name: str, settings: OpenBaoIntermediateSettings, surroundings: Surroundings
) -> Signer:
    """Make the backend.

    Raises:
        ConfigurationError: The roots' file cannot be used.
    """
    source = OpenBaoIntermediates(
        client=OpenBaoClient(settings), mount=settings.mount, issuer=settings.issuer
    )
    if settings.hsm is not None:
        return _with_hsm(name, settings, surroundings, source)
    make_keeper = _keepers(
        name,
        source,
        surroundings,
        _plan(settings, surroundings, with_new_key(partial(new_key, settings.key_type))),
        _store(settings),
    )
    return IntermediateSigner(name=name, source=source, make_keeper=make_keeper)


def _with_hsm(
    name: str,
    settings: OpenBaoIntermediateSettings,
    surroundings: Surroundings,
    source: IntermediateSource,
) -> KeyedIntermediateSigner:
    # imported once used: they need python-pkcs11, which is an extra
    from meshsigner.signing.intermediate.token import TokenRequests  # noqa: PLC0415
    from meshsigner.signing.pkcs11.assembly import open_store  # noqa: PLC0415
    from meshsigner.signing.pkcs11.pin import PinGuard  # noqa: PLC0415

    if settings.hsm is None or settings.directory is None:
        msg = "settings with `keep: pkcs11` have both"
        raise ValueError(msg)
    pin = PinGuard(settings.hsm.pin_source, surroundings.directory)
    requests = TokenRequests(settings.hsm, pin, settings.key_type)
    plan = _plan(settings, surroundings, requests.prepare)
    store = CertificateStore(settings.directory)
    return KeyedIntermediateSigner(
        name=name,
        source=source,
        make_keeper=_keepers(name, source, surroundings, plan, store),
        keys=open_store(name, settings.hsm, pin),
        limits=settings.hsm.limits,
        clock=surroundings.clock,
    )


def _plan(
    settings: OpenBaoIntermediateSettings, surroundings: Surroundings, prepare: Prepare[K]
) -> Plan[K]:
    return Plan(
        lifetime=settings.lifetime,
        renew_at=settings.renew_at,
        prepare=prepare,
        roots=load_roots(settings.roots_file) if settings.roots_file else (),
        trust_domain=surroundings.trust_domain,
        announced=surroundings.announced,
    )


def _keepers(
    name: str,
    source: IntermediateSource,
    surroundings: Surroundings,
    plan: Plan[K],
    store: Store[K],
) -> MakeKeeper[K]:
    """Return what makes the keeper, given who is told of each intermediate."""
    metrics = surroundings.metrics.remote_ca

    def make_keeper(taken: Callable[[K], None]) -> IntermediateKeeper[K]:
        def told(files: K) -> None:
            metrics.intermediate(name, not_after=files.issuer.not_after)
            taken(files)

        return IntermediateKeeper(
            name=name,
            source=source,
            store=store,
            plan=plan,
            clock=surroundings.clock,
            taken=told,
            counted=partial(metrics.renewal, name),
        )

    return make_keeper


def _store(settings: OpenBaoIntermediateSettings) -> Store[CaFiles]:
    return MemoryStore() if settings.directory is None else FileStore(settings.directory)
