"""The cluster that other tests rely on is a real one."""

import contextlib
import time
from typing import Any

import pytest

from tests.conformance.go_binary import KUBERNETES_VERSION
from tests.conformance.kubernetes.admin import CORE, Admin, Refusal
from tests.conformance.kubernetes.cluster import ControlPlane

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
SEEN_WITHIN_S = 10.0  # the API server's authorizer reads roles from a watch of its own


def test_api_server_is_of_the_release(kubernetes: ControlPlane) -> None:
    """It serves the release that the documents name, and says so."""
    assert kubernetes.admin.get("/version")["gitVersion"] == KUBERNETES_VERSION


def test_token_of_a_pod_tells_pod_and_node(kubernetes: ControlPlane) -> None:
    """A bound token's review names the pod and the node, as in a cluster with a kubelet."""
    admin = kubernetes.admin
    admin.create_namespace("fixture")
    admin.create_service_account("fixture", "reader")
    node_uid = admin.create_node("fixture-node")
    pod = admin.create_pod("fixture", "reader-0", "reader", node="fixture-node", phase="Running")
    token = admin.token("fixture", "reader", pod=pod)
    asked = {"spec": {"token": token, "audiences": ["istio-ca"]}}
    status = admin.create(REVIEWS, asked)["status"]
    extra = {k.rpartition("/")[2]: v for k, v in status["user"]["extra"].items()}
    assert status["authenticated"] is True
    assert extra["pod-uid"] == [pod.uid]
    assert extra["node-name"] == ["fixture-node"]
    assert extra["node-uid"] == [node_uid]


def test_service_account_may_nothing_it_was_not_given(kubernetes: ControlPlane) -> None:
    """RBAC is on: a fresh service account may not read Secrets until a role says so."""
    admin = kubernetes.admin
    admin.create_namespace("strict")
    admin.create_service_account("strict", "nobody")
    secrets = f"{CORE}/namespaces/strict/secrets"
    with contextlib.closing(kubernetes.as_account("strict", "nobody")) as nobody:
        with pytest.raises(Refusal) as refused:
            nobody.get(secrets)
        admin.create_cluster_role(
            "strict-reader", {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}
        )
        admin.bind_cluster_role("strict-reader", "strict", "nobody")
        assert _soon_allowed(nobody, secrets)["items"] == []
    assert refused.value.status == 403


def test_clusters_share_nothing_but_the_issuer(
    kubernetes: ControlPlane, other_kubernetes: ControlPlane
) -> None:
    """A token of one cluster is refused by the other, although both name the same issuer."""
    admin = kubernetes.admin
    admin.create_namespace("both")
    admin.create_service_account("both", "one")
    asked = {"spec": {"token": admin.token("both", "one"), "audiences": ["istio-ca"]}}
    mine = admin.create(REVIEWS, asked)["status"]
    theirs = other_kubernetes.admin.create(REVIEWS, asked)["status"]
    assert mine["authenticated"] is True
    assert "authenticated" not in theirs


def _soon_allowed(account: Admin, path: str) -> dict[str, Any]:
    """Read what an account has just been allowed to read."""
    deadline = time.monotonic() + SEEN_WITHIN_S
    while True:
        try:
            return account.get(path)
        except Refusal:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
