"""The controllers at a real API server: roots everywhere, istiod's certificate, one leader."""

import base64
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from tests.conformance.kubernetes.admin import CORE, Refusal
from tests.conformance.kubernetes.cluster import ControlPlane, Options, control_plane
from tests.conformance.kubernetes.controllers import (
    DURATION_S,
    LEASES,
    Site,
    give_rights,
    make_ca,
    until,
)

ROOTS = "istio-ca-root-cert"
NOT_FOUND = 404
BUNDLE = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles/istio.io:istiod-ca:root-cert"
ISTIOD = f"{CORE}/namespaces/istio-system/secrets/istiod-tls"
POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "Metadata",
            "verbs": ["create", "update", "patch", "delete"],
            "users": ["system:serviceaccount:meshsigner:meshsigner"],
        },
        {"level": "None"},
    ],
}
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Run a cluster of this module's own, with an audit log of what the account writes."""
    folder = tmp_path_factory.mktemp("controllers")
    with control_plane(folder, Options(audit_policy=POLICY)) as running:
        running.admin.create_namespace("istio-system")
        yield running


@pytest.fixture(scope="module")
def token(cluster: ControlPlane) -> str:
    """Return the token of the controllers' account."""
    return give_rights(cluster)


@pytest.fixture
def site(cluster: ControlPlane, token: str, tmp_path: Path) -> Iterator[Site]:
    """Return what the processes of a test need; what they made goes afterwards."""
    site = Site(cluster=cluster, token=token, folder=tmp_path)
    make_ca(site.ca)
    yield site
    admin = cluster.admin
    for path in (f"{LEASES}/meshsigner-controllers", ISTIOD, BUNDLE):
        if admin.exists(path):
            admin.delete(path)
    for namespace in _namespaces(cluster):
        if admin.exists(_map_path(namespace)):
            admin.delete(_map_path(namespace))


def _roots(site: Site) -> str:
    return (site.ca / "root-cert.pem").read_text()


def _map_path(namespace: str) -> str:
    return f"{CORE}/namespaces/{namespace}/configmaps/{ROOTS}"


def _namespaces(cluster: ControlPlane) -> list[str]:
    return [item["metadata"]["name"] for item in cluster.admin.get(f"{CORE}/namespaces")["items"]]


def _get(cluster: ControlPlane, path: str) -> dict[str, Any] | None:
    try:
        return cluster.admin.get(path)
    except Refusal as refusal:
        if refusal.status != NOT_FOUND:
            raise
        return None


def _has_roots(site: Site, namespace: str) -> bool:
    found = _get(site.cluster, _map_path(namespace))
    return (
        found is not None
        and found.get("data", {}).get("root-cert.pem") == _roots(site)
        and (found["metadata"].get("labels") or {}).get("istio.io/config") == "true"
    )


def _new_namespace(cluster: ControlPlane, **labels: str) -> str:
    name = f"shop-{next(_NUMBERS)}"
    cluster.admin.create_namespace(name, labels)
    return name


def _leaf(site: Site) -> x509.Certificate | None:
    secret = _get(site.cluster, ISTIOD)
    if secret is None:
        return None
    return x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))


def _writes(cluster: ControlPlane, *, leases: bool = False) -> list[dict[str, Any]]:
    """Return what the account has written so far, by the API server's audit log."""
    events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
    return [one for one in events if leases or one["objectRef"]["resource"] != "leases"]


def test_statement_54_roots_are_in_every_namespace(site: Site, cluster: ControlPlane) -> None:
    """Every namespace gets them, kube-system too, a new one within a second; some are left out."""
    with site.running() as running:
        until(lambda: all(_has_roots(site, n) for n in ("default", "kube-system", "istio-system")))
        running.wait_for("roots stand everywhere")
        namespace = _new_namespace(cluster)
        assert until(lambda: _has_roots(site, namespace)) < 1.0
        assert _get(cluster, _map_path("kube-public")) is None


def test_statement_54_drift_and_deletion_are_repaired(site: Site, cluster: ControlPlane) -> None:
    """A changed text, a lost label and a deleted object come back; what is others' stays."""
    namespace = _new_namespace(cluster)
    admin = cluster.admin
    with site.running():
        until(lambda: _has_roots(site, namespace))
        others = {"metadata": {"labels": {"team": "a"}}, "data": {"note.txt": "theirs"}}
        admin.patch(_map_path(namespace), others)
        admin.patch(_map_path(namespace), {"data": {"root-cert.pem": "nonsense"}})
        until(lambda: _has_roots(site, namespace))
        admin.patch(_map_path(namespace), {"metadata": {"labels": {"istio.io/config": None}}})
        until(lambda: _has_roots(site, namespace))
        found = admin.get(_map_path(namespace))
        assert found["metadata"]["labels"]["team"] == "a"
        assert found["data"]["note.txt"] == "theirs"
        admin.delete(_map_path(namespace))
        until(lambda: _has_roots(site, namespace))


