"""Istiod's serving certificate in a Secret, renewed in place.

Decides when another is issued: when there is none, when it nears its end, when
its CA or its names have changed, when somebody has changed it. One under
another root than before is only shown once that root has reached all who check
it (`order`). Who signs is handed in; the private key is made here, goes into
the Secret and is kept nowhere else.

Source: istio pilot/pkg/bootstrap/server.go getDNSNames, certcontroller.go;
cert-manager istio-csr pkg/istiodcert/worker.go; docs/standards.md 55, 56, 60.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from meshsigner.background import Background
from meshsigner.cluster.order import root_id
from meshsigner.cluster.writing import Writer
from meshsigner.errors import BackendUnavailable, NotReady
from meshsigner.kube import SECRETS, JsonObject, KubernetesApi, ObjectKey, Watch
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event

NAME = "istiod-tls"
TYPE = "kubernetes.io/tls"
CHAIN, KEY, ROOTS = "tls.crt", "tls.key", "ca.crt"
ANCHOR = "meshsigner.io/root"  # annotation: under which root it was issued
_LOOK_S = 0.5
_RETRY_S = 2.0


class ServingCertificates(Protocol):
    """Issues serving certificates under the CA of the moment."""

    def root(self) -> x509.Certificate:
        """Return the root that its certificates chain to.

        Raises:
            NotReady: There is no CA now.
        """
        ...

    def roots_pem(self) -> str:
        """Return all roots, PEM."""
        ...

    def issue(
        self, public_key: ec.EllipticCurvePublicKey, names: Sequence[str], now: datetime
    ) -> bytes:
        """Issue one; return its chain, leaf first, PEM.

        Raises:
            NotReady: There is no CA now.
        """
        ...

    def will_do(self, chain: bytes, names: Sequence[str], now: datetime) -> bool:
        """Tell whether a chain is of this CA, for these names, and lasts long enough."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One Secret.

    Attributes:
        namespace: Of istiod.
        name: Of the Secret.
        names: DNS names that istiod is dialled by.
    """

    namespace: str
    name: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What a Secret holds.

    Attributes:
        version: Its resourceVersion.
        chain: Chain, PEM.
        ends: When its leaf ends; None when there is none, or the key is not its own.
        anchor: Id of the root under which it was issued, empty when it does not say.
        roots: Roots beside it, PEM.
    """

    version: str
    chain: bytes = field(repr=False)
    ends: datetime | None
    anchor: str
    roots: bytes = field(repr=False)


def istiod_names(namespace: str, revisions: Sequence[str]) -> tuple[str, ...]:
    """Return the DNS names of istiod.

    Args:
        namespace: Where it runs.
        revisions: Those that share the Secret; `default` and empty are the one without a suffix.
    """
    hosts = ["istiod", "istiod-remote", "istio-pilot"]
    hosts += [f"istiod-{revision}" for revision in revisions if revision not in {"", "default"}]
    return tuple(f"{host}.{namespace}.svc" for host in hosts)


