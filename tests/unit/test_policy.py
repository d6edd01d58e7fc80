"""Policy: identity, names, keys and lifetimes, decided from the credential."""

import dataclasses
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from meshsigner.csr import parse_csr
from meshsigner.errors import Forbidden, InvalidCsr, InvalidLifetime, NotReady, SanNotAllowed
from meshsigner.model import CertificateRequest, KeyAlgorithm, Lifetimes, Terms
from meshsigner.policy import (
    SignerRule,
    authorize,
    default_backends,
    under_issuer,
    validity,
)
from meshsigner.spiffe import TrustDomain
from tests.fakes.pipeline import NOW, make_caller, make_csr, make_policy

_KEY = ec.generate_private_key(ec.SECP256R1())
_URI = "spiffe://cluster.local/ns/foo/sa/bar"
_FAR = NOW + timedelta(days=3_650)
_COMMON_NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "anything")])
_DAY = timedelta(hours=24)


def _request(*uris: str, subject: x509.Name | None = None) -> CertificateRequest:
    return parse_csr(make_csr(_KEY, *uris, subject=subject))


def _terms(
    request: CertificateRequest | None = None,
    asked: timedelta | None = _DAY,
    *,
    clamp: bool = False,
    account: str = "bar",
) -> Terms:
    return authorize(
        caller=make_caller(service_account=account),
        request=request or _request(),
        asked_lifetime=asked,
        policy=make_policy(clamp=clamp),
        now=NOW,
        issuer_not_after=_FAR,
    )


@pytest.mark.parametrize("asked", [None, timedelta(), timedelta(seconds=-5)])
def test_statement_19_no_wish_gets_the_default(asked: timedelta | None) -> None:
    """A lifetime of nothing or less is the default of 24 hours."""
    assert _terms(asked=asked).not_after == NOW + timedelta(hours=24)


def test_statement_20_a_day_is_accepted() -> None:
    """What every client of Istio asks by default is given."""
    assert _terms(asked=timedelta(seconds=86_400)).not_after == NOW + timedelta(hours=24)


def test_statement_21_more_than_the_maximum_is_refused_or_clamped() -> None:
    """As istiod: refused with both figures; as istio-csr where the policy says clamp."""
    with pytest.raises(InvalidLifetime) as refused:
        _terms(asked=timedelta(days=91))
    assert "7862400s" in refused.value.client_text
    assert "7776000s" in refused.value.client_text
    assert _terms(asked=timedelta(days=91), clamp=True).not_after == NOW + timedelta(days=90)
    assert _terms(asked=timedelta(days=90)).not_after == NOW + timedelta(days=90)


def test_statement_23_not_before_is_two_minutes_back() -> None:
    """Callers whose clocks lag by up to two minutes accept the certificate."""
    assert _terms().not_before == NOW - timedelta(minutes=2)


def test_statement_23_short_lifetimes_are_backdated_less() -> None:
    """A minute's certificate is not half over when it arrives: a tenth at most is in the past."""
    terms = _terms(asked=timedelta(seconds=60))
    assert terms.not_before == NOW - timedelta(seconds=6)
    assert terms.not_after == NOW + timedelta(seconds=60)


def test_statement_23_backdate_is_a_tenth_of_a_short_lifetime() -> None:
    """Ten minutes are backdated by one, twenty and more by the configured two."""
    for minutes, back_s in ((10, 60), (19, 114), (20, 120), (21, 120)):
        terms = _terms(asked=timedelta(minutes=minutes))
        assert NOW - terms.not_before == timedelta(seconds=back_s)


def test_policies_are_counted_from_one() -> None:
    """The policy of a start is generation 1, and the terms say which one decided."""
    assert make_policy().generation == 1
    assert _terms().policy_generation == 1


def test_statement_25_the_subject_is_empty_without_common_name() -> None:
    """A CSR as Istio's clients send it gets an empty subject."""
    assert _terms(_request(_URI)).common_name is None


def test_statement_28_a_common_name_becomes_the_identity() -> None:
    """Of the CSR's common name only its presence counts; one that is too long is left out."""
    assert _terms(_request(_URI, subject=_COMMON_NAME)).common_name == _URI
    long = "a" * 60
    request = _request(f"spiffe://cluster.local/ns/foo/sa/{long}", subject=_COMMON_NAME)
    assert _terms(request, account=long).common_name is None


