"""Reads the YAML file of a configuration and remembers where in it everything stands.

Decides what is no YAML mapping of ours (a key twice, a key that is no text);
what the keys mean is for `model` to say.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from meshsigner.errors import ConfigurationError


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML without aliases: a value that contains itself, or a billion, is no setting."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Read the next node, unless it is an alias."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="an alias; write its value out", problem_mark=mark)
        return super().compose_node(parent, index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that was read.

    Attributes:
        name: How it is called in problems.
        values: Its content.
        root: The same as YAML's node tree, None for an empty file.
        problems: What the file format itself gets wrong.
    """

    name: str
    values: dict[str, Any]
    root: yaml.Node | None
    problems: tuple[str, ...] = field(default=())

    def line_of(self, place: tuple[int | str, ...]) -> str:
        """Name the line where a place is, or where its parent is if it is not there."""
        node = self.root
        line = _line(node)
        for part in place:
            node = _child(node, part)
            if node is None:
                break
            line = _line(node)
        return f"{self.name} line {line}" if line else self.name


def read_source(path: Path) -> Source:
    """Read a configuration file.

    Args:
        path: The YAML file, UTF-8.

    Raises:
        ConfigurationError: It cannot be read, or is no YAML.
    """
    try:
        return parse_source(path.name, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        message = f"{path}: cannot be read ({reason}); name a YAML file that this user may read"
        raise ConfigurationError(message) from error


def parse_source(name: str, text: str) -> Source:
    """Read a configuration from text.

    Args:
        name: How the text is called in problems.
        text: YAML; only the safe tags are understood.

    Raises:
        ConfigurationError: It is no YAML, or no mapping.
    """
    try:
        root = yaml.compose(text, Loader=_PlainLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"{name}: cannot be read as YAML: {_first_lines(error)}"
        ) from error
    if root is not None and not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(
            f"{name}: expected keys with values, for example trust_domain: ..."
        )
    problems = tuple(_key_problems(name, root)) if root is not None else ()
    if problems:
        raise ConfigurationError(*problems)
    return Source(name=name, values=values or {}, root=root)


def _first_lines(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    what = getattr(error, "problem", None) or str(error)
    return f"{what} (line {mark.line + 1})" if mark is not None else what


def _key_problems(name: str, node: yaml.Node) -> list[str]:
    if isinstance(node, yaml.SequenceNode):
        return [problem for item in node.value for problem in _key_problems(name, item)]
    if not isinstance(node, yaml.MappingNode):
        return []
    problems: list[str] = []
    seen: set[str] = set()
    for key, value in node.value:
        where = f"{name} line {_line(key)}"
        if key.tag != "tag:yaml.org,2002:str":
            problems.append(f"{where}: a key that is no text; write it in quotes")
        elif key.value in seen:
            problems.append(f"{where}: the key {key.value} a second time; keep one of them")
        seen.add(str(key.value))
        problems += _key_problems(name, value)
    return problems


def _line(node: yaml.Node | None) -> int:
    return node.start_mark.line + 1 if node is not None and node.start_mark is not None else 0


def _child(node: yaml.Node | None, part: int | str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        item: yaml.Node = node.value[part]
        return item
    return None
