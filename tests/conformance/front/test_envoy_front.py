"""A real Envoy in front, with the example's own configuration: who its clients are, and who not."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from tests.conformance.caller import Outcome, call, call_over
from tests.conformance.front.installation import Front, front
from tests.conformance.sds.authority import new_ca
from tests.fakes.client_certificates import Leaf, Made, encode, forwarded, make_leaf

VM = "spiffe://cluster.local/ns/foo/sa/vm"
VICTIM = "spiffe://cluster.local/ns/foo/sa/victim"
OTHER = "spiffe://cluster.local/ns/foo/sa/other"
_NAMES_TOO = "set_current_client_cert_details: { cert: true, chain: true, uri: true, dns: true }"


@pytest.fixture(scope="module")
def proxied(command: Path) -> Iterator[Front]:
    """Run the example as it is."""
    with front(command) as running:
        yield running


@pytest.fixture(scope="module")
def careless(command: Path) -> Iterator[Front]:
    """Run the example with the client's names forwarded as well, which Envoy does not escape."""
    changes = {"set_current_client_cert_details: { cert: true, chain: true }": _NAMES_TOO}
    with front(command, changes) as running:
        yield running


def _leaf(place: Front, uri: str = VM, *, ended: bool = False) -> Made:
    now = datetime.now(UTC)
    not_after = now - timedelta(minutes=1) if ended else now + timedelta(hours=1)
    leaf = Leaf(uris=[uri], not_before=now - timedelta(hours=1), not_after=not_after)
    return make_leaf(place.issuer, leaf, chain=[place.issuer])


def _call(
    place: Front, identity: str, client: Made | None = None, *headers: tuple[str, str]
) -> Outcome:
    return call(place.address, place.serving_roots, identity, client=client, headers=headers)


def _bearer(place: Front, account: str) -> tuple[str, str]:
    return "authorization", f"Bearer {place.server.installation.token(account)}"


def _row(place: Front, serial: str) -> dict[str, str]:
    where = ("--state-dir", str(place.server.installation.state_dir))
    rows = json.loads(place.server.installation.call("inventory", "list", *where, "--json"))
    (row,) = [row for row in rows if row["serial"] == serial]
    return dict(row)


def test_a_token_is_enough_without_a_certificate(proxied: Front) -> None:
    """The first certificate of a VM: a token through the proxy."""
    outcome = _call(proxied, VM, None, _bearer(proxied, "vm"))
    assert outcome.identity == VM, outcome
    assert _row(proxied, outcome.serial)["auth_method"] == "jwt"


def test_our_certificate_renews_itself(proxied: Front) -> None:
    """All later ones: no token, and the row names the certificate that was shown."""
    client = _leaf(proxied)
    outcome = _call(proxied, VM, client)
    assert outcome.identity == VM, outcome
    row = _row(proxied, outcome.serial)
    assert row["auth_method"] == "forwarded_certificate"
    assert row["credential_id"] == client.serial


def test_statement_39_the_certificate_comes_before_the_token_behind_a_proxy(
    proxied: Front,
) -> None:
    """With both, the certificate says who calls."""
    outcome = _call(proxied, VM, _leaf(proxied), _bearer(proxied, "other"))
    assert outcome.identity == VM, outcome


def test_neither_certificate_nor_token_is_nobody(proxied: Front) -> None:
    """The proxy itself lends nobody an identity."""
    outcome = _call(proxied, VM)
    assert outcome.code is grpc.StatusCode.UNAUTHENTICATED, outcome


@pytest.mark.parametrize("kind", ["foreign", "expired"])
def test_statement_41_a_bad_certificate_ends_the_handshake(proxied: Front, kind: str) -> None:
    """Another CA's, and one of ours that is over, with a good token beside it or not."""
    stranger = new_ca("stranger")
    now = datetime.now(UTC)
    foreign = make_leaf(
        stranger,
        Leaf(uris=[VM], not_before=now - timedelta(hours=1), not_after=now + timedelta(hours=1)),
        chain=[stranger],
    )
    client = foreign if kind == "foreign" else _leaf(proxied, ended=True)
    for headers in ((), (_bearer(proxied, "vm"),)):
        outcome = _call(proxied, VM, client, *headers)
        assert outcome.code is grpc.StatusCode.UNAVAILABLE, outcome


def test_a_forged_header_is_removed(proxied: Front) -> None:
    """A client that writes the header itself is who its certificate or token says, or nobody."""
    forged = ("x-forwarded-client-cert", forwarded(_leaf(proxied, VICTIM)))
    assert _call(proxied, VICTIM, None, forged).code is grpc.StatusCode.UNAUTHENTICATED
    assert _call(proxied, VM, _leaf(proxied), forged).identity == VM
    outcome = _call(proxied, VICTIM, _leaf(proxied), forged)
    assert outcome.code is grpc.StatusCode.INVALID_ARGUMENT, outcome
    assert _call(proxied, VM, None, forged, _bearer(proxied, "vm")).identity == VM


@pytest.mark.parametrize("certificate", ["careful", "careless"])
def test_a_name_that_forges_fields_wins_nothing(
    proxied: Front, careless: Front, certificate: str
) -> None:
    """A SAN with `;Cert=` or a further element in it is refused, whatever the proxy forwards."""
    place = {"careful": proxied, "careless": careless}[certificate]
    victim = _leaf(place, VICTIM)
    for forgery in (
        f'{VM};Cert="{encode(victim.pem)}"',
        f'{VM},Cert="{encode(victim.pem)}"',
        f"{VM};URI={VICTIM}",
    ):
        outcome = _call(place, VICTIM, _leaf(place, forgery))
        assert outcome.code is grpc.StatusCode.UNAUTHENTICATED, outcome


def test_names_in_the_header_change_nothing(careless: Front) -> None:
    """A proxy that forwards URI and DNS too is understood."""
    assert _call(careless, VM, _leaf(careless)).identity == VM


def test_a_denied_certificate_is_refused(proxied: Front) -> None:
    """Within seconds of the list's change, and others go on."""
    client = _leaf(proxied, OTHER)
    assert _call(proxied, OTHER, client).identity == OTHER
    (proxied.directory / "denied").write_text(f"{client.serial}  # lost\n")
    proxied.envoy.wait(
        lambda: _call(proxied, OTHER, client).code is grpc.StatusCode.UNAUTHENTICATED,
        "a client refused",
    )
    assert _call(proxied, OTHER, _leaf(proxied, OTHER)).identity == OTHER


def test_the_header_means_nothing_on_the_servers_own_port(proxied: Front) -> None:
    """Whoever reaches the first port directly is nobody by that header."""
    header = ("x-forwarded-client-cert", forwarded(_leaf(proxied, VICTIM)))
    roots = proxied.root.pem
    outcome = call(proxied.server.listen, roots, VICTIM, headers=[header])
    assert outcome.code is grpc.StatusCode.UNAUTHENTICATED, outcome


def test_the_proxys_connection_is_kept(proxied: Front) -> None:
    """Many calls of many clients take few connections to the server."""
    before = proxied.envoy.total(r"^cluster\.meshsigner\.upstream_cx_total$")
    credentials = grpc.ssl_channel_credentials(proxied.serving_roots)
    bearer = _bearer(proxied, "vm")
    with grpc.secure_channel(proxied.address, credentials) as channel:
        assert all(call_over(channel, VM, [bearer]).identity == VM for _ in range(20))
    assert proxied.envoy.total(r"^cluster\.meshsigner\.upstream_cx_total$") - before <= 1
