"""The xDS protocol of one stream, as a state machine: what was asked, sent, taken and refused.

Decides which names a stream is owed, in both forms of the protocol: state of
the world (`SotwSession`) and delta (`DeltaSession`). Bytes, nonces, secrets
and waiting are left to `sds_service`. It never answers an acknowledgement, a
refusal, a stale request or an unsubscription, so that no client can be drawn
into a loop: a name is owed when it is newly asked for, or when its version is
another than the one that was last sent.

Where Istio and SPIRE differ:

* No names at all is "nothing any more" (Istio), not "everything" (SPIRE):
  secrets are no wildcard type in the xDS protocol. One-shot fetches, which
  have nothing to end, get everything (`sds_service`).
* A refusal that changes the names is heard (SPIRE), for it may be the only
  request that ever says so; what it refuses is not sent again.
* A name that does not exist ends the stream (SPIRE): Envoy logs why, where
  silence would leave it waiting for ever.

Source: Envoy xDS protocol (ACK, NACK, resource hints, unsubscribing); istio
pkg/xds/server.go ShouldRespond; spire pkg/agent/endpoints/sdsv3/handler.go.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 - a type's name
REMEMBERED = 16  # responses that a late refusal can still be matched with
SHOWN_NAMES = 5  # of those that do not exist, in the answer to a stranger
SHOWN_CHARACTERS = 200  # of each


class ProtocolError(Exception):
    """A request that no client of ours may send; it ends the stream.

    The text is told to the client.
    """


class Meaning(StrEnum):
    """What a request turned out to be."""

    SUBSCRIBED = "subscribed"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    STALE = "stale"
    UNSUBSCRIBED = "unsubscribed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A DiscoveryRequest.

    Attributes:
        type_url: Type of the resources; empty stands for secrets.
        node_id: Who asks; may be empty after the first request.
        names: All names that are wanted.
        nonce: Of the response that it answers, empty when it answers none.
        refusal: Why that response was refused, None when it was not.
    """

    type_url: str = SECRET_TYPE
    node_id: str = ""
    names: tuple[str, ...] = ()
    nonce: str = ""
    refusal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaRequest:
    """A DeltaDiscoveryRequest.

    Attributes:
        type_url: Type of the resources; empty stands for secrets.
        node_id: Who asks; may be empty after the first request.
        subscribe: Names that are wanted from now on.
        unsubscribe: Names that are not wanted any more.
        versions: What the client still holds from an earlier stream, version by name.
        nonce: Of the response that it answers, empty when it answers none.
        refusal: Why that response was refused, None when it was not.
    """

    type_url: str = SECRET_TYPE
    node_id: str = ""
    subscribe: tuple[str, ...] = ()
    unsubscribe: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    nonce: str = ""
    refusal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a request meant, for the log and the figures.

    Attributes:
        meaning: Which kind of request it was.
        names: The names that it is about.
        versions: Those that the answered response carried, name by name.
        refusal: Why they were refused.
    """

    meaning: Meaning
    names: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    refusal: str = ""


class Session:
    """What both forms of the protocol share.

    Args:
        known: Every name that can be asked for.
    """

    def __init__(self, known: Collection[str]) -> None:
        self.node_id = ""
        self._known = known
        self._sent: dict[str, str | None] = {}  # wanted name -> version last sent, None: owed
        self._responses: OrderedDict[str, Mapping[str, str]] = OrderedDict()  # by nonce
        self._nonce = ""

    @property
    def wanted(self) -> tuple[str, ...]:
        """Every name that the stream is subscribed to."""
        return tuple(self._sent)

    def due(self, current: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
        """Say what must be sent now, a response an item.

        Names that were asked for go together; a change of one that was sent
        before goes alone, so that a refusal of it holds back nothing else.

        Args:
            current: Version of every secret that exists now, roots first.
        """
        wanted = [name for name in current if name in self._sent]
        asked = tuple(name for name in wanted if self._sent[name] is None)
        changed = [(name,) for name in wanted if self._sent[name] not in {None, current[name]}]
        return (*([asked] if asked else []), *changed)

    def sent(self, nonce: str, versions: Mapping[str, str]) -> None:
        """Remember a response that leaves now.

        Args:
            nonce: Its nonce, never used before.
            versions: What is in it.
        """
        self._nonce = nonce
        self._responses[nonce] = versions
        if len(self._responses) > REMEMBERED:
            self._responses.popitem(last=False)
        self._sent.update({name: v for name, v in versions.items() if name in self._sent})

    def _admit(self, type_url: str, node_id: str, names: Iterable[str]) -> None:
        """Refuse what no client of ours may send.

        Raises:
            ProtocolError: The first request names no node, or any another type
                of resource, or a name that does not exist.
        """
        if not self.node_id:
            if not node_id:
                raise ProtocolError("missing node information")
            self.node_id = node_id
        if type_url not in {"", SECRET_TYPE}:
            raise ProtocolError(f"only secrets are served here, not {_shown([type_url])}")
        unknown = [name for name in names if name not in self._known]
        if unknown:
            raise ProtocolError(
                f"this workload has no secret {_shown(unknown)}; it has {', '.join(self._known)}"
            )

    def _refused(self, nonce: str, refusal: str) -> Heard:
        versions = self._responses.get(nonce, {})
        names = tuple(versions) or self.wanted
        return Heard(meaning=Meaning.REFUSED, names=names, versions=versions, refusal=refusal)


class SotwSession(Session):
    """State of the world: every request names all that is wanted."""

    def receive(self, request: Request) -> Heard:
        """Take in a request; `due` then says what it is owed.

        Raises:
            ProtocolError: The stream must end.
        """
        self._admit(request.type_url, request.node_id, request.names)
        begins = not (request.nonce and self._nonce and self._sent)
        # Who wants nothing any more is heard at once, whatever was last sent (istio).
        stale = bool(request.names) and not begins and request.nonce != self._nonce
        if request.refusal is not None:
            heard = self._refused(request.nonce, request.refusal)
        elif stale:
            heard = Heard(meaning=Meaning.STALE, names=request.names)
        else:
            heard = self._kept(request, begins=begins)
        if not stale:
            self._want(request.names, anew=begins and request.refusal is None)
        return heard

    def _kept(self, request: Request, *, begins: bool) -> Heard:
        if not request.names:
            return Heard(meaning=Meaning.UNSUBSCRIBED, names=self.wanted)
        versions = self._responses.get(request.nonce, {})
        if begins or set(request.names) - set(self._sent):
            return Heard(meaning=Meaning.SUBSCRIBED, names=request.names, versions=versions)
        return Heard(meaning=Meaning.ACCEPTED, names=tuple(versions), versions=versions)

    def _want(self, names: tuple[str, ...], *, anew: bool) -> None:
        """Want these names and no other; owe those that are new, or all of them."""
        before = {} if anew else self._sent
        self._sent = {name: before.get(name) for name in names}


class DeltaSession(Session):
    """Delta: requests add and remove names; each resource has a version of its own."""

    def __init__(self, known: Collection[str]) -> None:
        super().__init__(known)
        self._first = True

    def receive(self, request: DeltaRequest) -> Heard:
        """Take in a request; `due` then says what it is owed.

        Changes of names are taken whatever the nonce: unlike in the other
        form, no later request repeats them.

        Raises:
            ProtocolError: The stream must end.
        """
        self._admit(request.type_url, request.node_id, request.subscribe)
        held = request.versions if self._first else {}
        self._first = False
        # A name is owed even if it was sent before: the client may have dropped it since.
        self._sent.update({name: held.get(name) for name in request.subscribe})
        for name in request.unsubscribe:
            self._sent.pop(name, None)
        return self._meaning(request)

    def _meaning(self, request: DeltaRequest) -> Heard:
        if request.refusal is not None:
            return self._refused(request.nonce, request.refusal)
        versions = self._responses.get(request.nonce, {})
        if request.subscribe:
            return Heard(meaning=Meaning.SUBSCRIBED, names=request.subscribe, versions=versions)
        if request.unsubscribe:
            return Heard(meaning=Meaning.UNSUBSCRIBED, names=request.unsubscribe, versions=versions)
        meaning = Meaning.ACCEPTED if request.nonce == self._nonce else Meaning.STALE
        return Heard(meaning=meaning, names=tuple(versions), versions=versions)


def _shown(names: list[str]) -> str:
    """Quote a stranger's words, not more of them than a line holds."""
    shown = ", ".join(repr(name[:SHOWN_CHARACTERS]) for name in names[:SHOWN_NAMES])
    return shown if len(names) <= SHOWN_NAMES else f"{shown} and {len(names) - SHOWN_NAMES} more"
