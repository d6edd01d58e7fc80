"""Every write waits for its turn, then looks at the term, and names what it changes."""

import asyncio

import pytest

from meshsigner.cluster.term import Term, TermOver
from meshsigner.cluster.writing import Pace, Writer
from meshsigner.errors import BackendUnavailable
from meshsigner.kube import CONFIG_MAPS, JsonObject


class Server:
    """Takes every write, or refuses it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.written: list[tuple[str, JsonObject]] = []
        self.refuses = False

    async def create(self, path: str, document: JsonObject) -> JsonObject:
        """Take an object."""
        return self._take(path, document)

    async def patch(self, path: str, changes: JsonObject) -> JsonObject:
        """Take changes."""
        return self._take(path, changes)

    def _take(self, path: str, document: JsonObject) -> JsonObject:
        if self.refuses:
            raise BackendUnavailable("no")
        self.written.append((path, document))
        return document


def _writer(
    server: Server, term: Term, pace: Pace, counted: list[tuple[str, str]] | None = None
) -> Writer:
    told = [] if counted is None else counted
    return Writer(server, term, pace, lambda *told_: told.append(told_))  # type: ignore[arg-type]


async def test_nothing_is_written_after_the_term() -> None:
    """A term that ends while a write waits for its turn ends the write, too."""
    server, now = Server(), [0.0]
    writer = _writer(server, Term(8.0, lambda: now[0]), Pace(10.0))
    await writer.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, "foo")
    waiting = asyncio.create_task(writer.create(CONFIG_MAPS, {"metadata": {}}, "foo"))
    await asyncio.sleep(0)
    now[0] = 8.0  # frozen past the lease
    with pytest.raises(TermOver):
        await waiting
    assert len(server.written) == 1


async def test_writes_are_paced_over_all() -> None:
    """So many a second, evenly, whoever asks."""
    server = Server()
    writer = _writer(server, Term(8.0, lambda: 0.0), Pace(100.0))
    loop = asyncio.get_running_loop()
    began = loop.time()
    document = {"metadata": {"name": "a"}}
    await asyncio.gather(*(writer.create(CONFIG_MAPS, document, "foo") for _ in range(21)))
    assert 0.19 < loop.time() - began < 1.0


async def test_change_names_the_version_that_it_changes() -> None:
    """A change without one could overwrite what another leader has written: that is a bug."""
    server = Server()
    writer = _writer(server, Term(8.0, lambda: 0.0), Pace(100.0))
    with pytest.raises(ValueError, match="without the version"):
        await writer.patch(CONFIG_MAPS, "a", {"metadata": {}, "data": {}}, "foo")
    await writer.patch(CONFIG_MAPS, "a", {"metadata": {"resourceVersion": "3"}}, "foo")
    assert [path for path, _ in server.written] == ["/api/v1/namespaces/foo/configmaps/a"]


async def test_writes_are_counted_by_how_they_ended() -> None:
    """Written and refused ones apart, by kind."""
    server, counted = Server(), list[tuple[str, str]]()
    writer = _writer(server, Term(8.0, lambda: 0.0), Pace(1000.0), counted)
    await writer.create(CONFIG_MAPS, {"metadata": {}}, "foo")
    server.refuses = True
    with pytest.raises(BackendUnavailable):
        await writer.create(CONFIG_MAPS, {"metadata": {}}, "foo")
    assert counted == [("ConfigMap", "written"), ("ConfigMap", "refused")]
