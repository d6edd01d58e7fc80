"""The chart on a real API server: its hook before all, what it keeps, and no right too many."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.conformance.caller import Outcome, call, call_over
from tests.conformance.chart.installed import ISTIO, Release, wait_for
from tests.conformance.chart.rendering import RELEASE, SETS, render
from tests.conformance.kubernetes.admin import CORE, RBAC, Pod, Refusal
from tests.conformance.kubernetes.cluster import Options, control_plane
from tests.conformance.server import RunningServer

ROOTS = f"{CORE}/namespaces/{{}}/configmaps/istio-ca-root-cert"
ISTIOD = f"{CORE}/namespaces/{ISTIO}/secrets/istiod-tls"
BUNDLE = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles/istio.io:istiod-ca:root-cert"
APPS, NODE = "chart-apps", "chart-node"
SETTINGS = (
    *SETS["ambient"],
    "controllers.trustBundle=true",
    "serving.dnsNames[0]=localhost",
    "remoteClusters.enabled=true",
    "remoteClusters.allowed[0].id=east",
    "remoteClusters.allowed[0].trust_domain=east.example",
    "remoteClusters.allowed[0].namespaces=*",
)
Rule = tuple[str, str, str]  # API group, resource, verb
Check = Callable[[Release, RunningServer], object]


@pytest.fixture(scope="module")
def release(command: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """Install the chart with everything on that asks for rights."""
    folder = tmp_path_factory.mktemp("chart")
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "Metadata", "userGroups": [f"system:serviceaccounts:{RELEASE}"]},
            {"level": "None"},
        ],
    }
    (folder / "cluster").mkdir()
    with control_plane(folder / "cluster", Options(audit_policy=policy)) as cluster:
        for name in (ISTIO, RELEASE, APPS):
            cluster.admin.create_namespace(name)
        cluster.admin.create_service_account(APPS, "cart")
        cluster.admin.create_service_account(ISTIO, "ztunnel")
        made = Release(cluster=cluster, command=command, folder=folder, settings=SETTINGS)
        made.helm("install", RELEASE)
        yield made


def _secret(release: Release, name: str, namespace: str = RELEASE) -> Mapping[str, Any] | None:
    return release.get(f"{CORE}/namespaces/{namespace}/secrets/{name}")


def test_the_hook_makes_what_istiod_looks_for(release: Release) -> None:
    """Before the Deployment there are the CA, the roots and istiod's certificate."""
    assert release.hook_runs[0] == 0
    ca, roots = _secret(release, "meshsigner-ca"), release.get(ROOTS.format(ISTIO))
    istiod = _secret(release, "istiod-tls", ISTIO)
    assert ca is not None
    assert roots is not None
    assert istiod is not None
    assert _secret(release, "meshsigner-ca-root") is not None
    assert base64.b64decode(ca["data"]["root-cert.pem"]).decode() == roots["data"]["root-cert.pem"]
    assert {"tls.crt", "tls.key"} <= istiod["data"].keys()


def test_an_upgrade_changes_no_ca(release: Release) -> None:
    """The hook runs again and leaves what is there as it is."""
    before = _secret(release, "meshsigner-ca"), _secret(release, "istiod-tls", ISTIO)
    release.helm("upgrade", RELEASE)
    assert len(release.hook_runs) >= 2
    assert not any(release.hook_runs)
    assert (_secret(release, "meshsigner-ca"), _secret(release, "istiod-tls", ISTIO)) == before


# --- what the rights are for ---------------------------------------------------


def _pod(release: Release, namespace: str, name: str, account: str) -> Pod:
    with suppress(Refusal):
        release.admin.delete_pod(namespace, name)
    return release.admin.create_pod(namespace, name, account, node=NODE, phase="Running")


def _outcome(server: RunningServer, release: Release, token: str) -> Outcome:
    headers = [("authorization", f"Bearer {token}"), ("clusterid", "Kubernetes")]
    address = f"localhost:{server.listen.rpartition(':')[2]}"
    identity = f"spiffe://cluster.local/ns/{APPS}/sa/cart"
    return call(address, release.roots, identity, headers=headers)


def _certifies_callers(release: Release, server: RunningServer) -> None:
    """A pod gets its certificate with its own token."""
    token = release.admin.token(APPS, "cart", pod=_pod(release, APPS, "cart-0", "cart"))
    assert _outcome(server, release, token).code is grpc.StatusCode.OK


