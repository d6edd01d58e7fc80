"""The small measurements: what they send is what they say, and their arithmetic."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from benchmarks.load.audit import Audit
from benchmarks.load.keys import make_key
from benchmarks.load.report import Latency
from benchmarks.load.tokens import TokenIssuer
from benchmarks.micro import group_commit, odd_server, refusals, turns, variants
from benchmarks.micro.ground import Ground
from benchmarks.peers.authority import Authority
from benchmarks.peers.stretch import Stretch
from meshsigner.app.parts import issuance_limits_of
from meshsigner.config.sections import Limits

LATENCY = Latency(p50_ms=2, p90_ms=2, p99_ms=9, p999_ms=9, max_ms=9)


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """Return calls' makings with small keys and no files."""
    nothing = Authority(ca=tmp_path, serving_certificate=tmp_path, serving_key=tmp_path)
    tokens = TokenIssuer(key=make_key("p256"), key_id="bench", issuer="https://issuer.example")
    return Ground(work=tmp_path, authority=nothing, tokens=tokens, keys=[make_key("p256")])


def stretch(server: str, case: str, cpu_us: float, *, calls: int = 100, right: int) -> Stretch:
    return Stretch(
        server=server,
        case=case,
        round=0,
        calls=calls,
        cpu_us=cpu_us,
        supervisor_us=0.0,
        system_us=0.0,
        driver_us=0.0,
        per_s=1_000.0,
        latency=LATENCY,
        audit=Audit(statuses={}, messages={}, wrong=(), right=right),
    )


def csr_of(body: bytes) -> x509.CertificateSigningRequest:
    begin, end = b"-----BEGIN CERTIFICATE REQUEST-----", b"-----END CERTIFICATE REQUEST-----"
    pem = body[body.index(begin) : body.index(end) + len(end)]
    return x509.load_pem_x509_csr(pem + b"\n")


def test_forged_csrs_can_be_read_and_are_wrong(ground: Ground) -> None:
    """A CSR with another's signature parses, and only its signature is refused."""
    assert all(csr_of(call.body).is_signature_valid for call in refusals.fine(ground, 3))
    for call in refusals.forged_csr(ground, 3):
        assert not csr_of(call.body).is_signature_valid


def test_garbage_tokens_differ(ground: Ground) -> None:
    """Refusals are remembered by token, so each call brings another one."""
    blocks = {call.token_block for call in refusals.garbage_token(ground, 5)}
    assert len(blocks) == 5


def test_forged_token_again_is_one_token(ground: Ground) -> None:
    """What a remembered refusal costs needs the same token each time."""
    blocks = {call.token_block for call in refusals.forged_token_again(ground, 5)}
    assert len(blocks) == 1


def test_refusal_is_priced_without_what_was_granted() -> None:
    """Certificates that a bound let through are taken off at the price of lone ones."""
    alone = refusals.Sample(
        kind=refusals.ALONE, way="warm", stretch=stretch("", refusals.ALONE, 2_000, right=100)
    )
    full = refusals.Sample(
        kind="gather full", way="warm", stretch=stretch("", "gather full", 500, right=10)
    )
    (price,) = refusals.cost_us([alone, full], "gather full", "warm")
    assert price == pytest.approx((500 * 100 - 10 * 2_000) / 90)


def test_bound_that_refused_nothing_is_a_fault() -> None:
    """A kind of refusal in which all calls were granted has measured something else."""
    full = refusals.Sample(kind="streams", way="warm", stretch=stretch("", "x", 1, right=100))
    assert refusals.as_data([full])["faults"] == ["streams, warm: 0 of 100 refused"]


def test_gain_of_turns_counts_certificates_only() -> None:
    """A server that refuses half of the calls pays twice as much for each certificate."""
    points = [
        turns.Point(stretch=stretch("turns", "16", 500, right=100), members=15, rows=15),
        turns.Point(stretch=stretch("none", "16", 500, right=50), members=1, rows=8),
    ]
    assert turns.gain(points, "16") == 2
    assert turns.summarize(points, "16", "none").refused == 0.5


def test_without_turns_is_one_member_at_once() -> None:
    """The server to compare with has the same bounds, and gathers nobody."""
    plain = issuance_limits_of(Limits())
    alone = odd_server.without_turns(issuance_limits_of)(Limits())
    assert (alone.gather.turn_members, alone.gather.quiet_rounds) == (1, 0)
    assert replace(alone, gather=plain.gather) == plain


def test_variant_is_read() -> None:
    """Several variables of one variant are parted by blanks; a value may have an `=`."""
    assert variants.parse_variant("A=1 B=x=y") == {"A": "1", "B": "x=y"}


@pytest.mark.parametrize("text", ["", "A", "=1", "A=1 B"])
def test_variant_that_is_none_is_refused(text: str) -> None:
    """What has no name or no value is told, with what is expected."""
    with pytest.raises(ValueError, match="NAME=VALUE"):
        variants.parse_variant(text)


def test_variants_differ_within_a_round() -> None:
    """A variant is held against the server as it was in the same round."""
    stretches = []
    for number, base in enumerate((1_000, 2_000)):
        stretches += [
            replace(stretch(variants.AS_IT_IS, "warm", base, right=100), round=number),
            replace(stretch("A=1", "warm", base - 50, right=100), round=number),
        ]
    assert variants.differences(stretches, "A=1", "warm").median == -50


def test_groups_store_every_row(tmp_path: Path) -> None:
    """All sizes and modes are measured, and larger groups need fewer commits."""
    groups = group_commit.run(1, 500, tmp_path, lambda _name, _size: lambda: None)
    assert len(groups) == len(group_commit.SIZES) * len(group_commit.MODES)
    assert group_commit.gain(groups, "full", 250) > 1
