"""The files of a workload, as istio-agent writes them."""

import stat
from pathlib import Path

from meshsigner.cli.workload import write_secret


def test_files_are_those_of_output_certs(tmp_path: Path) -> None:
    """The key is its owner's alone; the chain holds all elements, the root file the last."""
    files = write_secret(tmp_path / "certs", b"key", ("leaf\n", "ca\n", "root\n"))
    assert [file.name for file in files] == ["key.pem", "cert-chain.pem", "root-cert.pem"]
    assert [file.read_text() for file in files] == ["key", "leaf\nca\nroot\n", "root\n"]
    assert [stat.S_IMODE(file.stat().st_mode) for file in files] == [0o600, 0o644, 0o644]
