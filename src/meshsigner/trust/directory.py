"""A CA from a directory: read, judged as a whole, and only then taken.

With its private key, or without it where an HSM or a key service holds that.
Puts the parts of this package in their order: files, PEM, key, path, bundle.
Nothing is taken of a directory in which anything is wrong, and all that is
wrong is told at once. Following changes is `watch`'s matter.

Source: istio-contract statements 5 to 10 and 33 in docs/standards.md; istio
security/pkg/pki/util/keycertbundle.go Verify.
"""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from meshsigner.errors import ConfigurationError
from meshsigner.model import Issuer, TrustBundle
from meshsigner.trust.authority import authority_faults, issuer_remarks
from meshsigner.trust.findings import Findings
from meshsigner.trust.layout import Contents, read_directory
from meshsigner.trust.path import CertificationPath, build_path, check_bundle, check_path
from meshsigner.trust.pem import (
    PemCertificate,
    PrivateKey,
    describe,
    describe_key,
    parse_certificates,
    parse_private_key,
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaFiles:
    """A CA that was found good as a whole.

    Attributes:
        issuer: Its certificate with all that stands above it.
        key: Its private key.
        expires: First end of validity on the path: issuer, intermediates or root.
        warnings: What works, but somebody should know.
    """

    issuer: Issuer
    key: PrivateKey = field(repr=False)
    expires: datetime
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CaCertificates:
    """A CA whose key is elsewhere, found good as far as certificates tell.

    Attributes:
        issuer: Its certificate with all that stands above it.
        warnings: What works, but somebody should know.
    """

    issuer: Issuer
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parsed:
    """What the files hold; empty or None where nothing could be read."""

    issuer: tuple[PemCertificate, ...]
    chain: tuple[PemCertificate, ...]
    roots: tuple[PemCertificate, ...]
    key: PrivateKey | None = field(repr=False)


def load_directory(directory: Path, *, generation: int, now: datetime) -> CaFiles:
    """Load a CA in one of Istio's layouts.

    Args:
        directory: Holds ca-cert.pem, ca-key.pem, cert-chain.pem and
            root-cert.pem, or tls.crt, tls.key and ca.crt.
        generation: Number of this load, for `Issuer.generation`.
        now: Time at which the CA must be valid.

    Raises:
        ConfigurationError: Anything is wrong; it holds every problem.
    """
    findings = Findings()
    contents = read_directory(directory, findings)
    parsed = _parse(contents, findings)
    path = _check(contents, parsed, now, findings)
    if findings.problems or path is None or parsed.key is None:
        raise ConfigurationError(*findings.problems)
    issuer = _assemble(parsed, path, generation)
    whole = (*issuer.intermediates, path.root.certificate)
    return CaFiles(
        issuer=issuer,
        key=parsed.key,
        expires=min(certificate.not_valid_after_utc for certificate in whole),
        warnings=tuple(findings.warnings),
    )


def load_certificates(directory: Path, *, generation: int, now: datetime) -> CaCertificates:
    """Load a CA in one of Istio's layouts, without its key.

    Args:
        directory: Holds ca-cert.pem, cert-chain.pem and root-cert.pem, or
            tls.crt and ca.crt; a key's file beside them is left alone.
        generation: Number of this load, for `Issuer.generation`.
        now: Time at which the CA must be valid.

    Raises:
        ConfigurationError: Anything is wrong; it holds every problem.
    """
    findings = Findings()
    contents = read_directory(directory, findings, with_key=False)
    parsed = _parse(contents, findings)
    path = _check(contents, parsed, now, findings)
    if findings.problems or path is None:
        raise ConfigurationError(*findings.problems)
    issuer = _assemble(parsed, path, generation)
    return CaCertificates(issuer=issuer, warnings=tuple(findings.warnings))


def _parse(contents: Contents, findings: Findings) -> _Parsed:
    layout, data = contents.layout, contents.data

    def certificates(name: str) -> tuple[PemCertificate, ...]:
        content = data.get(name)
        return () if content is None else parse_certificates(content, where(name), findings)

    def where(name: str) -> Path:
        return contents.directory / name

    issuer = certificates(layout.certificate)
    key = data.get(layout.key)
    return _Parsed(
        issuer=issuer,
        chain=issuer if layout.chain == layout.certificate else certificates(layout.chain),
        roots=_each_once(certificates(layout.roots), findings),
        key=None if key is None else parse_private_key(key, where(layout.key), findings),
    )


def _each_once(
    roots: tuple[PemCertificate, ...],
    findings: Findings,
) -> tuple[PemCertificate, ...]:
    """Leave out roots that stand twice: every sidecar shows the whole bundle in each handshake."""
    unique = {root.certificate: root for root in reversed(roots)}
    for root in roots:
        if unique[root.certificate] is not root:
            findings.warn(root.where, "stands in the bundle already; it is handed out once")
    return tuple(root for root in roots if unique[root.certificate] is root)


def _check(
    contents: Contents,
    parsed: _Parsed,
    now: datetime,
    findings: Findings,
) -> CertificationPath | None:
    """Check all that could be read, also when a part of it is missing."""
    path = None
    if parsed.issuer:
        issuer = parsed.issuer[0]
        _check_issuer_file(contents, parsed, findings)
        if parsed.chain and parsed.roots:
            path = build_path(issuer, parsed.chain, parsed.roots, findings)
        if path is None:
            faults = authority_faults(issuer.certificate, below=0, now=now)
            findings.problem(issuer.where, *faults)
        else:
            check_path(path, now, findings)
        findings.warn(issuer.where, *issuer_remarks(issuer.certificate))
    check_bundle(parsed.roots, None if path is None else path.root, now, findings)
    return path


def _check_issuer_file(contents: Contents, parsed: _Parsed, findings: Findings) -> None:
    """Check that key and certificate belong together, and that it is clear which signs."""
    layout, issuer = contents.layout, parsed.issuer[0]
    if layout.certificate != layout.chain and len(parsed.issuer) > 1:
        findings.problem(
            contents.directory / layout.certificate,
            f"holds {len(parsed.issuer)} certificates; expected the signing CA alone; move the "
            f"others to {layout.chain}",
        )
    public_key = issuer.certificate.public_key()
    if parsed.key is not None and parsed.key.public_key() != public_key:
        findings.problem(
            contents.directory / layout.key,
            f"is no key of {describe(issuer.certificate)} in {layout.certificate} "
            f"({describe_key(parsed.key)} beside {describe_key(public_key)}); "
            "expected its private key; put the matching pair there",
        )


def _assemble(parsed: _Parsed, path: CertificationPath, generation: int) -> Issuer:
    active = path.root.certificate
    others = (root.certificate for root in parsed.roots if root is not path.root)
    return Issuer(
        certificate=parsed.issuer[0].certificate,
        intermediates=tuple(member.certificate for member in path.intermediates),
        trust_bundle=TrustBundle(
            certificates=(active, *others),
            pem="".join(root.pem for root in parsed.roots),
        ),
        chain_pem=tuple(member.pem for member in path.intermediates),
        generation=generation,
    )
