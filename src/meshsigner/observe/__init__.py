"""What we say about ourselves: names, metrics, logs, readiness."""
