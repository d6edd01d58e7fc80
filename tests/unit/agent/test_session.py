"""The xDS protocol of one stream: what is owed after which request, in both of its forms."""

from typing import Generic, TypeVar

import pytest

from meshsigner.agent.session import (
    REMEMBERED,
    SECRET_TYPE,
    DeltaRequest,
    DeltaSession,
    Meaning,
    ProtocolError,
    Request,
    Session,
    SotwSession,
)

KNOWN = ("default", "ROOTCA", "ALL")
V1 = {"ROOTCA": "r1", "default": "c1"}
V2 = {"ROOTCA": "r1", "default": "c2"}
NODE = "sidecar~10.0.0.1"


SessionT = TypeVar("SessionT", bound=Session)


class Server(Generic[SessionT]):
    """A session that sends whatever is due, as the shell around it would.

    Attributes:
        versions: What exists.
        sent: Names of each response, in order.
    """

    def __init__(self, session: SessionT, versions: dict[str, str]) -> None:
        self.session = session
        self.versions = versions
        self.sent: list[tuple[str, ...]] = []

    def push(self) -> list[tuple[str, ...]]:
        """Send all that is due; return the names of each response."""
        responses = []
        while due := self.session.due(self.versions):
            nonce = f"n{len(self.sent) + 1}"
            self.session.sent(nonce, {name: self.versions[name] for name in due[0]})
            self.sent.append(due[0])
            responses.append(due[0])
        return responses


def _sotw(*names: str, versions: dict[str, str] | None = None) -> Server[SotwSession]:
    """Open a stream, ask for names, send what there is."""
    server = Server(SotwSession(KNOWN), V1 if versions is None else versions)
    server.session.receive(Request(node_id=NODE, names=names))
    server.push()
    return server


def _ask(
    server: Server[SotwSession], *names: str, nonce: str = "", refusal: str | None = None
) -> Meaning:
    return server.session.receive(Request(names=names, nonce=nonce, refusal=refusal)).meaning


def test_first_request_must_name_a_node() -> None:
    """A stream whose first request has no node.id ends with istio's words."""
    with pytest.raises(ProtocolError, match=r"^missing node information$"):
        SotwSession(KNOWN).receive(Request(names=("default",)))
    with pytest.raises(ProtocolError, match=r"^missing node information$"):
        DeltaSession(KNOWN).receive(DeltaRequest(subscribe=("default",)))


def test_later_requests_need_no_node() -> None:
    """Envoy names itself in the first request alone (SetNodeOnFirstMessageOnly)."""
    server = _sotw("default")
    assert _ask(server, "default", nonce="n1") is Meaning.ACCEPTED
    assert server.session.node_id == NODE


@pytest.mark.parametrize("type_url", ["", SECRET_TYPE])
def test_secrets_are_served_with_and_without_their_type(type_url: str) -> None:
    """The type may be left out: there is but one."""
    SotwSession(KNOWN).receive(Request(type_url=type_url, node_id=NODE, names=("default",)))


def test_other_types_end_the_stream() -> None:
    """Whoever asks for listeners here has the wrong cluster configured, and is told."""
    cluster = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
    with pytest.raises(ProtocolError, match="only secrets are served here"):
        SotwSession(KNOWN).receive(Request(type_url=cluster, node_id=NODE))


def test_unknown_name_ends_the_stream() -> None:
    """A name that does not exist is told with those that do, not waited for in silence."""
    with pytest.raises(ProtocolError, match="no secret 'defualt'; it has default, ROOTCA, ALL"):
        SotwSession(KNOWN).receive(Request(node_id=NODE, names=("defualt",)))
    with pytest.raises(ProtocolError, match="no secret 'b'"):
        DeltaSession(KNOWN).receive(DeltaRequest(node_id=NODE, subscribe=("default", "b")))


