"""Which test holds us to which numbered statement of docs/standards.md.

python -m tests.statements        fill in the table's last column from the tests' names
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "standards.md"
_NAME = re.compile(r"test_\w*?statement_(\d\d)(?:_|$)")
_ROW = re.compile(r"^\| (\d+) \|(.*)\|[^|]*\|$")


def functions_of_tests() -> list[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Return every test of the tree with the path of its file, conformance tests too."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("test_"):
                found.append((str(path.relative_to(ROOT)), node))
    return found


def files_by_statement() -> dict[int, list[str]]:
    """Return the test files of each statement that any test's name holds."""
    files: dict[int, set[str]] = defaultdict(set)
    for path, node in functions_of_tests():
        if name := _NAME.match(node.name):
            files[int(name[1])].add(path)
    return {number: sorted(paths) for number, paths in files.items()}


def statements(text: str) -> dict[int, str]:
    """Return the text behind each number of the page's tables."""
    return {int(row[1]): row[2].strip() for line in text.splitlines() if (row := _ROW.match(line))}


def filled_in(text: str) -> str:
    """Return the page with its last column made from the tests' names."""
    files = files_by_statement()
    return "".join(_filled_row(line, files) + "\n" for line in text.splitlines())


def _filled_row(line: str, files: dict[int, list[str]]) -> str:
    row = _ROW.match(line)
    if row is None:
        return line
    held = ", ".join(f"`{path}`" for path in files.get(int(row[1]), []))
    return f"| {row[1]} |{row[2]}| {held} |"


if __name__ == "__main__":
    PAGE.write_text(filled_in(PAGE.read_text()))
