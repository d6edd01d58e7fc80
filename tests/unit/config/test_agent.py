"""The agent's configuration: defaults, what belongs together, and its page."""

from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from meshsigner.config import parse_config
from meshsigner.config.agent import AgentConfig, build_agent_config, load_agent_config
from meshsigner.config.agent_reference import render_agent_reference
from meshsigner.errors import ConfigurationError

DOCS = Path(__file__).parents[3] / "docs"
CA = {"address": "istiod.istio-system.svc:15012"}
A = {"name": "a", "identity": "spiffe://cluster.local/ns/x/sa/a"}
B = {"name": "b", "identity": "spiffe://cluster.local/ns/x/sa/b"}


def _config(**values: object) -> AgentConfig:
    return build_agent_config({"ca": CA, **values}, name="test.yaml")


def _problems(**values: object) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        _config(**values)
    return caught.value.problems


def test_only_the_ca_must_be_said() -> None:
    """Everything else is where Istio has it."""
    config = _config()
    (workload,) = config.workloads
    assert str(workload.token_file) == "/var/run/secrets/tokens/istio-token"
    assert str(config.ca.root_file) == "/var/run/secrets/istio/root-cert.pem"
    assert (config.ca.cluster_id, workload.key_type) == ("Kubernetes", "p256")
    assert (config.renewal.grace_ratio, config.renewal.grace_jitter) == (0.5, 0.01)
    assert workload.lifetime == timedelta(days=1)
    assert workload.output_directory is None


def test_page_is_in_step_with_the_models() -> None:
    """docs/agent-config.md is what the models say; `make docs` writes it."""
    assert (DOCS / "agent-config.md").read_text() == render_agent_reference()


def test_file_names_its_lines(tmp_path: Path) -> None:
    """A problem says file and line, as the server's do."""
    path = tmp_path / "agent.yaml"
    path.write_text("ca: {address: somewhere}\nworkload: []\n")
    with pytest.raises(ConfigurationError) as caught:
        load_agent_config(path)
    address, workload = caught.value.problems
    assert address.startswith("ca.address (agent.yaml line 1): found 'somewhere'; expected host")
    assert "did you mean workloads?" in workload


def test_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variables begin with MESHSIGNER_AGENT_."""
    monkeypatch.setenv("MESHSIGNER_AGENT_CA__CLUSTER_ID", "east")
    assert _config().ca.cluster_id == "east"


def test_misspelt_variable_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that means nothing here is most likely a mistake."""
    monkeypatch.setenv("MESHSIGNER_AGENT_CAA", "east")
    (problem,) = _problems()
    assert "environment variable MESHSIGNER_AGENT_CAA: no setting caa" in problem


def test_server_and_agent_leave_each_others_variables_alone(
    monkeypatch: pytest.MonkeyPatch, smallest: str
) -> None:
    """Both may stand in one environment."""
    monkeypatch.setenv("MESHSIGNER_AGENT_CA__CLUSTER_ID", "east")
    monkeypatch.setenv("MESHSIGNER_POLICY__BACKDATE", "2s")
    assert parse_config(smallest).policy.backdate == timedelta(seconds=2)
    assert _config().ca.cluster_id == "east"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"workloads": []}, "expected at least one"),
        ({"workloads": [A, A]}, "each name once (a is there 2 times)"),
        ({"workloads": [A, B]}, "a way to prove the processes of workload a"),
        (
            {"workloads": [{**A, "socket": "/x/s", "group": "a"}, {**B, "socket": "/y/s"}]},
            "the group that alone may enter the directory of b's socket",
        ),
        (
            {
                "workloads": [
                    {**A, "socket": "/x/s", "group": "a"},
                    {**B, "socket": "/x/t", "group": "b"},
                ]
            },
            "each directory of a socket once (/x is there 2 times)",
        ),
        (
            {
                "workloads": [
                    {**A, "socket": "/x/s", "group": "g"},
                    {**B, "socket": "/y/t", "group": "g"},
                ]
            },
            "each group once (g is there 2 times)",
        ),
        (
            {"workloads": [{**A, "user": "1"}, {**B, "user": "2"}]},
            "a shared_socket, for a, b has no socket of its own",
        ),
        ({"shared_socket": {"path": "/x"}}, "no shared_socket, or a workload with a user"),
        ({"ca": {**CA, "headers": {"authorization": "x"}}}, "headers that the agent does not set"),
        ({"ca": {**CA, "headers": {"X-Tenant": "x"}}}, "a header's name in lower case"),
        ({"ca": {**CA, "headers": {"grpc-timeout": "1"}}}, "none of gRPC's own"),
        ({"ca": {**CA, "headers": {"key-bin": "1"}}}, "none that ends in -bin"),
        ({"ca": {**CA, "headers": {"x": "a\nb"}}}, "visible ASCII"),
        ({"workloads": [{**A, "identity": "cluster.local/a"}]}, "expected a SPIFFE ID"),
        ({"workloads": [{**A, "user": True}]}, "expected string"),
        ({"workloads": [{**A, "name": "A B"}]}, "expected a short name"),
        ({"workloads": [{**A, "lifetime": "5s"}]}, "expected a duration from 10s"),
        ({"renewal": {"grace_ratio": 2}}, "less than or equal to 1"),
    ],
)
def test_what_cannot_work_is_told(values: dict[str, object], words: str) -> None:
    """In words, before anything starts."""
    (problem,) = _problems(**values)
    assert words in problem


def test_several_workloads_with_all_ways_to_prove_them() -> None:
    """Own sockets for groups, and users at the shared one, side by side; numbers are names too."""
    config = _config(
        workloads=[{**A, "socket": "/x/s", "group": 1000}, {**B, "user": 1001, "user_group": "b"}],
        shared_socket={"path": "/run/sds"},
    )
    assert (config.workloads[0].group, config.workloads[1].user) == ("1000", "1001")


def test_effective_values_are_plain() -> None:
    """What is in effect can be written down again."""
    shown = _config(workloads=[A]).model_dump(mode="json")
    assert yaml.safe_load(yaml.safe_dump(shown))["workloads"][0]["identity"] == A["identity"]
