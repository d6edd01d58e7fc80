"""Proves callers by asking the cluster's API server about their token.

The way that notices deleted pods and accounts, at the price of one call for
each token that was not asked about a moment ago. Only tokens that pass a look
at what they say reach the server, and only so many at once.

Source: istio security/pkg/server/ca/authenticate/kubeauth/kube_jwt.go.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Protocol

from meshsigner.authn.clock import Clock, utc_now
from meshsigner.authn.review_watch import ReviewWatch
from meshsigner.authn.reviews import DoubtfulRefusal, Reviewed, UnclearReview, read_review
from meshsigner.authn.tokens import (
    TokenRules,
    UnverifiedToken,
    bearer_token,
    check_token,
    parse_token,
    token_digest,
)
from meshsigner.authn.verdicts import REFUSED_FOR_S, Verdicts
from meshsigner.errors import BackendUnavailable, Overloaded, Unauthenticated
from meshsigner.model import AuthMethod, Caller, Credentials, Health
from meshsigner.ports import Parked
from meshsigner.spiffe import TrustDomain

# Those who waited for an answer come back with the next turn: so long, at
# least, it stays known to them, however short answers are believed otherwise.
REJOIN_S = 2.0
PROBE = "readiness-probe"  # not a token, so a working server refuses it


class TokenReviewer(Protocol):
    """An API server that reviews tokens: `kube.KubernetesApi`."""

    async def create_token_review(self, token: str, audiences: Sequence[str]) -> Mapping[str, Any]:
        """Return the status of a review.

        Raises:
            BackendUnavailable: There is none.
        """
        ...

    async def check_ready(self) -> None:
        """Ask whether the server holds itself to be ready, its store included.

        Raises:
            BackendUnavailable: It does not, or does not say.
        """
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class TokenReviewAuthenticator:
    """Asks one cluster's API server.

    Args:
        cluster: Id of the cluster that vouches for its callers.
        trust_domain: Trust domain of their identities.
        rules: What a token must say before the server is asked; its audiences
            are the ones asked for.
        reviewer: The API server; belongs to this object from now on.
        believed_for: How long an answer holds, at most until the token expires.
        timeout: Longest wait for an answer, waiting for a free slot included.
        max_in_flight: Reviews asked at once.
        max_waiting: Reviews that wait for a free slot.
        remembered: How many accepted and how many refused tokens are remembered.
        clock: Returns the time, UTC.
    """

    def __init__(
        self,
        *,
        cluster: str,
        trust_domain: TrustDomain,
        rules: TokenRules,
        reviewer: TokenReviewer,
        believed_for: timedelta = timedelta(seconds=10),
        timeout: timedelta = timedelta(seconds=5),
        max_in_flight: int = 32,
        max_waiting: int = 1_000,
        remembered: int = 10_000,
        clock: Clock = utc_now,
    ) -> None:
        self.cluster = cluster
        self.trust_domain = trust_domain
        self._rules = rules
        self._reviewer = reviewer
        self._believed_for_s = believed_for.total_seconds()
        self._timeout_s = timeout.total_seconds()
        self._max_waiting = max_waiting
        self._waiting = 0
        self._slots = asyncio.Semaphore(max_in_flight)
        self._verdicts = Verdicts(remembered)
        self._clock = clock
        self._watch = ReviewWatch(cluster, clock)
        self._probing: asyncio.Task[None] | None = None

    def identify(self, credentials: Credentials, now: datetime) -> Caller | Parked:
        """Prove the caller from a recent answer, or say that the server must be asked.

        Args:
            credentials: What the caller showed.
            now: The turn's time.

        Raises:
            Unauthenticated: No token, or one that breaks a rule, or that the
                server refused a moment ago.
        """
        text = bearer_token(credentials)
        digest, now_s = token_digest(text), now.timestamp()
        known = self._verdicts.recall(digest, now_s)
        if known is not None:
            return known
        token = check_token(parse_token(text), self._rules, now_s)
        return Parked(
            key=(self.cluster, "token_review", self._rules.audiences, digest),
            fetch=partial(self._review, text, token, digest),
        )

    def health(self) -> Sequence[Health]:
        """Say whether the server answers."""
        if self._probing is not None and self._probing.done():
            return [self._watch.health("the probe has stopped, restart")]
        return [self._watch.health()]

    async def start(self) -> None:
        """Find out whether the server answers, and go on doing so while nobody calls."""
        self._probing = asyncio.create_task(self._keep_probing())

    async def aclose(self) -> None:
        """Stop probing and close connections."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self._reviewer.aclose()

    async def _review(self, text: str, token: UnverifiedToken, digest: bytes) -> None:
        """Ask about a token and remember the answer.

        Raises:
            BackendUnavailable: There was no answer in time.
            Overloaded: Too many wait already.
        """
        asked_s = self._clock().timestamp()
        try:
            caller = self._caller(await self._ask(text), token)
        except Unauthenticated as refusal:
            self._verdicts.refuse(digest, str(refusal), self._until(asked_s, REFUSED_FOR_S))
        else:
            until_s = self._until(asked_s, self._believed_for_s)
            expiry_s = token.expires_at_s + self._rules.leeway_s
            self._verdicts.accept(digest, caller, min(until_s, expiry_s))

    def _until(self, asked_s: float, holds_s: float) -> float:
        """Count from the question, for the world may have changed since the server looked."""
        return max(asked_s + holds_s, self._clock().timestamp() + REJOIN_S)

    async def _ask(self, text: str) -> Reviewed:
        try:
            async with asyncio.timeout(self._timeout_s), self._slot():
                reviewed = await self._review_once(text)
        except TimeoutError:
            problem = f"no token review within {self._timeout_s:g} s"
            self._watch.failed(problem)
            raise BackendUnavailable(problem) from None
        except UnclearReview as error:
            # It did answer: a token that makes it say strange things must not make us unready.
            if text == PROBE:
                self._watch.failed(str(error))
            raise
        except BackendUnavailable as error:
            self._watch.failed(str(error))
            raise
        except Unauthenticated:
            self._watch.answered()
            raise
        self._watch.answered()
        return reviewed

    async def _review_once(self, text: str) -> Reviewed:
        """Ask; a refusal that a fault of the server could be too is only believed if it is well."""
        status = await self._reviewer.create_token_review(text, self._rules.audiences)
        try:
            return read_review(status, self._rules.audiences)
        except DoubtfulRefusal:
            self._watch.answered()
            await self._check_ready()
            raise

    async def _check_ready(self) -> None:
        try:
            await self._reviewer.check_ready()
        except BackendUnavailable as error:
            self._watch.doubts(str(error))
            raise UnclearReview(f"a refusal that is not believed: {error}") from error
        self._watch.doubts(None)

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._slots.locked() and self._waiting >= self._max_waiting:
            raise Overloaded("token_reviews")
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()

    def _caller(self, reviewed: Reviewed, token: UnverifiedToken) -> Caller:
        if (reviewed.namespace, reviewed.service_account) != (
            token.namespace,
            token.service_account,
        ):
            raise Unauthenticated("the API server knows the token as another account's")
        return Caller(
            identity=token.identity_in(self.trust_domain),
            cluster=self.cluster,
            auth_method=AuthMethod.TOKEN_REVIEW,
            credential_id=reviewed.credential_id,
            pod_name=reviewed.pod_name,
            pod_uid=reviewed.pod_uid,
            node_name=reviewed.node_name,
        )

    async def _keep_probing(self) -> None:
        while True:
            if self._watch.is_idle():
                with contextlib.suppress(BackendUnavailable, Overloaded, Unauthenticated):
                    await self._ask(PROBE)
            with contextlib.suppress(BackendUnavailable):
                await self._check_ready()
            await asyncio.sleep(self._watch.probe_pause_s())
