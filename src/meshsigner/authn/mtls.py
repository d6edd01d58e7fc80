"""Proves callers by a certificate that we issued earlier, and leaves all others to tokens.

Decides that whoever shows a certificate is judged by it alone: it is looked at
before a token, and a bad one is not made good by a token (istiod ends such a
handshake). A chain comes from TLS, or from a proxy in front of us that has
proven itself. Whether a chain holds is decided in `client_chain`, what a
proxy's header says in `xfcc`.

Source: istio security/pkg/server/ca/authenticate/cert_authenticator.go,
pilot/pkg/bootstrap/server.go (order), xfcc_authenticator.go (whom istiod
believes: any process on loopback).
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from meshsigner.authn.client_chain import ClientCertificate, check_chain
from meshsigner.authn.denied import DenyList
from meshsigner.authn.tokens import token_digest
from meshsigner.authn.xfcc import parse_forwarded
from meshsigner.errors import Unauthenticated
from meshsigner.model import AuthMethod, Caller, Credentials, Health, Issuer
from meshsigner.ports import Authenticator, Parked
from meshsigner.spiffe import InvalidSpiffeId, SpiffeId, TrustDomain, WorkloadId

PROXY_BELIEVED_FOR = timedelta(seconds=5)  # one proxy carries the calls of many clients
_MAX_PROXIES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRules:
    """Whose certificates prove a caller.

    Attributes:
        trust_domains: The identity is of one of these.
        namespaces: The identity is of one of these; None is all.
        proxy: Only a peer with this SPIFFE ID may forward certificates; None
            where the listener itself admits nobody else (a Unix socket).
    """

    trust_domains: frozenset[TrustDomain]
    namespaces: frozenset[str] | None = None
    proxy: SpiffeId | None = None


class CertificateAuthenticator:
    """Proves callers of every listener; certificates count where a listener asks for them.

    Args:
        issuer: Returns what signs now, whose roots are trusted. It may raise
            ServiceFault while there is none.
        rules: Whose certificates count.
        denied: Certificates that do not.
        tokens: Proves callers that show none.
    """

    def __init__(
        self,
        *,
        issuer: Callable[[datetime], Issuer],
        rules: CertificateRules,
        denied: DenyList,
        tokens: Authenticator,
    ) -> None:
        self._issuer = issuer
        self._rules = rules
        self._denied = denied
        self._tokens = tokens
        self._proxies: OrderedDict[bytes, tuple[Issuer, datetime, ClientCertificate]]
        self._proxies = OrderedDict()

    def identify(self, credentials: Credentials, now: datetime) -> Caller | Parked:
        """Prove the caller by its certificate, or by its token when it shows none.

        Args:
            credentials: What the caller showed.
            now: The turn's time.

        Raises:
            Unauthenticated: The certificate, the proxy or the token is refused.
            ServiceFault: It cannot be judged for a fault of ours.
        """
        if credentials.forwarded is not None:
            return self._identify_forwarded(credentials, credentials.forwarded, now)
        if credentials.peer_chain_pem:
            found = self._check(credentials.peer_chain_pem, now)
            return self._caller(found, AuthMethod.CLIENT_CERTIFICATE)
        return self._tokens.identify(credentials, now)

    def health(self) -> Sequence[Health]:
        """Say what is denied, and whether tokens can be judged."""
        return (self._denied.health(), *self._tokens.health())

    def _identify_forwarded(
        self, credentials: Credentials, values: Sequence[str], now: datetime
    ) -> Caller | Parked:
        if self._rules.proxy is not None:
            proxy = self._check_proxy(credentials.peer_chain_pem, now)
            if proxy.spiffe_id != self._rules.proxy:
                raise Unauthenticated("the peer is not the proxy that may forward certificates")
        if not values:
            return self._tokens.identify(credentials, now)
        found = self._check(parse_forwarded(values), now)
        return self._caller(found, AuthMethod.FORWARDED_CERTIFICATE)

    def _check(self, chain_pem: bytes, now: datetime) -> ClientCertificate:
        return self._admit(check_chain(chain_pem, self._issuer(now), now))

    def _check_proxy(self, chain_pem: bytes, now: datetime) -> ClientCertificate:
        """Check the proxy's own chain, not anew for each of the calls that it carries."""
        issuer, key = self._issuer(now), token_digest(chain_pem.decode("latin-1"))
        known = self._proxies.get(key)
        if known is not None and known[0] is issuer and now < known[1]:
            return self._admit(known[2])
        found = check_chain(chain_pem, issuer, now)
        self._proxies[key] = (issuer, now + PROXY_BELIEVED_FOR, found)
        self._proxies.move_to_end(key)
        if len(self._proxies) > _MAX_PROXIES:
            self._proxies.popitem(last=False)
        return self._admit(found)

    def _admit(self, found: ClientCertificate) -> ClientCertificate:
        if self._denied.current.match(found):
            raise Unauthenticated(f"the certificate {found.serial} of {found.spiffe_id} is denied")
        return found

    def _caller(self, found: ClientCertificate, method: AuthMethod) -> Caller:
        try:
            identity = WorkloadId.parse(str(found.spiffe_id))
        except InvalidSpiffeId:
            raise Unauthenticated("the certificate's identity is no service account's") from None
        if identity.trust_domain not in self._rules.trust_domains:
            raise Unauthenticated(f"a certificate of trust domain {identity.trust_domain}")
        namespaces = self._rules.namespaces
        if namespaces is not None and identity.namespace not in namespaces:
            raise Unauthenticated("certificates prove nobody of this namespace")
        return Caller(identity=identity, cluster="", auth_method=method, credential_id=found.serial)
