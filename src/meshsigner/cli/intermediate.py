"""`meshsigner intermediate`: a CA below one that has people in it.

Turns what a person types into a place of a key and of certificates. What is
asked for and what is taken is decided in `signing.by_hand`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from meshsigner.cli.exits import Exit, exit_codes
from meshsigner.cli.options import Json
from meshsigner.cli.terminal import fail, note, say, say_fields, say_json, warn
from meshsigner.config import load_config
from meshsigner.config.fields import Section
from meshsigner.config.model import Config
from meshsigner.config.sections import IssuerDirectory
from meshsigner.errors import BackendUnavailable, ConfigurationError
from meshsigner.signing.by_hand.handover import Outcome, hand_over, read_delivery
from meshsigner.signing.by_hand.keys import (
    NEXT_KEY,
    HeldKey,
    KeyType,
    ensure_waiting_key,
    waiting_key,
)
from meshsigner.signing.by_hand.request import build_request
from meshsigner.signing.pkcs11.settings import Pkcs11Settings
from meshsigner.spiffe import InvalidSpiffeId, TrustDomain
from meshsigner.trust import load_certificates
from meshsigner.trust.pem import describe
from meshsigner.trust.writing import PUBLIC_MODE, write_file

HELP = "Have an intermediate CA signed by people: a request goes out, a certificate comes back."

REQUEST_HELP = f"""Write the certification request of an intermediate CA.

The key is made where it will be used: in a file beside the CA in use, which signs on meanwhile, or
(with `--config` and `--backend`) in the HSM of that backend. Have the request signed as a CA that
may sign certificates, path length 0; then run `meshsigner intermediate install`.

Examples:

    meshsigner intermediate request --directory /var/lib/meshsigner/ca --out ca.csr

    meshsigner intermediate request --config meshsigner.yaml --backend hsm --make-key --out ca.csr

{exit_codes(Exit.INPUT, Exit.UNAVAILABLE)}
"""

INSTALL_HELP = f"""Take the certificate that was signed, with its chain, in one step.

All of it is checked first, against the key of the request and as the server would: nothing changes
unless everything is right. The old roots stay in the bundle. A root that no workload knows yet is
announced first; run the command again once every workload has heard of it, which takes as long as
the longest certificate lasts. A running server takes the change by itself.

Example:

    meshsigner intermediate install ca.pem --chain chain.pem --directory /var/lib/meshsigner/ca

{exit_codes(Exit.INPUT, Exit.UNAVAILABLE)}
"""

STATUS_HELP = f"""Say which intermediate is in use, until when, and whether a key waits for another.

Example:

    meshsigner intermediate status --directory /var/lib/meshsigner/ca

{exit_codes(Exit.INPUT)}
"""

RENEW_SHARE = 3  # due when less than a third of its life is left

app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

Directory = Annotated[
    Path | None,
    typer.Option("--directory", help="The CA's directory, where its key is in a file."),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="The server's configuration, with --backend.")
]
Backend = Annotated[
    str | None, typer.Option("--backend", help="Name of the backend whose CA it is.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a CA is.

    Attributes:
        directory: Of its certificates, and of its key where that is in a file.
        hsm: The backend whose HSM has its key, None where it is in a file.
        trust_domain: Of the mesh, None where nobody said it.
    """

    directory: Path
    hsm: Pkcs11Settings | None = None
    trust_domain: TrustDomain | None = None


T = TypeVar("T")


def _or_fail(call: Callable[[], T]) -> T:
    """Return what a call returns, or end the command with what it says."""
    try:
        return call()
    except ConfigurationError as error:
        fail(Exit.INPUT, *error.problems)
    except BackendUnavailable as error:
        fail(Exit.UNAVAILABLE, str(error))


def _place(directory: Path | None, config: Path | None, backend: str | None) -> _Place:
    """Find the CA that is meant."""
    if directory is not None and config is None and backend is None:
        return _Place(directory=directory)
    if directory is None and config is not None and backend is not None:
        return _place_of(_or_fail(lambda: load_config(config)), backend)
    msg = "say where the CA is: either --directory, or --config and --backend"
    raise typer.BadParameter(msg)


def _place_of(config: Config, backend: str) -> _Place:
    settings = config.backends.get(backend)
    if settings is None:
        known = ", ".join(config.backends) or "none"
        fail(Exit.INPUT, f"there is no backend {backend!r}; expected one of: {known}")
    if isinstance(settings, Pkcs11Settings):
        from meshsigner.signing.pkcs11.kind import expect_binding  # noqa: PLC0415 - the server's

        _or_fail(expect_binding)
        directory = settings.certificates
        return _Place(directory=directory, hsm=settings, trust_domain=config.trust_domain)
    return _Place(directory=_directory_of(settings, backend), trust_domain=config.trust_domain)


def _directory_of(settings: Section, backend: str) -> Path:
    """Return the directory of a backend whose key is in a file."""
    if not isinstance(settings, IssuerDirectory):
        fail(
            Exit.INPUT,
            f"backend {backend!r} has no CA that people sign; expected one of type directory or "
            "pkcs11; its own CA issues what it needs",
        )
    return settings.path


