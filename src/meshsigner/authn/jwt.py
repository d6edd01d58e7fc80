"""Proves callers by the signature of their token, against the cluster's public keys.

Costs no call, but does not notice that a pod or an account was deleted: a token
is good until it expires. `token_review` is the way that notices.

Source: istio security/pkg/server/ca/authenticate/oidc.go; Kubernetes
pkg/serviceaccount/jwt.go.
"""

from collections.abc import Sequence
from datetime import datetime

from meshsigner.authn.keys import VerifyingKey, verify_signature
from meshsigner.authn.public_keys import PublicKeys
from meshsigner.authn.tokens import (
    TokenRules,
    UnverifiedToken,
    bearer_token,
    check_token,
    parse_token,
    token_digest,
)
from meshsigner.authn.verdicts import REFUSED_FOR_S, Verdicts
from meshsigner.errors import ConfigurationError, Unauthenticated
from meshsigner.model import AuthMethod, Caller, Credentials, Health
from meshsigner.ports import Parked
from meshsigner.spiffe import TrustDomain


class JwtAuthenticator:
    """Checks tokens of one issuer in one cluster.

    Args:
        cluster: Id of the cluster that vouches for its callers.
        trust_domain: Trust domain of their identities.
        rules: What a token must be; the issuer must be given.
        keys: The issuer's keys; belong to this object from now on.
        remembered: How many accepted and how many refused tokens are remembered.

    Raises:
        ConfigurationError: The rules name no issuer.
    """

    def __init__(
        self,
        *,
        cluster: str,
        trust_domain: TrustDomain,
        rules: TokenRules,
        keys: PublicKeys,
        remembered: int = 10_000,
    ) -> None:
        if not rules.issuer:
            raise ConfigurationError(f"cluster {cluster}: keys of no issuer, name one")
        self.cluster = cluster
        self.trust_domain = trust_domain
        self._rules = rules
        self._keys = keys
        self._verdicts = Verdicts(remembered)
        self._verdicts_of = keys.current

    async def start(self) -> None:
        """Read the keys and keep them fresh.

        Raises:
            ConfigurationError: A key is another cluster's too.
        """
        await self._keys.start()

    async def aclose(self) -> None:
        """Stop refreshing."""
        await self._keys.aclose()

    def health(self) -> Sequence[Health]:
        """Say whether there are keys."""
        return [self._keys.health()]

    def identify(self, credentials: Credentials, now: datetime) -> Caller | Parked:
        """Prove the caller by its token, or say which key must be fetched first.

        Args:
            credentials: What the caller showed.
            now: The turn's time.

        Raises:
            Unauthenticated: No token, or one that is malformed, breaks a rule,
                is not signed by a key of the set, or was refused a moment ago.
            BackendUnavailable: The keys could not be refreshed.
        """
        text = bearer_token(credentials)
        if self._verdicts_of is not self._keys.current:
            self._verdicts.clear()  # what one set of keys said does not hold for another
            self._verdicts_of = self._keys.current
        digest, now_s = token_digest(text), now.timestamp()
        known = self._verdicts.recall(digest, now_s)
        if known is not None:
            return known
        token = check_token(parse_token(text), self._rules, now_s)
        key = self._keys.find(token.key_id, now)
        if isinstance(key, Parked):
            return key
        return self._verify(token, key, digest, now_s)

    def _verify(
        self,
        token: UnverifiedToken,
        key: VerifyingKey,
        digest: bytes,
        now_s: float,
    ) -> Caller:
        try:
            verify_signature(key, token)
            caller = self._caller(token)
        except Unauthenticated as refusal:
            self._verdicts.refuse(digest, str(refusal), now_s + REFUSED_FOR_S)
            raise
        self._verdicts.accept(digest, caller, token.expires_at_s + self._rules.leeway_s)
        return caller

    def _caller(self, token: UnverifiedToken) -> Caller:
        return Caller(
            identity=token.identity_in(self.trust_domain),
            cluster=self.cluster,
            auth_method=AuthMethod.JWT,
            credential_id=token.credential_id,
            pod_name=token.pod_name,
            pod_uid=token.pod_uid,
            node_name=token.node_name,
        )