def test_strangers_words_are_cut() -> None:
    """A client cannot make the agent repeat more than a line of its own words."""
    names = tuple(f"{number}{'x' * 1000}" for number in range(50))
    with pytest.raises(ProtocolError, match="and 45 more") as caught:
        SotwSession(KNOWN).receive(Request(node_id=NODE, names=names))
    assert len(str(caught.value)) < 1_500


def test_first_request_is_answered_with_all_its_names_at_once() -> None:
    """What was asked for together goes together, roots first."""
    assert _sotw("default", "ROOTCA").sent == [("ROOTCA", "default")]


def test_nonce_of_an_earlier_stream_begins_this_one() -> None:
    """A client that reconnects with its last nonce is answered, not taken for stale (istio)."""
    server = Server(SotwSession(KNOWN), V1)
    heard = server.session.receive(Request(node_id=NODE, names=("default",), nonce="old"))
    assert heard.meaning is Meaning.SUBSCRIBED
    assert server.push() == [("default",)]


def test_statement_65_acknowledgement_is_not_answered() -> None:
    """Same names, last nonce: nothing is sent."""
    server = _sotw("default", "ROOTCA")
    assert _ask(server, "default", "ROOTCA", nonce="n1") is Meaning.ACCEPTED
    assert server.push() == []


def test_statement_65_refusal_is_not_answered_and_never_repeated() -> None:
    """A refused version is not sent again, however often it is refused; another one is."""
    server = _sotw("default")
    for _ in range(3):
        assert _ask(server, "default", nonce="n1", refusal="key mismatch") is Meaning.REFUSED
        assert server.push() == []
    server.versions = V2
    assert server.push() == [("default",)]


def test_refusal_says_what_it_is_about() -> None:
    """Names, versions and Envoy's words are there for the log."""
    server = _sotw("default", "ROOTCA")
    heard = server.session.receive(
        Request(names=("default", "ROOTCA"), nonce="n1", refusal="bad PEM")
    )
    assert heard.versions == V1
    assert heard.names == ("ROOTCA", "default")
    assert heard.refusal == "bad PEM"


def test_refusal_with_a_stale_nonce_is_still_told() -> None:
    """Two responses in a row, the first is refused: the log must know, the state must not."""
    server = _sotw("default")
    server.versions = V2
    server.push()
    heard = server.session.receive(Request(names=("default",), nonce="n1", refusal="no"))
    assert (heard.meaning, heard.versions) == (Meaning.REFUSED, {"default": "c1"})
    assert server.push() == []


def test_refusal_without_nonce_is_not_answered() -> None:
    """Even a client that forgets the nonce cannot start a loop by refusing."""
    server = _sotw("default")
    assert _ask(server, "default", refusal="no") is Meaning.REFUSED
    assert server.push() == []


def test_names_that_a_refusal_adds_are_answered() -> None:
    """A refusal may be the only request that ever names a new secret: it is heard (SPIRE)."""
    server = _sotw("default")
    assert _ask(server, "default", "ROOTCA", nonce="n1", refusal="no") is Meaning.REFUSED
    assert server.push() == [("ROOTCA",)]


def test_statement_65_stale_nonce_is_ignored() -> None:
    """A request that was made before the last response came says nothing, names included."""
    server = _sotw("default")
    server.versions = V2
    server.push()
    assert _ask(server, "default", "ROOTCA", nonce="n1") is Meaning.STALE
    assert server.push() == []
    assert server.session.wanted == ("default",)


def test_empty_nonce_begins_anew() -> None:
    """A request without nonce in mid-stream is answered with all its names, once (istio)."""
    server = _sotw("default", "ROOTCA")
    assert _ask(server, "default", "ROOTCA") is Meaning.SUBSCRIBED
    assert server.push() == [("ROOTCA", "default")]
    assert server.push() == []


def test_statement_65_added_names_alone_are_answered() -> None:
    """The names that were sent before are not sent again."""
    server = _sotw("default")
    assert _ask(server, "default", "ROOTCA", nonce="n1") is Meaning.SUBSCRIBED
    assert server.push() == [("ROOTCA",)]


