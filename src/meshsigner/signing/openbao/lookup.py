"""Looking for a certificate that OpenBao issued and nobody got.

Only where the role stores certificates. The engine knows no request by a name
of ours, but it lists what it stores with both ends of validity, and an order's
key is in its certificate alone: so those of the order's time are read until
the key is found.

Source: OpenBao API documentation, PKI: certs/detailed, cert/:serial.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshsigner.errors import BackendUnavailable
from meshsigner.model import Order
from meshsigner.signing.openbao.client import OpenBaoApi
from meshsigner.signing.openbao.replies import certificate_of, chain_of

PAGE = 1_000  # certificates; one has about 300 bytes in the list
MAX_PAGES = 200  # beyond it the mount keeps more than can be searched within a call
MAX_READ = 500  # certificates of the order's time that are read one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A certificate that was found.

    Attributes:
        leaf: The certificate.
        chain: Above it.
    """

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]


async def find_stored(
    client: OpenBaoApi, mount: str, order: Order, backdate: timedelta, deadline_s: float
) -> Stored | None:
    """Search a mount for the certificate of an order.

    Args:
        client: To the server.
        mount: Of the PKI engine.
        order: Whose certificate; its public key is what is looked for.
        backdate: How much before the order's a certificate may begin.
        deadline_s: Nobody waits longer, in seconds of the event loop's clock.

    Returns:
        The certificate, or None when there is certainly none.

    Raises:
        BackendUnavailable: It could not be asked, or keeps too many.
    """
    read = 0
    async for serial in _of_the_time(client, mount, order, backdate, deadline_s):
        read += 1
        if read > MAX_READ:
            raise BackendUnavailable(f"{mount}: more than {MAX_READ} certificates of that time")
        path = f"{mount}/cert/{serial}"
        data = await client.call("GET", path, deadline_s=deadline_s)
        leaf = certificate_of(data, "certificate", path)
        if _key(leaf) == order.request.public_key.spki_der:
            issuer_path = f"{mount}/cert/ca_chain"
            above = await client.call("GET", issuer_path, deadline_s=deadline_s)
            return Stored(leaf=leaf, chain=chain_of(_listed(above), issuer_path))
    return None


async def _of_the_time(
    client: OpenBaoApi, mount: str, order: Order, backdate: timedelta, deadline_s: float
) -> AsyncIterator[str]:
    """Yield the serial numbers of stored certificates that begin and end as the order's would."""
    after = ""
    for _ in range(MAX_PAGES):
        path = f"{mount}/certs/detailed?limit={PAGE}" + (f"&after={after}" if after else "")
        data = await client.call("LIST", path, deadline_s=deadline_s)
        keys, details = data.get("keys"), data.get("key_info")
        if not isinstance(keys, list) or not isinstance(details, Mapping) or not keys:
            return
        for serial in map(str, keys):
            if _fits(details.get(serial), order, backdate):
                yield serial
        if len(keys) < PAGE:
            return
        after = str(keys[-1])
    raise BackendUnavailable(f"{mount}: stores more than {PAGE * MAX_PAGES} certificates")


def _fits(details: object, order: Order, backdate: timedelta) -> bool:
    if not isinstance(details, Mapping):
        return False
    begins, ends = _time(details.get("not_before")), _time(details.get("not_after"))
    if begins is None or ends is None:
        return False
    terms = order.terms
    return terms.not_before - backdate <= begins and ends <= terms.not_after


def _time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _listed(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Cut the concatenated chain of cert/ca_chain into the list that a signature comes with."""
    end = "-----END CERTIFICATE-----"
    pems = [part + end for part in str(data.get("ca_chain", "")).split(end)[:-1]]
    return {"ca_chain": pems} if pems else data


def _key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
