"""One server process, from its settings: assembly, start, reload, end.

`parts` turns settings into values and adapters, `server` puts them together
and starts them, `process` runs that in an event loop under signals; `workers`
runs several of them. Nothing is imported here: a supervisor uses small parts of
this package and needs no gRPC.
"""
