"""Brings a private key to a token, with whatever attributes a test wants; a process of its own.

Reads the key's PEM from standard input and the rest from its arguments. A process of its own,
because a login belongs to a process and must not be there already when the tested code begins.
"""

import argparse
import sys

import pkcs11
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from pkcs11 import Attribute
from pkcs11.util.ec import decode_ec_private_key, decode_ec_public_key
from pkcs11.util.rsa import decode_rsa_private_key, decode_rsa_public_key


def main() -> None:
    """Log in and write the two objects of a key pair."""
    parser = argparse.ArgumentParser()
    for name in ("--module", "--token", "--pin", "--label", "--id"):
        parser.add_argument(name, required=True)
    for name in ("--extractable", "--not-sensitive", "--no-sign", "--no-public", "--asks-always"):
        parser.add_argument(name, action="store_true")
    options = parser.parse_args()
    private, public = _attributes(sys.stdin.buffer.read())
    named = {Attribute.TOKEN: True, Attribute.LABEL: options.label}
    named |= {Attribute.ID: bytes.fromhex(options.id)}
    usage = {
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: not options.not_sensitive,
        Attribute.EXTRACTABLE: options.extractable,
        Attribute.SIGN: not options.no_sign,
        Attribute.ALWAYS_AUTHENTICATE: options.asks_always,
    }
    token = pkcs11.lib(options.module).get_token(token_label=options.token)
    with token.open(rw=True, user_pin=options.pin) as session:
        session.create_object({**private, **named, **usage})
        if not options.no_public:
            session.create_object({**public, **named, Attribute.PRIVATE: False})


def _attributes(pem: bytes) -> tuple[dict[Attribute, object], dict[Attribute, object]]:
    key = load_pem_private_key(pem, None)
    is_ec = isinstance(key, ec.EllipticCurvePrivateKey)
    old = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    if is_ec:
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return decode_ec_private_key(old), decode_ec_public_key(public)
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1)
    return decode_rsa_private_key(old), decode_rsa_public_key(public)


if __name__ == "__main__":
    main()
