"""The orders that wait for a signer, in the order in which it takes them.

Pods that have no certificate yet come before renewals, renewals near expiry
before the rest. Within a priority the namespaces take turns, within a namespace
those who ask: one crash-looping Deployment, or one ztunnel, gets its share and
no more, however much it asks for. Also says how many would go before a
newcomer, so that its wait can be foretold.

Source: docs/ARCHITECTURE.md, "Overload"; round robin in two steps, with orders
of equal cost (Shreedhar and Varghese, Efficient Fair Queuing, 1995).
"""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Priority(IntEnum):
    """Who is signed first; a smaller number goes before a larger."""

    FIRST = 0  # a pod that has no certificate yet: it cannot serve
    EXPIRING = 1  # a renewal whose certificate ends soon
    RENEWAL = 2  # a renewal at half life, which can wait for hours


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody waits.

    Attributes:
        priority: What goes first.
        namespace: Takes turns with the others of this priority.
        asker: Takes turns with the others of this namespace: an identity, whose
            pods share one turn, or an agent that asks for many identities.
    """

    priority: Priority
    namespace: str
    asker: str


class _Namespace(Generic[Item]):
    """Those of one namespace, who take turns."""

    __slots__ = ("askers", "size")

    def __init__(self) -> None:
        self.askers: OrderedDict[str, deque[Item]] = OrderedDict()
        self.size = 0


class WaitingLine(Generic[Item]):
    """Holds whatever waits; takes none in, and lets none go, by itself."""

    def __init__(self) -> None:
        self._namespaces: dict[Priority, OrderedDict[str, _Namespace[Item]]] = {
            priority: OrderedDict() for priority in Priority
        }
        self._sizes = dict.fromkeys(Priority, 0)
        self._size = 0

    def __len__(self) -> int:
        """Count those that wait."""
        return self._size

    def __iter__(self) -> Iterator[Item]:
        """Yield those that wait, in no order."""
        for namespaces in self._namespaces.values():
            for namespace in namespaces.values():
                for asked in namespace.askers.values():
                    yield from asked

    def push(self, item: Item, place: Place) -> None:
        """Let one wait, behind those of the same place."""
        namespaces = self._namespaces[place.priority]
        namespace = namespaces.get(place.namespace)
        if namespace is None:
            namespace = namespaces[place.namespace] = _Namespace()
        asked = namespace.askers.get(place.asker)
        if asked is None:
            asked = namespace.askers[place.asker] = deque()
        asked.append(item)
        namespace.size += 1
        self._sizes[place.priority] += 1
        self._size += 1

    def pop(self) -> Item:
        """Take the next; there must be one.

        Raises:
            IndexError: Nobody waits.
        """
        for priority, namespaces in self._namespaces.items():
            if namespaces:
                self._sizes[priority] -= 1
                self._size -= 1
                return _take_turn(namespaces)
        msg = "nobody waits"
        raise IndexError(msg)

    def ahead_of(self, place: Place) -> int:
        """Return how many would be taken before a newcomer, at most.

        Whoever comes later and goes first is not foreseen.
        """
        before = sum(self._sizes[p] for p in Priority if p < place.priority)
        namespaces = self._namespaces[place.priority]
        namespace = namespaces.get(place.namespace)
        if namespace is None:
            return before + len(namespaces)
        own = len(namespace.askers.get(place.asker, ()))
        askers = len(namespace.askers) + (place.asker not in namespace.askers)
        in_namespace = min(namespace.size, (own + 1) * askers - 1)
        turns = (in_namespace + 1) * len(namespaces) - 1
        return before + min(self._sizes[place.priority], turns)


def _take_turn(namespaces: OrderedDict[str, _Namespace[Item]]) -> Item:
    name, namespace = next(iter(namespaces.items()))
    asker, asked = next(iter(namespace.askers.items()))
    item = asked.popleft()
    if asked:
        namespace.askers.move_to_end(asker)
    else:
        del namespace.askers[asker]
    namespace.size -= 1
    if namespace.size:
        namespaces.move_to_end(name)
    else:
        del namespaces[name]
    return item