def _certifies_for_ztunnel(release: Release, server: RunningServer) -> None:
    """A node's agent gets the certificate of a pod on its node."""
    _pod(release, APPS, "cart-1", "cart")
    agent = _pod(release, ISTIO, "ztunnel-0", "ztunnel")
    token = release.admin.token(ISTIO, "ztunnel", pod=agent)
    headers = [("authorization", f"Bearer {token}"), ("clusterid", "Kubernetes")]
    address = f"localhost:{server.listen.rpartition(':')[2]}"
    credentials = grpc.ssl_channel_credentials(release.roots)
    identity = f"spiffe://cluster.local/ns/{APPS}/sa/cart"
    with grpc.secure_channel(address, credentials) as channel:

        def asked() -> bool:
            found = call_over(channel, identity, headers, impersonated=identity)
            return found.code is grpc.StatusCode.OK

        wait_for("a certificate for a pod of the node", asked, 4.0)


def _keeps_roots(release: Release, server: RunningServer) -> None:
    """A deleted ConfigMap comes back, a changed one is repaired."""
    del server
    path = ROOTS.format(APPS)
    wait_for("the roots in a namespace", lambda: release.get(path), 5.0)
    release.admin.patch(path, {"data": {"root-cert.pem": "changed"}})

    def repaired() -> bool:
        return "BEGIN" in release.admin.get(path)["data"]["root-cert.pem"]

    wait_for("a repaired ConfigMap", repaired, 4.0)
    release.admin.delete(path)
    wait_for("a ConfigMap made anew", lambda: release.get(path), 4.0)


def _keeps_istiods_certificate(release: Release, server: RunningServer) -> None:
    """Istiod's Secret is made anew, and renewed in place when it is damaged."""
    del server
    wait_for("istiod's Secret", lambda: release.get(ISTIOD), 5.0)
    release.admin.patch(ISTIOD, {"data": {"tls.crt": base64.b64encode(b"damaged").decode()}})

    def repaired() -> bool:
        kept = release.get(ISTIOD)
        return kept is not None and base64.b64decode(kept["data"]["tls.crt"]).startswith(b"-----")

    wait_for("a certificate renewed in place", repaired, 5.0)
    release.admin.delete(ISTIOD)
    wait_for("istiod's Secret made anew", lambda: release.get(ISTIOD), 5.0)


def _keeps_the_bundle(release: Release, server: RunningServer) -> None:
    """The ClusterTrustBundle is made anew and repaired."""
    del server
    wait_for("the bundle", lambda: release.get(BUNDLE), 5.0)
    kept = release.get(BUNDLE)
    assert kept is not None
    release.admin.patch(BUNDLE, {"metadata": {"labels": None}})
    release.admin.delete(BUNDLE)
    wait_for("a bundle made anew", lambda: release.get(BUNDLE), 5.0)
    good = kept["spec"]["trustBundle"]
    foreign = release.cluster.authority.roots.read_text()
    release.admin.patch(BUNDLE, {"spec": {"trustBundle": foreign}})
    wait_for(
        "a repaired bundle",
        lambda: (release.get(BUNDLE) or kept)["spec"]["trustBundle"] == good,
        5.0,
    )


def _looks_for_clusters(release: Release, server: RunningServer) -> None:
    """Secrets of further clusters are seen: what is wrong with one is in the log."""
    path = f"{CORE}/namespaces/{ISTIO}/secrets"
    name = f"east-{len(server.log.read_text())}"
    secret = {
        "metadata": {"name": name, "labels": {"istio/multiCluster": "true"}},
        "data": {"east": base64.b64encode(b"no kubeconfig").decode()},
    }
    release.admin.create(path, secret)
    try:
        wait_for("a line about the Secret", lambda: name in server.log.read_text(), 4.0)
    finally:
        release.admin.delete(f"{path}/{name}")


CHECKS: Mapping[str, Check] = {
    "callers": _certifies_callers,
    "ztunnel": _certifies_for_ztunnel,
    "roots": _keeps_roots,
    "istiod": _keeps_istiods_certificate,
    "bundle": _keeps_the_bundle,
    "clusters": _looks_for_clusters,
}


