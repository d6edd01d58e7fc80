"""Who may import whom, from one table, and what pure modules may not do.

The table is the law that docs/ARCHITECTURE.md draws; a change of it is a
decision and leaves an ADR. The rules are read from the syntax tree, so that an
import inside a function counts as well; each rule is also shown to bite.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "meshsigner"
SOURCE = ROOT / "src" / PACKAGE

WORDS = {"errors", "spiffe", "model"}
ANYTHING = {"*"}

# unit (a module or a folder directly under the package) -> units it may import
MAY_IMPORT: dict[str, set[str]] = {
    # words
    "errors": set(),
    "spiffe": {"errors"},
    "model": {"errors", "spiffe"},
    # decisions
    "csr": WORDS,
    "policy": WORDS,
    "profile": WORDS,
    "issuer_path": WORDS,
    "verify": WORDS | {"issuer_path"},
    "leeway": WORDS,
    # pipeline
    "ports": WORDS,
    "batch": WORDS,
    "waiting": set(),
    "orders": WORDS | {"waiting"},
    "parking": WORDS | {"ports"},
    "member": WORDS | {"ports"},
    "recorder": WORDS | {"ports", "observe"},
    "dispatch": WORDS
    | {"policy", "verify", "leeway", "ports", "orders", "recorder", "waiting", "observe"},
    "issuance": WORDS
    | {"csr", "policy", "profile", "verify", "ports", "batch", "orders", "parking"}
    | {"member", "recorder", "dispatch", "observe"},
    # beside the pipeline: what we say about ourselves
    "observe": WORDS | {"__init__"},
    # sockets in the file system, for the edges that listen there
    "unix_socket": {"errors"},
    # and the loops that adapters and assembly keep running
    "background": {"observe"},
    # adapters
    "kube": WORDS | {"observe", "background"},
    "trust": WORDS | {"verify", "ports", "observe"},
    "authn": WORDS | {"ports", "observe", "background", "kube"},
    # config: a backend declares its own section with the kinds of fields that all have
    "signing": WORDS | {"ports", "observe", "background", "kube", "trust", "profile", "config"},
    "inventory": WORDS | {"ports", "observe"},
    # edges
    "rpc": WORDS | {"ports", "observe", "issuance", "unix_socket", "_proto", "__init__"},
    "admin": WORDS | {"ports", "observe"},
    "cluster": WORDS | {"observe", "background", "kube"},
    "agent": WORDS
    | {"verify", "ports", "observe", "unix_socket", "_proto"},  # a client of some CA, over the wire
    "_proto": set(),
    # assembly
    "config": WORDS | {"policy", "profile", "batch", "orders", "recorder", "observe"},
    "app": WORDS
    | {"policy", "profile", "ports", "batch", "orders", "parking", "recorder", "issuance"}
    | {"observe", "kube", "trust", "authn", "signing", "inventory", "rpc", "admin", "config"}
    | {"cluster"}
    | {"__init__", "verify", "background"},
    "workers": WORDS
    | {"app", "admin", "background", "config", "inventory", "observe", "rpc", "__init__"},
    "sidecar": WORDS | {"agent", "observe", "admin", "trust"},
    "cli": ANYTHING,
    "__main__": {"cli"},
    "__init__": set(),
}

PURE = {*WORDS, "csr", "policy", "profile", "verify", "issuer_path", "leeway"}
# Decisions inside units that are not pure as a whole: the xDS protocol, when to renew.
PURE_FILES = {"agent/session.py", "agent/schedule.py"}
IMPURE_IMPORTS = {
    *("asyncio", "grpc", "logging", "os", "pathlib", "random", "secrets", "socket", "ssl"),
    *("structlog", "subprocess", "threading", "time"),
}
IMPURE_CALLS = {"input", "monotonic", "now", "open", "print", "today", "urandom", "utcnow"}

# third-party package -> the only units that may import it
OUTSIDE: dict[str, set[str]] = {
    "grpc": {"rpc", "agent", "app", "_proto"},
    "grpc_health": {"rpc", "app"},
    "google": {"rpc", "agent", "_proto"},
    "structlog": {"observe", "app"},
    "prometheus_client": {"observe"},
    "aiohttp": {"admin", "app", "authn", "kube", "signing"},
    "sqlite3": {"inventory"},
    "pkcs11": {"signing"},
    "asyncpg": {"inventory"},
    "typer": {"cli"},
    "rich": {"cli"},
    "asyncio_throttle": {"dispatch"},
    "circuitbreaker": {"dispatch"},
    "random": set(),
    "_proto": {"rpc", "agent", "app"},
}
TOO_BROAD_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
# Every `except Exception` of the package, by file: the call's edge, and the loops that must live.
BROAD_EXCEPTS = {
    "background.py": 1,
    "batch.py": 1,
    "rpc/certificate_service.py": 1,
    "signing/pkcs11/threads.py": 1,  # handed to whoever waits for the job
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A parsed file of the package.

    Attributes:
        unit: First part of its path.
        where: Path under the package, for messages.
        tree: Its syntax tree.
    """

    unit: str
    where: str
    tree: ast.Module


