"""Requests that differ in how they are written: PEM around the DER, and the DER itself."""

import base64

from tests.vectors import der
from tests.vectors.case import Case, Possession, Verdict
from tests.vectors.pkcs10 import (
    asking,
    attribute,
    info,
    own_name,
    pem,
    request,
    san,
    signed,
    uri,
    usual,
)
from tests.vectors.signers import Signer, p256

LIMIT = 16_384
OTHER = san(uri("spiffe://cluster.local/ns/bookinfo/sa/reviews"))


def cases() -> list[Case]:
    """Return all cases of this file."""
    return [*_pem_accepted(), *_pem_refused(), *_too_large(), *_der_refused(), *_attributes()]


def _case(
    name: str,
    csr: bytes,
    why: str,
    verdict: Verdict = Verdict.INVALID_CSR,
    possession: Possession = Possession.UNJUDGED,
) -> Case:
    return Case(
        name=name,
        csr=csr,
        verdict=verdict,
        reason=why,
        source="statement 13",
        possession=possession,
    )


def _pem_accepted() -> list[Case]:
    text = pem(usual())
    forms = {
        "pem_crlf": pem(usual(), newline="\r\n"),
        "pem_one_line": pem(usual(), width=100_000),
        "pem_without_last_newline": text.rstrip(b"\n"),
        "pem_blank_lines_behind": text + b"\n\n",
    }
    return [
        _case(
            name,
            csr,
            "a form of RFC 7468 that clients write",
            Verdict.ACCEPTED,
            Possession.PROVEN,
        )
        for name, csr in forms.items()
    ]


def _pem_refused() -> list[Case]:
    text = pem(usual())
    body = base64.b64encode(usual())
    forms = {
        "pem_two_blocks": text + text,
        "pem_text_before": b"subject=\n" + text,
        "pem_text_behind": text + b"x",
        "pem_byte_order_mark": b"\xef\xbb\xbf" + text,
        "pem_nul_behind": text + b"\x00",
        "pem_headers": text.replace(b"-----\n", b"-----\nProc-Type: 4,ENCRYPTED\n\n", 1),
        "pem_new_certificate_request": pem(usual(), label="NEW CERTIFICATE REQUEST"),
        "pem_label_certificate": pem(usual(), label="CERTIFICATE"),
        "pem_label_lower_case": pem(usual(), label="certificate request"),
        "pem_labels_differ": text.replace(b"END CERTIFICATE REQUEST", b"END CERTIFICATE"),
        "pem_without_end": text.partition(b"-----END")[0],
        "pem_bad_letter": text.replace(body[40:44], b"@@@@"),
        "pem_padding_inside": text.replace(body[40:44], b"===="),
        "pem_without_padding": pem(usual() + b"\x00" * _missing(usual())).replace(b"=", b""),
        "pem_padding_too_long": text.replace(b"\n-----END", b"=\n-----END"),
        "pem_data_behind_padding": text.replace(b"\n-----END", b"=\nAAAA\n-----END"),
        "pem_empty_body": pem(b""),
        "plain_der": usual(),
        "empty": b"",
        "white_space": b"\n \n",
        "garbage": bytes(range(256)),
    }
    why = "not exactly one PEM block of a request"
    return [_case(name, csr, why) for name, csr in forms.items()]


def _missing(content: bytes) -> int:
    """Count the bytes that make the length leave padding in base64."""
    return 0 if len(content) % 3 else 1


def _too_large() -> list[Case]:
    def padded(size: int) -> bytes:
        filler = attribute("1.2.3.4", der.octet_string(b"\x00" * size))
        return pem(signed(p256(), info(p256(), attributes=[filler, asking(own_name())])))

    why = f"larger than {LIMIT} bytes"
    return [
        _case(
            "large_but_allowed",
            padded(11_500),
            "below the limit",
            Verdict.ACCEPTED,
            Possession.PROVEN,
        ),
        _case("large_17_kilobytes", padded(12_500), why, possession=Possession.PROVEN),
        _case("large_1_megabyte", padded(1_000_000), why, possession=Possession.PROVEN),
    ]


