"""Our verbs do on a real API server what their docstrings say."""

from collections.abc import AsyncIterator

import pytest

from meshsigner.kube import (
    CLUSTER_TRUST_BUNDLES,
    CONFIG_MAPS,
    LEASES,
    PODS,
    SECRETS,
    Conflict,
    KubernetesApi,
    NotAllowed,
    NotFound,
    Resource,
)
from tests.conformance.kubernetes.client import client
from tests.conformance.kubernetes.cluster import ControlPlane

SPACE = "objects"


@pytest.fixture(scope="module", autouse=True)
def namespace(kubernetes: ControlPlane) -> str:
    """Make this file's namespace."""
    kubernetes.admin.create_namespace(SPACE)
    return SPACE


@pytest.fixture
async def api(kubernetes: ControlPlane) -> AsyncIterator[KubernetesApi]:
    """Our client with an administrator's rights."""
    async with client(kubernetes) as made:
        yield made


async def test_a_lease_changes_hands_once(api: KubernetesApi) -> None:
    """Of two who replace the same version one wins, the other one is told of a conflict."""
    path = LEASES.object("leader", SPACE)
    with pytest.raises(NotFound):
        await api.get(path)
    made = await api.create(
        LEASES.collection(SPACE),
        {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": {"name": "leader"},
            "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15},
        },
    )
    won = await api.replace(path, {**made, "spec": {**made["spec"], "holderIdentity": "two"}})
    with pytest.raises(Conflict) as lost:
        await api.replace(path, {**made, "spec": {**made["spec"], "holderIdentity": "three"}})
    assert lost.value.reason_word == "Conflict"
    assert won["spec"]["holderIdentity"] == (await api.get(path))["spec"]["holderIdentity"] == "two"


@pytest.mark.parametrize("resource", [CONFIG_MAPS, SECRETS])
async def test_patches_leave_alone_what_they_do_not_name(
    api: KubernetesApi, resource: Resource
) -> None:
    """Other people's keys and labels survive; None removes; a stale version is a conflict."""
    path = resource.object("shared", SPACE)
    await api.create(
        resource.collection(SPACE),
        {
            "apiVersion": "v1",
            "kind": resource.kind,
            "metadata": {"name": "shared", "labels": {"theirs": "1"}},
            "data": {"theirs": "dGhlaXJz", "old": "b2xk"},
        },
    )
    made = await api.patch(path, {"data": {"ours": "b3Vycw==", "old": None}})
    assert made["data"] == {"theirs": "dGhlaXJz", "ours": "b3Vycw=="}
    assert made["metadata"]["labels"] == {"theirs": "1"}
    assert {field["manager"] for field in made["metadata"]["managedFields"]} == {"meshsigner"}
    await api.patch(path, {"metadata": {"labels": {"ours": "1"}}})
    stale = {"resourceVersion": made["metadata"]["resourceVersion"]}
    with pytest.raises(Conflict):
        await api.patch(path, {"metadata": stale, "data": {"ours": None}})
    with pytest.raises(Conflict):
        await api.delete(path, resource_version=stale["resourceVersion"])
    with pytest.raises(Conflict):
        await api.delete(path, uid="another")
    await api.delete(path, uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await api.delete(path)


async def test_a_write_that_changes_nothing_is_none(api: KubernetesApi) -> None:
    """The version stays, so that a watch is not told."""
    document = {"metadata": {"name": "same"}, "data": {"a": "1"}}
    made = await api.create(CONFIG_MAPS.collection(SPACE), document)
    again = await api.patch(CONFIG_MAPS.object("same", SPACE), {"data": {"a": "1"}})
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]


async def test_a_trust_bundle_has_a_name_with_colons(
    api: KubernetesApi, kubernetes: ControlPlane
) -> None:
    """Made, read and deleted under the name that Istio's charts mount."""
    bundles = CLUSTER_TRUST_BUNDLES[1]
    name = "istio.io:istiod-ca:root-cert"
    roots = kubernetes.authority.roots.read_text()
    with pytest.raises(NotFound):
        await api.list(CLUSTER_TRUST_BUNDLES[0].collection())
    await api.create(
        bundles.collection(),
        {
            "apiVersion": bundles.api_version,
            "kind": bundles.kind,
            "metadata": {"name": name},
            "spec": {"signerName": "istio.io/istiod-ca", "trustBundle": roots},
        },
    )
    read = await api.get(bundles.object(name))
    assert "BEGIN CERTIFICATE" in read["spec"]["trustBundle"]
    await api.delete(bundles.object(name), uid=read["metadata"]["uid"])


async def test_pages_are_of_one_moment(api: KubernetesApi) -> None:
    """Each page has the version of the whole list; selectors choose at the server."""
    for n in range(5):
        labels = {"page": "yes" if n else "no"}
        document = {"metadata": {"name": f"page-{n}", "labels": labels}}
        await api.create(CONFIG_MAPS.collection(SPACE), document)
    pages = [page async for page in api.pages(CONFIG_MAPS.collection(SPACE), labels="page", page=2)]
    assert [len(page.items) for page in pages] == [2, 2, 1]
    assert len({page.resource_version for page in pages}) == 1
    chosen = await api.list(
        CONFIG_MAPS.collection(SPACE), labels="page=yes", fields="metadata.name=page-3"
    )
    assert [item["metadata"]["name"] for item in chosen.items] == ["page-3"]


async def test_rights_that_are_missing_are_told(kubernetes: ControlPlane) -> None:
    """RBAC's own sentence says who may not do what."""
    kubernetes.admin.create_service_account(SPACE, "nobody")
    token = kubernetes.admin.token(SPACE, "nobody", audiences=())
    async with client(kubernetes, token) as api:
        with pytest.raises(NotAllowed, match=f"system:serviceaccount:{SPACE}:nobody.*cannot list"):
            await api.list(PODS.collection())
        await api.check_ready()  # which any account may ask