def test_statement_54_terminating_namespace_is_left_alone(
    site: Site, cluster: ControlPlane
) -> None:
    """Nothing is made in a namespace that ends, nobody insists, and all others go on."""
    ending = _new_namespace(cluster)
    admin = cluster.admin
    held = {"metadata": {"name": "held", "finalizers": ["test.example/held"]}}
    admin.create(f"{CORE}/namespaces/{ending}/configmaps", held)
    with site.running() as running:
        until(lambda: _has_roots(site, ending))
        admin.delete(f"{CORE}/namespaces/{ending}")
        until(lambda: _get(cluster, _map_path(ending)) is None)  # the namespace's own end
        before = len(_writes(cluster))
        namespace = _new_namespace(cluster)
        until(lambda: _has_roots(site, namespace))
        time.sleep(1.5)
        assert _get(cluster, _map_path(ending)) is None
        assert len(_writes(cluster)) - before <= 2
        assert running.process.poll() is None
    admin.patch(f"{CORE}/namespaces/{ending}/configmaps/held", {"metadata": {"finalizers": None}})


def test_statement_54_selector_says_who_gets_them(site: Site, cluster: ControlPlane) -> None:
    """With a selector only namespaces of that label get them, as soon as they have it."""
    site.settings = {"root_config_maps": {"namespace_selector": "mesh=yes"}, "istiod": []}
    inside, outside = _new_namespace(cluster, mesh="yes"), _new_namespace(cluster)
    with site.running():
        until(lambda: _has_roots(site, inside))
        assert _get(cluster, _map_path(outside)) is None
        cluster.admin.patch(
            f"{CORE}/namespaces/{outside}", {"metadata": {"labels": {"mesh": "yes"}}}
        )
        until(lambda: _has_roots(site, outside))


def test_nothing_is_written_when_nothing_has_changed(site: Site, cluster: ControlPlane) -> None:
    """A second leader finds everything as it should be, and writes but its lease."""
    with site.running("one") as one:
        one.wait_for("roots stand everywhere")
        until(lambda: _leaf(site) is not None)
        time.sleep(1.0)
    before = len(_writes(cluster))
    with site.running("two") as two:
        two.wait_for("leading")
        time.sleep(4.0)
    assert len(_writes(cluster)) == before


def test_statement_55_istiod_has_a_certificate_renewed_in_place(
    site: Site, cluster: ControlPlane, request: pytest.FixtureRequest
) -> None:
    """It names istiod and its revisions, chains to the roots, is renewed and repaired in place."""
    site.settings = {
        "istiod": [{"revisions": ["canary"], "dns_names": ["discovery.example"]}],
        "istiod_lifetime": "1m",
    }
    by_time = request.config.getoption("--soak")  # half a minute
    admin = cluster.admin
    with site.running():
        until(lambda: _leaf(site) is not None)
        secret, leaf = admin.get(ISTIOD), _leaf(site)
        assert leaf is not None
        assert secret["type"] == "kubernetes.io/tls"
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert set(names.get_values_for_type(x509.DNSName)) == {
            "istiod.istio-system.svc",
            "istiod-remote.istio-system.svc",
            "istio-pilot.istio-system.svc",
            "istiod-canary.istio-system.svc",
            "discovery.example",
        }
        assert base64.b64decode(secret["data"]["ca.crt"]).decode() == _roots(site)
        # repaired: a foreign key beside the certificate would keep istiod from serving
        admin.patch(ISTIOD, {"data": {"tls.key": base64.b64encode(b"no key").decode()}})
        first = leaf.serial_number
        until(lambda: _serial(site) != first)
        second = _serial(site)
        if by_time:
            until(lambda: _serial(site) != second, timeout_s=45.0)
    # another name, another certificate; the object stays the same
    site.settings["istiod"][0]["revisions"] = ["canary", "next"]
    second = _serial(site)
    with site.running():
        until(lambda: _serial(site) != second)
    assert admin.get(ISTIOD)["metadata"]["uid"] == secret["metadata"]["uid"]


def _serial(site: Site) -> int:
    leaf = _leaf(site)
    return 0 if leaf is None else leaf.serial_number


