"""Fakes of the pipeline's ports: tests change their world, not their calls.

`FakeAuthenticator` proves whoever the token names; `FakeSigner` is a real P-256
CA in memory; `MemoryInventory` keeps rows in a list. Each misbehaves when told.
"""

import asyncio
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from meshsigner.errors import (
    ImpersonationRefused,
    MeshsignerError,
    RecordFailed,
    Unauthenticated,
)
from meshsigner.model import (
    Ask,
    AuthMethod,
    Caller,
    Capabilities,
    Chain,
    Credentials,
    Health,
    Intent,
    Issuer,
    KeyAlgorithm,
    Lifetimes,
    Order,
    Record,
    TrustBundle,
)
from meshsigner.policy import Policy
from meshsigner.ports import Parked
from meshsigner.profile import Template
from meshsigner.spiffe import TrustDomain, WorkloadId

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
TRUST_DOMAIN = TrustDomain.parse("cluster.local")
CaKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make_policy(*, clamp: bool = False) -> Policy:
    """Istio's defaults."""
    return Policy(
        trust_domains=frozenset({TRUST_DOMAIN}),
        lifetimes=Lifetimes(
            default=timedelta(hours=24),
            maximum=timedelta(days=90),
            clamp=clamp,
            backdate=timedelta(minutes=2),
        ),
        key_algorithms=frozenset({KeyAlgorithm.RSA, KeyAlgorithm.P256, KeyAlgorithm.P384}),
    )


