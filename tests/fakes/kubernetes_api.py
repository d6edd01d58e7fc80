"""A strict API server: it reviews tokens and serves keys, or misbehaves as a real one does.

Knows nothing of our code: a request that a real API server would refuse is
refused here too. Answers for tokens have the form of the recorded ones
(tests/vectors/recorded/token_reviews.json).

Source: Kubernetes authentication.k8s.io/v1.
"""

import asyncio
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.fakes.http_server import Handler, HttpServer

TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


def refused(error: str = "invalid bearer token") -> dict[str, Any]:
    """Return the status for a token that the server does not take."""
    return {"user": {}, "error": error}


def authenticated(
    username: str = "system:serviceaccount:foo:bar",
    audiences: Sequence[str] = ("istio-ca",),
    groups: Sequence[str] = ("system:serviceaccounts", "system:authenticated"),
    **extra: str,
) -> dict[str, Any]:
    """Return the status for a good token; extra members in Python's spelling."""
    members = {f"authentication.kubernetes.io/{k.replace('_', '-')}": [v] for k, v in extra.items()}
    return {
        "authenticated": True,
        "user": {
            "username": username,
            "uid": "account-uid",
            "groups": list(groups),
            "extra": members,
        },
        "audiences": list(audiences),
    }


@dataclass(slots=True, kw_only=True)
class KubernetesApiServer:
    """An API server behind `HttpServer`.

    Attributes:
        http: Where it listens.
        credentials: Bearer tokens of reviewers that it takes.
        forbidden: Those among them that may not create token reviews.
        accounts: Status for each token it was told about; others are refused.
        misbehaviour: Answers instead of the server while it is set.
        gate: While cleared, reviews wait; set by default.
        reviewed: Tokens that it was asked about.
        in_flight: Reviews that are being answered now.
        most_in_flight: The most there ever were at once.
    """

    http: HttpServer = field(default_factory=HttpServer)
    credentials: set[str] = field(default_factory=lambda: {"reviewer"})
    forbidden: set[str] = field(default_factory=set)
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)
    misbehaviour: Handler | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reviewed: list[str] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    def __post_init__(self) -> None:
        """Open the gate and take the path."""
        self.gate.set()
        self.http.paths[TOKEN_REVIEWS] = self.review

    async def review(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request for a token review."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await self.gate.wait()
            if self.misbehaviour is not None:
                return await self.misbehaviour(request)
            return await self._review(request)
        finally:
            self.in_flight -= 1

    async def _review(self, request: web.BaseRequest) -> web.StreamResponse:
        reviewer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if reviewer not in self.credentials:
            return _failure(401, "Unauthorized")
        if reviewer in self.forbidden:
            return _failure(403, "Forbidden")
        if request.method != "POST" or request.content_type != "application/json":
            return _failure(415, "UnsupportedMediaType")
        review = json.loads(await request.read())
        problem = _problem(review)
        if problem:
            return _failure(400, "BadRequest", problem)
        token = review["spec"]["token"]
        self.reviewed.append(token)
        status = deepcopy(self.accounts.get(token, refused()))
        return web.json_response({**review, "metadata": {}, "status": status}, status=201)


def _problem(review: Any) -> str | None:
    """Say what a real server would: unknown fields, a missing token."""
    if set(review) != {"kind", "apiVersion", "spec"} or review["kind"] != "TokenReview":
        return "not a TokenReview"
    if review["apiVersion"] != "authentication.k8s.io/v1":
        return "another API version"
    spec = review["spec"]
    if set(spec) - {"token", "audiences"} or not isinstance(spec.get("audiences", []), list):
        return "strict decoding error"
    return None if spec.get("token") else "token is required for TokenReview in authentication"


def _failure(code: int, reason: str, message: str = "") -> web.Response:
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return web.json_response(status, status=code)
