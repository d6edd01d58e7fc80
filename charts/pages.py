"""The chart's README and its schema of values, both made from values.yaml.

A line `# -- text` above a value says what it means; its default says of which
type it is. So neither page can say something else than the values do.

    python -m charts.pages          # writes both
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

CHART: Final = Path(__file__).parent / "meshsigner"

_CHOICES: Final = {
    "image.pullPolicy": ["Always", "IfNotPresent", "Never"],
    "issuer.type": ["secret", "backends"],
    "tokens.type": ["token_review", "jwks"],
    "inventory.type": ["sqlite", "postgres"],
    "inventory.postgres.sslmode": ["verify-full", "verify-ca", "disable"],
    "service.type": ["ClusterIP", "NodePort", "LoadBalancer"],
    "logLevel": ["debug", "info", "warning", "error"],
}
_LEAST: Final = {"replicas": 1, "workers": 1, "autoscaling.min": 1, "autoscaling.max": 1}
_OPEN: Final = frozenset(
    {
        "backends",
        "config",
        "nodeSelector",
        "affinity",
        "podAnnotations",
        "service.annotations",
        "serviceAccount.annotations",
        "resources.requests",
        "resources.limits",
        "metrics.serviceMonitor.labels",
        "metrics.rules.labels",
        "metrics.dashboard.labels",
    }
)
_TYPES: Final = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of the chart.

    Attributes:
        path: Its keys, joined by dots.
        default: What it is unless set.
        text: What it means.
    """

    path: str
    default: Any
    text: str


def read_texts(source: str) -> dict[str, str]:
    """Return what the comments say, by the path of the value below each.

    Args:
        source: values.yaml.
    """
    texts: dict[str, str] = {}
    parents: list[tuple[int, str]] = []
    text = ""
    for line in source.splitlines():
        bare = line.strip()
        if bare.startswith("# -- "):
            text = bare.removeprefix("# -- ")
        elif bare and not bare.startswith(("#", "- ")) and ":" in bare:
            depth = len(line) - len(line.lstrip())
            parents = [parent for parent in parents if parent[0] < depth]
            parents.append((depth, bare.partition(":")[0]))
            if text:
                texts[".".join(name for _, name in parents)] = text
            text = ""
    return texts


def values(source: str) -> list[Value]:
    """Return all values that have a meaning of their own, in order.

    Raises:
        ValueError: One has no text, or a text stands above nothing.
    """
    texts = read_texts(source)
    found = [
        Value(path=path, default=default, text=texts[path])
        for path, default in _leaves(yaml.safe_load(source), "", texts)
    ]
    unknown = texts.keys() - {value.path for value in found}
    if unknown:
        msg = f"texts above no value: {sorted(unknown)}"
        raise ValueError(msg)
    return found


def _leaves(node: Any, path: str, texts: dict[str, str]) -> Iterator[tuple[str, Any]]:
    if path in texts:
        yield path, node
    elif isinstance(node, dict) and node:
        for key, child in node.items():
            yield from _leaves(child, f"{path}.{key}" if path else key, texts)
    else:
        msg = f"{path} has no line `# -- ` above it that says what it means"
        raise ValueError(msg)


def schema(found: list[Value]) -> dict[str, Any]:
    """Return the JSON schema: unknown values are errors."""
    root: dict[str, Any] = _object()
    root["$schema"] = "https://json-schema.org/draft-07/schema#"
    root["properties"]["global"] = {"type": "object"}  # Helm hands it to every chart
    for value in found:
        node = root
        *parents, name = value.path.split(".")
        for parent in parents:
            node = node["properties"].setdefault(parent, _object())
        node["properties"][name] = _property(value)
    return root


def _object() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _property(value: Value) -> dict[str, Any]:
    made: dict[str, Any] = {"description": value.text}
    if value.path in _CHOICES:
        return made | {"enum": _CHOICES[value.path]}
    if value.path in _OPEN or isinstance(value.default, dict):
        return made | {"type": "object"}
    kind = "integer" if value.default is None else _TYPES[type(value.default)]
    made["type"] = [kind, "null"] if value.default is None else kind
    if value.path in _LEAST:
        made["minimum"] = _LEAST[value.path]
    return made


def readme(found: list[Value]) -> str:
    """Return the chart's page."""
    rows = [
        f"| `{value.path}` | {value.text.replace('|', chr(92) + '|')} | `{_plain(value.default)}` |"
        for value in found
    ]
    return "\n".join(
        [
            "# meshsigner's chart",
            "",
            "Puts the CA of a mesh into a cluster. How to install it, move a mesh to it and back:",
            "[docs/install.md](../../docs/install.md), [docs/migrate.md](../../docs/migrate.md).",
            "",
            "    helm install meshsigner charts/meshsigner -n meshsigner --create-namespace",
            "",
            "Values for Istio's own charts are in [istio/](istio/). This page is made from",
            "`values.yaml` by `make docs`.",
            "",
            "| value | what | default |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def _plain(default: Any) -> str:
    return json.dumps(default, separators=(", ", ": ")).replace("|", "\\|")


def write(chart: Path = CHART) -> None:
    """Write both pages of a chart."""
    found = values((chart / "values.yaml").read_text())
    (chart / "README.md").write_text(readme(found))
    text = json.dumps(schema(found), indent=2) + "\n"
    (chart / "values.schema.json").write_text(text)


if __name__ == "__main__":
    write()
