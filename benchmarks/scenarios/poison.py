"""Calls that are wrong on purpose: bad CSRs and bad tokens, and the status each must get."""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.load.calls import Call
from benchmarks.load.headers import token_block
from benchmarks.load.messages import encode_request
from benchmarks.load.tokens import LIFETIME_S, Pod, TokenIssuer
from benchmarks.load.workload import ASKED_LIFETIME_S

_INVALID_ARGUMENT: Final = 3
_UNAUTHENTICATED: Final = 16
_POD: Final = Pod(namespace="bench-poison", account="nobody", name="nobody-0")
_BEGIN: Final = b"-----BEGIN CERTIFICATE REQUEST-----\n"
_END: Final = b"-----END CERTIFICATE REQUEST-----\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoil:
    """A way to make good calls wrong.

    Args:
        name: For files and reports.
        apply: Returns the wrong call, with the status it must get.
    """

    name: str
    apply: Callable[[Call], Call]


def broken_signature() -> Spoil:
    """Return CSRs whose signature is that of other bytes."""
    return Spoil(name="broken-signature", apply=_break_signature)


def no_csr() -> Spoil:
    """Return requests with bytes that are no CSR."""
    body = encode_request(_BEGIN + b"AAAA\n" + _END, ASKED_LIFETIME_S, {"CertSigner": ""})
    return Spoil(
        name="no-csr", apply=lambda call: replace(call, body=body, wanted=_INVALID_ARGUMENT)
    )


def expired_token(tokens: TokenIssuer) -> Spoil:
    """Return tokens that were good an hour ago."""
    token = tokens.mint(_POD, int(time.time()) - LIFETIME_S - 3600)
    return _with_token("expired-token", token)


def forged_token(tokens: TokenIssuer) -> Spoil:
    """Return tokens that name the issuer's key and are signed by another."""
    forger = replace(tokens, key=rsa.generate_private_key(65537, 2048))
    return _with_token("forged-token", forger.mint(_POD, int(time.time())))


def stranger(tokens: TokenIssuer) -> Spoil:
    """Return good tokens of another cluster's issuer."""
    return _with_token("stranger", tokens.mint(_POD, int(time.time())))


def all_kinds(tokens: TokenIssuer) -> Spoil:
    """Return every kind of wrong call, in turn."""
    kinds = [broken_signature(), no_csr(), expired_token(tokens), forged_token(tokens)]
    turns = cycle(kinds)
    return Spoil(
        name="+".join(kind.name for kind in kinds), apply=lambda call: next(turns).apply(call)
    )


def _with_token(name: str, token: str) -> Spoil:
    block = token_block(token)
    return Spoil(
        name=name, apply=lambda call: replace(call, token_block=block, wanted=_UNAUTHENTICATED)
    )


def _break_signature(call: Call) -> Call:
    """Change the last octet of the CSR, which is its signature's."""
    at, end = call.body.index(_BEGIN) + len(_BEGIN), call.body.index(_END)
    der = bytearray(base64.b64decode(call.body[at:end]))
    der[-1] ^= 1
    text = base64.b64encode(bytes(der))
    lines = b"".join(text[n : n + 64] + b"\n" for n in range(0, len(text), 64))
    csr_pem = _BEGIN + lines + _END
    body = encode_request(csr_pem, ASKED_LIFETIME_S, {"CertSigner": ""})
    return replace(call, body=body, wanted=_INVALID_ARGUMENT)
