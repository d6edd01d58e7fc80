"""Reads the inventory as an operator does, by the command line; its server may be dead."""

import json

from cryptography import x509

from tests.conformance.server import Installation


def recorded_certificates(installation: Installation) -> dict[int, x509.Certificate]:
    """Return every recorded certificate by its serial number."""
    rows = json.loads(
        installation.call(
            "inventory",
            "list",
            "--state-dir",
            str(installation.state_dir),
            "--json",
            "--certificates",
        )
    )
    certificates = [x509.load_pem_x509_certificate(row["certificate"].encode()) for row in rows]
    return {certificate.serial_number: certificate for certificate in certificates}
