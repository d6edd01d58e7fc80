"""Remote backends behind a real gRPC server: a slow CA, a substitute, a quota spent once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from meshsigner._proto.istio.v1.auth.ca_pb2 import IstioCertificateRequest
from meshsigner.model import BackendLimits, Capabilities
from meshsigner.observe.logs import LineWriter, LogFormat, configure
from meshsigner.ports import Signer
from meshsigner.rpc.limits import Limits
from meshsigner.rpc.server import RpcServer
from tests.fakes.pipeline import FakeSigner, make_csr
from tests.fakes.remote_ca import FakeRemote, Quota
from tests.fakes.signing_world import CSR, SigningWorld, signing_world
from tests.secret_scan import Secrets
from tests.wire.harness import Refused, Wire

# What Istio's agent tries again.
RETRIED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.ABORTED,
}


class _RealWire(Wire):
    """A server with the real pipeline behind it."""

    def serve(self, world: SigningWorld) -> None:
        """Put the pipeline behind the port."""
        self.server = RpcServer(
            world.issuance,
            listen="127.0.0.1:0",
            certificate=self.certificate,
            readiness=self.readiness,
            metrics=self.metrics,
            lines=LineWriter(
                configure(LogFormat.JSON, write=self._write),
                write=self._write,
                lost=self.metrics.lines_lost,
            ),
            limits=Limits(),
        )


@asynccontextmanager
async def _wired(
    folder: Path, secrets: Secrets, *backends: Signer
) -> AsyncIterator[tuple[_RealWire, SigningWorld]]:
    async with signing_world(*backends) as world:
        wire = _RealWire(folder, Limits(), secrets)
        wire.serve(world)
        await wire.server.start()
        try:
            yield wire, world
        finally:
            await wire.server.drain(grace_s=0.5)
            wire.saw_everything()


def _request(csr_pem: bytes = CSR) -> IstioCertificateRequest:
    return IstioCertificateRequest(csr=csr_pem.decode(), validity_duration=86_400)


def _token(number: int) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer foo/sa{number}/pod{number}"),)


async def test_a_slow_ca_with_a_substitute_fails_nobody(
    tmp_path: Path, no_secrets: Secrets
) -> None:
    """100 callers at a CA of one certificate a second are all answered, most by the substitute."""
    slow = FakeRemote("slow", limits=BackendLimits(batch=1, in_flight=1, rate_per_s=1))
    slow.quota = Quota(per_s=1)
    async with _wired(tmp_path, no_secrets, slow, FakeSigner(name="fast")) as (wire, world):
        async with wire.channel() as channel:
            loop = asyncio.get_running_loop()
            began_s = loop.time()
            answers = await asyncio.gather(
                *(wire.call(channel, _request(), _token(n), timeout_s=11) for n in range(100))
            )
            assert loop.time() - began_s < 10
        assert not [answer for answer in answers if isinstance(answer, Refused)]
        by = [row.backend for row in world.inventory.rows]
        assert 1 <= by.count("slow") <= 10
        assert by.count("fast") >= 90


async def test_a_slow_ca_alone_answers_everybody_within_ten_seconds(
    tmp_path: Path, no_secrets: Secrets
) -> None:
    """Without a substitute whoever gets none is told in time, with a code that agents retry."""
    slow = FakeRemote("slow", limits=BackendLimits(batch=1, in_flight=1, rate_per_s=1))
    async with _wired(tmp_path, no_secrets, slow) as (wire, _), wire.channel() as channel:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        answers = await asyncio.gather(
            *(wire.call(channel, _request(), _token(n), timeout_s=12) for n in range(40))
        )
        assert loop.time() - began_s < 10.6
        refused = [answer for answer in answers if isinstance(answer, Refused)]
        assert {answer.code for answer in refused} <= RETRIED
        assert 5 <= len(answers) - len(refused) <= 12


async def test_an_agent_that_calls_again_with_its_csr_costs_one_certificate(
    tmp_path: Path, no_secrets: Secrets
) -> None:
    """A CA that issues and does not answer in time issues once, however often the agent asks."""
    quota = Capabilities(builds_x509=True, idempotent=True, intents=True)
    costly = FakeRemote(
        "costly", capabilities=quota, limits=BackendLimits(batch=1, in_flight=2, call_s=0.3)
    )
    costly.delay_s = 1.0  # it has issued, and answers too late
    async with _wired(tmp_path, no_secrets, costly) as (wire, world), wire.channel() as channel:
        codes = []
        answer: list[str] | Refused = []
        for _ in range(3):  # the agent's attempts: the same CSR, 100 to 400 ms apart
            answer = await wire.call(channel, _request(), _token(1), timeout_s=0.8)
            assert isinstance(answer, Refused)
            codes.append(answer.code)
            await asyncio.sleep(0.2)
        costly.delay_s = 0.0
        async with asyncio.timeout(8):  # the CA may be left alone for a moment by now
            while isinstance(answer, Refused):
                await asyncio.sleep(0.2)
                answer = await wire.call(channel, _request(), _token(1))
        assert len(costly.issued) == 1
        (chain,) = costly.issued.values()
        assert isinstance(answer, list)
        leaf = x509.load_pem_x509_certificate(answer[0].encode())
        assert leaf.serial_number == chain.serial
        assert [row.serial for row in world.inventory.rows] == [f"{chain.serial:x}"]
        assert set(codes) <= {*RETRIED, grpc.StatusCode.DEADLINE_EXCEEDED}


async def test_a_lying_backend_is_unavailable_on_the_wire(
    tmp_path: Path, no_secrets: Secrets
) -> None:
    """What fails its check is UNAVAILABLE with a fixed text, and the line names the backend."""
    liar = FakeRemote("liar")
    liar.adversary = lambda chains, _: [replace(c, leaf_der=c.leaf_der[:-9]) for c in chains]
    async with _wired(tmp_path, no_secrets, liar) as (wire, world), wire.channel() as channel:
        answer = await wire.call(channel, _request(), _token(1))
        text = "the certificate failed its check"
        assert answer == Refused(code=grpc.StatusCode.UNAVAILABLE, text=text)
        assert world.sample("meshsigner_wrong_certificates_total", backend="liar") == 1


async def test_an_unknown_signer_is_refused_by_name_on_the_wire(
    tmp_path: Path, no_secrets: Secrets
) -> None:
    """A CertSigner that no rule has is INVALID_ARGUMENT, which no agent repeats, with the name."""
    async with _wired(tmp_path, no_secrets, FakeSigner()) as (wire, _), wire.channel() as channel:
        request = _request(make_csr(ec.generate_private_key(ec.SECP256R1())))
        request.metadata.update({"CertSigner": "silver"})
        answer = await wire.call(channel, request, _token(1))
        code = grpc.StatusCode.INVALID_ARGUMENT
        assert answer == Refused(code=code, text="no such signer: 'silver'")
