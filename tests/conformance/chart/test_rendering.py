"""What the chart renders: valid, restricted, refused where it would go wrong, and fit for Istio."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conformance.chart.rendering import (
    CHART,
    ROOT,
    SETS,
    RefusedError,
    helm,
    one,
    pod_specs,
    render,
)

MESHSIGNER = ROOT / ".venv" / "bin" / "meshsigner"
VALIDATE = ROOT / ".servers" / "bin" / "kubernetes-validate"
OPERATOR_KINDS = {"ServiceMonitor", "PrometheusRule"}  # Prometheus' operator's, in no schema of
# Kubernetes
ISTIO = "istio.io/istio@v0.0.0-20260827124520-eed52ebb66ad"


def test_helm_finds_nothing_to_complain_of() -> None:
    """`helm lint --strict` passes."""
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


@pytest.mark.parametrize("name", SETS)
def test_objects_are_what_kubernetes_takes(name: str, tmp_path: Path) -> None:
    """Every object passes Kubernetes' own schema, without an unknown field."""
    objects = [o for o in render(*SETS[name]) if o["kind"] not in OPERATOR_KINDS]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    done = subprocess.run(
        [VALIDATE, "-k", "1.34", "--strict", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(objects) > 5


@pytest.mark.parametrize("name", SETS)
def test_the_configuration_is_one(name: str, tmp_path: Path) -> None:
    """What becomes meshsigner.yaml has no problem but the files that only a pod has."""
    config = one(render(*SETS[name]), "ConfigMap", "meshsigner")["data"]["config.yaml"]
    file = tmp_path / "meshsigner.yaml"
    file.write_text(config)
    done = subprocess.run(
        [MESHSIGNER, "check-config", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SETS)
def test_pods_meet_the_restricted_standard(name: str) -> None:
    """Pods keep Kubernetes' Pod Security Standard `restricted`, and nobody writes their root."""
    # Source: Kubernetes, Pod Security Standards, restricted.
    allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
    for pod in pod_specs(render(*SETS[name])):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert {key for v in pod["volumes"] for key in v.keys() - {"name"}} <= allowed
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (("replicas=2",), "several pods cannot share an inventory in SQLite"),
        (("autoscaling.enabled=true",), "several pods cannot share an inventory in SQLite"),
        (
            (*SETS["several"], "config.issuer.type=self_made", "config.issuer.path=/ca"),
            "a self_made CA is each pod's own",
        ),
        (
            (*SETS["several"], "issuer.type=backends", "backends.own.type=self_made"),
            "backends.own: a self_made CA is each pod's own",
        ),
        (("issuer.type=backends",), "backends is empty"),
        (("inventory.type=postgres",), "inventory.postgres.url: expected"),
        (("tokens.type=jwks",), "tokens.issuer: with tokens.type jwks"),
        (("remoteClusters.enabled=true",), "remoteClusters.allowed: name which"),
        (("replicas=abc",), "replicas"),
        (("nonsense=1",), "nonsense"),
        (("logLevel=loud",), "logLevel"),
    ],
)
def test_what_would_go_wrong_is_refused(settings: tuple[str, ...], sentence: str) -> None:
    """Nothing is installed, and the sentence says what to do."""
    with pytest.raises(RefusedError) as refused:
        render(*settings)
    assert sentence in str(refused.value)


def test_one_pod_at_a_time_has_an_inventory_of_its_own() -> None:
    """With SQLite the old pod ends before the new one starts, and its volume outlives a release."""
    objects = render()
    assert one(objects, "Deployment", "meshsigner")["spec"]["strategy"] == {"type": "Recreate"}
    claim = one(objects, "PersistentVolumeClaim", "meshsigner-inventory")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_rights_are_those_of_what_is_on() -> None:
    """A feature that is off asks for no right."""
    objects = render(*SETS["keys"], "controllers.enabled=false", "bootstrap.enabled=false")
    assert not [o for o in objects if o["kind"] in {"ClusterRole", "Role"}]


def _rules(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [r for o in objects if o["kind"] in {"ClusterRole", "Role"} for r in o["rules"]]


@pytest.mark.parametrize("name", SETS)
def test_no_right_is_for_everything(name: str) -> None:
    """No rule has a star, and none lets read the Secrets of all namespaces."""
    objects = render(*SETS[name])
    for rule in _rules(objects):
        assert "*" not in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])
    for role in objects:
        if role["kind"] == "ClusterRole":
            assert not any("secrets" in rule["resources"] for rule in role["rules"])


def test_every_rule_says_its_reason() -> None:
    """In the templates a remark stands above each rule."""
    for file in ("rbac.yaml", "bootstrap.yaml"):
        lines = (CHART / "templates" / file).read_text().splitlines()
        rules = [i for i, line in enumerate(lines) if line.strip().startswith("- apiGroups:")]
        assert rules
        for index in rules:
            before = next(
                line
                for line in reversed(lines[:index])
                if not line.strip().startswith(
                    ("{{", "verbs", "resourceNames", "resources", "- api")
                )
            )
            assert before.strip().startswith("#"), f"{file}:{index + 1}"


@pytest.fixture(scope="module")
def istio_charts() -> Path:
    """Return the folder of Istio's own charts, from its Go module."""
    done = subprocess.run(
        ["go", "mod", "download", "-json", ISTIO], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["Dir"]) / "manifests" / "charts"


def test_istiod_is_pointed_at_us(istio_charts: Path) -> None:
    """With our values istiod signs nothing, mounts istiod-tls and gives sidecars our address."""
    values = CHART / "istio" / "istiod-values.yaml"
    chart = istio_charts / "istio-control" / "istio-discovery"
    text = helm("template", "istiod", str(chart), "-n", "istio-system", "-f", str(values))
    objects = [o for o in yaml.safe_load_all(text) if o]
    pod = one(objects, "Deployment", "istiod")["spec"]["template"]["spec"]
    environment = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
    assert environment["ENABLE_CA_SERVER"] == "false"
    secrets = {v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v}
    assert "istiod-tls" in secrets
    injector = one(objects, "ConfigMap", "istio-sidecar-injector")["data"]
    assert "meshsigner.meshsigner.svc:443" in injector["values"]
    assert re.search(r"name: CA_ADDR", injector["config"])
    mesh = yaml.safe_load(one(objects, "ConfigMap", "istio")["data"]["mesh"])
    assert mesh["trustDomain"] == "cluster.local"


def test_ztunnel_is_pointed_at_us(istio_charts: Path) -> None:
    """With our values ztunnel asks us."""
    values = CHART / "istio" / "ztunnel-values.yaml"
    text = helm("template", "ztunnel", str(istio_charts / "ztunnel"), "-f", str(values))
    (daemons,) = [o for o in yaml.safe_load_all(text) if o and o["kind"] == "DaemonSet"]
    environment = {
        e["name"]: e.get("value")
        for e in daemons["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert environment["CA_ADDRESS"] == "meshsigner.meshsigner.svc:443"
    address = one(render(), "Service", "meshsigner")
    assert address["spec"]["ports"][0]["port"] == 443
