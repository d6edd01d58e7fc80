"""Whoever waits is taken in order of priority, in turns, and once."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from meshsigner.waiting import Place, Priority, WaitingLine

PLACES = st.builds(Place, st.sampled_from(Priority), st.sampled_from("abc"), st.sampled_from("xyz"))


def _drain(line: WaitingLine[tuple[int, Place]]) -> list[tuple[int, Place]]:
    return [line.pop() for _ in range(len(line))]


@given(places=st.lists(PLACES, max_size=60))
def test_everybody_is_taken_once_and_by_priority(places: list[Place]) -> None:
    """Nobody is lost or taken twice, and no lower priority goes before a higher."""
    line: WaitingLine[tuple[int, Place]] = WaitingLine()
    for item in enumerate(places):
        line.push(item, item[1])
    taken = _drain(line)
    assert sorted(taken) == sorted(enumerate(places))
    assert [place.priority for _, place in taken] == sorted(p.priority for p in places)
    assert len(line) == 0


@given(places=st.lists(PLACES, max_size=60))
def test_those_of_one_place_keep_their_order(places: list[Place]) -> None:
    """Of two at the same place, who came first goes first."""
    line: WaitingLine[tuple[int, Place]] = WaitingLine()
    for item in enumerate(places):
        line.push(item, item[1])
    last: dict[Place, int] = {}
    for number, place in _drain(line):
        assert last.get(place, -1) < number
        last[place] = number


@given(places=st.lists(PLACES, min_size=1, max_size=60))
def test_namespaces_share_evenly_while_they_wait(places: list[Place]) -> None:
    """Among namespaces that still wait at a priority, none is ever two turns ahead."""
    line: WaitingLine[tuple[int, Place]] = WaitingLine()
    for item in enumerate(places):
        line.push(item, item[1])
    left = Counter((place.priority, place.namespace) for place in places)
    turns: Counter[tuple[Priority, str]] = Counter()
    for _, place in _drain(line):
        key = (place.priority, place.namespace)
        turns[key] += 1
        left[key] -= 1
        waiting = [turns[other] for other in left if other[0] == key[0] and left[other]]
        assert all(turns[key] - others <= 1 for others in waiting)


@given(places=st.lists(PLACES, max_size=60), newcomer=PLACES)
def test_no_more_go_before_a_newcomer_than_was_foretold(
    places: list[Place], newcomer: Place
) -> None:
    """The foretold number is never too small while nobody else comes."""
    line: WaitingLine[tuple[int, Place]] = WaitingLine()
    for item in enumerate(places):
        line.push(item, item[1])
    foretold = line.ahead_of(newcomer)
    line.push((-1, newcomer), newcomer)
    before = next(i for i, (number, _) in enumerate(_drain(line)) if number == -1)
    assert before <= foretold <= len(places)


@given(crowd=st.integers(1, 500))
def test_a_crowd_in_one_namespace_costs_another_one_turn(crowd: int) -> None:
    """However many of a crash-looping Deployment wait, another's first pod is second at most."""
    line: WaitingLine[tuple[int, Place]] = WaitingLine()
    loop = Place(Priority.FIRST, "looping", "spiffe://a")
    for number in range(crowd):
        line.push((number, loop), loop)
    other = Place(Priority.FIRST, "calm", "spiffe://b")
    assert line.ahead_of(other) == 1
    line.push((-1, other), other)
    assert -1 in [number for number, _ in (line.pop(), line.pop())]


@given(crowd=st.integers(1, 500))
def test_a_crowd_of_one_account_costs_its_namespace_one_turn(crowd: int) -> None:
    """In the same namespace, too, an account's crowd costs another account one turn."""
    line: WaitingLine[tuple[int, Place]] = WaitingLine()
    loop = Place(Priority.FIRST, "shop", "spiffe://a")
    for number in range(crowd):
        line.push((number, loop), loop)
    other = Place(Priority.FIRST, "shop", "spiffe://b")
    line.push((-1, other), other)
    assert -1 in [number for number, _ in (line.pop(), line.pop())]