def _granted(account: str) -> set[Rule]:
    """Return what the chart's roles give an account, each verb on its own."""
    objects = render(*SETTINGS)
    roles = {
        binding["roleRef"]["name"]
        for binding in objects
        if binding["kind"] in {"RoleBinding", "ClusterRoleBinding"}
        and binding["subjects"][0]["name"] == account
    }
    return {
        (group, resource, verb)
        for role in objects
        if role["kind"] in {"Role", "ClusterRole"} and role["metadata"]["name"] in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def _audited(release: Release, account: str) -> tuple[set[Rule], set[Rule]]:
    """Return what an account has done and what it was refused, by the API server's audit log."""
    done: set[Rule] = set()
    denied: set[Rule] = set()
    for line in release.cluster.audit_log.read_text().splitlines():
        event = json.loads(line)
        target = event.get("objectRef")  # none where it asks for no object: which kinds there are
        if event["user"]["username"] != f"system:serviceaccount:{RELEASE}:{account}" or not target:
            continue
        rule = (target.get("apiGroup", ""), target["resource"], event["verb"])
        refused = event["annotations"].get("authorization.k8s.io/decision") == "forbid"
        (denied if refused else done).add(rule)
    return done, denied


def test_what_is_granted_is_what_is_used(release: Release) -> None:
    """The audit log of a run in which everything happens equals the roles: no more, no less."""
    with release.serving() as server:
        for check in CHECKS.values():
            check(release, server)
    done, denied = _audited(release, RELEASE)
    assert not denied
    # `attest` is asked inside the write of a bundle and stands in no event of its own.
    assert done == _granted(RELEASE) - {("certificates.k8s.io", "signers", "attest")}
    done, denied = _audited(release, f"{RELEASE}-bootstrap")
    assert not denied
    assert done == _granted(f"{RELEASE}-bootstrap")


@contextmanager
def _without(release: Release, path: str, rule: Mapping[str, Any]) -> Iterator[None]:
    """Take one rule out of a role for the length of a block."""
    before = release.admin.get(path)
    kept = [one for one in before["rules"] if one != rule]
    assert len(kept) == len(before["rules"]) - 1
    release.admin.patch(path, {"rules": kept})
    try:
        yield
    finally:
        release.admin.patch(path, {"rules": before["rules"]})


CLUSTER_ROLE = f"{RBAC}/clusterroles/{RELEASE}"
ROLE = f"{RBAC}/namespaces/{{}}/roles/{{}}"
# Whose rule, on what, with which verb among others, and what fails without it.
NEEDED = (
    (CLUSTER_ROLE, "tokenreviews", "create", "callers"),
    (ROLE.format(RELEASE, RELEASE), "leases", "create", "roots"),
    (ROLE.format(ISTIO, f"{RELEASE}-istiod"), "secrets", "patch", "istiod"),
    (CLUSTER_ROLE, "pods", "watch", "ztunnel"),
    (CLUSTER_ROLE, "namespaces", "watch", "roots"),
    (CLUSTER_ROLE, "configmaps", "patch", "roots"),
    (CLUSTER_ROLE, "clustertrustbundles", "patch", "bundle"),
    (CLUSTER_ROLE, "signers", "attest", "bundle"),
    (ROLE.format(RELEASE, RELEASE), "leases", "update", "roots"),
    (ROLE.format(ISTIO, f"{RELEASE}-remote-clusters"), "secrets", "watch", "clusters"),
)
SHORT = 3
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{RELEASE}/leases/{RELEASE}"


def test_without_a_rule_something_fails(release: Release, request: pytest.FixtureRequest) -> None:
    """Each rule is needed: without it a check fails; all of them with --soak."""
    cases = NEEDED if request.config.getoption("soak") else NEEDED[:SHORT]
    survived = [case for case in cases if _survives(release, *case)]
    assert not survived


def _survives(release: Release, path: str, resource: str, verb: str, name: str) -> bool:
    rules = release.admin.get(path)["rules"]
    (rule,) = [r for r in rules if resource in r["resources"] and verb in r["verbs"]]
    other = f"{RELEASE}-istiod" if "remote-clusters" in path else f"{RELEASE}-remote-clusters"
    if release.get(LEASE):
        release.admin.delete(LEASE)  # who may not make one must not find one
    with (
        _without(release, path, rule),
        _alone(release, resource, other),
        release.serving(within_s=6.0) as server,
    ):
        try:
            CHECKS[name](release, server)
        except AssertionError:
            return False
    return True


@contextmanager
def _alone(release: Release, resource: str, other: str) -> Iterator[None]:
    """Take away the other role that gives the same right, where there is one."""
    if resource != "secrets":
        yield
        return
    path = ROLE.format(ISTIO, other)
    before = release.admin.get(path)["rules"]
    release.admin.patch(path, {"rules": []})
    try:
        yield
    finally:
        release.admin.patch(path, {"rules": before})


def test_uninstalling_keeps_the_ca_and_the_records(release: Release) -> None:
    """What was issued stays known, and the CA is there for the next install."""
    release.helm("uninstall", RELEASE)
    volume = f"{CORE}/namespaces/{RELEASE}/persistentvolumeclaims/{RELEASE}-inventory"
    assert _secret(release, "meshsigner-ca") is not None
    assert release.get(volume) is not None
    assert release.get(CLUSTER_ROLE) is None
