"""What is wrong with a configuration, in words: where, what, expected, what to do."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from meshsigner.config import load_config, parse_config
from meshsigner.errors import ConfigurationError

Problems = Callable[..., tuple[str, ...]]

WRONG_EVERYWHERE = """\
trust_domain: Cluster.Local
clusters:
  - id: a b
    local: maybe
    namespaces: [UPPER]
    authenticators:
      - type: telepathy
      - type: jwks
        isuer: https://a
listen:
  address: somewhere
  tls: {type: issuer, dns_names: []}
issuer:
  type: directory
  path: |
    -----BEGIN EC PRIVATE KEY-----
    c2VjcmV0
    -----END EC PRIVATE KEY-----
policy:
  default_lifetime: 24
  key_algorithms: [dsa]
inventory:
  max_bytes: 1KiB
limits: plenty
color: blue
"""

ALL_PROBLEMS = (
    "trust_domain (wrong.yaml line 1): found 'Cluster.Local'; expected a trust domain in",
    "clusters[0].id (wrong.yaml line 3): found 'a b'; expected a cluster id of letters",
    "clusters[0].local (wrong.yaml line 4): found 'maybe'; expected true or false",
    "clusters[0].namespaces[0] (wrong.yaml line 5): found 'UPPER'; expected a Kubernetes namespace",
    "clusters[0].authenticators[0] (wrong.yaml line 7): found type 'telepathy'; expected type tok",
    "clusters[0].authenticators[1].issuer (wrong.yaml line 8): not set; it has no default",
    "clusters[0].authenticators[1].isuer (wrong.yaml line 9): unknown key; expected one of",
    "issuer.path (wrong.yaml line 15): found something that looks like a secret; expected the pat",
    "listen.address (wrong.yaml line 11): found 'somewhere'; expected host:port",
    "listen.tls.dns_names (wrong.yaml line 12): found []; expected at least one",
    "inventory.max_bytes (wrong.yaml line 23): found '1KiB'; expected greater than or equal",
    "policy.default_lifetime (wrong.yaml line 20): found 24; expected a duration with its unit",
    "policy.key_algorithms[0] (wrong.yaml line 21): found 'dsa'; expected 'rsa', 'p256'",
    "limits (wrong.yaml line 24): found 'plenty'; expected keys with values",
    "color (wrong.yaml line 25): unknown key; expected one of admin, backends",
)


def test_all_problems_are_told_at_once() -> None:
    """Every wrong place is named with its line, what is there, and what belongs there."""
    with pytest.raises(ConfigurationError) as caught:
        parse_config(WRONG_EVERYWHERE, name="wrong.yaml")
    problems = caught.value.problems
    assert [p[: len(a)] for p, a in zip(problems, ALL_PROBLEMS, strict=True)] == list(ALL_PROBLEMS)


def test_every_problem_says_what_to_do() -> None:
    """A problem ends with an advice."""
    with pytest.raises(ConfigurationError) as caught:
        parse_config(WRONG_EVERYWHERE, name="wrong.yaml")
    advices = ("correct it", "add it", "remove it", "choose one", "?")
    assert all(problem.endswith(advices) for problem in caught.value.problems)


def test_secret_in_the_wrong_place_is_not_repeated() -> None:
    """A key that was pasted where a path belongs does not reach the terminal or a log."""
    with pytest.raises(ConfigurationError) as caught:
        parse_config(WRONG_EVERYWHERE, name="wrong.yaml")
    assert "c2VjcmV0" not in str(caught.value)


def test_misspelt_key_gets_a_suggestion(problems: Problems) -> None:
    """The nearest known key is suggested."""
    (problem,) = problems(policy={"maximum_lifetme": "1h"})
    assert problem.endswith("did you mean maximum_lifetime?")


def test_problem_of_the_environment_names_the_variable(
    problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment says wrong is looked for there, not in the file."""
    monkeypatch.setenv("MESHSIGNER_LIMITS__HANDLING", "10")
    (problem,) = problems()
    assert "environment variable MESHSIGNER_LIMITS__HANDLING): found '10'" in problem


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "MESHSIGNER_LIMTS__HANDLING",
            "environment variable MESHSIGNER_LIMTS__HANDLING: no setting",
        ),
        (
            "MESHSIGNER_POLICY__LIFETIME",
            "policy.lifetime (environment variable MESHSIGNER_POLICY__",
        ),
        (
            "MESHSIGNER_CLUSTERS__0__ID",
            "clusters (environment variable MESHSIGNER_CLUSTERS__0__ID)",
        ),
    ],
)
def test_unknown_variable_with_our_prefix_is_a_problem(
    problems: Problems, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    """A misspelt variable does not silently change nothing."""
    monkeypatch.setenv(name, "1h")
    assert words in " ".join(problems())


@pytest.mark.parametrize("value", ["[", "p256", '{"a": 1}'])
def test_variable_for_a_list_that_is_no_json_list_is_a_problem_beside_others(
    problems: Problems, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """A list that cannot be read is told together with what is wrong elsewhere."""
    monkeypatch.setenv("MESHSIGNER_POLICY__KEY_ALGORITHMS", value)
    found = problems(trust_domain="")
    assert len(found) == 2
    assert "MESHSIGNER_POLICY__KEY_ALGORITHMS" in " ".join(found)


@pytest.mark.parametrize(
    "name",
    [
        "MESHSIGNER_SERVICE_HOST",
        "MESHSIGNER_SERVICE_PORT",
        "MESHSIGNER_SERVICE_PORT_GRPC",
        "MESHSIGNER_PORT",
        "MESHSIGNER_PORT_443_TCP",
        "MESHSIGNER_PORT_443_TCP_ADDR",
        "MESHSIGNER_ADMIN_SERVICE_HOST",
        "MESHSIGNER_ADMIN_PORT_15014_TCP_PROTO",
    ],
)
def test_variables_that_kubernetes_sets_for_a_service_are_ignored(
    smallest: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A Service called meshsigner in the same namespace does not keep the server from starting."""
    monkeypatch.setenv(name, "tcp://10.0.0.1:443")
    parse_config(smallest)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "cannot be read as YAML"),
        ("- a\n- b\n", "expected keys with values"),
        ("just text", "expected keys with values"),
        ("1: a\n", "x.yaml line 1: a key that is no text"),
        (
            "policy:\n  backdate: 1m\n  backdate: 2m\n",
            "x.yaml line 3: the key backdate a second time",
        ),
        ("", "trust_domain (x.yaml): not set"),
        ("a: !!python/object/apply:os.system [id]\n", "cannot be read as YAML"),
        ("a: &a [*a]\n", "an alias; write its value out (line 1)"),
    ],
)
def test_text_that_is_no_configuration_is_refused(text: str, words: str) -> None:
    """Broken YAML, doubled keys, other documents and code in tags are refused in words."""
    with pytest.raises(ConfigurationError) as caught:
        parse_config(text, name="x.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_file_that_cannot_be_read_is_a_problem(tmp_path: Path, content: bytes | None) -> None:
    """A missing or binary file is named with the reason."""
    path = tmp_path / "meshsigner.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_config(path)


def test_file_is_read(tmp_path: Path, smallest: str) -> None:
    """A configuration is read from its file."""
    path = tmp_path / "meshsigner.yaml"
    path.write_text(smallest)
    issuer = load_config(path).issuer
    assert issuer is not None
    assert os.fspath(issuer.path) == "/etc/meshsigner/ca"
