"""Which keys one issuer has, and that no two clusters have the same one.

Decides what a JWK set may hold and who may own a key. Where sets come from and
when they are read again is `public_keys`.

Source: RFC 7517 5 (JWK set).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from meshsigner.authn.keys import UnusableKey, VerifyingKey, import_key
from meshsigner.authn.strict_json import InvalidJson, parse_object

MAX_KEY_SET_BYTES = 256 * 1024
MAX_KEYS = 100


class InvalidKeySet(ValueError):
    """A JWK set as a whole cannot be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySet:
    """The keys of one issuer; whoever derives something from them compares the object.

    Attributes:
        keys: By key id.
        ignored: One sentence for each entry that was left out: which, and why.
    """

    keys: Mapping[str, VerifyingKey]
    ignored: tuple[str, ...] = ()

    def thumbprints(self) -> frozenset[str]:
        """Return the thumbprints of all keys."""
        return frozenset(key.thumbprint for key in self.keys.values())

    def same_as(self, other: "KeySet") -> bool:
        """Return whether another set holds the same and leaves out the same."""
        return _content(self) == _content(other)

    def without(self, thumbprints: frozenset[str], why: str) -> "KeySet":
        """Return a set that leaves some keys out.

        Args:
            thumbprints: Which.
            why: The reason, said for each of them.
        """
        kept = {i: k for i, k in self.keys.items() if k.thumbprint not in thumbprints}
        left_out = tuple(f"{_name(i)}: {why}" for i in self.keys if i not in kept)
        return KeySet(keys=MappingProxyType(kept), ignored=self.ignored + left_out)


def _content(keys: KeySet) -> object:
    return {i: (k.thumbprint, frozenset(k.verifiers)) for i, k in keys.keys.items()}, keys.ignored


def parse_key_set(data: bytes) -> KeySet:
    """Read a JWK set.

    An entry that cannot verify tokens is left out and named in `ignored`; what
    makes the whole set doubtful refuses it.

    Args:
        data: The document.

    Raises:
        InvalidKeySet: Too long, not a JWK set, a key id that is there twice, or
            no usable key.
    """
    if len(data) > MAX_KEY_SET_BYTES:
        raise InvalidKeySet("longer than 256 KiB")
    entries = _entries(data)
    _refuse_twins(entries)
    keys, ignored = {}, []
    for entry in entries:
        try:
            key = import_key(entry)
        except UnusableKey as error:
            ignored.append(f"{_name(entry.get('kid'))}: {error}")
        else:
            keys[key.key_id] = key
    if not keys:
        raise InvalidKeySet("; ".join(["no usable key", *ignored]))
    return KeySet(keys=MappingProxyType(keys), ignored=tuple(ignored))


def _entries(data: bytes) -> list[Mapping[str, Any]]:
    try:
        entries = parse_object(data).get("keys")
    except InvalidJson as error:
        raise InvalidKeySet(str(error)) from None
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise InvalidKeySet("no list `keys` of objects")
    if len(entries) > MAX_KEYS:
        raise InvalidKeySet(f"more than {MAX_KEYS} keys")
    return entries


def _refuse_twins(entries: list[Mapping[str, Any]]) -> None:
    # Which of two keys an id names would depend on their order in the document.
    key_ids = [e["kid"] for e in entries if isinstance(e.get("kid"), str)]
    twins = [_name(key_id) for key_id in Counter(key_ids) - Counter(set(key_ids))]
    if twins:
        raise InvalidKeySet(f"a key id is there more than once: {', '.join(twins)}")


def _name(key_id: object) -> str:
    """Name a key in a sentence; the text comes from outside, so it is cut and escaped."""
    return f"key {ascii(key_id)[:80]}" if isinstance(key_id, str) else "key without id"


class KeyOwners:
    """Remembers which cluster each key belongs to; the one thing clusters share.

    It is there so that they share nothing else: two clusters often have the same
    issuer name, and with the same key a token of one would pass for the other.
    """

    def __init__(self) -> None:
        self._held: dict[object, tuple[str, frozenset[str]]] = {}

    def claim(self, holder: object, cluster: str, thumbprints: frozenset[str]) -> frozenset[str]:
        """Claim keys; what the holder had before and does not claim again is free.

        Args:
            holder: Who holds them, one of possibly several in the cluster.
            cluster: Whose keys they are.
            thumbprints: All keys that the holder has now.

        Returns:
            Those that belong to another cluster; they were not granted.
        """
        foreign = thumbprints & frozenset().union(
            *(held for owner, held in self._held.values() if owner != cluster),
        )
        self._held[holder] = (cluster, thumbprints - foreign)
        return foreign

    def release(self, holder: object) -> None:
        """Free all keys of a holder that is no more."""
        self._held.pop(holder, None)
