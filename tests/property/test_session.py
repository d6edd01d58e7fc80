"""Whatever a client says, a stream gets just what it is owed, and never without end."""

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from meshsigner.agent.session import (
    DeltaRequest,
    DeltaSession,
    Meaning,
    Request,
    Session,
    SotwSession,
)

NAMES = ("ROOTCA", "default", "ALL")
names = st.lists(st.sampled_from(NAMES), unique=True, max_size=3).map(tuple)
refusals = st.none() | st.just("refused")
# How far back in the stream a nonce is from: 0 is the last one, empty is none at all.
ages = st.sampled_from(["", "0", "1", "2", "3"])
publish = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3).map(str))
node = st.just("n")
sotw_requests = st.builds(Request, node_id=node, names=names, nonce=ages, refusal=refusals)
delta_requests = st.builds(
    DeltaRequest,
    node_id=node,
    subscribe=names,
    unsubscribe=names,
    nonce=ages,
    refusal=refusals,
)
Change = dict[str, str]
MAX_RESPONSES = len(NAMES)  # to one request or change: each name once at most


class Stream:
    """Sends what is due, and remembers what the client must hold."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.current: dict[str, str] = {}
        self.held: dict[str, str] = {}
        self.nonces: list[str] = []

    def settle(self) -> int:
        """Send until nothing is due; return how many responses that took."""
        count = 0
        while due := self.session.due(self.current):
            count += 1
            assert count <= MAX_RESPONSES
            assert due[0], "a response without secrets"
            versions = {name: self.current[name] for name in due[0]}
            assert set(versions) <= set(self.session.wanted)
            self.nonces.append(f"nonce {len(self.nonces)}")
            self.session.sent(self.nonces[-1], versions)
            self.held |= versions
        return count

    def nonce(self, age: str) -> str:
        """Return a nonce from so many responses ago."""
        if not age or not self.nonces:
            return ""
        return self.nonces[max(len(self.nonces) - 1 - int(age), 0)]

    def owed_nothing(self) -> None:
        """Check that every wanted secret that exists is held in its version."""
        for name in self.session.wanted:
            assert name not in self.current or self.held[name] == self.current[name]


def _publish(stream: Stream, change: dict[str, str]) -> None:
    stream.current |= change
    stream.current = {name: stream.current[name] for name in NAMES if name in stream.current}
    stream.settle()
    stream.owed_nothing()


@given(st.lists(sotw_requests | publish, max_size=30))
def test_sotw_stream_gets_what_it_is_owed(steps: list[Request | Change]) -> None:
    """All that is wanted is held in its last version, and silence follows each answer."""
    session = SotwSession(NAMES)
    stream = Stream(session)
    for step in steps:
        if isinstance(step, dict):
            _publish(stream, step)
            continue
        before = set(session.wanted)
        heard = session.receive(replace(step, nonce=stream.nonce(step.nonce)))
        sent = stream.settle()
        stream.owed_nothing()
        if heard.meaning in {Meaning.ACCEPTED, Meaning.STALE, Meaning.UNSUBSCRIBED}:
            assert sent == 0
        if heard.meaning is Meaning.REFUSED and set(step.names) <= before:
            assert sent == 0


@given(st.lists(delta_requests | publish, max_size=30))
def test_delta_stream_gets_what_it_is_owed(steps: list[DeltaRequest | Change]) -> None:
    """The same in the delta form, where only a subscription is ever answered."""
    session = DeltaSession(NAMES)
    stream = Stream(session)
    for step in steps:
        if isinstance(step, dict):
            _publish(stream, step)
            continue
        session.receive(replace(step, nonce=stream.nonce(step.nonce)))
        assert not set(step.unsubscribe) & set(session.wanted)
        assert stream.settle() == 0 or step.subscribe
        stream.owed_nothing()


def _acknowledgements(stream: Stream, wanted: tuple[str, ...]) -> Iterator[Request]:
    for nonce in list(stream.nonces):
        yield Request(node_id="n", names=wanted, nonce=nonce)


@given(names, st.lists(publish, max_size=10))
def test_client_that_acknowledges_everything_is_never_answered(
    wanted: tuple[str, ...], changes: list[dict[str, str]]
) -> None:
    """An obedient Envoy, however late its acknowledgements are, gets pushes and nothing else."""
    session = SotwSession(NAMES)
    stream = Stream(session)
    session.receive(Request(node_id="n", names=wanted))
    for change in changes:
        _publish(stream, change)
        before = len(stream.nonces)
        for acknowledgement in _acknowledgements(stream, wanted):
            session.receive(acknowledgement)
            assert stream.settle() == 0
        assert len(stream.nonces) == before
