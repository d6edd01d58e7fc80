"""Calls of real clients, sent byte for byte to a whole server under istiod's CA.

The server is `meshsigner serve` as a person starts it, with the CA, the token
keys and the tokens of the recording. Its answers are held against istiod's.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import grpc
import pytest
from cryptography import x509

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateResponse
from meshsigner.rpc.certificate_service import METHOD
from tests.fakes.tokens import ISSUER
from tests.secret_scan import Secrets
from tests.vectors.recorded_calls import FOLDER, RecordedCall, recorded_calls, recorded_tokens
from tests.wire.processes import Running, running

PATIENCE_S = 20.0
CONFIG = f"""\
trust_domain: cluster.local
clusters:
  - id: Kubernetes
    authenticators: [{{type: jwks, issuer: "{ISSUER}", jwks_file: jwks.json}}]
issuer: {{type: directory, path: ca}}
listen:
  address: 127.0.0.1:0
  tls: {{type: issuer, dns_names: [localhost], directory: serving}}
admin: {{address: "127.0.0.1:0"}}
inventory: {{path: inventory.db}}
"""
CALLS = recorded_calls()
each_call = pytest.mark.parametrize(
    "call",
    CALLS,
    ids=lambda call: cast("RecordedCall", call).client,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the recording's CA, its keys and a configuration."""
    place = tmp_path_factory.mktemp("recorded")
    ca = place / "ca"
    ca.mkdir()
    for name in ("ca-cert.pem", "cert-chain.pem", "root-cert.pem"):
        shutil.copy(FOLDER / "istiod-ca-cert.pem", ca / name)
    shutil.copy(FOLDER / "istiod-ca-key.pem", ca / "ca-key.pem")
    (ca / "ca-key.pem").chmod(0o600)
    shutil.copy(FOLDER / "jwks.json", place / "jwks.json")
    (place / "meshsigner.yaml").write_text(CONFIG)
    return place


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    """Return a server that all replays share; each of them looks at what it said."""
    with running("serve", "--config", "meshsigner.yaml", cwd=folder, secrets=Secrets()) as started:
        started.address()
        yield started


def _replay(server: Running, call: RecordedCall) -> IstioCertificateResponse:
    """Send a call's own bytes and headers.

    Raises:
        grpc.RpcError: The server refuses it.
    """
    roots = (FOLDER / "istiod-ca-cert.pem").read_bytes()
    token = recorded_tokens()[call.token]
    headers = tuple(
        (name, value.replace("<bearer token>", f"Bearer {token}"))
        for name, value in call.headers
        if name != "user-agent"  # the transport's own; gRPC lets nobody set it
    )
    port = server.address().rpartition(":")[2]
    credentials = grpc.ssl_channel_credentials(roots)
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        method = channel.unary_unary(
            METHOD,
            request_serializer=bytes,
            response_deserializer=IstioCertificateResponse.FromString,
        )
        answer = method(call.request, metadata=headers, timeout=PATIENCE_S)
    return cast("IstioCertificateResponse", answer)


def _told(leaf: x509.Certificate) -> dict[str, object]:
    """Return all that a leaf says but serial number, times and signature."""
    return {
        "version": leaf.version,
        "issuer": leaf.issuer.public_bytes(),
        "subject": leaf.subject.public_bytes(),
        "key": leaf.public_key(),
        "extensions": [
            (extension.oid, extension.critical, extension.value.public_bytes())
            for extension in leaf.extensions
        ],
        "signature_algorithm": leaf.signature_algorithm_oid,
        "lifetime": leaf.not_valid_after_utc - leaf.not_valid_before_utc,
    }


@each_call
def test_statement_02_recorded_call_is_answered_as_istiod_did(
    server: Running,
    call: RecordedCall,
    no_secrets: Secrets,
) -> None:
    """Status and text, or the whole chain but serial, times and signature, are istiod's."""
    no_secrets.register(recorded_tokens()[call.token])
    try:
        answer = _replay(server, call)
    except grpc.RpcError as refusal:
        told = cast("grpc.Call", refusal)
        assert (told.code().name, told.details()) == (call.status, call.details)
    else:
        assert call.status == "OK"
        ours, theirs = (
            [x509.load_pem_x509_certificate(pem.encode()) for pem in chain]
            for chain in (answer.cert_chain, call.chain)
        )
        assert _told(ours[0]) == _told(theirs[0])
        assert ours[0].serial_number != theirs[0].serial_number
        assert list(answer.cert_chain[1:]) == list(call.chain[1:])
    no_secrets.saw(server.said)
