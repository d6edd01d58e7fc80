"""The words of the service: what travels between its stages.

Values only, each valid once it exists; no stage changes one. Who makes and
who reads a value stands in its docstring, in the order of a request's way.
Times are UTC-aware `datetime`s, lifetimes `timedelta`s.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509

from meshsigner.spiffe import WorkloadId

MAX_CSR_BYTES = 16_384  # a PEM request with an RSA-4096 key has about 1,800


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a caller showed, untrusted; made by `rpc`, read by `authn`.

    Attributes:
        bearer_token: The first `authorization` value behind the exact prefix `Bearer `, or None.
        cluster_id: The `clusterid` header; empty when absent or sent more than once (istiod).
        impersonated_identity: Metadata key `ImpersonatedIdentity`, empty when absent.
        cert_signer: Metadata key `CertSigner`, empty when absent.
        peer: The client's address as gRPC names it.
        secure: True when the transport is TLS, or a proxy's own Unix socket.
        peer_chain_pem: Whose key TLS proved the peer to have, leaf first; empty when not asked.
        forwarded: Values of `x-forwarded-client-cert` where a proxy is believed; None elsewhere.
    """

    bearer_token: str | None = field(repr=False)
    cluster_id: str = ""
    impersonated_identity: str = ""
    cert_signer: str = ""
    peer: str = ""
    secure: bool = True
    peer_chain_pem: bytes = field(default=b"", repr=False)
    forwarded: tuple[str, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ask:
    """What one call says, off the wire; made by `rpc`, consumed by `issuance`.

    Attributes:
        credentials: What the caller showed.
        csr_pem: The CSR, size already bounded, otherwise untouched.
        asked_lifetime: Wish of the caller; None asks for the default.
    """

    credentials: Credentials
    csr_pem: bytes
    asked_lifetime: timedelta | None


class AuthMethod(StrEnum):
    """How a caller was proven."""

    TOKEN_REVIEW = "token_review"  # noqa: S105 - the name of a method, no secret
    JWT = "jwt"
    CLIENT_CERTIFICATE = "client_certificate"
    FORWARDED_CERTIFICATE = "forwarded_certificate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A proven caller; made by `authn` alone, from a verified credential alone.

    Attributes:
        identity: Who this is.
        cluster: Id of the configured cluster that vouches for it; empty for a certificate.
        auth_method: How it was proven.
        credential_id: The token's `jti`, empty when it has none; a certificate's serial, hex.
        pod_name: The pod that the token is bound to, empty when not bound.
        pod_uid: That pod's UID.
        node_name: The node of that pod, empty while unknown.
    """

    identity: WorkloadId
    cluster: str
    auth_method: AuthMethod
    credential_id: str = ""
    pod_name: str = ""
    pod_uid: str = ""
    node_name: str = ""


class KeyAlgorithm(StrEnum):
    """A kind of public key that a CSR may carry."""

    RSA = "rsa"
    P256 = "p256"
    P384 = "p384"
    ED25519 = "ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A caller's public key; made by `csr`.

    Attributes:
        algorithm: Its kind.
        bits: Modulus or field size in bits.
        spki_der: SubjectPublicKeyInfo, canonical DER (RFC 5280 4.1.2.7).
        sha256: Digest of `spki_der`.
    """

    algorithm: KeyAlgorithm
    bits: int
    spki_der: bytes
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """A CSR that was read and is signed by its own key; made by `csr`, read by `policy`.

    Attributes:
        public_key: All that will survive into the certificate.
        uri_sans: URI names asked for, in order.
        other_sans: How many names of other kinds were asked for.
        wants_common_name: The subject holds a common name (its text is dropped).
        csr_sha256: Digest of the request's DER.
    """

    public_key: PublicKey
    uri_sans: tuple[str, ...]
    other_sans: int
    wants_common_name: bool
    csr_sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The decision: what will be certified; made by `policy` alone.

    Attributes:
        identity: Becomes the one URI SAN.
        common_name: Becomes the subject's CN; None leaves the subject empty.
        not_before: First second of validity.
        not_after: Last second of validity, never past the issuer's.
        policy_generation: Which policy decided.
    """

    identity: WorkloadId
    common_name: str | None
    not_before: datetime
    not_after: datetime
    policy_generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustBundle:
    """The mesh's trust anchors.

    Attributes:
        certificates: Every root, the active one first.
        pem: The bundle as it is handed out: PEM, one newline at the end of each.
        announced: Those of them that only other backends' issuers have.
    """

    certificates: tuple[x509.Certificate, ...]
    pem: str
    announced: tuple[x509.Certificate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Issuer:
    """A CA certificate that signs leaves, with all that stands above it; made by `trust`.

    Compared by object: a reload makes a new one, and what was derived from the
    old one is forgotten with it.

    Attributes:
        certificate: The CA certificate.
        intermediates: From the issuer of leaves, unless it is a root, towards the root, excluded.
        trust_bundle: What the chain ends in.
        chain_pem: PEM of each intermediate: elements 1 to n-2 of an answer.
        generation: Counts reloads.
        not_after: First end on the path, the active root included: no leaf verifies after it.
    """

    certificate: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]
    trust_bundle: TrustBundle
    chain_pem: tuple[str, ...]
    generation: int
    not_after: datetime = field(init=False)

    def __post_init__(self) -> None:
        """Find the first end on the path."""
        path = (self.certificate, *self.intermediates, *self.trust_bundle.certificates[:1])
        object.__setattr__(self, "not_after", min(c.not_valid_after_utc for c in path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One certificate to be signed; made by `issuance`, read by signers and `verify`.

    Attributes:
        caller: Who asked.
        request: What was asked.
        terms: What was decided.
        cert_signer: Which backend was asked for, empty for the default.
        issuer: The issuer whose lifetime the terms respect.
        peer: The client's address, for the record.
        csr_pem: The CSR as it came, for a remote CA that wants one.
    """

    caller: Caller
    request: CertificateRequest
    terms: Terms
    cert_signer: str
    issuer: Issuer
    peer: str
    csr_pem: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """An answer: a leaf and what it chains to; made by `signing`, passed by `verify`.

    Attributes:
        leaf_der: The certificate.
        issuer: What signed it, with intermediates and roots.
        serial: The leaf's serial number.
        backend: Name of the backend that signed.
        signed_twice: Its signature was computed twice, alike: if wrong, by a fault that lasts.
    """

    leaf_der: bytes
    issuer: Issuer
    serial: int
    backend: str
    signed_twice: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Leeway:
    """How far a backend's answer may differ from its order; none for one of our own making.

    Attributes:
        backdate: NotBefore may lie this much before the order's, or after it up to the issue.
        shorten: True accepts a NotAfter before the order's, where a CA caps it.
    """

    backdate: timedelta = timedelta()
    shorten: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do; declared by `signing`, read by the pipeline.

    Attributes:
        builds_x509: True for a remote CA, which makes the certificate itself.
        idempotent: A call repeated with the same token issues nothing new.
        finds: `find` can tell what an earlier token issued.
        intents: A certificate costs: each call is recorded before, none repeated blindly.
        leeway: How far its answers may differ.
    """

    builds_x509: bool
    idempotent: bool = False
    finds: bool = False
    intents: bool = False
    leeway: Leeway = field(default_factory=Leeway)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendLimits:
    """What a remote backend stands; declared by `signing`, kept by its dispatcher.

    Attributes:
        rate_per_s: Most calls started a second; None for no limit.
        in_flight: Most calls under way.
        batch: Most orders a call.
        call_s: Longest one call may take, seconds.
    """

    rate_per_s: int | None = None
    in_flight: int = 8
    batch: int = 1
    call_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One order on its way to a remote backend.

    Attributes:
        order: What to certify.
        token: Names this attempt in every repetition: 32 hex digits, for idempotency tokens.
    """

    order: Order
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A row of the inventory: one issued certificate; made by `issuance`.

    Attributes:
        serial: Serial number, lower-case hex without leading zeros.
        identity: SPIFFE ID in the certificate.
        cluster: Cluster that vouched for the caller.
        namespace: Namespace of the identity.
        pod_name: Pod of the credential, empty when not bound.
        pod_uid: That pod's UID.
        node_name: That pod's node.
        credential_id: The token's `jti`.
        impersonator: SPIFFE ID of a caller that acted for the identity, else empty.
        auth_method: How the caller was proven.
        issuer: SHA-256 fingerprint of the issuer's certificate, hex.
        backend: Which backend signed.
        public_key_sha256: Digest of the SubjectPublicKeyInfo, hex.
        csr_sha256: Digest of the CSR's DER, hex.
        not_before: First second of validity.
        not_after: Last second of validity.
        policy_generation: Which policy decided.
        client_address: Where the call came from.
        issued_at: When it was signed.
        delivered: False when the caller was known to be gone before the answer.
        certificate_der: The certificate itself.
    """

    serial: str
    identity: str
    cluster: str
    namespace: str
    pod_name: str
    pod_uid: str
    node_name: str
    credential_id: str
    impersonator: str
    auth_method: str
    issuer: str
    backend: str
    public_key_sha256: str
    csr_sha256: str
    not_before: datetime
    not_after: datetime
    policy_generation: int
    client_address: str
    issued_at: datetime
    delivered: bool
    certificate_der: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """That a remote CA is about to be asked for a certificate; a row until the outcome is known.

    Attributes:
        token: Of the errand.
        backend: Which backend is asked.
        at: When.
        draft: What is known beforehand: a record whose serial, issuer and certificate are empty.
    """

    token: str
    backend: str
    at: datetime
    draft: Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether one part can do its work; made by every adapter, shown by `admin`.

    Attributes:
        name: Which part, for example `issuer`, `inventory`, `authn/Kubernetes`.
        ready: True when it can.
        detail: In words: why not and what to do, or what is in use.
    """

    name: str
    ready: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """Rules for validity; part of the policy.

    Attributes:
        default: Given when a caller asks for none (istiod: 24 h).
        maximum: The longest that is given (istiod: 90 days).
        clamp: True shortens a longer wish to `maximum`, False refuses it.
        backdate: How far NotBefore lies in the past (istiod: 2 minutes).
    """

    default: timedelta
    maximum: timedelta
    clamp: bool
    backdate: timedelta
