"""SPIFFE identities: the only form in which a workload is named inside.

Decides what a well-formed trust domain, SPIFFE ID and Istio workload identity
is; who may bear one is decided elsewhere. `str` appears at the wire only.

Source: SPIFFE-ID.md 2 (trust domain, path, maximum lengths); istio
pkg/spiffe/spiffe.go (the path form, `@` in a trust domain).
"""

import re
from dataclasses import dataclass
from typing import Self

MAX_SPIFFE_ID_BYTES = 2_048  # SPIFFE-ID.md 2.3
MAX_TRUST_DOMAIN_BYTES = 255  # SPIFFE-ID.md 2.3
MAX_NAMESPACE_BYTES = 63  # Kubernetes: a namespace is a DNS label (RFC 1123)
MAX_SERVICE_ACCOUNT_BYTES = 253  # Kubernetes: a service account is a DNS subdomain

_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+")
_PATH_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")
_NAMESPACE = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_SERVICE_ACCOUNT = re.compile(
    r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*",
)


class InvalidSpiffeId(ValueError):
    """A text is not a trust domain, SPIFFE ID or workload identity."""


@dataclass(frozen=True, slots=True)
class TrustDomain:
    """The name of a trust domain, without scheme.

    Attributes:
        name: Lower-case letters, digits, dots, dashes and underscores.
    """

    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a trust domain as Istio's mesh configuration writes it.

        Args:
            text: The name; `@` stands for `.` as in Istio.

        Raises:
            InvalidSpiffeId: Empty, too long or outside the allowed characters.

        Source: SPIFFE-ID.md 2.1; istio pkg/spiffe/spiffe.go SanitizeTrustDomain.
        """
        name = text.replace("@", ".")
        if len(name) > MAX_TRUST_DOMAIN_BYTES or not _TRUST_DOMAIN.fullmatch(name):
            msg = f"not a trust domain: {text[:80]!r}"
            raise InvalidSpiffeId(msg)
        return cls(name)

    def __str__(self) -> str:
        """Return the bare name."""
        return self.name


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """Any SPIFFE ID that names a workload.

    Attributes:
        trust_domain: The part after `spiffe://`.
        path: Starts with `/`; at least one segment.
    """

    trust_domain: TrustDomain
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a SPIFFE ID from a URI.

        Args:
            text: `spiffe://<trust domain>/<segment>...`.

        Raises:
            InvalidSpiffeId: Another scheme, no path, an empty or dot segment,
                a character outside the allowed set, or too long.

        Source: SPIFFE-ID.md 2 to 2.3.
        """
        if len(text.encode(errors="replace")) > MAX_SPIFFE_ID_BYTES:
            msg = "SPIFFE ID longer than 2048 bytes"
            raise InvalidSpiffeId(msg)
        name, slash, path = text.removeprefix("spiffe://").partition("/")
        segments = path.split("/")
        if (
            not text.startswith("spiffe://")
            or not slash
            or "@" in name
            or not all(_PATH_SEGMENT.fullmatch(s) and s not in {".", ".."} for s in segments)
        ):
            msg = f"not a SPIFFE ID: {text[:80]!r}"
            raise InvalidSpiffeId(msg)
        return cls(TrustDomain.parse(name), f"/{path}")

    def __str__(self) -> str:
        """Return the URI."""
        return f"spiffe://{self.trust_domain}{self.path}"


@dataclass(frozen=True, slots=True)
class WorkloadId:
    """A workload in Istio's form: a service account in a namespace.

    Attributes:
        trust_domain: The mesh's trust domain.
        namespace: A Kubernetes namespace.
        service_account: A Kubernetes service account.
        uri: The SPIFFE ID as it stands in a certificate, made once.
    """

    trust_domain: TrustDomain
    namespace: str
    service_account: str
    uri: str

    @classmethod
    def of(cls, trust_domain: TrustDomain, namespace: str, service_account: str) -> Self:
        """Name the workload of a service account.

        Raises:
            InvalidSpiffeId: A name that Kubernetes could not have given, or an
                ID that would be too long.

        Source: istio pkg/spiffe/spiffe.go genSpiffeURI.
        """
        if len(namespace) > MAX_NAMESPACE_BYTES or not _NAMESPACE.fullmatch(namespace):
            msg = f"not a namespace: {namespace[:80]!r}"
            raise InvalidSpiffeId(msg)
        if len(service_account) > MAX_SERVICE_ACCOUNT_BYTES or not _SERVICE_ACCOUNT.fullmatch(
            service_account,
        ):
            msg = f"not a service account: {service_account[:80]!r}"
            raise InvalidSpiffeId(msg)
        uri = f"spiffe://{trust_domain.name}/ns/{namespace}/sa/{service_account}"
        return cls(trust_domain, namespace, service_account, uri)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

        Raises:
            InvalidSpiffeId: Anything else.
        """
        spiffe_id = SpiffeId.parse(text)
        match spiffe_id.path.split("/"):
            case ["", "ns", namespace, "sa", service_account]:
                return cls.of(spiffe_id.trust_domain, namespace, service_account)
        msg = f"not of the form spiffe://<td>/ns/<ns>/sa/<sa>: {text[:80]!r}"
        raise InvalidSpiffeId(msg)

    def __str__(self) -> str:
        """Return the URI."""
        return self.uri
