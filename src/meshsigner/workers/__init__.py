"""All cores: a supervisor and its workers, each a whole server on the same port.

`supervisor` starts, watches, reloads and ends them; `worker` is what runs in
each. Between the two are `channel` (how they talk) and `messages` (what they
say). `backoff`, `slots`, `readiness` and `changes` are the decisions, without
a process in sight. Keys and gRPC are the workers' alone.
"""