def test_statement_60_trust_bundle_is_kept(site: Site, cluster: ControlPlane) -> None:
    """The ClusterTrustBundle has the roots, and has them again when somebody changes it."""
    with site.running() as running:
        until(lambda: _bundle(cluster) == _roots(site), running.log.read_text)
        cluster.admin.delete(BUNDLE)
        until(lambda: _bundle(cluster) == _roots(site), running.log.read_text)


def _bundle(cluster: ControlPlane) -> str:
    found = _get(cluster, BUNDLE)
    return "" if found is None else str(found["spec"]["trustBundle"])


def test_statement_61_roots_change_in_order(
    site: Site, cluster: ControlPlane, tmp_path: Path
) -> None:
    """Announced; refused to sign too early; shown once it is everywhere; then the old one goes."""
    # the longest lifetime of a leaf is shortened to seconds, so that the steps can be seen
    site.settings = {"longest_leaf": "8s", "settle": "2s"}
    old_root, new = _roots(site), make_ca(tmp_path / "new")
    new_root = (new / "root-cert.pem").read_text()
    with site.running() as running:
        running.wait_for("roots stand everywhere")
        until(lambda: _leaf(site) is not None)
        serial = _serial(site)
        # announce: both roots, the old one signs
        _install(site.ca, site.ca, old_root + new_root)
        until(lambda: _has_roots(site, "default"), running.log.read_text)
        running.wait_for("roots stand everywhere", 2)
        # too early: the new CA is refused, nothing is shown of it
        _install(site.ca, new, new_root + old_root)
        running.wait_for("CA directory refused")
        assert _is_signed_under(site, old_root)
        # some seconds later every leaf has been renewed with both roots: now it is taken
        time.sleep(8.0)
        _install(site.ca, new, new_root + old_root)
        until(
            lambda: bool(running.said("issuer replaced")) and not _is_signed_under(site, old_root),
            running.log.read_text,
        )
        assert _serial(site) != serial
        # dropping the old one too early is refused
        _install(site.ca, new, new_root)
        running.wait_for("CA directory refused", 2)
        assert old_root in cluster.admin.get(_map_path("default"))["data"]["root-cert.pem"]


_FILES = ("ca-cert.pem", "ca-key.pem", "cert-chain.pem")


def _install(ca: Path, source: Path, roots: str) -> None:
    """Put a CA's files in place in one step, with a bundle."""
    version = ca / f"generation-{time.monotonic_ns()}"
    version.mkdir(mode=0o700)
    for name in _FILES:
        content = (source / name).read_bytes()
        (version / name).touch(0o600)
        (version / name).write_bytes(content)
    (version / "root-cert.pem").write_text(roots)
    link = ca / "new"
    link.symlink_to(version.name)
    link.replace(ca / "current")


def _is_signed_under(site: Site, roots: str) -> bool:
    """Tell whether istiod's certificate chains to these roots' first one."""
    secret = site.cluster.admin.get(ISTIOD)
    chain = x509.load_pem_x509_certificates(base64.b64decode(secret["data"]["tls.crt"]))
    return chain[-1].issuer == x509.load_pem_x509_certificate(roots.encode()).subject


def test_one_worker_of_a_server_keeps_the_cluster(site: Site, cluster: ControlPlane) -> None:
    """Of two workers one leads, beside its port; when it is killed the other one does."""
    with site.running("whole", ("serve",)) as running:
        running.wait_for("ready")
        until(lambda: _has_roots(site, "default") and _leaf(site) is not None)
        assert "meshsigner_controllers_leading 1.0" in running.page("/metrics")
        assert "controllers: leads; 0 namespaces without the roots" in running.page(
            "/healthz/ready"
        )
        (leading,) = running.said("leading, ")
        os.kill(int(leading["me"].split("_")[-2]), signal.SIGKILL)
        until(lambda: len(running.said("leading, ")) == 2, running.log.read_text)
        namespace = _new_namespace(cluster)
        until(lambda: _has_roots(site, namespace))


def test_killed_leader_is_followed_within_15_s(site: Site, cluster: ControlPlane) -> None:
    """Another process leads soon, and goes on with what is to do."""
    with site.running("one") as one:
        one.wait_for("roots stand everywhere")
        with site.running("two") as two:
            two.wait_for("ready")
            one.kill()
            took_s = until(lambda: bool(two.said("leading, ")))
            namespace = _new_namespace(cluster)
            took_s += until(lambda: _has_roots(site, namespace))
    assert took_s < 15.0


def test_ended_leader_is_followed_at_once(site: Site) -> None:
    """A leader that ends gives its lease back: nobody waits for its duration."""
    with site.running("one") as one:
        one.wait_for("leading, ")
        with site.running("two") as two:
            two.wait_for("ready")
            one.end()
            assert until(lambda: bool(two.said("leading, "))) < DURATION_S / 2


