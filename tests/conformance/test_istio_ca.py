"""Istio's own CA, run from the same files: what it issues is what meshsigner issues."""

import asyncio

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from benchmarks.load.calls import Call, Outcome
from benchmarks.load.client import dial
from benchmarks.load.driver import ignore_progress, run_closed
from benchmarks.load.headers import OK, token_block
from benchmarks.load.keys import make_key
from benchmarks.load.messages import decode_chain
from benchmarks.load.workload import Recipe
from benchmarks.peers.authority import TRUST_DOMAIN, make_authority, make_token_issuer
from benchmarks.peers.servers import Peer, Place, istio_ca, meshsigner
from tests.conformance.go_binary import ISTIO_CA


@pytest.fixture(scope="module", params=["p256", "rsa2048"])
def answers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Outcome]]:
    """Return what both servers answer to the same two calls, the second with a wrong token."""
    directory = tmp_path_factory.mktemp("peers")
    jwks = directory / "jwks.json"
    tokens = make_token_issuer(jwks)
    authority = make_authority(directory / "ca", ca_key=request.param, serving_key="p256")
    recipe = Recipe(
        tokens=tokens, keys=[make_key("p256")], trust_domain=TRUST_DOMAIN, prefix="peer"
    )
    calls = recipe.make_calls(2, ignore_progress)
    calls[1] = Call(
        token_block=token_block("no.token.atall"),
        body=calls[1].body,
        public_key_der=calls[1].public_key_der,
        uri_san=calls[1].uri_san,
    )

    def place(name: str) -> Place:
        return Place(work=directory / name, authority=authority, jwks=jwks, core=None)

    with meshsigner(place("ours")) as ours, istio_ca(ISTIO_CA.path, place("theirs")) as theirs:
        return {peer.name: asyncio.run(_ask(peer, calls)) for peer in (ours, theirs)}


async def _ask(peer: Peer, calls: list[Call]) -> list[Outcome]:
    connection = await dial(peer.server, peer.server.tls_context())
    outcomes = await run_closed([connection], calls, in_flight=1, timeout_s=20)
    connection.close()
    return outcomes


def chain(outcome: Outcome) -> list[x509.Certificate]:
    assert outcome.answer.status == OK, outcome.answer.message
    return [
        x509.load_pem_x509_certificate(pem.encode()) for pem in decode_chain(outcome.answer.body)
    ]


def profile(leaf: x509.Certificate) -> dict[str, object]:
    """Return what a relying party can see of a leaf, but what must differ between two."""
    validity = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    return {
        "version": leaf.version,
        "subject": leaf.subject,
        "issuer": leaf.issuer,
        "algorithm": leaf.signature_algorithm_oid,
        "key": leaf.public_key(),
        "lifetime, minutes": round(validity.total_seconds() / 60),
        "extensions": {
            extension.oid: (extension.critical, extension.value)
            for extension in leaf.extensions
            if extension.oid != ExtensionOID.AUTHORITY_KEY_IDENTIFIER
        },
    }


def test_both_issue_the_same_certificate(answers: dict[str, list[Outcome]]) -> None:
    """Subject, key, SAN, usages, criticality, lifetime and algorithm are Istio's own."""
    ours, theirs = (chain(answers[name][0]) for name in ("meshsigner", "istio"))
    assert profile(ours[0]) == profile(theirs[0])


def test_both_answer_with_the_same_chain(answers: dict[str, list[Outcome]]) -> None:
    """Behind the leaf come the intermediate and the root, in this order, byte for byte."""
    ours, theirs = (
        decode_chain(answers[name][0].answer.body)[1:] for name in ("meshsigner", "istio")
    )
    assert [text.strip() for text in ours] == [text.strip() for text in theirs]
    assert len(ours) == 2


def test_both_refuse_a_wrong_token_alike(answers: dict[str, list[Outcome]]) -> None:
    """Status and text of the refusal are the same, so that no client sees a difference."""
    ours, theirs = (answers[name][1].answer for name in ("meshsigner", "istio"))
    assert (ours.status, ours.message) == (theirs.status, theirs.message)
    assert ours.status != OK
