"""Requests that differ in the public key and in the signature over them."""

from cryptography.hazmat.primitives.asymmetric import ec

from tests.vectors import der
from tests.vectors.case import Case, Possession, Verdict
from tests.vectors.pkcs10 import asking, info, own_name, pem, request, usual
from tests.vectors.signers import (
    EC_PUBLIC_KEY,
    MD5,
    SHA1,
    SHA384,
    SHA512,
    Signer,
    dsa_key,
    ec_key,
    ed448_key,
    ed25519_key,
    p256,
    p256_point,
    p256_with_spki,
    rsa2048_modulus,
    rsa_key,
    rsa_numbers,
    rsa_pss,
    without_private_key,
)

PRIME256V1 = "1.2.840.10045.3.1.7"
_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
)


def cases() -> list[Case]:
    """Return all cases of this file."""
    return [*_accepted(), *_weak_or_foreign(), *_false_numbers(), *_points(), *_signatures()]


def _case(
    name: str,
    signer: Signer,
    verdict: Verdict,
    why: str,
    possession: Possession = Possession.PROVEN,
) -> Case:
    return _from_der(name, request(own_name(), signer=signer), verdict, why, possession)


def _from_der(
    name: str,
    content: bytes,
    verdict: Verdict,
    why: str,
    possession: Possession,
) -> Case:
    return Case(
        name=name,
        csr=pem(content),
        verdict=verdict,
        reason=why,
        source="statement 30" if "sign" not in why else "statement 13",
        possession=possession,
    )


def _accepted() -> list[Case]:
    signers = {
        "rsa4096": rsa_key("rsa4096"),
        "p384": ec_key(ec.SECP384R1(), SHA384),
        "rsa2048_sha384": rsa_key("rsa2048", SHA384),
        "rsa2048_sha512": rsa_key("rsa2048", SHA512),
        "p256_sha384": ec_key(ec.SECP256R1(), SHA384),
        "p384_sha256": ec_key(ec.SECP384R1()),
    }
    why = "a key and a digest that Istio's clients can be set to"
    return [_case(name, signer, Verdict.ACCEPTED, why) for name, signer in signers.items()]


def _weak_or_foreign() -> list[Case]:
    signers = {
        "rsa1024": rsa_key("rsa1024"),
        "rsa8192": rsa_key("rsa8192"),
        "rsa2048_exponent_3": rsa_key("rsa2048_e3"),
        "p224": ec_key(ec.SECP224R1()),
        "p521": ec_key(ec.SECP521R1(), SHA512),
        "secp256k1": ec_key(ec.SECP256K1()),
        "brainpool256": ec_key(ec.BrainpoolP256R1()),
        "ed25519": ed25519_key(),
        "ed448": ed448_key(),
    }
    why = "a kind or size of key that the default policy does not certify"
    return [
        *(_case(name, signer, Verdict.INVALID_CSR, why) for name, signer in signers.items()),
        _case("dsa2048", dsa_key(), Verdict.INVALID_CSR, why, Possession.NOT_PROVEN),
    ]


def _false_numbers() -> list[Case]:
    modulus = rsa2048_modulus()
    numbers = {
        "rsa_modulus_zero": (0, 65_537),
        "rsa_modulus_one": (1, 65_537),
        "rsa_modulus_negative": (-modulus, 65_537),
        "rsa_modulus_even": (modulus - 1, 65_537),
        "rsa_exponent_zero": (modulus, 0),
        "rsa_exponent_one": (modulus, 1),
        "rsa_exponent_even": (modulus, 65_536),
        "rsa_exponent_negative": (modulus, -65_537),
        "rsa_exponent_huge": (modulus, 2**256 + 1),
        "rsa_modulus_16384": (2**16_384 - 1, 65_537),
    }
    return [
        _case(
            name,
            rsa_numbers(*pair),
            Verdict.INVALID_CSR,
            "numbers that are no RSA key",
            Possession.NOT_PROVEN,
        )
        for name, pair in numbers.items()
    ]