def test_frozen_leader_writes_nothing_of_its_old_term(site: Site, cluster: ControlPlane) -> None:
    """Frozen past its lease in the middle of work, and woken: it does not make one write more."""
    # there is work for it when it wakes: namespaces that it has seen and not served yet
    site.settings = {"writes_per_second": 5}
    for _ in range(15):
        _new_namespace(cluster)
    with site.running("one") as one:
        one.wait_for("leading, ")
        until(lambda: len(_with_roots(cluster)) > 3)
        one.freeze()
        with site.running("two") as two:
            two.wait_for("leading, ")
            two.wait_for("roots stand everywhere")
            for namespace in _with_roots(cluster)[:5]:  # work for whoever thinks to lead
                cluster.admin.delete(_map_path(namespace))
            until(lambda: all(_has_roots(site, n) for n in _served(cluster)))
            version = {n: _version(cluster, n) for n in _served(cluster)}
            two.freeze()  # from here on every write would be the woken one's
            before = len(_writes(cluster))
            one.thaw()
            one.wait_for("leading no more")
            time.sleep(1.0)
            assert len(_writes(cluster)) == before
            assert {n: _version(cluster, n) for n in _served(cluster)} == version
            two.thaw()


def _with_roots(cluster: ControlPlane) -> list[str]:
    found = cluster.admin.get(f"{CORE}/configmaps?fieldSelector=metadata.name%3D{ROOTS}")["items"]
    return [item["metadata"]["namespace"] for item in found]


def _served(cluster: ControlPlane) -> list[str]:
    skipped = {"kube-public", "kube-node-lease"}
    items = cluster.admin.get(f"{CORE}/namespaces")["items"]
    active = [item for item in items if item["status"]["phase"] == "Active"]
    return [i["metadata"]["name"] for i in active if i["metadata"]["name"] not in skipped]


def _version(cluster: ControlPlane, namespace: str) -> str:
    return str(cluster.admin.get(_map_path(namespace))["metadata"]["resourceVersion"])


def test_many_namespaces_get_the_roots_in_time(
    site: Site,
    cluster: ControlPlane,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """All within 60 s of the start, at a bounded rate and in little memory; 2,000 with --soak."""
    count = 2_000 if request.config.getoption("--soak") else 300
    names = [f"many-{number}" for number in range(count)]
    for name in names:
        cluster.admin.create_namespace(name)
    began = time.monotonic()
    with site.running() as running:
        until(lambda: len(_with_roots(cluster)) >= count, timeout_s=70.0)
        took_s = time.monotonic() - began
        running.wait_for("roots stand everywhere")
        assert took_s < 60.0
        assert running.memory_bytes < 200 * 1024**2
        writes = [w for w in _writes(cluster) if w["objectRef"]["resource"] == "configmaps"]
        stamps = sorted(one["stageTimestamp"] for one in writes[-count:])
        busiest = max(
            sum(stamp[:19] == second for stamp in stamps) for second in {s[:19] for s in stamps}
        )
        assert busiest <= 60  # the bound is 50, evenly; a second of the clock may hold a few more
        memory_mib = running.memory_bytes >> 20
        with capsys.disabled():
            line = (
                f"{count} namespaces: {took_s:.1f} s, {memory_mib} MiB, {busiest} writes/s at most"
            )
            sys.stdout.write(f"\n{line}\n")


def test_statement_55_bootstrap_makes_what_istiod_needs(site: Site, cluster: ControlPlane) -> None:
    """CA, roots and istiod's certificate are there before anything runs, once."""
    admin = cluster.admin
    arguments = ("bootstrap", "--config", str(site.configuration("boot")), "--ca-secret", "own-ca")
    first = site.command(*arguments)
    assert first.returncode == 0, first.stdout + first.stderr
    own = f"{CORE}/namespaces/meshsigner/secrets/own-ca"
    ca = admin.get(own)["data"]
    assert set(ca) == {"ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"}
    assert set(admin.get(f"{own}-root")["data"]) == {"root-key.pem"}
    roots = base64.b64decode(ca["root-cert.pem"]).decode()
    assert admin.get(_map_path("istio-system"))["data"]["root-cert.pem"] == roots
    serial = _serial(site)
    second = site.command(*arguments)
    assert second.returncode == 0, second.stdout + second.stderr
    assert admin.get(own)["data"] == ca
    assert _serial(site) == serial
    assert "PRIVATE KEY" not in first.stdout + first.stderr + second.stdout + second.stderr
    for path in (own, f"{own}-root"):
        admin.delete(path)
