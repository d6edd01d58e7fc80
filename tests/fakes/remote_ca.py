"""A remote backend in memory: a CA with a quota, tokens, lost answers, and bad habits.

`FakeRemote` is honest; an adversary is a function that is given its honest
answers with the errands they belong to, and returns what it answers instead.
`forge` makes leaves that differ from their order in one named way.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from meshsigner.errors import BackendUnavailable, MeshsignerError, NotReady, Overloaded
from meshsigner.model import BackendLimits, Capabilities, Chain, Errand, Health, Issuer
from tests.fakes.pipeline import NOW, FakeSigner, make_ca_certificate, make_issuer

Answers = Sequence[Chain | MeshsignerError]
Adversary = Callable[[list[Chain], Sequence[Errand]], Answers]


@dataclass(slots=True)
class Quota:
    """A CA's own throttle: so many certificates a second.

    Attributes:
        per_s: The quota.
        refused: How often it was met.
    """

    per_s: float
    refused: int = 0
    _granted: list[float] = field(default_factory=list)

    def take(self, count: int) -> bool:
        """Take from the quota, or refuse."""
        now_s = asyncio.get_running_loop().time()
        self._granted = [at for at in self._granted if now_s - at < 1 / min(self.per_s, 1.0)]
        if len(self._granted) + count > max(1, int(self.per_s)):
            self.refused += 1
            return False
        self._granted += [now_s] * count
        return True


class FakeRemote:
    """A backend whose `sign` is awaited.

    Attributes:
        errands: Every errand that ever came, in order.
        calls: Errands of each call.
        issued: What was issued, by token.
        looked_up: Tokens that `find` was called with.
        faults: Raised in turn by calls, before anything is issued.
        lost: So many next answers are lost after the certificates were issued.
        delay_s: How long a call takes.
        gate: Calls wait for it; open at first.
        adversary: Changes the answers.
        bug: Raised as it is, when set.
        quota: Its own throttle.
        ready: What its health says.
        blind: `find` does not answer while it is set.
        known: False while it has not learnt its issuer.
        most_in_flight: The most calls there ever were at once.
        cancelled: Calls that were given up.
    """

    def __init__(
        self,
        name: str = "remote",
        *,
        limits: BackendLimits | None = None,
        capabilities: Capabilities | None = None,
        not_after: datetime | None = None,
    ) -> None:
        self.name = name
        self.limits = limits or BackendLimits(batch=1, in_flight=8, call_s=2.0)
        self.capabilities = capabilities or Capabilities(builds_x509=True)
        self.signer = FakeSigner(not_after=not_after, name=name)
        self.errands: list[Errand] = []
        self.calls: list[int] = []
        self.issued: dict[str, Chain] = {}
        self.looked_up: list[str] = []
        self.faults: list[Exception] = []
        self.lost = 0
        self.delay_s = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.adversary: Adversary | None = None
        self.bug: Exception | None = None
        self.quota: Quota | None = None
        self.ready = True
        self.blind = False
        self.known = True
        self.in_flight = self.most_in_flight = self.cancelled = 0
        self.started = self.closed = False
        self.announced: Sequence[x509.Certificate] = ()

    async def start(self) -> None:
        """Be started."""
        self.started = True

    async def aclose(self) -> None:
        """Be closed."""
        self.closed = True

    def issuer(self, now: datetime) -> Issuer:
        """Return its issuer, once known."""
        if not self.known:
            raise NotReady("the issuer is not known yet")
        return self.signer.issuer(now)

    def announce(self, roots: Sequence[x509.Certificate]) -> None:
        """Keep them."""
        self.announced = roots

    def health(self, now: datetime) -> Health:
        """Say what the test wants."""
        del now
        return Health(name=f"backend/{self.name}", ready=self.ready, detail="as told")

    async def sign(self, errands: Sequence[Errand], deadline_s: float) -> Answers:
        """Sign, as told."""
        del deadline_s
        assert len(errands) <= self.limits.batch
        self.errands += errands
        self.calls.append(len(errands))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._sign(errands)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    async def _sign(self, errands: Sequence[Errand]) -> Answers:
        await self.gate.wait()
        if self.bug is not None:
            raise self.bug
        if self.faults:
            raise self.faults.pop(0)
        if self.quota is not None and not self.quota.take(len(errands)):
            raise Overloaded("the quota of the CA")
        chains = [self._issue(errand) for errand in errands]
        if self.lost:
            self.lost -= 1
            raise BackendUnavailable("connection lost", maybe_issued=True)
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return chains if self.adversary is None else self.adversary(chains, errands)

    def _issue(self, errand: Errand) -> Chain:
        """Issue; the same certificate again for a token that is known."""
        known = self.issued.get(errand.token) if self.capabilities.idempotent else None
        if known is None:
            known = self.signer.sign(errand.order)
            self.issued[errand.token] = known
        return known

    async def find(self, errand: Errand, deadline_s: float) -> Chain | None:
        """Find what was issued under a token."""
        del deadline_s
        self.looked_up.append(errand.token)
        await self.gate.wait()
        if self.blind:
            raise BackendUnavailable("the CA is away")
        return self.issued.get(errand.token)

    @property
    def issuer_now(self) -> Issuer:
        """Its issuer."""
        return self.signer.current


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgery:
    """How a leaf differs from its order; the defaults make an honest one."""

    uri: str | None = ""
    dns_name: str = ""
    critical_san: bool = True
    key: ec.EllipticCurvePublicKey | None = None
    before: timedelta = timedelta()
    after: timedelta = timedelta()
    is_ca: bool = False
    client_auth: bool = True
    digital_signature: bool = True
    common_name: str = ""
    signing_key: ec.EllipticCurvePrivateKey | None = None
    extra: bool = False


def forge(chain: Chain, errand: Errand, key: ec.EllipticCurvePrivateKey, how: Forgery) -> Chain:
    """Make another leaf for an errand.

    Args:
        chain: The honest answer.
        errand: What was asked.
        key: The issuer's.
        how: In what it differs.
    """
    terms, issuer = errand.order.terms, chain.issuer.certificate
    names: list[x509.GeneralName] = []
    if how.uri is not None:
        names.append(x509.UniformResourceIdentifier(how.uri or terms.identity.uri))
    if how.dns_name:
        names.append(x509.DNSName(how.dns_name))
    subject = x509.Name([])
    if how.common_name:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, how.common_name)])
    asked = serialization.load_der_public_key(errand.order.request.public_key.spki_der)
    assert isinstance(asked, ec.EllipticCurvePublicKey)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH]
    usages += [ExtendedKeyUsageOID.CLIENT_AUTH] if how.client_auth else []
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .serial_number(secrets.randbits(127) | 1 << 126)
        .not_valid_before(terms.not_before + how.before)
        .not_valid_after(terms.not_after + how.after)
        .public_key(how.key or asked)
        .add_extension(_usage(digital_signature=how.digital_signature), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.BasicConstraints(ca=how.is_ca, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)  # noqa: FBT003
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(names), critical=how.critical_san
        )
    if how.extra:
        oid = x509.ObjectIdentifier("1.3.6.1.4.1.55555.1")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, b"\x05\x00"), False)  # noqa: FBT003
    leaf = builder.sign(how.signing_key or key, hashes.SHA256())
    return replace(
        chain,
        leaf_der=leaf.public_bytes(serialization.Encoding.DER),
        serial=leaf.serial_number,
    )


def _usage(*, digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def other_issuer(name: str = "other root") -> Issuer:
    """Return an issuer that nobody announced."""
    key = ec.generate_private_key(ec.SECP256R1())
    return make_issuer(make_ca_certificate(key, name, not_after=NOW + timedelta(days=365)))
