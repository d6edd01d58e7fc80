"""A key of OpenBao's transit engine as a key store: one request signs a whole batch.

Decides which version of the key belongs to a CA certificate and whether it may
be used: one that could be copied out of OpenBao is refused. Digests are made
here, so that a certificate never leaves before it is one.

Source: OpenBao API documentation, transit: keys/:name, sign/:name (batch_input,
prehashed, marshaling_algorithm, signature_algorithm); RFC 8017 8.2 (PKCS #1 v1.5).
"""

import asyncio
import hashlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from meshsigner.background import Background
from meshsigner.errors import (
    UNREADABLE_X509,
    BackendRefused,
    BackendUnavailable,
    ConfigurationError,
    MeshsignerError,
)
from meshsigner.model import Health
from meshsigner.observe.logs import get_logger
from meshsigner.observe.names import Event
from meshsigner.signing.keyed import CaPublicKey
from meshsigner.signing.openbao.client import OpenBaoApi
from meshsigner.signing.openbao.settings import TransitSettings

LOOK_AGAIN_S = 1.0  # after trouble: back within seconds of its end

_KINDS = {
    "ecdsa-p256": "P-256",
    "ecdsa-p384": "P-384",
    "rsa-2048": "RSA",
    "rsa-3072": "RSA",
    "rsa-4096": "RSA",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scheme:
    """How a kind of CA key signs; the same table as `local_key` and `profile`."""

    hash_path: str
    digest: str
    fields: Mapping[str, str]


_ECDSA = {"marshaling_algorithm": "asn1"}
_P256 = _Scheme(hash_path="sha2-256", digest="sha256", fields=_ECDSA)
_P384 = _Scheme(hash_path="sha2-384", digest="sha384", fields=_ECDSA)
_RSA = _Scheme(hash_path="sha2-256", digest="sha256", fields={"signature_algorithm": "pkcs1v15"})


def _scheme(key: CaPublicKey) -> _Scheme:
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA
    return _P384 if isinstance(key.curve, ec.SECP384R1) else _P256


class TransitStore:
    """One named key of a transit mount.

    Args:
        client: To the server.
        settings: Which key.
    """

    def __init__(self, *, client: OpenBaoApi, settings: TransitSettings) -> None:
        self._client = client
        self._settings = settings
        self._where = f"{settings.mount}/keys/{settings.key}"
        self._problem = ""
        self._stirred = asyncio.Event()
        self._background: Background | None = None

    async def start(self) -> None:
        """Keep the login fresh, and look again after trouble."""
        await self._client.start()
        self._background = Background(self._follow)

    async def aclose(self) -> None:
        """End what `start` began."""
        if self._background is not None:
            await self._background.stop()
        await self._client.aclose()

    async def find_key(self, public_key: CaPublicKey) -> "TransitKey":
        """Return the signer of the key's version that belongs to a CA certificate.

        Raises:
            ConfigurationError: There is none, or it may not be used.
            BackendUnavailable: OpenBao cannot be asked now.
        """
        try:
            data = await self._client.call("GET", self._where)
        except MeshsignerError as error:
            raise BackendUnavailable(str(error)) from error
        self._check_guarded(data)
        version = self._version_of(data, public_key)
        self._problem = ""
        return TransitKey(self, self._settings, _scheme(public_key), version)

    def health(self, now: datetime) -> Health:
        """Say what the last call found."""
        del now
        detail = self._problem or f"key {self._settings.key} of {self._settings.mount}"
        return Health(name="transit", ready=not self._problem, detail=detail)

    async def call(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call the engine and remember how that went."""
        try:
            return await self._client.call("POST", path, body)
        except BackendUnavailable as error:
            self._tell(str(error))
            raise

    def _check_guarded(self, data: Mapping[str, Any]) -> None:
        """Refuse a key that could leave OpenBao, or that cannot sign certificates."""
        kind = data.get("type")
        if kind not in _KINDS:
            raise ConfigurationError(
                f"{self._where}: is of type {str(kind)[:40]!r}; expected {', '.join(_KINDS)}; "
                "make a CA with such a key"
            )
        open_ways = [
            field
            for field in ("exportable", "allow_plaintext_backup")
            if data.get(field) is not False
        ]
        if open_ways and not self._settings.allow_exportable:
            raise ConfigurationError(
                f"{self._where}: could be copied out of OpenBao ({', '.join(open_ways)}); expected "
                "a key that cannot; make another one, for this setting cannot be taken back "
                "(allow_exportable: true takes it for tests)"
            )

    def _version_of(self, data: Mapping[str, Any], public_key: CaPublicKey) -> int:
        versions = data.get("keys")
        for number, version in versions.items() if isinstance(versions, dict) else ():
            pem = version.get("public_key") if isinstance(version, dict) else None
            if _same_key(pem, public_key):
                return int(number)
        raise ConfigurationError(
            f"{self._where}: no version of it belongs to the CA certificate in "
            f"{self._settings.certificates}; expected the certificate's key; name the right key, "
            "or issue the certificate for this one"
        )

    async def _follow(self) -> None:
        """Look again and again after trouble, until the key can be read."""
        while True:
            await self._stirred.wait()
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                await self._client.call("GET", self._where)
            except MeshsignerError as error:
                self._problem = str(error)
            else:
                self._problem = ""
                self._stirred.clear()

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            get_logger().warning(
                Event.BACKEND_ISSUER_MISSING, backend=self._settings.key, cause=problem
            )
        self._problem = problem
        self._stirred.set()


class TransitKey:
    """One version of a key.

    Args:
        store: Where it is.
        settings: Its name.
        scheme: How it signs.
        version: Which one.
    """

    def __init__(
        self, store: TransitStore, settings: TransitSettings, scheme: _Scheme, version: int
    ) -> None:
        self._store = store
        self._path = f"{settings.mount}/sign/{settings.key}/{scheme.hash_path}"
        self._scheme = scheme
        self._version = version

    async def sign_batch(self, messages: Sequence[bytes]) -> Sequence[bytes | MeshsignerError]:
        """Sign messages by one request.

        Raises:
            BackendUnavailable: OpenBao cannot sign now.
            BackendRefused: It said no to all of them.
            Overloaded: A quota.
        """
        digests = (hashlib.new(self._scheme.digest, message).digest() for message in messages)
        body = {
            "prehashed": True,
            "key_version": self._version,
            "batch_input": [{"input": b64encode(digest).decode()} for digest in digests],
            **self._scheme.fields,
        }
        results = (await self._store.call(self._path, body)).get("batch_results")
        if not isinstance(results, list) or len(results) != len(messages):
            raise BackendUnavailable(f"{self._path}: not one result for each message")
        return [self._signature(result) for result in results]

    def _signature(self, result: object) -> bytes | MeshsignerError:
        """Read one result: `vault:v<version>:<base64>`, or an error of this message alone."""
        found = result if isinstance(result, dict) else {}
        error, text = found.get("error"), found.get("signature")
        if error:
            return BackendRefused(f"{self._path}: {str(error)[:300]}")
        prefix = f"vault:v{self._version}:"
        if not isinstance(text, str) or not text.startswith(prefix):
            return BackendUnavailable(f"{self._path}: a result without a signature of {prefix}")
        try:
            return b64decode(text.removeprefix(prefix), validate=True)
        except ValueError:
            return BackendUnavailable(f"{self._path}: a signature that is no base64")


def _same_key(pem: object, public_key: CaPublicKey) -> bool:
    try:
        return load_pem_public_key(str(pem).encode()) == public_key
    except UNREADABLE_X509:
        return False
