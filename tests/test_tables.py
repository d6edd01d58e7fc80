"""The pages that promise something, held against the code: errors, standards, metrics, ADRs."""

import ast
import re
from pathlib import Path

import pytest
from grpc import StatusCode

from meshsigner import errors
from meshsigner.errors import MeshsignerError, Refusal, ServiceFault
from meshsigner.observe import names
from meshsigner.observe.agent_metrics import AgentMetrics
from meshsigner.observe.controller_metrics import ControllerFigures
from meshsigner.observe.metrics import Metrics
from meshsigner.rpc.status import STATUS
from tests.statements import PAGE, files_by_statement, filled_in, functions_of_tests, statements

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

FILES = files_by_statement()
IN_SCOPE = {*range(1, 57), 60, 61, *range(62, 72)}
IN_CONTRACT = set(range(1, 72))
AGENT_RETRIES = {
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.ABORTED,
    StatusCode.INTERNAL,
    StatusCode.UNAVAILABLE,
}
# Base classes end no call themselves; a configuration error is met before any call.
NEVER_END_A_CALL = {MeshsignerError, Refusal, ServiceFault, errors.ConfigurationError}


def _error_classes() -> dict[str, type[MeshsignerError]]:
    return {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, MeshsignerError)
    }


def _error_rows() -> dict[str, list[str]]:
    """Return the cells of docs/errors.md by class name."""
    lines = (DOCS / "errors.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in rows if len(row) == 6 and row[0][:1] == "`"}


def test_every_error_class_has_a_status() -> None:
    """The one map from errors to statuses covers just the classes that end a call."""
    assert set(STATUS) == set(_error_classes().values()) - NEVER_END_A_CALL


def test_every_error_class_has_a_row_on_its_page() -> None:
    """docs/errors.md has one row a class that ends a call, with its reason and its status."""
    rows = _error_rows()
    told = {name: (row[0].strip("`"), row[1]) for name, row in rows.items()}
    assert told == {kind.__name__: (kind.reason, code.name) for kind, code in STATUS.items()}


def test_page_says_truly_what_the_agent_retries() -> None:
    """The page's column follows from the status."""
    for name, row in _error_rows().items():
        retried = STATUS[_error_classes()[name]] in AGENT_RETRIES
        assert row[2] == ("retries" if retried else "gives up"), name


def test_refusals_are_never_retried_and_own_faults_always() -> None:
    """No permanent refusal has a status that the agent retries; every fault of ours has one."""
    for kind, code in STATUS.items():
        if issubclass(kind, Refusal):
            assert code not in AGENT_RETRIES
        if issubclass(kind, ServiceFault):
            assert code in AGENT_RETRIES


def test_page_tells_the_fixed_texts() -> None:
    """Each text that never varies stands on the page word for word."""
    rows = _error_rows()
    varying = {"InvalidCsr", "InvalidLifetime"}
    for name in set(rows) - varying:
        assert f"`{_error_classes()[name].client_text}`" in rows[name][4]


def test_every_statement_in_scope_stands_on_the_page() -> None:
    """docs/standards.md lists just the statements that are in scope, each with a text."""
    listed = statements(PAGE.read_text())
    assert set(listed) == IN_SCOPE
    assert all(len(text.split()) >= 6 for text in listed.values())


@pytest.mark.parametrize("number", sorted(IN_SCOPE))
def test_every_statement_in_scope_has_a_test(number: int) -> None:
    """For each statement there is a test whose name holds `statement_NN`."""
    assert number in FILES


def test_no_test_names_a_statement_that_does_not_exist() -> None:
    """A mistyped number is noticed; tests may run ahead of what the page promises."""
    assert set(FILES) - IN_CONTRACT == set()


def test_page_names_the_tests_that_exist() -> None:
    """The page's last column is what `python -m tests.statements` would write."""
    assert PAGE.read_text() == filled_in(PAGE.read_text())


def test_every_test_says_its_behaviour_in_a_sentence() -> None:
    """Each test, conformance tests too, has a docstring of one paragraph that ends in a period."""
    silent = [
        f"{path}:{node.lineno}"
        for path, node in functions_of_tests()
        if not re.fullmatch(r"[^\n].*\.", ast.get_docstring(node) or "", re.DOTALL)
        or "\n\n" in (ast.get_docstring(node) or "")
    ]
    assert silent == []


def _own_metrics() -> set[str]:
    """Return the metrics of a fresh process as /metrics names them, the library's own left out."""
    registries = (Metrics().registry, AgentMetrics([]).registry, ControllerFigures().registry)
    families = {family.name for registry in registries for family in registry.collect()}
    return {name for name in families if not name.startswith(("python_", "process_"))}


def test_every_metric_is_explained() -> None:
    """docs/metrics.md names each metric that a process can show."""
    words = (DOCS / "metrics.md").read_text()
    constants = {
        value
        for value in vars(names).values()
        if isinstance(value, str) and value.startswith(("meshsigner_", "citadel_"))
    }
    shown = constants | _own_metrics()
    assert len(constants) > 20
    assert [name for name in sorted(shown) if name not in words] == []


def test_no_metric_is_explained_that_does_not_exist() -> None:
    """Every meshsigner or Istio metric on the page is one that the code names."""
    known = {value for value in vars(names).values() if isinstance(value, str)} | _own_metrics()
    page = (DOCS / "metrics.md").read_text()
    claimed = set(re.findall(r"`((?:meshsigner|citadel)_[a-z_]+)`", page))
    endings = re.compile(r"_(total|bucket|sum|count|info)$")
    assert {name for name in claimed if known.isdisjoint({name, endings.sub("", name)})} == set()


def test_every_event_is_explained() -> None:
    """docs/logs.md names each event that a log line can have."""
    page = (DOCS / "logs.md").read_text()
    assert [event for event in names.Event if f"`{event.value}`" not in page] == []


def test_every_decision_is_in_the_index() -> None:
    """docs/adr/README.md links each record once, in order, and no number is used twice."""
    records = sorted(path.name for path in (DOCS / "adr").glob("[0-9]*.md"))
    index = (DOCS / "adr" / "README.md").read_text()
    linked = re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", index)
    assert linked == records
    assert len({name[:4] for name in records}) == len(records) > 0


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: Path(path).name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    """Every relative link of a page names a file that exists."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: Path(path).name)
def test_pages_name_files_that_exist(path: Path) -> None:
    """Every file of src, tests or docs that a page names is there."""
    named = re.findall(r"`((?:src|tests|docs|benchmarks|requirements)/[\w./-]+)`", path.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_sources_name_pages_that_exist() -> None:
    """Every page and record that a docstring or comment of the package names is there."""
    lost = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for name in re.findall(r"docs/[\w/-]+(?:\.md)?", path.read_text()):
            pattern = f"{name}*.md" if re.search(r"adr/\d{4}", name) else name
            if not list(ROOT.glob(pattern)):
                lost.append(f"{path.name}: {name}")
    assert lost == []