@pytest.mark.parametrize(("size", "fits"), [(63, True), (64, True), (65, False)])
def test_a_common_name_has_at_most_64_characters(size: int, *, fits: bool) -> None:
    """An identity of 64 characters becomes a common name, one of 65 does not."""
    account = "b" * (size - len("spiffe://cluster.local/ns/foo/sa/"))
    own = f"spiffe://cluster.local/ns/foo/sa/{account}"
    terms = _terms(_request(own, subject=_COMMON_NAME), account=account)
    assert len(own) == size
    assert terms.common_name == (own if fits else None)


def test_statement_34_the_identity_is_the_callers() -> None:
    """With and without a SAN in the CSR the certificate names the caller."""
    assert _terms(_request()).identity.uri == _URI
    assert _terms(_request(_URI)).identity.uri == _URI


@pytest.mark.parametrize(
    "uris",
    [
        ("spiffe://cluster.local/ns/foo/sa/other",),
        (_URI, "spiffe://cluster.local/ns/foo/sa/other"),
        (_URI, _URI),
        ("spiffe://cluster.local/ns/foo/sa/*",),
        ("spiffe://CLUSTER.local/ns/foo/sa/bar",),
        (f"{_URI}/",),
        ("https://cluster.local/ns/foo/sa/bar",),
    ],
)
def test_statement_32_other_names_than_the_callers_are_refused(uris: tuple[str, ...]) -> None:
    """Any SAN but exactly the caller's own, once, is refused."""
    with pytest.raises(SanNotAllowed):
        _terms(_request(*uris))


def test_statement_32_a_refusal_tells_three_names_to_the_log_alone() -> None:
    """The log learns up to three of the names asked for and whose they are not; the caller none."""
    with pytest.raises(SanNotAllowed) as refused:
        _terms(_request(*(f"spiffe://cluster.local/{n}" for n in range(5))))
    three = [f"spiffe://cluster.local/{n}" for n in range(3)]
    assert str(refused.value) == f"names {three!r}, is {_URI}"
    assert "spiffe" not in refused.value.client_text


def test_statement_32_names_of_other_kinds_are_refused() -> None:
    """DNS, IP and mail names are no identities here."""
    with pytest.raises(SanNotAllowed):
        _terms(dataclasses.replace(_request(_URI), other_sans=1))


def test_a_common_name_alone_is_refused() -> None:
    """A CSR that names itself by common name only asks for what we do not certify."""
    with pytest.raises(SanNotAllowed, match="common name alone"):
        _terms(_request(subject=_COMMON_NAME))


def test_a_trust_domain_that_is_not_ours_is_forbidden() -> None:
    """A caller of another trust domain is known, and gets nothing."""
    policy = dataclasses.replace(
        make_policy(), trust_domains=frozenset({TrustDomain.parse("other")})
    )
    with pytest.raises(Forbidden):
        authorize(
            caller=make_caller(),
            request=_request(),
            asked_lifetime=None,
            policy=policy,
            now=NOW,
            issuer_not_after=_FAR,
        )


@pytest.mark.parametrize("bits", [2_048, 4_096])
def test_statement_30_keys_of_allowed_sizes_are_certified(bits: int) -> None:
    """RSA from 2048 to 4096 bits passes."""
    key = dataclasses.replace(_request().public_key, algorithm=KeyAlgorithm.RSA, bits=bits)
    assert _terms(dataclasses.replace(_request(), public_key=key)).identity.uri == _URI


@pytest.mark.parametrize("bits", [1_024, 2_047, 4_097, 8_192])
def test_statement_30_keys_of_other_sizes_are_refused(bits: int) -> None:
    """RSA keys that are weak, or so long that each handshake pays for them, are refused."""
    key = dataclasses.replace(_request().public_key, algorithm=KeyAlgorithm.RSA, bits=bits)
    with pytest.raises(InvalidCsr, match="2048 to 4096"):
        _terms(dataclasses.replace(_request(), public_key=key))


