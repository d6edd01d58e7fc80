"""Pebble, an ACME server: it issues for a DNS name, and drops the URI beside it.

The client here is no more than what one order needs: account, order, challenge
(which Pebble is told to take for met), finalize, download.

Source: RFC 8555 7; RFC 7515 (JWS), RFC 7518 3.4 (ES256).
"""

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.model import Order
from meshsigner.signing.making import build_serving
from tests.conformance.adversaries.remote import (
    RealRemote,
    ServerProcess,
    free_port,
    http_session,
)
from tests.fakes.authority import Ca, Shape, make_ca

DNS_NAME = "gateway.example.org"
POLLS = 50
POLL_S = 0.1
CsrOf = Callable[[Order], bytes]


class Pebble(RealRemote):
    """A running Pebble.

    Args:
        chain: From its CA to its root, excluded.
        root: Its root.
        client: Speaks ACME.
        csr_of: Returns the DER of a CSR for an order that names `DNS_NAME` as
            well: ACME certifies no URI by itself.
    """

    def __init__(
        self,
        chain: list[x509.Certificate],
        root: x509.Certificate,
        client: "AcmeClient",
        csr_of: CsrOf,
    ) -> None:
        super().__init__("pebble", chain, [root])
        self._client = client
        self._csr_of = csr_of

    async def ask(self, order: Order) -> str | None:
        """Order, and download."""
        return await self._client.certify(self._csr_of(order))


class AcmeClient:
    """An ACME account.

    Args:
        session: To ask with.
        directory_url: Of the server.
    """

    def __init__(self, session: aiohttp.ClientSession, directory_url: str) -> None:
        self._session = session
        self._directory_url = directory_url
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._urls: dict[str, str] = {}
        self._account = ""
        self._nonce = ""

    async def open_account(self) -> None:
        """Read the directory and open an account."""
        async with self._session.get(self._directory_url) as response:
            self._urls = await response.json()
        async with self._session.head(self._urls["newNonce"]) as response:
            self._nonce = response.headers["Replay-Nonce"]
        _, headers = await self._post(self._urls["newAccount"], {"termsOfServiceAgreed": True})
        self._account = headers["Location"]

    async def certify(self, csr_der: bytes) -> str:
        """Have a CSR signed, and return the leaf's PEM."""
        wanted = {"identifiers": [{"type": "dns", "value": DNS_NAME}]}
        order, headers = await self._post(self._urls["newOrder"], wanted)
        for url in order["authorizations"]:
            authorization, _ = await self._post(url, None)
            await self._post(authorization["challenges"][0]["url"], {})
        order = await self._poll(headers["Location"], "ready")
        await self._post(order["finalize"], {"csr": _base64url(csr_der)})
        order = await self._poll(headers["Location"], "valid")
        text, _ = await self._post(order["certificate"], None)
        end = "-----END CERTIFICATE-----\n"
        return str(text).partition(end)[0] + end

    async def _poll(self, url: str, status: str) -> dict[str, Any]:
        for _ in range(POLLS):
            found, _ = await self._post(url, None)
            if found["status"] == status:
                order: dict[str, Any] = found
                return order
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"{url} is not {status}: {found}")

    async def _post(self, url: str, payload: object) -> tuple[Any, Any]:
        """Make a signed request; None as payload is POST-as-GET (RFC 8555 6.3)."""
        body = self._signed(url, payload)
        kind = {"Content-Type": "application/jose+json"}
        async with self._session.post(url, data=body, headers=kind) as response:
            text = await response.text()
            assert response.ok, text
            self._nonce = response.headers["Replay-Nonce"]
            is_json = "json" in response.headers.get("Content-Type", "")
            return (json.loads(text) if is_json else text), response.headers

    def _signed(self, url: str, payload: object) -> bytes:
        header: dict[str, object] = {"alg": "ES256", "nonce": self._nonce, "url": url}
        header |= {"kid": self._account} if self._account else {"jwk": self._jwk()}
        protected = _base64url(json.dumps(header).encode())
        content = "" if payload is None else _base64url(json.dumps(payload).encode())
        der = self._key.sign(f"{protected}.{content}".encode(), ec.ECDSA(hashes.SHA256()))
        raw = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(der))
        whole = {"protected": protected, "payload": content, "signature": _base64url(raw)}
        return json.dumps(whole).encode()

    def _jwk(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        x, y = (_base64url(n.to_bytes(32, "big")) for n in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextlib.asynccontextmanager
async def running_pebble(directory: Path, csr_of: CsrOf) -> AsyncIterator[Pebble]:
    """Have Pebble run for the length of a block."""
    now = datetime.now(UTC)
    trusted = make_ca("tls root", shape=Shape(not_before=now - timedelta(days=1)))
    _write_serving(directory, trusted, now)
    port, management = free_port(), free_port()
    _write_config(directory, port, management)
    command = ["pebble", "-config", str(directory / "pebble.json")]
    environment = {
        "PEBBLE_VA_ALWAYS_VALID": "1",
        "PEBBLE_VA_NOSLEEP": "1",
        "PEBBLE_WFE_NONCEREJECT": "0",
    }
    log = directory / "pebble.log"
    server = ServerProcess(command, port=port, log=log, environment=environment)
    context = ssl.create_default_context(cadata=trusted.pem.decode())
    async with server, http_session(aiohttp.TCPConnector(ssl=context)) as session:
        client = AcmeClient(session, f"https://127.0.0.1:{port}/dir")
        await client.open_account()
        parts = [
            await _certificate(session, f"https://127.0.0.1:{management}/{kind}/0")
            for kind in ("intermediates", "roots")
        ]
        yield Pebble(parts[:1], parts[1], client, csr_of)


async def _certificate(session: aiohttp.ClientSession, url: str) -> x509.Certificate:
    async with session.get(url) as response:
        return x509.load_pem_x509_certificate(await response.read())


def _write_serving(directory: Path, issuer: Ca, now: datetime) -> None:
    """Write the serving certificate that Pebble wants of somebody."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = build_serving(
        key.public_key(),
        issuer=issuer.certificate,
        issuer_key=issuer.key,
        names=[IPv4Address("127.0.0.1")],
        validity=(now - timedelta(minutes=5), now + timedelta(hours=1)),
    )
    (directory / "serving.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    (directory / "serving-key.pem").touch(mode=0o600)
    (directory / "serving-key.pem").write_bytes(Ca(certificate=leaf, key=key).key_pem())


def _write_config(directory: Path, port: int, management: int) -> None:
    config = {
        "pebble": {
            "listenAddress": f"127.0.0.1:{port}",
            "managementListenAddress": f"127.0.0.1:{management}",
            "certificate": str(directory / "serving.pem"),
            "privateKey": str(directory / "serving-key.pem"),
            "httpPort": 5002,
            "tlsPort": 5001,
            "certificateValidityPeriod": 3600,
        }
    }
    (directory / "pebble.json").write_text(json.dumps(config))
