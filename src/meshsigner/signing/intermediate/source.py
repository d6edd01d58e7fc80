"""Who gives an intermediate CA: the port between the keeper and a CA elsewhere."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from cryptography import x509


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What a CA gave; nothing in it is trusted yet.

    Attributes:
        chain: The new CA first, then what stands above it; the root may be at the end.
    """

    chain: tuple[x509.Certificate, ...]


class IntermediateSource(Protocol):
    """A CA that signs a CA below it.

    Attributes:
        where: Which CA, for messages.
    """

    where: str

    async def start(self) -> None:
        """Log in, and keep the login; one that is away for now is no error."""
        ...

    async def aclose(self) -> None:
        """End what `start` began."""
        ...

    async def request(self, csr_pem: str, common_name: str, lifetime: timedelta) -> Granted:
        """Have a CA certificate signed, without any CA below it.

        Args:
            csr_pem: For the new key, signed by it.
            common_name: Of the new CA; no other CA of the mesh has it.
            lifetime: How long it shall last; less may be given.

        Raises:
            BackendUnavailable: No answer, or a no that every request would get.
            BackendRefused: No to this request.
            Overloaded: Its own throttle.
        """
        ...
