"""The section `backends`: kinds from entry points, each checked by its own model."""

import pytest

from meshsigner.config import Config, parse_config
from meshsigner.config.backends import installed_kinds
from meshsigner.config.reference import render_effective
from meshsigner.errors import ConfigurationError

BASE = """\
trust_domain: cluster.local
clusters:
  - id: Kubernetes
    authenticators: [{type: jwks, issuer: "https://a"}]
listen:
  tls: {type: issuer, dns_names: [a.svc]}
"""


def _load(text: str) -> Config:
    return parse_config(BASE + text, name="x.yaml")


def _problems(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        _load(text)
    return str(caught.value)


def test_backends_are_read_by_the_models_of_their_kinds() -> None:
    """Each backend's section is a value of its own kind's model, in the order of the file."""
    config = _load(
        "backends:\n  near: {type: directory, path: /ca}\n"
        "  own: {type: self_made, path: /own, intermediate_lifetime: 30d}\n"
    )
    assert list(config.backends) == ["near", "own"]
    assert type(config.backends["own"]) is installed_kinds()["self_made"].load().settings
    assert config.issuer is None


def test_effective_configuration_shows_backends_whole() -> None:
    """What check-config prints of a backend reads back the same."""
    config = _load("backends:\n  own: {type: self_made, path: /own}\n")
    text = render_effective(config)
    assert "intermediate_lifetime: 365d" in text
    assert parse_config(text) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "backends (x.yaml line 1): expected either issuer or backends"),
        (
            "issuer: {type: directory, path: /a}\nbackends: {b: {type: directory, path: /b}}\n",
            "backends (x.yaml line 8): expected either issuer or backends",
        ),
        ("backends: {a: {type: pkcs12}}\n", "backends.a (x.yaml line 7): expected a backend of a"),
        ("backends: {a: {path: /b}}\n", "type is missing"),
        ("backends: {a: 7}\n", "backends.a (x.yaml line 7): found 7; expected keys with values"),
        ("backends: {A B: {type: directory, path: /b}}\n", "expected a name in lower case"),
        (
            "backends: {directory: {type: directory, pat: /b}}\n",
            (
                "backends.directory.pat (x.yaml line 7): unknown key; expected one of path, type; "
                "did you mean path?"
            ),
        ),
        (
            "backends: {a: {type: self_made, path: /b, root_lifetime: 7}}\n",
            "backends.a.root_lifetime (x.yaml line 7): found 7; expected a duration with its unit",
        ),
        (
            "backends: {a: {type: directory}}\n",
            "backends.a.path (x.yaml line 7): not set; it has no default (Directory with",
        ),
        (
            "backends: {a: {type: directory, path: /b}}\npolicy: {signers: [{backends: [c]}]}\n",
            "only backends that exist (a), not c",
        ),
        (
            "backends: {a: {type: directory, path: /b}}\npolicy: {signers: [{backends: []}]}\n",
            "policy.signers[0].backends (x.yaml line 8): found []; expected at least one",
        ),
        (
            "backends: {a: {type: directory, path: /b}}\npolicy: {signers: [{backends: [a, a]}]}\n",
            "expected each backend once",
        ),
        (
            "issuer: {type: directory, path: /b}\npolicy: {signers: [{backends: [a]}]}\n",
            "`backends` is empty",
        ),
    ],
)
def test_wrong_backends_are_told_with_their_place(text: str, words: str) -> None:
    """What is wrong with a backend or a rule is told with place, finding and expectation."""
    assert words in _problems(text)


def test_problems_of_several_backends_are_told_at_once() -> None:
    """Two wrong backends make two problems, beside those of other sections."""
    text = _problems(
        "backends: {a: {type: directory}, b: {type: self_made, path: /c, x: 1}}\nworkers: none\n"
    )
    assert "backends.a.path" in text
    assert "backends.b.x" in text
    assert "workers" in text


def test_environment_overrules_a_backends_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable names a backend's setting by its place."""
    monkeypatch.setenv("MESHSIGNER_BACKENDS__NEAR__PATH", "/other")
    config = _load("backends: {near: {type: directory, path: /ca}}\n")
    assert "path: /other" in render_effective(config)


def test_rules_are_read_in_their_order() -> None:
    """Rules keep their order and their conditions."""
    config = _load(
        "backends: {a: {type: directory, path: /b}, b: {type: directory, path: /c}}\n"
        "policy:\n  signers:\n"
        "    - {cert_signer: gold, backends: [b]}\n"
        "    - {namespace: pay, backends: [b, a]}\n"
        "    - {backends: [a]}\n"
    )
    first, second, third = config.policy.signers
    assert first.cert_signer == "gold"
    assert second.backends == ("b", "a")
    assert third.namespace is None
