"""The port for probes and Prometheus."""
