"""SDS on the workload's side: keys, certificates and roots for an Envoy, kept fresh.

A client of some CA over the wire and a server of Envoy's secret discovery
service on a Unix socket. `session` is the xDS protocol and pure; `secrets` has
what can be asked for; `life` gets certificates and renews them through
`ca_client`, which `answer` guards; `sds_service` and `sockets` are the edge to
Envoy; `process` is the order of a process's life. Settings become these parts
in `cli.agent_parts`.
"""
