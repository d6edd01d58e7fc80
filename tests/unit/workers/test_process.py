"""The supervisor's own code."""

import subprocess
import sys

LOADED = """
import sys
import meshsigner.workers.process
heavy = ("grpc", "google.protobuf", "meshsigner.app.server", "meshsigner.trust.directory")
print([name for name in heavy if name in sys.modules])
"""


def test_supervisor_needs_neither_grpc_nor_what_reads_keys() -> None:
    """What a supervisor runs does not load gRPC, a server, or the loader of CA keys."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "[]\n"
