"""A meshsigner whose backend is an OpenBao, run by its command, and callers over gRPC."""

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshsigner._proto.istio.v1.auth.ca_pb2 import (
    IstioCertificateRequest,
    IstioCertificateResponse,
)
from meshsigner.cli.dev_tokens import ISSUER, TokenIssuer, TokenWish
from tests.conformance.kubernetes.processes import Program
from tests.conformance.openbao.backend import utc_now
from tests.conformance.server import free_address
from tests.fakes.authority import make_key
from tests.fakes.pipeline import make_csr
from tests.fakes.serving_tls import TestRoots

METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
NAME = "istiod.istio-system.svc"
START_TIMEOUT_S = 60.0
IDENTITIES = 40  # with a key each; more would only cost time
LIFETIME_S = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Who asks."""

    identity: str
    token: str
    csr: str
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of a call.

    Attributes:
        workload: Who asked.
        sent_s: When, seconds of the monotonic clock.
        took_s: How long it took.
        code: Its status.
        text: What the caller was told.
        chain: PEM, leaf first; empty where there is none.
    """

    workload: Workload
    sent_s: float
    took_s: float
    code: grpc.StatusCode
    text: str = ""
    chain: tuple[str, ...] = ()

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate."""
        return x509.load_pem_x509_certificate(self.chain[0].encode())

    def faults(self, roots: Sequence[x509.Certificate]) -> list[str]:
        """Name everything in which an issued chain is not what this caller may have."""
        leaf = self.leaf
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        key = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        chain = [x509.load_pem_x509_certificate(pem.encode()) for pem in self.chain]
        found = []
        if list(names) != [x509.UniformResourceIdentifier(self.workload.identity)]:
            found.append("another identity")
        if key != self.workload.public_key:
            found.append("another key")
        if chain[-1] not in roots:
            found.append("another root")
        for below, above in itertools.pairwise(chain):
            below.verify_directly_issued_by(above)
        if any(above.not_valid_after_utc < leaf.not_valid_after_utc for above in chain[1:]):
            found.append("outlives its issuer")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server that answers.

    Attributes:
        folder: Its files.
        listen: host:port.
        admin: host:port.
        program: Its supervisor.
        workloads: Who may ask.
        channels: Connections to it.
    """

    folder: Path
    listen: str
    admin: str
    program: Program
    workloads: Sequence[Workload]
    channels: Sequence[grpc.aio.Channel]

    async def ask(self, number: int = 0) -> Answer:
        """Ask for a certificate as istio-agent does, without a deadline."""
        workload = self.workloads[number % len(self.workloads)]
        create = self.channels[number % len(self.channels)].unary_unary(
            METHOD,
            request_serializer=IstioCertificateRequest.SerializeToString,
            response_deserializer=IstioCertificateResponse.FromString,
        )
        metadata = (("authorization", f"Bearer {workload.token}"), ("clusterid", "Kubernetes"))
        request = IstioCertificateRequest(csr=workload.csr, validity_duration=LIFETIME_S)
        sent_s = time.monotonic()
        code, text, chain = grpc.StatusCode.OK, "", ()
        try:
            response = await create(request, metadata=metadata)
            chain = tuple(response.cert_chain)
        except grpc.aio.AioRpcError as error:
            code, text = error.code(), error.details() or ""
        return Answer(
            workload=workload,
            sent_s=sent_s,
            took_s=time.monotonic() - sent_s,
            code=code,
            text=text,
            chain=chain,
        )

    def recorded(self) -> dict[int, Mapping[str, Any]]:
        """Return the inventory's rows by serial number."""
        done = _run("inventory", "list", "--config", self.configuration, "--json", "--certificates")
        return {int(row["serial"], 16): row for row in json.loads(done)}

    @property
    def configuration(self) -> Path:
        """Its configuration's file."""
        return self.folder / "meshsigner.yaml"

    @property
    def log(self) -> str:
        """What it wrote."""
        return self.program.log.read_text()

    def ready(self) -> bool:
        """Ask its readiness probe."""
        return _is_ready(self.admin)

    def metrics(self) -> str:
        """Return its figures."""
        return _get(self.admin, "/metrics")[1]


