"""Writes every mutant of the decisions, by cosmic-ray's operators, as JSON lines.

    .mutants/bin/python tests/mutants/make_mutants.py FILE

It runs in cosmic-ray's own environment and imports nothing of ours: a mutant is
a place, an operator and the whole changed source. What becomes of them is
`run`'s.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.ast.ast_query import ASTQuery
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "meshsigner"
UNITS = ("csr.py", "policy.py", "profile.py", "verify.py", "spiffe.py", "authn")

# Cosmic-ray tries every operator in every other's place: eleven mutants for one `+`,
# nearly all of which end in a TypeError at once and say nothing about the tests. One
# telling change of each is kept, and of comparisons no identity in place of an order
# or an equality, nor the other way round.
_KEPT_BINARY = re.compile(
    r"core/ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|Mod_Mul|FloorDiv_Mul"
    r"|BitAnd_BitXor|RShift_LShift|LShift_RShift|Pow_Mul)",
)
_DROPPED = re.compile(
    r"core/(ReplaceBinaryOperator|ReplaceComparisonOperator_(\w+_Is(Not)?|Is(Not)?_\w+)$)",
)


def _kept(operator: str) -> bool:
    if _KEPT_BINARY.fullmatch(operator):
        return True
    return not _DROPPED.match(operator) or operator.endswith(("_Is_IsNot", "_IsNot_Is"))


def _files() -> list[Path]:
    found: list[Path] = []
    for unit in UNITS:
        path = PACKAGE / unit
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


def _mutants(path: Path) -> Iterator[dict[str, object]]:
    source = path.read_text()
    lines = source.splitlines()
    tree = get_ast_from_path(path)
    for name in filter(_kept, operator_names()):
        kind = get_operator(name)
        if kind.arguments():
            continue
        operator = kind()
        places = [
            (node, start)
            for node in ast_nodes(tree)
            for start, _ in operator.mutation_positions(node)
        ]
        for occurrence, (node, (row, _)) in enumerate(places):
            if node.parent is not None and node.parent.type in {"parameters", "param"}:
                continue  # the `*` that makes arguments keyword-only is no multiplication
            try:
                mutated = mutate_code(source, operator, occurrence)
            except AttributeError:
                continue  # cosmic-ray cannot replace a dotted name in `except (a, b.c)`
            changed = _first_difference(lines, mutated.splitlines())
            yield {
                "file": str(path.relative_to(PACKAGE)),
                "row": row,
                "definition": ASTQuery(node).get_definition_name() or "",
                "operator": name.removeprefix("core/"),
                "was": changed[0],
                "is": changed[1],
                "source": mutated,
            }


def _first_difference(before: list[str], after: list[str]) -> tuple[str, str]:
    for old, new in zip(before, after, strict=False):
        if old != new:
            return old.strip(), new.strip()
    return "", ""


def main(target: Path) -> None:
    """Write all mutants to a file.

    Args:
        target: The file, replaced if it is there.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w") as out:
        for path in _files():
            for mutant in _mutants(path):
                out.write(json.dumps(mutant) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