def test_removed_names_are_not_answered() -> None:
    """Fewer names: nothing is sent, and the removed one is not pushed any more."""
    server = _sotw("default", "ROOTCA")
    assert _ask(server, "ROOTCA", nonce="n1") is Meaning.ACCEPTED
    server.versions = V2
    assert server.push() == []
    assert server.session.wanted == ("ROOTCA",)


def test_name_that_comes_back_is_answered() -> None:
    """Removed and asked for again: the client may have dropped it, so it is sent."""
    server = _sotw("default", "ROOTCA")
    _ask(server, "ROOTCA", nonce="n1")
    assert _ask(server, "default", "ROOTCA", nonce="n1") is Meaning.SUBSCRIBED
    assert server.push() == [("default",)]


@pytest.mark.parametrize("nonce", ["n1", "stale", ""])
def test_statement_65_no_names_at_all_unsubscribes(nonce: str) -> None:
    """An empty list ends all pushes and is not answered, whatever its nonce (istio)."""
    server = _sotw("default", "ROOTCA")
    assert _ask(server, nonce=nonce) is Meaning.UNSUBSCRIBED
    server.versions = V2
    assert server.push() == []
    assert server.session.wanted == ()


def test_no_names_in_the_first_request_ask_for_nothing() -> None:
    """Secrets are no wildcard type: silence at the start is no wish for everything."""
    assert _sotw().sent == []


def test_names_after_an_unsubscription_are_answered() -> None:
    """There is no state left that a nonce could be stale against."""
    server = _sotw("default")
    _ask(server, nonce="n1")
    assert _ask(server, "default", nonce="n1") is Meaning.SUBSCRIBED
    assert server.push() == [("default",)]


def test_statement_66_change_is_pushed_alone() -> None:
    """A new certificate does not send the roots again, and each change goes by itself."""
    server = _sotw("default", "ROOTCA")
    server.versions = V2
    assert server.push() == [("default",)]
    server.versions = {"ROOTCA": "r2", "default": "c3"}
    assert server.push() == [("ROOTCA",), ("default",)]


def test_statement_66_only_subscribed_names_are_pushed() -> None:
    """Who wants roots alone never sees a key."""
    server = _sotw("ROOTCA")
    server.versions = {"ROOTCA": "r2", "default": "c2"}
    assert server.push() == [("ROOTCA",)]


def test_statement_68_name_without_a_secret_is_owed_until_there_is_one() -> None:
    """Before the first certificate nothing is sent and nothing fails; then it comes."""
    server = _sotw("default", "ROOTCA", versions={})
    assert server.sent == []
    server.versions = V1
    assert server.push() == [("ROOTCA", "default")]


def test_what_exists_is_sent_without_what_does_not() -> None:
    """Roots do not wait for the certificate."""
    server = _sotw("default", "ROOTCA", versions={"ROOTCA": "r1"})
    assert server.sent == [("ROOTCA",)]
    server.versions = V1
    assert server.push() == [("default",)]


def test_names_that_change_before_the_first_answer_are_taken() -> None:
    """While nothing was sent there is no nonce to know: the last request counts."""
    server = _sotw("default", versions={})
    assert _ask(server, "ROOTCA") is Meaning.SUBSCRIBED
    assert _ask(server, "ROOTCA", nonce="old") is Meaning.SUBSCRIBED
    server.versions = V1
    assert server.push() == [("ROOTCA",)]


def test_withdrawn_secret_is_not_sent_and_not_forgotten() -> None:
    """An expired certificate is sent to nobody; its successor goes to who has the old one."""
    server = _sotw("default")
    server.versions = {}
    assert server.push() == []
    server.versions = V2
    assert server.push() == [("default",)]