def _points() -> list[Case]:
    x, y = (value.to_bytes(32) for value in p256_point())
    wrong = (p256_point()[1] ^ 1).to_bytes(32)
    named = der.oid(PRIME256V1)
    compressed = bytes([2 | (y[-1] & 1)]) + x
    truly = {
        "point_compressed": (named, compressed),
        "point_hybrid": (named, bytes([6 | (y[-1] & 1)]) + x + y),
        "curve_explicit": (_explicit_p256(), b"\x04" + x + y),
    }
    falsely = {
        "point_off_curve": (named, b"\x04" + x + wrong),
        "point_at_infinity": (named, b"\x00"),
        "point_too_short": (named, b"\x04" + x),
        "point_zero": (named, b"\x04" + bytes(64)),
        "point_coordinates_above_p": (named, b"\x04" + b"\xff" * 64),
        "curve_absent": (b"", b"\x04" + x + y),
        "curve_implicit": (der.null(), b"\x04" + x + y),
        "curve_unknown": (der.oid("1.2.3.4"), b"\x04" + x + y),
    }
    why = "a public key in another form than an uncompressed point of a named curve"
    return [
        _case(name, p256_with_spki(_ec_spki(*parts)), Verdict.INVALID_CSR, why, possession)
        for table, possession in ((truly, Possession.PROVEN), (falsely, Possession.NOT_PROVEN))
        for name, parts in table.items()
    ]


def _ec_spki(parameters: bytes, point: bytes) -> bytes:
    return der.seq(der.seq(der.oid(EC_PUBLIC_KEY), parameters), der.bit_string(point))


def _explicit_p256() -> bytes:
    """Write P-256 out in numbers (RFC 5480 2.1.1 forbids it in PKIX; CVE-2020-0601 used it)."""
    return der.seq(
        der.integer(1),
        der.seq(der.oid("1.2.840.10045.1.1"), der.integer(_P)),
        der.seq(der.octet_string((_P - 3).to_bytes(32)), der.octet_string(_B.to_bytes(32))),
        der.octet_string(_G),
        der.integer(_N),
        der.integer(1),
    )


def _signatures() -> list[Case]:
    usual_key, rsa_usual = p256(), rsa_key("rsa2048")
    content = info(usual_key, attributes=[asking(own_name())])
    good = usual_key.sign(content)
    bit_flipped = good[:-1] + bytes([good[-1] ^ 1])
    others = ec_key(ec.SECP256R1(), SHA384)
    pss_key = der.seq(der.seq(der.oid("1.2.840.113549.1.1.10")), der.bit_string(_rsa_public()))
    unproven = {
        "signature_broken": der.seq(content, usual_key.algorithm, der.bit_string(bit_flipped)),
        "signature_empty": der.seq(content, usual_key.algorithm, der.bit_string(b"")),
        "signature_zero": der.seq(
            content,
            usual_key.algorithm,
            der.bit_string(der.seq(der.integer(0), der.integer(0))),
        ),
        "signature_negative": der.seq(
            content,
            usual_key.algorithm,
            der.bit_string(der.seq(der.integer(-1), der.integer(-1))),
        ),
        "signature_of_another_digest": der.seq(
            content,
            usual_key.algorithm,
            der.bit_string(others.sign(content)),
        ),
        "signature_algorithm_of_rsa": der.seq(content, rsa_usual.algorithm, der.bit_string(good)),
        "signature_algorithm_unknown": der.seq(
            content,
            der.seq(der.oid("1.2.3.4")),
            der.bit_string(good),
        ),
        "signature_bits_unused": der.seq(
            content,
            usual_key.algorithm,
            der.tlv(der.BIT_STRING, b"\x01", good[:-1], bytes([good[-1] & 0xFE])),
        ),
        "signature_content_changed": usual().replace(b"productpage", b"productpagf"),
    }
    why = "a signature that the key in the request did not make, or by a digest that is broken"
    return [
        *(
            _from_der(name, body, Verdict.INVALID_CSR, why, Possession.NOT_PROVEN)
            for name, body in unproven.items()
        ),
        _case("rsa_sha1", rsa_key("rsa2048", SHA1), Verdict.INVALID_CSR, why, Possession.UNJUDGED),
        _case("rsa_md5", rsa_key("rsa2048", MD5), Verdict.INVALID_CSR, why, Possession.UNJUDGED),
        _case(
            "ecdsa_sha1",
            ec_key(ec.SECP256R1(), SHA1),
            Verdict.INVALID_CSR,
            why,
            Possession.UNJUDGED,
        ),
        _case("rsa_pss_signature", rsa_pss("rsa2048"), Verdict.INVALID_CSR, why),
        _case(
            "rsa_pss_key",
            without_private_key(pss_key, rsa_usual.algorithm),
            Verdict.INVALID_CSR,
            why,
            Possession.NOT_PROVEN,
        ),
    ]


def _rsa_public() -> bytes:
    return der.seq(der.integer(rsa2048_modulus()), der.integer(65_537))
