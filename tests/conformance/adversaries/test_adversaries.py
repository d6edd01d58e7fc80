"""Real CAs that change what they are asked for: it is caught, nothing leaves, the next is asked.

CFSSL and Pebble answer 200 with a certificate for the right key, signed by the
right CA, of the right validity, and without the SPIFFE ID.
"""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from grpc import StatusCode

from meshsigner.errors import NotReady, WrongCertificate
from meshsigner.model import Order
from meshsigner.rpc.status import STATUS
from tests.conformance.adversaries.cfssl import running_cfssl
from tests.conformance.adversaries.pebble import DNS_NAME, running_pebble
from tests.conformance.adversaries.remote import RealRemote
from tests.fakes.remote_ca import FakeRemote
from tests.fakes.signing_world import KEY, SigningWorld, signing_world

TOKENS = ["foo/a/1", "foo/b/2"]


def csr_with_dns_name(order: Order) -> bytes:
    """Return a CSR of the workload's key for its identity and a DNS name, as a gateway's."""
    uri = x509.UniformResourceIdentifier(order.terms.identity.uri)
    names = x509.SubjectAlternativeName([x509.DNSName(DNS_NAME), uri])
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.add_extension(names, critical=True).sign(KEY, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


@contextlib.asynccontextmanager
async def running(kind: str, directory: Path) -> AsyncIterator[RealRemote]:
    """Have one of the CAs run."""
    if kind == "cfssl":
        async with running_cfssl(directory) as cfssl:
            yield cfssl
    else:
        async with running_pebble(directory, csr_with_dns_name) as pebble:
            yield pebble


@contextlib.asynccontextmanager
async def world_of(*backends: RealRemote | FakeRemote) -> AsyncIterator[SigningWorld]:
    """Have the pipeline run over these backends, at the real time."""
    async with signing_world(*backends) as world:
        world.now = datetime.now(UTC) + timedelta(seconds=5)
        yield world


def uris_of(certificate: x509.Certificate) -> list[str]:
    """Return the URI names of a certificate; a missing extension has none."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.UniformResourceIdentifier)


@pytest.mark.parametrize("kind", ["cfssl", "pebble"])
async def test_dropped_uri_is_caught(kind: str, tmp_path: Path) -> None:
    """Alone, such a CA makes UNAVAILABLE: no row, an alarm, not ready, and no second call."""
    async with running(kind, tmp_path) as remote, world_of(remote) as world:
        with pytest.raises(WrongCertificate) as caught:
            await world.issue("foo/a/1")
        assert STATUS[type(caught.value)] is StatusCode.UNAVAILABLE
        assert "subject alternative name differs" in caught.value.mismatches
        (answered,) = remote.answered
        assert answered.public_key() == KEY.public_key()
        assert uris_of(answered) == []
        assert world.inventory.rows == []
        assert world.sample("meshsigner_wrong_certificates_total", backend=kind) == 1
        assert not world.issuance.health()[0].ready
        with pytest.raises(NotReady):
            await world.issue("foo/b/2")
        assert len(remote.answered) == 1


@pytest.mark.parametrize("kind", ["cfssl", "pebble"])
async def test_next_backend_is_asked_behind_it(kind: str, tmp_path: Path) -> None:
    """With a substitute every caller gets its certificate, and the liar's is not recorded."""
    honest = FakeRemote("honest")
    async with running(kind, tmp_path) as remote, world_of(remote, honest) as world:
        answers = [await world.issue(token) for token in TOKENS]
        assert {answer.backend for answer in answers} == {"honest"}
        assert {row.backend for row in world.inventory.rows} == {"honest"}
        assert world.sample("meshsigner_wrong_certificates_total", backend=kind) == 1
        assert len(remote.answered) == 1