def test_memory_of_responses_is_bounded() -> None:
    """A refusal of a response from long ago is told without its versions."""
    server = _sotw("default")
    for number in range(REMEMBERED):
        server.versions = {"default": f"later {number}"}
        server.push()
    heard = server.session.receive(Request(names=("default",), nonce="n1", refusal="no"))
    assert (heard.names, heard.versions) == (("default",), {})


def _delta(*names: str, held: dict[str, str] | None = None) -> Server[DeltaSession]:
    """Open a delta stream, subscribe, send what there is."""
    server = Server(DeltaSession(KNOWN), V1)
    server.session.receive(DeltaRequest(node_id=NODE, subscribe=names, versions=held or {}))
    server.push()
    return server


def _tell(server: Server[DeltaSession], **fields: object) -> Meaning:
    return server.session.receive(DeltaRequest(**fields)).meaning  # type: ignore[arg-type]


def test_delta_subscription_is_answered() -> None:
    """What is subscribed to is sent; what was not named is not."""
    assert _delta("default").sent == [("default",)]


def test_delta_adds_to_what_was_subscribed() -> None:
    """Unlike in the other form a request names only what changes."""
    server = _delta("default")
    assert _tell(server, subscribe=("ROOTCA",)) is Meaning.SUBSCRIBED
    assert server.push() == [("ROOTCA",)]
    assert server.session.wanted == ("default", "ROOTCA")


def test_delta_subscribing_again_is_answered_again() -> None:
    """The client may have dropped the secret before it wanted it back (xDS: RemoveThenAdd)."""
    server = _delta("default")
    _tell(server, subscribe=("default",))
    assert server.push() == [("default",)]


def test_statement_65_delta_acknowledgement_and_refusal_are_not_answered() -> None:
    """A nonce alone asks for nothing, with or without an error."""
    server = _delta("default")
    assert _tell(server, nonce="n1") is Meaning.ACCEPTED
    assert _tell(server, nonce="n1", refusal="no") is Meaning.REFUSED
    assert _tell(server, nonce="n0") is Meaning.STALE
    assert server.push() == []


def test_delta_names_are_taken_beside_a_stale_nonce() -> None:
    """No later request repeats them, so they may not be lost."""
    server = _delta("default")
    assert _tell(server, nonce="n0", subscribe=("ROOTCA",)) is Meaning.SUBSCRIBED
    assert _tell(server, nonce="n0", unsubscribe=("default",)) is Meaning.UNSUBSCRIBED
    assert server.push() == [("ROOTCA",)]
    assert server.session.wanted == ("ROOTCA",)


def test_delta_refusal_may_change_names() -> None:
    """A refusal is heard for its names too."""
    server = _delta("default")
    assert _tell(server, nonce="n1", refusal="no", subscribe=("ROOTCA",)) is Meaning.REFUSED
    assert server.push() == [("ROOTCA",)]


def test_statement_65_delta_unsubscription_is_not_answered() -> None:
    """What is not wanted any more, or never was, is not sent and not pushed."""
    server = _delta("default", "ROOTCA")
    assert _tell(server, unsubscribe=("default", "never heard of")) is Meaning.UNSUBSCRIBED
    server.versions = V2
    assert server.push() == []


def test_delta_resumes_with_what_the_client_holds() -> None:
    """After a reconnect only what has changed meanwhile is sent."""
    assert _delta("default", "ROOTCA", held=V1).sent == []
    assert _delta("default", "ROOTCA", held={**V1, "default": "c0"}).sent == [("default",)]


def test_delta_holdings_count_in_the_first_request_alone() -> None:
    """Later on the server knows better what it sent (xDS: initial_resource_versions)."""
    server = _delta("default")
    _tell(server, subscribe=("ROOTCA",), versions=V1)
    assert server.push() == [("ROOTCA",)]


def test_delta_change_is_pushed_alone() -> None:
    """Each change goes by itself, as in the other form."""
    server = _delta("default", "ROOTCA")
    server.versions = {"ROOTCA": "r2", "default": "c2"}
    assert server.push() == [("ROOTCA",), ("default",)]