class ServingSecret:
    """Keeps one Secret, for one term.

    Args:
        api: The API server, to watch.
        writer: To write.
        target: Which Secret.
        certificates: Who issues.
        may_show: Tells whether a certificate may be shown: given whether it replaces
            one under another root, and the id of its own.
        clock: Returns the time, UTC.
    """

    def __init__(
        self,
        api: KubernetesApi,
        writer: Writer,
        target: Target,
        *,
        certificates: ServingCertificates,
        may_show: Callable[[Target, bool, str], bool],
        clock: Callable[[], datetime],
    ) -> None:
        self._writer = writer
        self._target = target
        self._certificates = certificates
        self._may_show = may_show
        self._clock = clock
        self._told = ""
        self._watch = Watch(
            api,
            SECRETS.collection(target.namespace),
            name=f"controllers/{target.namespace}/{target.name}",
            project=_kept,
            fields=f"metadata.name={target.name}",
        )

    async def run(self) -> None:
        """Follow and write, until cancelled or the term is over.

        Raises:
            TermOver: This process leads no more.
        """
        running = Background(self._watch.run)
        try:
            await self._watch.synced()
            while True:
                pause_s = _LOOK_S if await self._look() else _RETRY_S
                await asyncio.sleep(pause_s)
        finally:
            await running.stop()

    def is_right(self) -> bool:
        """Tell whether the Secret needs nothing."""
        kept = self._kept()
        return kept is not None and self._will_do(kept, self._clock())

    def _kept(self) -> Kept | None:
        return self._watch.objects.get(ObjectKey(self._target.namespace, self._target.name))

    async def _look(self) -> bool:
        """Issue another if that is needed and allowed; False when that has failed."""
        now, kept = self._clock(), self._kept()
        try:
            if kept is not None and self._will_do(kept, now):
                return True
            anchor = root_id(self._certificates.root())
            valid = kept is not None and kept.ends is not None and kept.ends > now
            changes_root = kept is not None and valid and kept.anchor != anchor
            if not self._may_show(self._target, changes_root, anchor):
                if changes_root:
                    self._tell(Event.SERVING_SECRET_WAITS, "its root has not reached everybody yet")
                return True
            await self._write(kept, anchor, now)
        except (BackendUnavailable, NotReady) as error:
            self._tell(Event.SERVING_SECRET_NOT_WRITTEN, str(error))
            return False
        self._told = ""
        return True

    def _will_do(self, kept: Kept, now: datetime) -> bool:
        return (
            kept.ends is not None
            and kept.roots == self._certificates.roots_pem().encode()
            and self._certificates.will_do(kept.chain, self._target.names, now)
        )

    async def _write(self, kept: Kept | None, anchor: str, now: datetime) -> None:
        content = make_secret(self._target, self._certificates, now, anchor)
        where = self._target
        if kept is None:
            await self._writer.create(SECRETS, content, where.namespace)
        else:
            del content["type"]  # may not change, and nobody minds which one it is
            content["metadata"]["resourceVersion"] = kept.version
            await self._writer.patch(SECRETS, where.name, content, where.namespace)
        get_logger().info(Event.SERVING_SECRET_WRITTEN, namespace=where.namespace, name=where.name)

    def _tell(self, event: Event, cause: str) -> None:
        if cause != self._told:
            self._told = cause
            where = self._target
            get_logger().warning(event, namespace=where.namespace, name=where.name, cause=cause)


def make_secret(
    target: Target, certificates: ServingCertificates, now: datetime, anchor: str
) -> dict[str, Any]:
    """Make a key, have a certificate issued for it, and return both as a Secret.

    Raises:
        NotReady: There is no CA now.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    chain = certificates.issue(key.public_key(), target.names, now)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    parts = {CHAIN: chain, KEY: pem, ROOTS: certificates.roots_pem().encode()}
    return {
        "metadata": {"name": target.name, "annotations": {ANCHOR: anchor}},
        "type": TYPE,
        "data": {name: base64.b64encode(part).decode() for name, part in parts.items()},
    }


def _kept(document: JsonObject) -> Kept:
    data, metadata = document.get("data") or {}, document["metadata"]
    chain, key = _part(data, CHAIN), _part(data, KEY)
    annotations = metadata.get("annotations") or {}
    return Kept(
        version=metadata["resourceVersion"],
        chain=chain,
        ends=_end_of(chain, key),
        anchor=annotations.get(ANCHOR, ""),
        roots=_part(data, ROOTS),
    )


def _part(data: JsonObject, name: str) -> bytes:
    try:
        return base64.b64decode(data.get(name) or "", validate=True)
    except (binascii.Error, TypeError):
        return b""


def _end_of(chain: bytes, key: bytes) -> datetime | None:
    """Return when a leaf ends whose key is this one, None when they do not fit."""
    try:
        leaf = x509.load_pem_x509_certificate(chain)
        private = load_pem_private_key(key, password=None)
        fits = private.public_key() == leaf.public_key()
    except (ValueError, TypeError, x509.InvalidVersion):
        return None
    return leaf.not_valid_after_utc if fits else None


def read_secret(document: JsonObject) -> Kept:
    """Read a Secret as far as it is ours."""
    return _kept(document)