def make_ca_certificate(
    key: CaKey,
    name: str,
    *,
    signed_by: tuple[x509.Certificate, CaKey] | None = None,
    not_after: datetime = NOW + timedelta(days=365),
    path_length: int | None = None,
    ca: bool = True,
    with_key_id: bool = True,
) -> x509.Certificate:
    """Make a CA certificate, self-signed unless told."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, name)])
    issuer = subject if signed_by is None else signed_by[0].subject
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(not_after)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
    )
    if with_key_id:
        key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        builder = builder.add_extension(key_id, critical=False)
    signing_key = key if signed_by is None else signed_by[1]
    return builder.sign(signing_key, hashes.SHA256())


def make_issuer(
    certificate: x509.Certificate,
    *,
    intermediates: tuple[x509.Certificate, ...] = (),
    roots: tuple[x509.Certificate, ...] | None = None,
    generation: int = 1,
) -> Issuer:
    """Put a CA certificate and what stands above it together."""
    roots = (certificate,) if roots is None else roots
    pem = "".join(root.public_bytes(Encoding.PEM).decode() for root in roots)
    return Issuer(
        certificate=certificate,
        intermediates=intermediates,
        trust_bundle=TrustBundle(certificates=roots, pem=pem),
        chain_pem=tuple(c.public_bytes(Encoding.PEM).decode() for c in intermediates),
        generation=generation,
    )


def make_caller(namespace: str = "foo", service_account: str = "bar", pod: str = "") -> Caller:
    """Prove a workload of the local cluster."""
    return Caller(
        identity=WorkloadId.of(TRUST_DOMAIN, namespace, service_account),
        cluster="Kubernetes",
        auth_method=AuthMethod.JWT,
        credential_id=f"jti-{pod}",
        pod_name=pod,
        pod_uid=f"uid-{pod}" if pod else "",
    )


def make_csr(key: CaKey, *uris: str, subject: x509.Name | None = None) -> bytes:
    """Make a CSR as istio-agent does: `O=""`, one critical SAN."""
    empty = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "x")
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or x509.Name([empty]))
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(u) for u in uris])
        builder = builder.add_extension(names, critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


class FakeAuthenticator:
    """Takes `<namespace>/<service account>[/<pod>]` for a token.

    Attributes:
        unknown: Tokens that must be fetched before they are known.
        fetches: How often each was fetched.
        error: Raised by every fetch, when set.
        gate: Fetches wait for it.
        stubborn: Fetches change nothing.
        stages: What must be fetched for an unknown token, one after the other.
    """

    def __init__(self) -> None:
        self.unknown: set[str] = set()
        self.fetches: list[str] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.stubborn = False
        self.stages = [""]

    def identify(self, credentials: Credentials, now: datetime) -> Caller | Parked:
        """Prove the caller named by the token."""
        del now
        token = credentials.bearer_token
        if not token or token.count("/") not in {1, 2}:
            msg = "not a token of this fake"
            raise Unauthenticated(msg)
        if token in self.unknown:
            key = ("Kubernetes", token, self.stages[0])
            return Parked(key=key, fetch=lambda: self._fetch(token))
        namespace, service_account, *pod = token.split("/")
        return make_caller(namespace, service_account, *pod)

    async def _fetch(self, token: str) -> None:
        self.fetches.append(token)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if len(self.stages) > 1:
            self.stages.pop(0)
        elif not self.stubborn:
            self.unknown.discard(token)

    def health(self) -> Sequence[Health]:
        """Be ready."""
        return (Health(name="authn/fake", ready=True, detail="fake"),)


class FakeNodes:
    """Lets every agent act for the workloads that a test names.

    Attributes:
        there: Identities on the agents' node.
        coming: Identities that are there once somebody has looked.
        looks: How often somebody has looked.
        stubborn: Asks for a look again and again.
        on_look: What happens during a look.
    """

    def __init__(self, *there: str) -> None:
        self.there = set(there)
        self.coming: set[str] = set()
        self.looks = 0
        self.stubborn = False
        self.on_look: Callable[[], object] = lambda: None

    def authorize(
        self, caller: Caller, impersonated: str, now: datetime, *, looked: bool
    ) -> WorkloadId | Parked:
        """Find the identity, or ask for a look."""
        del now
        if impersonated in self.there:
            return WorkloadId.parse(impersonated)
        if looked and not self.stubborn:
            msg = "no pod of it on the node"
            raise ImpersonationRefused(msg)
        return Parked(key=(caller.cluster, "node", self.looks), fetch=self._look)

    async def _look(self) -> None:
        self.looks += not self.stubborn
        self.on_look()
        self.there |= self.coming

    def health(self) -> Sequence[Health]:
        """Be ready."""
        return (Health(name="nodes/fake", ready=True, detail="fake"),)


class FakeSigner:
    """A CA in memory.

    Attributes:
        signed: Every order signed, in order.
        errors: Raised in turn before signing, by service account.
        swap: When set, answers with another order's certificate.
        bug: Raised as it is, when set.
        twice: Says of its signatures that they were computed twice.
        broken: Signs with another key from so many orders on.
    """

    capabilities = Capabilities(builds_x509=False)

    def __init__(
        self,
        key: CaKey | None = None,
        *,
        not_after: datetime | None = None,
        name: str = "fake",
    ) -> None:
        self.name = name
        self.announced: Sequence[x509.Certificate] = ()
        self.started = self.closed = False
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        end = not_after or NOW + timedelta(days=365)
        self.current = make_issuer(make_ca_certificate(self.key, "test root", not_after=end))
        self.signed: list[Order] = []
        self.errors: dict[str, MeshsignerError] = {}
        self.swap: Order | None = None
        self.bug: Exception | None = None
        self.twice = False
        self.broken: int | None = None

    def issuer(self, now: datetime) -> Issuer:
        """Return the one issuer."""
        del now
        return self.current

    def sign(self, order: Order) -> Chain:
        """Sign, unless told otherwise."""
        if self.bug is not None:
            raise self.bug
        error = self.errors.get(order.caller.identity.service_account)
        if error is not None:
            raise error
        self.signed.append(order)
        serial = secrets.randbits(127) | 1 << 126
        template = Template.of(self.current)
        tbs = template.build_tbs(self.swap or order, serial)
        if isinstance(self.key, rsa.RSAPrivateKey):
            signature = self.key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
        else:
            algorithm = ec.ECDSA(
                hashes.SHA384() if self.key.curve.name == "secp384r1" else hashes.SHA256()
            )
            key = self.key
            if self.broken is not None and len(self.signed) > self.broken:
                key = ec.generate_private_key(self.key.curve)
            signature = key.sign(tbs, algorithm)
        return Chain(
            leaf_der=template.assemble(tbs, signature),
            issuer=self.current,
            serial=serial,
            backend=self.name,
            signed_twice=self.twice,
        )

    async def start(self) -> None:
        """Be started."""
        self.started = True

    async def aclose(self) -> None:
        """Be closed."""
        self.closed = True

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        """Keep them."""
        self.announced = roots

    def health(self, now: datetime) -> Health:
        """Be ready."""
        del now
        return Health(name=f"signer/{self.name}", ready=True, detail="fake")


class MemoryInventory:
    """Rows in a list.

    Attributes:
        rows: What was written, in order.
        undelivered: Serials noted as such.
        commits: Rows of each commit.
        fault: Raised by every call, when set.
        gate: Writes wait for it, in the recorder's thread.
        intents: Those that are open, by token.
        noted: Every intent that was ever noted, in order.
    """

    def __init__(self) -> None:
        self.rows: list[Record] = []
        self.undelivered: list[str] = []
        self.commits: list[int] = []
        self.intents: dict[str, Intent] = {}
        self.noted: list[Intent] = []
        self.fault: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def write(self, records: Sequence[Record], undelivered: Sequence[str]) -> None:
        """Keep rows."""
        self.gate.wait(timeout=10)
        if self.fault is not None:
            raise self.fault
        self.rows += records
        self.undelivered += undelivered
        self.commits.append(len(records))

    def note(self, intents: Sequence[Intent], settled: Sequence[str]) -> None:
        """Keep intents."""
        if self.fault is not None:
            raise self.fault
        for intent in intents:
            self.intents[intent.token] = intent
        self.noted += intents
        for token in settled:
            self.intents.pop(token, None)

    def open_intents(self) -> Sequence[Intent]:
        """Return what is not settled and has no row."""
        rows = {(row.identity, row.csr_sha256) for row in self.rows}
        return [
            intent
            for intent in self.intents.values()
            if (intent.draft.identity, intent.draft.csr_sha256) not in rows
        ]

    def probe(self) -> None:
        """Fail when told."""
        if isinstance(self.fault, RecordFailed):
            raise self.fault

    def health(self) -> Health:
        """Be ready."""
        return Health(name="inventory", ready=True, detail="in memory")

    def close(self) -> None:
        """Be closed."""
        self.closed = True


@dataclass(slots=True, kw_only=True, eq=False)
class FakeCall:
    """A call as an edge would hold it; its answer is the chain itself."""

    credentials: Credentials
    csr_pem: bytes
    deadline_s: float
    asked_lifetime: timedelta | None = timedelta(hours=24)
    line: dict[str, object] = field(default_factory=dict)
    size_bytes: int = 4_096

    def read(self) -> Ask:
        """Say what it says."""
        return Ask(
            credentials=self.credentials,
            csr_pem=self.csr_pem,
            asked_lifetime=self.asked_lifetime,
        )

    def render(self, chain: Chain) -> Chain:
        """Be content with the chain."""
        return chain


def make_ask(token: str, csr_pem: bytes, *, deadline_s: float | None = None) -> FakeCall:
    """Make a call as `rpc` would, with ten seconds to live."""
    return FakeCall(
        credentials=Credentials(bearer_token=token, cluster_id="", peer="ipv4:127.0.0.1:1"),
        csr_pem=csr_pem,
        deadline_s=deadline_s or asyncio.get_running_loop().time() + 10,
    )
