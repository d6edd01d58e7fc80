"""Envoy's bootstrap documents for the proofs of the agent; starts nothing.

A *server* is an mTLS listener that answers by itself and says who has asked; a *client* takes plain
HTTP on loopback and carries it over mTLS to a server. Both get key, certificate and roots from an
SDS socket and nothing from files, and wait for them without limit, as Istio configures it.

Source: istio pkg/model/authentication.go, tools/packaging/common/envoy_bootstrap.json.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Json = Mapping[str, Any]

_TYPE = "type.googleapis.com/envoy"
_SDS_CLUSTER = "sds-grpc"
_CONNECT_TIMEOUT = "20s"  # liveness on a busy machine, no measure of speed
_NO_RESUMPTION = 0  # sessions kept by a client: each new connection is checked in full


@dataclass(frozen=True, slots=True, kw_only=True)
class Sds:
    """Where secrets come from, and under which names they are asked for.

    Attributes:
        socket: The agent's Unix socket.
        certificate: Name of the own certificate; None uses none.
        roots: Name of the roots.
        api: GRPC for the state of the world, DELTA_GRPC for delta.
    """

    socket: Path
    certificate: str | None = "default"
    roots: str = "ROOTCA"
    api: str = "GRPC"

    def tls(self, peers: Sequence[str]) -> Json:
        """Return a CommonTlsContext that takes peers with one of these SPIFFE IDs alone."""
        names = [{"san_type": "URI", "matcher": {"exact": peer}} for peer in peers]
        roots = {"name": self.roots, "sds_config": self._source()}
        own = {"name": self.certificate, "sds_config": self._source()}
        return {
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [] if self.certificate is None else [own],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": names},
                "validation_context_sds_secret_config": roots,
            },
        }

    def cluster(self) -> Json:
        """Return the cluster of the agent."""
        return {
            "name": _SDS_CLUSTER,
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": _protocol({"http2_protocol_options": {}}),
            "load_assignment": _endpoint(_SDS_CLUSTER, {"pipe": {"path": str(self.socket)}}),
        }

    def _source(self) -> Json:
        return {
            "resource_api_version": "V3",
            "initial_fetch_timeout": "0s",
            "api_config_source": {
                "api_type": self.api,
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": _SDS_CLUSTER}}],
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """A way from a client to a server; requests to `/<name>` take it.

    Attributes:
        name: Its name.
        address: host:port of the server.
        identity: SPIFFE ID that the server must prove.
        requests: How many requests a connection carries; 0 for no end.
    """

    name: str
    address: str
    identity: str
    requests: int = 0

    def cluster(self, sds: Sds) -> Json:
        """Return its cluster."""
        tls = {
            "@type": f"{_TYPE}.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": sds.tls([self.identity]),
            "max_session_keys": _NO_RESUMPTION,
        }
        return {
            "name": self.name,
            "type": "STATIC",
            "connect_timeout": _CONNECT_TIMEOUT,
            "load_assignment": _endpoint(self.name, _address(self.address)),
            "transport_socket": {"name": "tls", "typed_config": tls},
            "typed_extension_protocol_options": _protocol(
                {"http_protocol_options": {}}, requests=self.requests
            ),
        }

    def route(self) -> Json:
        """Return the route that leads to it."""
        return {"match": {"prefix": f"/{self.name}"}, "route": {"cluster": self.name}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """What an Envoy is started with.

    Attributes:
        node: Its node id.
        admin: host:port of its administration.
        sds: Where its secrets come from.
        upstreams: Ways to servers.
        listeners: Listeners that are there from the start.
        listener_file: File in which further listeners appear; None for none.
    """

    node: str
    admin: str
    sds: Sds
    upstreams: Sequence[Upstream] = ()
    listeners: Sequence[Json] = ()
    listener_file: Path | None = field(default=None)

    def document(self) -> Json:
        """Return it as Envoy reads it."""
        clusters = [self.sds.cluster(), *(way.cluster(self.sds) for way in self.upstreams)]
        source = {"resource_api_version": "V3"}
        followed = {"lds_config": {**source, "path_config_source": {"path": self._path}}}
        return {
            "node": {"id": self.node, "cluster": "conformance"},
            "admin": {"address": _address(self.admin)},
            "static_resources": {"listeners": list(self.listeners), "clusters": clusters},
            "dynamic_resources": {} if self.listener_file is None else followed,
        }

    @property
    def _path(self) -> str:
        return str(self.listener_file)


def server_listener(address: str, sds: Sds, clients: Sequence[str]) -> Json:
    """Return an mTLS listener that tells each client what it has proven.

    Args:
        address: host:port.
        sds: Where its secrets come from.
        clients: SPIFFE IDs that may connect.
    """
    said = {
        "x-client": "%DOWNSTREAM_PEER_URI_SAN%",
        "x-client-serial": "%DOWNSTREAM_PEER_SERIAL%",
        "x-client-issuer": "%DOWNSTREAM_PEER_ISSUER%",
        "x-server": "%DOWNSTREAM_LOCAL_URI_SAN%",
        "x-connection": "%CONNECTION_ID%",
    }
    answer = {
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "ok"}},
        "response_headers_to_add": [
            {"header": {"key": key, "value": value}} for key, value in said.items()
        ],
    }
    tls: Json = {
        "@type": f"{_TYPE}.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": True,
        "common_tls_context": sds.tls(clients),
    }
    return _listener("mtls", address, [answer], {"name": "tls", "typed_config": tls})


def client_listener(address: str, upstreams: Sequence[Upstream]) -> Json:
    """Return a plain listener for a client's own programs.

    Args:
        address: host:port.
        upstreams: Where requests go.
    """
    return _listener("plain", address, [way.route() for way in upstreams], None)


def listener_resources(listeners: Sequence[Json]) -> Json:
    """Return the content of a `listener_file`."""
    kind = f"{_TYPE}.config.listener.v3.Listener"
    return {"resources": [{"@type": kind, **listener} for listener in listeners]}


def _listener(name: str, address: str, routes: Sequence[Json], socket: Json | None) -> Json:
    manager = {
        "@type": f"{_TYPE}.extensions.filters.network.http_connection_manager.v3."
        "HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {
            "virtual_hosts": [{"name": name, "domains": ["*"], "routes": list(routes)}]
        },
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{_TYPE}.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    secured = {} if socket is None else {"transport_socket": socket}
    return {
        "name": name,
        "address": _address(address),
        "stat_prefix": name,
        "filter_chains": [{**chain, **secured}],
    }


def _address(address: str) -> Json:
    host, _, port = address.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def _endpoint(cluster: str, address: Json) -> Json:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {"cluster_name": cluster, "endpoints": endpoints}


def _protocol(chosen: Json, *, requests: int = 0) -> Json:
    kind = "extensions.upstreams.http.v3.HttpProtocolOptions"
    common = {"max_requests_per_connection": requests} if requests else {}
    options = {
        "@type": f"{_TYPE}.{kind}",
        "common_http_protocol_options": common,
        "explicit_http_config": dict(chosen),
    }
    return {f"envoy.{kind}": options}
