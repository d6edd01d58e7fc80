"""Makes and changes a test cluster's objects with an administrator's rights.

A few lines on the standard library's HTTP client, so that what it does owes nothing to the
client that is under test.
"""

import http.client
import json
import ssl
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CALL_TIMEOUT_S = 30.0
SHORTEST_TOKEN_S = 600  # TokenRequest refuses shorter lifetimes

CORE = "/api/v1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
MERGE_PATCH = "application/merge-patch+json"
APPLY = "application/json"


class Refusal(Exception):
    """The API server said no.

    Attributes:
        status: HTTP status.
        reason: Kubernetes' word for it, such as `AlreadyExists`.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        """Keep the status."""
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that was made.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        uid: Its uid.
        service_account: Its service account.
        node: The node it is bound to; empty if to none.
    """

    namespace: str
    name: str
    uid: str
    service_account: str
    node: str = ""


class Admin:
    """Speaks to one API server; safe to use from several threads.

    Args:
        server: `https://host:port`.
        roots: PEM file of its roots.
        token: Bearer token of an administrator, or of whoever is to be played.
    """

    def __init__(self, server: str, roots: Path, token: str) -> None:
        self._address = urlsplit(server).netloc
        self._tls = ssl.create_default_context(cafile=str(roots))
        self._token = token
        self._connections = threading.local()
        self._opened: list[http.client.HTTPSConnection] = []

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = APPLY,
    ) -> dict[str, Any]:
        """Make one call and return what it answers.

        Args:
            method: HTTP method.
            path: From the slash on, with a query if there is one.
            body: Object to send.
            content_type: What it is.

        Raises:
            Refusal: The status is not one of success.
            OSError: There is no answer.
        """
        try:
            status, answer = self._exchange(method, path, body, content_type)
        except (http.client.HTTPException, ConnectionError, ssl.SSLEOFError):
            # A kept connection from before a restart; it opens itself anew.
            status, answer = self._exchange(method, path, body, content_type)
        document: dict[str, Any] = json.loads(answer) if answer[:1] == b"{" else {}
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise Refusal(status, document.get("reason", ""), document.get("message", ""))
        return document

    def get(self, path: str) -> dict[str, Any]:
        """Read an object or a list."""
        return self.call("GET", path)

    def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object in the collection at `path`."""
        return self.call("POST", path, body)

    def replace(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object."""
        return self.call("PUT", path, body)

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Merge some fields into an object (RFC 7396)."""
        return self.call("PATCH", path, body, MERGE_PATCH)

    def delete(self, path: str) -> dict[str, Any]:
        """Delete an object at once: there is no kubelet that would end a pod kindly."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        return self.call("DELETE", path, options)

    def exists(self, path: str) -> bool:
        """Tell whether there is an object at `path`."""
        try:
            self.get(path)
        except Refusal as refusal:
            if refusal.status == http.HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def create_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Make a namespace."""
        self.create(f"{CORE}/namespaces", {"metadata": {"name": name, "labels": labels or {}}})

    def create_service_account(self, namespace: str, name: str) -> None:
        """Make a service account."""
        self.create(f"{CORE}/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    def delete_service_account(self, namespace: str, name: str) -> None:
        """Delete a service account."""
        self.delete(f"{CORE}/namespaces/{namespace}/serviceaccounts/{name}")

    def create_node(self, name: str) -> str:
        """Make a node and return its uid."""
        made = self.create(f"{CORE}/nodes", {"metadata": {"name": name}})
        return str(made["metadata"]["uid"])

    def create_pod(
        self,
        namespace: str,
        name: str,
        service_account: str,
        *,
        node: str = "",
        phase: str = "",
        labels: Mapping[str, str] | None = None,
    ) -> Pod:
        """Make a pod, bound to a node from the start if one is named.

        Args:
            namespace: Where.
            name: Its name.
            service_account: Its service account, which must exist.
            node: The node to bind it to; the node itself need not exist.
            phase: Phase of its status; empty leaves `Pending`.
            labels: Its labels.
        """
        spec: dict[str, Any] = {
            "serviceAccountName": service_account,
            "automountServiceAccountToken": False,
            "containers": [{"name": "app", "image": "app"}],
        }
        if node:
            spec["nodeName"] = node
        made = self.create(
            f"{CORE}/namespaces/{namespace}/pods",
            {"metadata": {"name": name, "labels": labels or {}}, "spec": spec},
        )
        if phase:
            self.set_phase(namespace, name, phase)
        return Pod(
            namespace=namespace,
            name=name,
            uid=made["metadata"]["uid"],
            service_account=service_account,
            node=node,
        )

    def bind_pod(self, namespace: str, name: str, node: str) -> None:
        """Bind a pod to a node, as the scheduler does."""
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        self.create(
            f"{CORE}/namespaces/{namespace}/pods/{name}/binding",
            {"metadata": {"name": name}, "target": target},
        )

    def set_phase(self, namespace: str, name: str, phase: str) -> None:
        """Set the phase of a pod, as its kubelet does."""
        path = f"{CORE}/namespaces/{namespace}/pods/{name}/status"
        self.patch(path, {"status": {"phase": phase}})

    def delete_pod(self, namespace: str, name: str) -> None:
        """Delete a pod at once."""
        self.delete(f"{CORE}/namespaces/{namespace}/pods/{name}")

    def token(
        self,
        namespace: str,
        service_account: str,
        *,
        pod: Pod | None = None,
        audiences: Sequence[str] = ("istio-ca",),
        lifetime_s: int = 3_600,
    ) -> str:
        """Return a token as the kubelet projects it into a pod (TokenRequest).

        Args:
            namespace: Of the service account.
            service_account: Its name.
            pod: The pod it is bound to; None makes an unbound one.
            audiences: For whom; none means the API server itself.
            lifetime_s: At least 600 seconds.
        """
        spec: dict[str, Any] = {"expirationSeconds": max(lifetime_s, SHORTEST_TOKEN_S)}
        if audiences:
            spec["audiences"] = list(audiences)
        if pod is not None:
            bound = {"kind": "Pod", "apiVersion": "v1", "name": pod.name, "uid": pod.uid}
            spec["boundObjectRef"] = bound
        path = f"{CORE}/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        return str(self.create(path, {"spec": spec})["status"]["token"])

    def create_secret(
        self,
        namespace: str,
        name: str,
        text: Mapping[str, str],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Make a Secret of some texts."""
        metadata = {"name": name, "labels": labels or {}}
        path = f"{CORE}/namespaces/{namespace}/secrets"
        self.create(path, {"metadata": metadata, "stringData": dict(text)})

    def bind_cluster_role(self, role: str, namespace: str, service_account: str) -> None:
        """Give a service account a ClusterRole everywhere."""
        subject = {"kind": "ServiceAccount", "namespace": namespace, "name": service_account}
        reference = {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": role,
        }
        name = f"{role}-{namespace}-{service_account}".replace(":", "-")
        self.create(
            f"{RBAC}/clusterrolebindings",
            {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference},
        )

    def create_cluster_role(self, name: str, *rules: Mapping[str, Sequence[str]]) -> None:
        """Make a ClusterRole of rules as RBAC writes them (`apiGroups`, `resources`, `verbs`)."""
        made = {"metadata": {"name": name}, "rules": [dict(rule) for rule in rules]}
        self.create(f"{RBAC}/clusterroles", made)

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in self._opened:
            connection.close()

    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, content_type: str
    ) -> tuple[int, bytes]:
        connection = self._connection()
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type}
        text = json.dumps(body) if body is not None else None
        try:
            connection.request(method, path, text, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (http.client.HTTPException, OSError):
            connection.close()
            raise

    def _connection(self) -> http.client.HTTPSConnection:
        """Return this thread's connection."""
        kept: http.client.HTTPSConnection | None = getattr(self._connections, "one", None)
        if kept is None:
            kept = http.client.HTTPSConnection(
                self._address, timeout=CALL_TIMEOUT_S, context=self._tls
            )
            self._connections.one = kept
            self._opened.append(kept)
        return kept
