"""Requests that differ in the names and extensions they ask for; all well-formed and signed."""

from tests.vectors import der
from tests.vectors.case import Case, Possession, Verdict
from tests.vectors.pkcs10 import (
    BASIC_CONSTRAINTS,
    COMMON_NAME,
    EXTENDED_KEY_USAGE,
    IDENTITY,
    KEY_USAGE,
    ORGANIZATION,
    SUBJECT_ALT_NAME,
    asking,
    attribute,
    dns,
    extension,
    info,
    own_name,
    pem,
    request,
    san,
    signed,
    subject,
    uri,
    usual,
)
from tests.vectors.signers import p256, rsa_key

OTHER = "spiffe://cluster.local/ns/bookinfo/sa/reviews"
_BITS = {"digitalSignature": b"\x07\x80", "keyCertSign": b"\x02\x04", "cRLSign": b"\x01\x02"}


def cases() -> list[Case]:
    """Return all cases of this file."""
    return [*_accepted(), *_somebody_else(), *_other_kinds(), *_no_text_of_ours(), *_asks_for_ca()]


def _case(name: str, content: bytes, verdict: Verdict, reason: str, source: str) -> Case:
    return Case(
        name=name,
        csr=pem(content),
        verdict=verdict,
        reason=reason,
        source=source,
        possession=Possession.PROVEN,
    )


def _usage(bit: str) -> bytes:
    return extension(KEY_USAGE, der.tlv(der.BIT_STRING, _BITS[bit]), critical=True)


def _basic(*content: bytes) -> bytes:
    return extension(BASIC_CONSTRAINTS, der.seq(*content), critical=True)


def _accepted() -> list[Case]:
    empty_organization = subject((ORGANIZATION, ""))
    table = [
        ("ztunnel", usual(), "P-256, empty subject, critical SAN", "istio-contract 3.4"),
        (
            "istio_agent",
            request(own_name(), signer=rsa_key("rsa2048"), name=empty_organization),
            "RSA-2048, subject O with an empty value",
            "istio-contract 2.6",
        ),
        ("no_san", request(), "the name comes from the credential", "statement 32"),
        (
            "no_attributes",
            signed(p256(), info(p256())),
            "a request need not ask for extensions",
            "RFC 2986 4.1",
        ),
        (
            "san_not_critical",
            request(san(uri(IDENTITY), critical=False)),
            "the flag is the issuer's to set",
            "statement 25",
        ),
        (
            "cn_with_own_san",
            request(own_name(), name=subject((COMMON_NAME, "productpage"))),
            "dual use: the CN's text is dropped, the identity is named",
            "istio-contract 1.8",
        ),
        (
            "subject_ignored",
            request(own_name(), name=subject((ORGANIZATION, "x"), ("2.5.4.11", "y"))),
            "no subject text survives",
            "statement 28",
        ),
        (
            "usages_of_a_leaf",
            request(
                own_name(),
                _usage("digitalSignature"),
                _basic(),
                extension(EXTENDED_KEY_USAGE, der.seq(der.oid("1.3.6.1.5.5.7.3.1"))),
            ),
            "asked usages are not copied and need no refusal",
            "statement 28",
        ),
        (
            "unknown_critical_extension",
            request(own_name(), extension("1.2.3.4.5", b"\x05\x00", critical=True)),
            "an unknown extension is not copied",
            "statement 28",
        ),
        (
            "challenge_password",
            signed(
                p256(),
                info(
                    p256(),
                    attributes=[
                        attribute("1.2.840.113549.1.9.7", der.tlv(der.UTF8_STRING, b"x")),
                        asking(own_name()),
                    ],
                ),
            ),
            "another attribute is ignored",
            "RFC 2985 5.4.1",
        ),
    ]
    return [_case(name, der_, Verdict.ACCEPTED, why, source) for name, der_, why, source in table]


