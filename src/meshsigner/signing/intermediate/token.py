"""The key of an intermediate in an HSM: found or made there, and the request that it signs.

Decides that it is one key for all renewals: what is renewed is the certificate.
The work is done in the thread of the HSM's module, beside what signs leaves,
and by the same rules for the PIN: one that was refused is not tried again.
"""

import asyncio
from contextlib import suppress
from functools import partial

from meshsigner.errors import BackendUnavailable
from meshsigner.model import Issuer
from meshsigner.signing.by_hand.request import build_request
from meshsigner.signing.intermediate.keys import Asked
from meshsigner.signing.keyed import CaPublicKey
from meshsigner.signing.pkcs11.module import Module
from meshsigner.signing.pkcs11.pin import PinGuard
from meshsigner.signing.pkcs11.settings import Pkcs11Token
from meshsigner.signing.pkcs11.token_key import token_key
from meshsigner.spiffe import TrustDomain
from meshsigner.trust import CaCertificates

PATIENCE_S = 30.0  # some HSMs take seconds to make a key


class TokenRequests:
    """Makes requests with a key on a token.

    Args:
        settings: Where the key is.
        pin: Logs in.
        key_type: Of a key that is made: `p256` or `p384`.
    """

    def __init__(self, settings: Pkcs11Token, pin: PinGuard, key_type: str) -> None:
        self._settings = settings
        self._pin = pin
        self._key_type = key_type

    async def prepare(self, trust_domain: TrustDomain) -> Asked[CaCertificates]:
        """Find the key, make it when there is none, and have it sign a request.

        Raises:
            BackendUnavailable: The token is not there, or refuses the login.
            ConfigurationError: The key may not be used.
        """
        user = object()
        module = Module.join(self._settings.module, user)
        try:
            async with asyncio.timeout(PATIENCE_S):
                public_key, csr_pem = await module.thread.run(partial(self._ask, trust_domain))
        except TimeoutError as error:
            text = f"the HSM has not answered for {PATIENCE_S:.0f} s"
            raise BackendUnavailable(text) from error
        finally:
            await _leave(module, user)
        return Asked(public_key=public_key, csr_pem=csr_pem, certified=_certified)

    def _ask(self, trust_domain: TrustDomain) -> tuple[CaPublicKey, bytes]:
        with token_key(self._settings, make=self._key_type, pin=self._pin) as key:
            return key.public_key, build_request(key.public_key, trust_domain, key.sign)


async def _leave(module: Module, user: object) -> None:
    """Leave the module; where it hangs, that is left to the process's end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            await module.thread.run(partial(module.leave, user))


def _certified(issuer: Issuer) -> CaCertificates:
    return CaCertificates(issuer=issuer)