def test_statement_30_a_kind_of_key_that_the_policy_leaves_out_is_refused() -> None:
    """Ed25519 is off by default and may be switched on."""
    key = ed25519.Ed25519PrivateKey.generate()
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = parse_csr(builder.sign(key, None).public_bytes(Encoding.PEM))
    with pytest.raises(InvalidCsr, match="ed25519"):
        _terms(request)
    policy = dataclasses.replace(make_policy(), key_algorithms=frozenset({KeyAlgorithm.ED25519}))
    terms = authorize(
        caller=make_caller(),
        request=request,
        asked_lifetime=None,
        policy=policy,
        now=NOW,
        issuer_not_after=_FAR,
    )
    assert terms.identity.uri == _URI


def test_statement_31_both_subjects_of_istio_pass() -> None:
    """`O=""` (istio-agent) and an empty subject (ztunnel) are accepted."""
    organization = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "x")])
    for subject in (organization, x509.Name([])):
        assert _terms(_request(_URI, subject=subject)).common_name is None


_spans = st.timedeltas(timedelta(seconds=1), timedelta(days=4_000))


@given(
    asked=st.none() | st.timedeltas(timedelta(days=-1), timedelta(days=4_000)),
    default=_spans,
    maximum=_spans,
    backdate=st.timedeltas(timedelta(), timedelta(hours=1)),
    issuer_left=_spans,
    microsecond=st.integers(0, 999_999),
)
def test_statement_22_terms_never_outlive_issuer_or_policy(
    *,
    asked: timedelta | None,
    default: timedelta,
    maximum: timedelta,
    backdate: timedelta,
    issuer_left: timedelta,
    microsecond: int,
) -> None:
    """Whatever is asked and configured, the validity stays within every bound."""
    lifetimes = Lifetimes(
        default=min(default, maximum), maximum=maximum, clamp=True, backdate=backdate
    )
    now = NOW.replace(microsecond=microsecond)
    issuer_end = (NOW + issuer_left).replace(microsecond=0)
    not_before, not_after = validity(lifetimes, asked, now, issuer_end)
    assert not_after <= issuer_end
    assert not_after - NOW <= maximum
    assert NOW - not_before <= backdate + timedelta(seconds=1)
    assert not_before <= NOW
    assert not_before.microsecond == 0
    assert (NOW - not_before) <= (not_after - NOW) / 10 + timedelta(seconds=1)
    if asked is not None and asked > timedelta():
        assert not_after - NOW <= asked


@given(
    left_s=st.integers(1, 200_000),
    asked_s=st.integers(60, 86_400),
)
def test_terms_under_another_issuer_never_outlive_it(left_s: int, asked_s: int) -> None:
    """Whoever signs instead: the end is the earlier one, and backdating stays a tenth at most."""
    validity = (NOW - timedelta(minutes=2), NOW + timedelta(seconds=asked_s))
    terms = Terms(
        identity=make_caller().identity,
        common_name=None,
        not_before=validity[0],
        not_after=validity[1],
        policy_generation=1,
    )
    end = NOW + timedelta(seconds=left_s)
    under = under_issuer(terms, end, NOW)
    assert under.not_after == min(validity[1], end)
    assert terms.not_before <= under.not_before <= NOW
    if under is not terms:
        assert NOW - under.not_before <= (end - NOW) / 10 + timedelta(seconds=1)


def test_an_issuer_that_has_ended_signs_for_nobody() -> None:
    """An order does not go to a substitute whose certificate is over."""
    terms = Terms(
        identity=make_caller().identity,
        common_name=None,
        not_before=NOW,
        not_after=NOW + timedelta(hours=1),
        policy_generation=1,
    )
    with pytest.raises(NotReady):
        under_issuer(terms, NOW, NOW)


def test_the_default_route_is_the_rule_without_conditions() -> None:
    """Readiness goes by it; without one, by all backends."""
    named = SignerRule(namespace="pay", backends=("a",))
    policy = dataclasses.replace(make_policy(), signers=(named, SignerRule(backends=("b", "a"))))
    assert default_backends(policy) == ("b", "a")
    assert default_backends(dataclasses.replace(policy, signers=(named,))) == ()
