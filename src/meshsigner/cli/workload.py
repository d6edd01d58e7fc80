"""The files that a workload keeps of its key and certificate, as istio-agent writes them.

Source: istio security/pkg/nodeagent/util/util.go OutputKeyCertToDir.
"""

from pathlib import Path

from meshsigner.trust.writing import PRIVATE_MODE, PUBLIC_MODE, write_file


def write_secret(directory: Path, key_pem: bytes, chain: tuple[str, ...]) -> tuple[Path, ...]:
    """Write key.pem (mode 0600), cert-chain.pem and root-cert.pem, as OUTPUT_CERTS does.

    Args:
        directory: Made if it is missing.
        key_pem: The private key.
        chain: Elements of the answer.

    Returns:
        The files.

    Raises:
        OSError: One cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    files = (
        ("key.pem", key_pem, PRIVATE_MODE),
        ("cert-chain.pem", "".join(chain).encode(), PUBLIC_MODE),
        ("root-cert.pem", chain[-1].encode(), PUBLIC_MODE),
    )
    for name, data, mode in files:
        write_file(directory / name, data, mode=mode)
    return tuple(directory / name for name, _, _ in files)
