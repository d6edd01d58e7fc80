"""What an API server keeps: objects, their versions, and what happened to them.

Knows nothing of HTTP and nothing of our code. Refuses what a real one refuses.

Source: Kubernetes API concepts (resource versions, watches, preconditions).
"""

import itertools
import uuid
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Document = dict[str, Any]


class Refusal(Exception):
    """The server says no."""

    def __init__(self, code: int, reason: str, message: str = "") -> None:
        """Keep the status."""
        super().__init__(f"{code} {reason} {message}")
        self.code = code
        self.reason = reason
        self.message = message


class Address(NamedTuple):
    """Where an object is.

    Attributes:
        api: `/api/v1` or `/apis/<group>/<version>`.
        plural: Kind, as in paths.
        namespace: Empty for none.
        name: Its name; empty for the collection.
    """

    api: str
    plural: str
    namespace: str = ""
    name: str = ""

    def holds(self, other: "Address") -> bool:
        """Tell whether an object is in this collection."""
        same_kind = (self.api, self.plural) == (other.api, other.plural)
        return same_kind and self.namespace in {"", other.namespace}


class Happened(NamedTuple):
    """A change.

    Attributes:
        version: The collection's, after it.
        address: Of the object.
        before: What it was; None if it is new.
        after: What it is; None if it is gone.
    """

    version: int
    address: Address
    before: Document | None
    after: Document | None


@dataclass(slots=True)
class KubernetesStore:
    """Objects with versions.

    Attributes:
        version: The newest.
        oldest: Changes up to this version are forgotten.
        history: Changes that are remembered.
    """

    version: int = 100
    oldest: int = 0
    history: list[Happened] = field(default_factory=list)
    _objects: dict[Address, Document] = field(default_factory=dict)

    def get(self, address: Address) -> Document:
        """Return an object."""
        found = self._objects.get(address)
        if found is None:
            raise Refusal(404, "NotFound", f"{address.plural} {address.name!r} not found")
        return deepcopy(found)

    def list(self, collection: Address) -> list[Document]:
        """Return a collection in the order of its paths."""
        return [deepcopy(v) for a, v in sorted(self._objects.items()) if collection.holds(a)]

    def create(self, collection: Address, document: Document) -> Document:
        """Add an object."""
        metadata = document.get("metadata", {})
        name = metadata.get("name")
        if not name:
            raise Refusal(422, "Invalid", "name or generateName is required")
        if metadata.get("resourceVersion"):
            raise Refusal(400, "BadRequest", "resourceVersion should not be set on creation")
        if metadata.get("namespace", collection.namespace) != collection.namespace:
            raise Refusal(400, "BadRequest", "the namespace does not match the path")
        address = collection._replace(name=name)
        if address in self._objects:
            raise Refusal(409, "AlreadyExists", f"{address.plural} {name!r} already exists")
        made = deepcopy(document)
        made["metadata"] = {**metadata, "uid": str(uuid.uuid4())}
        if collection.namespace:
            made["metadata"]["namespace"] = collection.namespace
        return self._put(address, made)

    def replace(self, address: Address, document: Document) -> Document:
        """Change an object as a whole; an older version than the one kept is a conflict."""
        kept = self.get(address)
        metadata = document.get("metadata", {})
        if metadata.get("name") != address.name:
            raise Refusal(400, "BadRequest", "the name does not match the path")
        self._check(kept, metadata)
        changed = deepcopy(document)
        given = {k: kept["metadata"][k] for k in ("uid", "resourceVersion")}
        changed["metadata"] = {**metadata, "namespace": address.namespace, **given}
        if not address.namespace:
            del changed["metadata"]["namespace"]
        return self._put(address, changed)

    def merge(self, address: Address, changes: Mapping[str, Any]) -> Document:
        """Merge changes into an object (RFC 7396)."""
        kept = self.get(address)
        self._check(kept, changes.get("metadata", {}))
        return self._put(address, _merge(kept, changes))

    def delete(self, address: Address, preconditions: Mapping[str, str] | None = None) -> None:
        """Remove an object."""
        kept = self.get(address)
        self._check(kept, preconditions or {})
        self.version += 1
        kept["metadata"]["resourceVersion"] = str(self.version)
        del self._objects[address]
        self.history.append(Happened(self.version, address, kept, None))

    def compact(self) -> None:
        """Forget all changes so far: watches from before are told 410."""
        self.oldest = self.version
        self.history.clear()

    def since(self, version: int, collection: Address) -> Iterator[Happened]:
        """Return what happened in a collection after a version."""
        return (h for h in self.history if h.version > version and collection.holds(h.address))

    def _put(self, address: Address, document: Document) -> Document:
        before = self._objects.get(address)
        if before == document:
            return deepcopy(document)  # a write that changes nothing is none
        self.version += 1
        document["metadata"]["resourceVersion"] = str(self.version)
        self._objects[address] = document
        self.history.append(Happened(self.version, address, before, deepcopy(document)))
        return deepcopy(document)

    def _check(self, kept: Document, wanted: Mapping[str, Any]) -> None:
        for name in ("uid", "resourceVersion"):
            if wanted.get(name) and wanted[name] != kept["metadata"][name]:
                raise Refusal(409, "Conflict", f"the object's {name} is another one")


def matches(document: Document | None, labels: str, fields: str) -> bool:
    """Tell whether selectors choose an object; equality alone is known here."""
    if document is None:
        return False
    own = document.get("metadata", {}).get("labels") or {}
    return all(_label_fits(own, part) for part in filter(None, labels.split(","))) and all(
        _field_fits(document, part) for part in filter(None, fields.split(","))
    )


def _label_fits(own: Mapping[str, str], part: str) -> bool:
    name, equals, value = part.partition("=")
    if name.startswith("!"):
        return name[1:] not in own
    return name in own and (not equals or own[name] == value.removeprefix("="))


def _field_fits(document: Document, part: str) -> bool:
    name, _, value = part.partition("=")
    found: Any = document
    for step in name.split("."):
        found = (found or {}).get(step)
    return (found or "") == value.removeprefix("=")


def _merge(target: Any, changes: Any) -> Any:
    if not isinstance(changes, Mapping):
        return deepcopy(changes)
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


_TOKENS = itertools.count(1)


def next_token() -> str:
    """Return a continue token that was never there before."""
    return f"continue-{next(_TOKENS)}"