@contextmanager
def _held_key(place: _Place, *, make: KeyType | None) -> Iterator[HeldKey]:
    """Open the key: the one that waits, or the HSM's.

    Args:
        place: Of the CA.
        make: Kind of a key to make unless there is one; None makes none.
    """
    if place.hsm is not None:
        from meshsigner.signing.pkcs11.token_key import token_key  # noqa: PLC0415 - the extra's

        with token_key(place.hsm, make=make) as key:
            yield key
    elif make is None:
        yield waiting_key(place.directory)
    else:
        waiting, fresh = ensure_waiting_key(place.directory, make)
        note(f"{'new key' if fresh else 'key'} in {place.directory / NEXT_KEY}")
        yield waiting


def _trust_domain(text: str) -> TrustDomain:
    try:
        return TrustDomain.parse(text)
    except InvalidSpiffeId as error:
        raise typer.BadParameter(str(error)) from error


@app.command("request", help=REQUEST_HELP)
def request(
    *,
    directory: Directory = None,
    config: ConfigFile = None,
    backend: Backend = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the request; standard output without it.")
    ] = None,
    key_type: Annotated[
        KeyType, typer.Option("--key-type", help="Kind of a new key; P-256 signs fastest.")
    ] = "p256",
    make_key: Annotated[
        bool, typer.Option("--make-key", help="Make the key in the HSM unless it is there.")
    ] = False,
    trust_domain: Annotated[
        str, typer.Option("--trust-domain", help="Of the mesh; the configuration's with --config.")
    ] = "cluster.local",
    json: Json = False,
) -> None:
    """Write a request."""
    place = _place(directory, config, backend)
    domain = place.trust_domain or _trust_domain(trust_domain)
    make = key_type if make_key or place.hsm is None else None

    def build() -> bytes:
        with _held_key(place, make=make) as key:
            return build_request(key.public_key, domain, key.sign)

    pem = _or_fail(build)
    if out is not None:
        _or_fail(lambda: _write(out, pem))
    subject = x509.load_pem_x509_csr(pem).subject.rfc4514_string()
    if json:
        say_json({"subject": subject, "request": pem.decode(), "file": out and str(out)})
    elif out is None:
        say(pem.decode().rstrip())
    else:
        say_fields([("request", str(out)), ("subject", subject)])


def _write(path: Path, data: bytes) -> None:
    try:
        write_file(path, data, mode=PUBLIC_MODE)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot be written ({error.strerror}); choose another file with --out"
        ) from error


@app.command("install", help=INSTALL_HELP)
def install(
    certificate: Annotated[
        Path, typer.Argument(help="PEM file with the signed certificate.", metavar="CERTIFICATE")
    ],
    *,
    chain: Annotated[
        list[Path] | None,
        typer.Option("--chain", help="PEM file with what stands above it, the root included."),
    ] = None,
    directory: Directory = None,
    config: ConfigFile = None,
    backend: Backend = None,
    at_once: Annotated[
        bool,
        typer.Option("--at-once", help="Use it though no workload trusts its new root yet."),
    ] = False,
    json: Json = False,
) -> None:
    """Take a certificate."""
    place = _place(directory, config, backend)

    def take() -> Outcome:
        delivery = read_delivery([certificate, *(chain or ())])
        with _held_key(place, make=None) as key:
            return hand_over(place.directory, delivery, key, now=datetime.now(UTC), at_once=at_once)

    outcome = _or_fail(take)
    for remark in outcome.remarks:
        warn(remark)
    if json:
        say_json(_outcome(outcome))
    else:
        _tell(outcome, place.directory)


def _tell(outcome: Outcome, directory: Path) -> None:
    say_fields(
        [
            ("CA", describe(outcome.certificate)),
            ("until", f"{outcome.expires:%Y-%m-%d %H:%M}Z"),
            ("roots", ", ".join(map(describe, outcome.roots))),
            ("directory", str(directory)),
        ]
    )
    if not outcome.installed:
        warn(
            "its root is new to the workloads: it is announced from now on, and the CA in use "
            "signs on; run the same command again once the longest certificate lifetime has passed"
        )


def _outcome(outcome: Outcome) -> dict[str, object]:
    return {
        "installed": outcome.installed,
        "subject": outcome.certificate.subject.rfc4514_string(),
        "sha256": outcome.certificate.fingerprint(hashes.SHA256()).hex(),
        "expires": outcome.expires.isoformat(),
        "roots": [root.subject.rfc4514_string() for root in outcome.roots],
        "remarks": list(outcome.remarks),
    }


@app.command("status", help=STATUS_HELP)
def status(
    *,
    directory: Directory = None,
    config: ConfigFile = None,
    backend: Backend = None,
    json: Json = False,
) -> None:
    """Say what is there."""
    place = _place(directory, config, backend)
    now = datetime.now(UTC)
    issuer = _or_fail(lambda: load_certificates(place.directory, generation=1, now=now)).issuer
    certificate = issuer.certificate
    life = issuer.not_after - certificate.not_valid_before_utc
    due = issuer.not_after - life / RENEW_SHARE
    waits = (place.directory / NEXT_KEY).exists()
    if json:
        say_json(
            {
                "subject": certificate.subject.rfc4514_string(),
                "expires": issuer.not_after.isoformat(),
                "renew_from": due.isoformat(),
                "due": now >= due,
                "key_waits": waits,
            }
        )
        return
    say_fields(
        [
            ("CA", describe(certificate)),
            ("issued by", certificate.issuer.rfc4514_string()),
            ("until", f"{issuer.not_after:%Y-%m-%d %H:%M}Z"),
            ("renew from", f"{due:%Y-%m-%d %H:%M}Z" + (", now" if now >= due else "")),
            ("next key", "waits for its certificate" if waits else "none"),
        ]
    )
