"""OpenBao as the giver of intermediates: `sign-intermediate` of a PKI mount.

Names and constraints are ours, not the CSR's (use_csr_values is false there),
so that nothing of the CSR but its key is signed.

Source: OpenBao API documentation, PKI: issuer/:ref/sign-intermediate.
"""

from datetime import timedelta

from meshsigner.signing.intermediate.source import Granted
from meshsigner.signing.openbao.client import OpenBaoApi
from meshsigner.signing.openbao.replies import certificate_of, chain_of


class OpenBaoIntermediates:
    """One issuer of one PKI mount.

    Args:
        client: To the server.
        mount: Of the engine.
        issuer: Which of its issuers.
    """

    def __init__(self, *, client: OpenBaoApi, mount: str, issuer: str) -> None:
        self._client = client
        self.where = f"{mount}/issuer/{issuer}/sign-intermediate"

    async def start(self) -> None:
        """Keep the login fresh from now on."""
        await self._client.start()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def request(self, csr_pem: str, common_name: str, lifetime: timedelta) -> Granted:
        """Have a CA certificate signed.

        Raises:
            BackendUnavailable: No answer, no login, or a no to everybody.
            BackendRefused: A no to this request.
            Overloaded: A quota.
        """
        body = {
            "csr": csr_pem,
            "common_name": common_name,
            "exclude_cn_from_sans": True,
            "max_path_length": 0,
            "ttl": f"{int(lifetime.total_seconds())}s",
            "format": "pem",
        }
        data = await self._client.call("POST", self.where, body)
        certificate = certificate_of(data, "certificate", self.where)
        above = (c for c in chain_of(data, self.where) if c != certificate)
        return Granted(chain=(certificate, *above))