def _der_refused() -> list[Case]:
    usual_der, key = usual(), p256()
    content = info(key, attributes=[asking(own_name())])
    ending = key.algorithm + der.bit_string(key.sign(content))
    head = der.length(len(content) + len(ending))  # 0x82 and two bytes
    bodies = {
        "der_trailing_data": usual_der + b"\x00",
        "der_trailing_request": usual_der + usual_der,
        "der_truncated": usual_der[:-1],
        "der_only_a_tag": b"\x30",
        "der_empty_sequence": der.seq(),
        "der_null": der.null(),
        "der_length_beyond_the_end": b"\x30\x84\x7f\xff\xff\xff" + content,
        "der_indefinite_length": b"\x30\x80" + content + ending + b"\x00\x00",
        "der_length_not_minimal": b"\x30\x83\x00" + head[1:] + content + ending,
        "der_fourth_element": der.seq(content, ending, der.null()),
        "der_nested_thousandfold": _nested(1_000),
        "der_set_for_sequence": b"\x31" + usual_der[1:],
    }
    why = "not one request in DER"
    return [
        *(_case(name, pem(body), why) for name, body in bodies.items()),
        *_signed_but_not_der(),
        *_versions(),
    ]


def _nested(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        body = der.seq(body)
    return body


def _signed_but_not_der() -> list[Case]:
    """Make forms of BER that a lenient parser reads, under a true signature."""
    key = p256()
    own = own_name()
    ber_true = own.replace(b"\x01\x01\xff", b"\x01\x01\x01")
    algorithm = Signer(
        spki=key.spki, algorithm=der.seq(key.algorithm[2:], der.null()), sign=key.sign
    )
    bodies = {
        "der_true_is_not_255": request(ber_true),
        "der_version_padded": signed(key, info(key, version=b"\x02\x02\x00\x00")),
        "der_spki_not_minimal": _spki_not_minimal(key),
        "der_ecdsa_with_null": request(own, signer=algorithm),
        "der_attributes_missing": signed(key, der.seq(b"\x02\x01\x00", der.seq(), key.spki)),
    }
    return [_case(name, pem(body), "signed, but not in DER") for name, body in bodies.items()]


def _spki_not_minimal(key: Signer) -> bytes:
    long_form = b"\x30\x81" + key.spki[1:]
    other = Signer(spki=long_form, algorithm=key.algorithm, sign=key.sign)
    return request(own_name(), signer=other)


def _versions() -> list[Case]:
    key = p256()
    versions = {"version_2": 1, "version_3": 2, "version_negative": -1, "version_huge": 2**64}
    return [
        _case(
            name,
            pem(
                signed(
                    key, info(key, attributes=[asking(own_name())], version=der.integer(number))
                ),
            ),
            "only version 0 exists",
        )
        for name, number in versions.items()
    ]


def extension_request_of_microsoft(*extensions: bytes) -> bytes:
    """Make the attribute by which older Windows clients ask for extensions."""
    return attribute("1.3.6.1.4.1.311.2.1.14", der.seq(*extensions))


def _read(name: str, asked: bytes, verdict: Verdict, why: str) -> Case:
    csr = pem(signed(p256(), info(p256(), attributes=[asked])))
    return _case(f"attribute_of_{name}", csr, why, verdict, Possession.PROVEN)


def _attributes() -> list[Case]:
    key = p256()
    longer = asking(san(uri("spiffe://cluster.local/ns/bookinfo/sa/productpage-of-another")))
    bodies = {
        "attributes_garbage": [b"\xff\xff\xff"],
        "attributes_not_sequences": [der.integer(1)],
        "attribute_without_value": [attribute("1.2.840.113549.1.9.14")],
        "attribute_two_values": [
            attribute(
                "1.2.840.113549.1.9.14",
                der.seq(own_name()),
                der.seq(san(uri("spiffe://x/y"))),
            ),
        ],
        "attribute_extension_request_garbage": [
            attribute("1.2.840.113549.1.9.14", der.octet_string(b"x")),
        ],
        # DER sorts a SET: a shorter request stands first, a longer one hides behind.
        "attribute_extension_request_twice_own_last": [asking(own_name()), asking(OTHER)],
        "attribute_extension_request_twice_own_first": [asking(own_name()), longer],
        "attribute_extension_without_value": [asking(der.seq(der.oid("2.5.29.17")))],
    }
    refused = [
        _case(
            name,
            pem(signed(key, info(key, attributes=attributes))),
            "attributes that leave open what is asked for",
        )
        for name, attributes in bodies.items()
    ]
    why = "an attribute of Microsoft's asks for extensions too: it is read, not overlooked"
    own, another = extension_request_of_microsoft(own_name()), extension_request_of_microsoft(OTHER)
    return [
        *refused,
        _read("microsoft_own", own, Verdict.ACCEPTED, why),
        _read("microsoft_another", another, Verdict.SAN_NOT_ALLOWED, why),
        _case(
            "attribute_of_microsoft_beside_own",
            pem(signed(key, info(key, attributes=[asking(own_name()), another]))),
            why,
            possession=Possession.PROVEN,
        ),
    ]