def _source(where: str, text: str) -> Source:
    return Source(unit=Path(where).parts[0].removesuffix(".py"), where=where, tree=ast.parse(text))


def _sources() -> list[Source]:
    return [
        _source(str(path.relative_to(SOURCE)), path.read_text())
        for path in sorted(SOURCE.rglob("*.py"))
    ]


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and full name of every import; a relative one starts with a dot."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module == PACKAGE:
                yield from ((node.lineno, f"{PACKAGE}.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module


def _target(name: str) -> str:
    """Return which unit an import inside the package means."""
    part = name.split(".")[1]
    return "__init__" if part.startswith("__version") else part


def forbidden_imports(source: Source) -> Iterator[str]:
    """Name every import that the table does not allow."""
    allowed = MAY_IMPORT.get(source.unit, set())
    for line, name in _imports(source.tree):
        top = name.split(".")[0]
        place = f"{source.where}:{line}"
        if name.startswith("."):
            yield f"{place}: relative import"
        elif top in {"tests", "benchmarks"}:
            yield f"{place}: the package imports {top}"
        elif top == PACKAGE and "." in name:
            target = _target(name)
            if target != source.unit and not allowed & {target, "*"}:
                yield f"{place}: {source.unit} imports {target}"
        elif source.unit not in OUTSIDE.get(top, {source.unit}):
            yield f"{place}: {source.unit} imports {top}"


def impurities(source: Source) -> Iterator[str]:
    """Name everything in a pure module that waits, looks at a clock or touches the world."""
    for line, name in _imports(source.tree):
        if name.split(".")[0] in IMPURE_IMPORTS:
            yield f"{source.where}:{line}: import of {name}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield f"{source.where}:{node.lineno}: waits"
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in IMPURE_CALLS:
                yield f"{source.where}:{node.lineno}: calls {called}()"


def broad_excepts(source: Source) -> int:
    """Count handlers that catch everything."""
    broad = {"Exception", "BaseException"}
    return sum(
        isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in broad)
        for node in ast.walk(source.tree)
    )


def test_every_unit_has_a_row_and_every_row_a_unit() -> None:
    """The table names just the units that exist."""
    found = {path.name.removesuffix(".py") for path in SOURCE.iterdir()} - {"__pycache__"}
    assert found - {"py.typed"} == set(MAY_IMPORT)


def test_imports_point_the_allowed_way() -> None:
    """No file imports what its unit may not."""
    assert [fault for source in _sources() for fault in forbidden_imports(source)] == []


def test_words_and_decisions_are_pure() -> None:
    """Values and decisions do not wait, read no clock and touch no file."""
    pure = [s for s in _sources() if s.unit in PURE or s.where in PURE_FILES]
    assert {source.unit for source in pure if source.where not in PURE_FILES} == PURE
    assert {source.where for source in pure} >= PURE_FILES
    assert [fault for source in pure for fault in impurities(source)] == []


def test_table_has_no_cycle() -> None:
    """Following the table from any unit never leads back to it."""
    units = set(MAY_IMPORT)
    for unit in units:
        seen: set[str] = set()
        todo = [unit]
        while todo:
            allowed = MAY_IMPORT[todo.pop()]
            following = (units - {"cli", "__main__"} if "*" in allowed else allowed) - seen
            seen |= following
            todo += following
        assert unit not in seen


def test_no_file_is_named_for_nothing_in_particular() -> None:
    """A helper lives with its one user or has a real name."""
    names = {path.stem for path in ROOT.glob("src/**/*.py")}
    names |= {path.stem for path in ROOT.glob("tests/**/*.py")}
    assert names & TOO_BROAD_NAMES == set()


def test_broad_excepts_stand_where_they_are_known() -> None:
    """`except Exception` hides bugs: each place is counted here with its reason in the code."""
    found = {source.where: broad_excepts(source) for source in _sources()}
    assert {where: count for where, count in found.items() if count} == BROAD_EXCEPTS


def test_load_generator_talks_over_the_wire_only() -> None:
    """benchmarks/load imports nothing of the package, so that it can measure other servers."""
    faults = []
    for path in sorted((ROOT / "benchmarks" / "load").rglob("*.py")):
        names = [name for _, name in _imports(ast.parse(path.read_text()))]
        faults += [f"{path.name}: {name}" for name in names if name.split(".")[0] == PACKAGE]
    assert faults == []


def test_our_own_units_are_faked_not_patched() -> None:
    """No test imports a mocking library: fakes implement the ports."""
    faults = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        names = [name for _, name in _imports(ast.parse(path.read_text()))]
        faults += [path.name for name in names if name.split(".")[:2] == ["unittest", "mock"]]
    assert faults == []


@pytest.mark.parametrize(
    ("where", "text", "fault"),
    [
        ("csr.py", "import meshsigner.issuance", "csr imports issuance"),
        ("csr.py", "from meshsigner import issuance", "csr imports issuance"),
        ("csr.py", "def f():\n    from meshsigner.authn import x", "csr imports authn"),
        ("authn/a.py", "from meshsigner.signing.b import C", "authn imports signing"),
        ("issuance.py", "import grpc.aio", "issuance imports grpc"),
        ("issuance.py", "from meshsigner.rpc import server", "issuance imports rpc"),
        ("errors.py", "from meshsigner.model import Order", "errors imports model"),
        ("rpc/a.py", "from .b import c", "relative import"),
        ("rpc/a.py", "from tests.fakes import clock", "the package imports tests"),
        ("strange.py", "from meshsigner.errors import X", "strange imports errors"),
    ],
)
def test_forbidden_import_is_found(where: str, text: str, fault: str) -> None:
    """Each kind of forbidden import is named, wherever in the file it stands."""
    (found,) = forbidden_imports(_source(where, text))
    assert found.endswith(fault)


@pytest.mark.parametrize(
    "text",
    [
        "import time",
        "async def f() -> None: ...",
        "from datetime import datetime\nx = datetime.now()",
        "x = open('f')",
        "from os import urandom",
    ],
)
def test_impurity_is_found(text: str) -> None:
    """Clocks, files, randomness and waiting are named."""
    assert list(impurities(_source("policy.py", text)))


def test_allowed_import_is_let_pass() -> None:
    """A module may import itself, its own folder and what the table says."""
    text = "from meshsigner.rpc.b import c\nfrom meshsigner.issuance import Issuance\nimport json"
    assert list(forbidden_imports(_source("rpc/a.py", text))) == []
    assert list(impurities(_source("policy.py", "import re"))) == []


def test_broad_except_is_counted() -> None:
    """Bare, Exception and BaseException count, a documented error does not."""
    text = "try: ...\nexcept {}: ..."
    kinds = ["Exception", "BaseException", "ValueError"]
    assert [broad_excepts(_source("a.py", text.format(kind))) for kind in kinds] == [1, 1, 0]
    assert broad_excepts(_source("a.py", "try: ...\nexcept: ...")) == 1