def _somebody_else() -> list[Case]:
    names = {
        "another_identity": [uri(OTHER)],
        "own_and_another": [uri(IDENTITY), uri(OTHER)],
        "own_twice": [uri(IDENTITY), uri(IDENTITY)],
        "another_trust_domain": [uri(IDENTITY.replace("cluster.local", "evil.example"))],
        "upper_case_trust_domain": [uri(IDENTITY.replace("cluster", "Cluster"))],
        "trailing_slash": [uri(IDENTITY + "/")],
        "percent_encoded": [uri(IDENTITY.replace("sa/p", "sa/%70"))],
        "query": [uri(IDENTITY + "?a")],
        "wildcard": [uri("spiffe://cluster.local/ns/bookinfo/sa/*")],
        "empty_uri": [uri("")],
        "comma_joined": [uri(f"{IDENTITY},{OTHER}")],
        "uri_of_2049_bytes": [uri(IDENTITY + "/" + "a" * (2_048 - len(IDENTITY)))],
        "three_hundred_names": [uri(f"spiffe://a/{n}") for n in range(300)],
    }
    found = [
        _case(
            name,
            request(san(*entries)),
            Verdict.SAN_NOT_ALLOWED,
            "the names are not exactly the caller's",
            "statement 32",
        )
        for name, entries in names.items()
    ]
    by_cn = request(name=subject((COMMON_NAME, IDENTITY[:64])))
    both = request(san(uri(OTHER)), name=subject((COMMON_NAME, "x")))
    return [
        *found,
        _case(
            "cn_only", by_cn, Verdict.SAN_NOT_ALLOWED, "a CN is no identity", "SPIFFE X509-SVID 2"
        ),
        _case("cn_with_another", both, Verdict.SAN_NOT_ALLOWED, "the SAN decides", "statement 32"),
    ]


def _other_kinds() -> list[Case]:
    names = {
        "dns": dns("istiod.istio-system.svc"),
        "dns_wildcard": dns("*.cluster.local"),
        "identity_as_dns": dns(IDENTITY),
        "ip4": der.tlv(0x87, bytes([10, 0, 0, 1])),
        "ip6": der.tlv(0x87, bytes(16)),
        "email": der.tlv(0x81, b"a@example.org"),
        "directory_name": der.tlv(0xA4, subject((COMMON_NAME, "x"))),
        "registered_id": der.tlv(0x88, der.oid("1.2.3")[2:]),
        "other_name": der.tlv(
            0xA0,
            der.oid("1.2.3"),
            der.tlv(0xA0, der.tlv(der.UTF8_STRING, b"x")),
        ),
    }
    found = []
    for name, entry in names.items():
        for suffix, entries in (("only", [entry]), ("and_own", [uri(IDENTITY), entry])):
            found.append(
                _case(
                    f"{name}_{suffix}",
                    request(san(*entries)),
                    Verdict.SAN_NOT_ALLOWED,
                    "only URI names are certified",
                    "istio-contract 1.9",
                ),
            )
    return found


def _no_text_of_ours() -> list[Case]:
    """Names that a lenient reader could cut, fold or decode into the caller's."""
    unreadable = {
        "latin1_in_uri": san(uri(IDENTITY.encode() + b"\xe9")),
        "ip_of_five_bytes": san(der.tlv(0x87, bytes(5))),
        "san_not_a_sequence": extension(SUBJECT_ALT_NAME, der.octet_string(b"x")),
        "san_empty": san(),
        "san_trailing_data": extension(
            SUBJECT_ALT_NAME,
            der.seq(uri(IDENTITY)) + b"\x00",
        ),
        "san_twice": own_name() + own_name(),
        "san_twice_another": own_name() + san(uri(OTHER)),
        "x400_name": san(der.tlv(0xA3, der.seq())),
        "edi_party_name": san(der.tlv(0xA5, der.tlv(0xA1, der.tlv(der.UTF8_STRING, b"x")))),
        "basic_constraints_garbage": own_name() + extension(BASIC_CONSTRAINTS, b"\x01"),
        "key_usage_garbage": own_name() + extension(KEY_USAGE, b"\xff\xff"),
    }
    found = [
        _case(
            name,
            request(extensions),
            Verdict.INVALID_CSR,
            "an extension that cannot be read for certain is not guessed at",
            "RFC 5280 4.2",
        )
        for name, extensions in unreadable.items()
    ]
    readable = {
        "nul_in_uri": IDENTITY + "\x00.evil",
        "nul_at_end": IDENTITY + "\x00",
        "utf8_in_uri": IDENTITY + "é",
        "utf8_look_alike": IDENTITY.replace("a", "\u0430"),
    }
    return found + [
        _case(
            name,
            request(san(uri(text))),
            Verdict.SAN_NOT_ALLOWED,
            "a NUL ends no name and no letter stands for another",
            "statement 32",
        )
        for name, text in readable.items()
    ]


def _asks_for_ca() -> list[Case]:
    true = der.boolean(value=True)
    asked = {
        "ca_true": request(own_name(), _basic(true)),
        "ca_true_path_length": request(own_name(), _basic(true, der.integer(0))),
        "ca_true_without_san": request(_basic(true)),
        "key_cert_sign": request(own_name(), _usage("keyCertSign")),
        "crl_sign": request(own_name(), _usage("cRLSign")),
    }
    return [
        _case(name, content, Verdict.INVALID_CSR, "no leaf may sign certificates", "statement 29")
        for name, content in asked.items()
    ]