@contextlib.asynccontextmanager
async def served(
    folder: Path, backends: Mapping[str, Mapping[str, Any]], *, workers: int = 1
) -> AsyncIterator[Served]:
    """Have a server for the length of a block.

    Args:
        folder: Gets its files.
        backends: Section of its configuration.
        workers: How many.
    """
    os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - of a test, at once
    listen = free_address()
    admin = free_address(besides=listen)
    roots, tokens = TestRoots(), TokenIssuer.load_or_create(folder / "key", folder / "jwks.json")
    _write_configuration(folder, roots, listen, admin, {"backends": backends, "workers": workers})
    command = (sys.executable, "-m", "meshsigner", "serve", "--config", folder / "meshsigner.yaml")
    program = Program(command=tuple(map(str, command)), log=folder / "log")
    await asyncio.to_thread(program.start, lambda: _is_ready(admin), timeout_s=START_TIMEOUT_S)
    credentials = grpc.ssl_channel_credentials(roots.pem)
    options = (("grpc.ssl_target_name_override", NAME), ("grpc.use_local_subchannel_pool", 1))
    channels = [grpc.aio.secure_channel(listen, credentials, options) for _ in range(4)]
    try:
        yield Served(
            folder=folder,
            listen=listen,
            admin=admin,
            program=program,
            workloads=[_workload(tokens, number) for number in range(IDENTITIES)],
            channels=channels,
        )
    finally:
        await asyncio.gather(*(channel.close(None) for channel in channels))
        await asyncio.to_thread(program.stop)


def _write_configuration(
    folder: Path, roots: TestRoots, listen: str, admin: str, more: Mapping[str, Any]
) -> None:
    identity = roots.issue(NAME, "127.0.0.1")
    (folder / "tls.crt").write_bytes(identity.certificate)
    (folder / "tls.key").write_bytes(identity.key)
    (folder / "tls.key").chmod(0o600)
    tokens = {
        "type": "jwks",
        "issuer": ISSUER,
        "jwks_file": str(folder / "jwks.json"),
        "algorithms": ["RS256"],
    }
    tls = {
        "type": "files",
        "certificate": str(folder / "tls.crt"),
        "key": str(folder / "tls.key"),
    }
    document = {
        "trust_domain": "cluster.local",
        "clusters": [{"id": "Kubernetes", "local": True, "authenticators": [tokens]}],
        "listen": {"address": listen, "tls": tls},
        "admin": {"address": admin},
        "inventory": {"path": str(folder / "inventory.db")},
        **more,
    }
    (folder / "meshsigner.yaml").write_text(yaml.safe_dump(document))


def _workload(tokens: TokenIssuer, number: int) -> Workload:
    account = f"sa-{number}"
    identity = f"spiffe://cluster.local/ns/foo/sa/{account}"
    wish = TokenWish(
        namespace="foo",
        service_account=account,
        audiences=("istio-ca",),
        lifetime=timedelta(hours=1),
        pod=f"{account}-0",
    )
    key = make_key("p256", 2_000 + number)
    return Workload(
        identity=identity,
        token=tokens.issue(wish, utc_now()),
        csr=make_csr(key, identity, subject=x509.Name([])).decode(),
        public_key=key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    )


def _run(*arguments: object) -> str:
    command = [sys.executable, "-m", "meshsigner", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def _get(address: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address, timeout=2.0)
    with contextlib.closing(connection):
        connection.request("GET", path)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()


def _is_ready(admin: str) -> bool:
    try:
        return _get(admin, "/healthz/ready")[0] == http.HTTPStatus.OK
    except OSError:
        return False
