"""A real Envoy with the example's configuration in front of a server whose CA the test holds.

What a test asks of it is decided there.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.sds import envoy
from tests.conformance.sds.authority import Authority, new_ca
from tests.conformance.sds.conftest import short_directory
from tests.conformance.sds.envoy import Envoy
from tests.conformance.server import Installation, RunningServer, free_address, running
from tests.fakes.authority import Ca
from tests.fakes.serving_tls import TestRoots

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "envoy"
_FILES = {
    "front.yaml": "front.yaml",
    "front-certificate.yaml": "certificate.yaml",
    "front-roots.yaml": "roots.yaml",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """A server behind its Envoy.

    Attributes:
        server: The server.
        envoy: The proxy.
        address: host:port where clients call the proxy.
        mutual: host:port of the server itself for clients with a certificate.
        root: Root of the mesh.
        issuer: The CA under it that signs.
        serving_roots: PEM of what clients trust.
        directory: For files.
    """

    server: RunningServer
    envoy: Envoy
    address: str
    mutual: str
    root: Ca
    issuer: Ca
    serving_roots: bytes
    directory: Path

    @property
    def socket(self) -> Path:
        """The server's socket for its proxy."""
        return self.directory / "xfcc.sock"


@contextmanager
def front(command: Path, changes: Mapping[str, str] | None = None) -> Iterator[Front]:
    """Have both for the length of a block.

    Args:
        command: The `meshsigner` command.
        changes: Texts of the example to replace, each of which must be there.
    """
    root = new_ca("mesh root")
    issuer = new_ca("mesh issuer", root)
    with short_directory() as directory:
        authority = Authority(directory)
        authority.show(issuer, [root])
        mutual = free_address()
        made = Installation(
            command=command,
            state_dir=directory / "state",
            options=("--ca-dir", str(authority.path)),
            environment={
                "MESHSIGNER_CLIENT_CERTIFICATES__FORWARDED__TYPE": "unix",
                "MESHSIGNER_CLIENT_CERTIFICATES__FORWARDED__SOCKET": str(directory / "xfcc.sock"),
                "MESHSIGNER_CLIENT_CERTIFICATES__MUTUAL_TLS__ADDRESS": mutual,
                "MESHSIGNER_CLIENT_CERTIFICATES__DENIED": str(directory / "denied"),
            },
        )
        (directory / "denied").touch()
        serving_roots, address, admin = TestRoots(), free_address(), free_address()
        _write_secrets(directory, serving_roots, root)
        config = _write_config(directory, address, admin, changes or {})
        with (
            running(made) as server,
            envoy.started("front", config, admin, directory) as proxy,
        ):
            proxy.wait_live()
            yield Front(
                server=server,
                envoy=proxy,
                address=address,
                mutual=mutual,
                root=root,
                issuer=issuer,
                serving_roots=serving_roots.pem,
                directory=directory,
            )


def _write_secrets(directory: Path, serving_roots: TestRoots, root: Ca) -> None:
    identity = serving_roots.issue("localhost", "127.0.0.1")
    for folder in ("tls", "roots"):
        (directory / folder).mkdir()
    (directory / "tls" / "tls.crt").write_bytes(identity.certificate)
    (directory / "tls" / "tls.key").write_bytes(identity.key)
    (directory / "roots" / "root-cert.pem").write_bytes(root.pem)


def _write_config(directory: Path, address: str, admin: str, changes: Mapping[str, str]) -> Path:
    """Write the example with the places of this machine."""
    replaced = {
        "/etc/meshsigner/front": os.fspath(directory),
        "/run/meshsigner/xfcc.sock": os.fspath(directory / "xfcc.sock"),
        "address: 0.0.0.0, port_value: 15012": _socket_address(address),
        "address: 127.0.0.1, port_value: 15000": _socket_address(admin),
        **changes,
    }
    texts = {name: (EXAMPLES / name).read_text() for name in _FILES}
    for old, new in replaced.items():
        assert any(old in text for text in texts.values()), old
        texts = {name: text.replace(old, new) for name, text in texts.items()}
    for name, file in _FILES.items():
        (directory / file).write_text(texts[name])
    return directory / "front.yaml"


def _socket_address(address: str) -> str:
    host, _, port = address.rpartition(":")
    return f"address: {host}, port_value: {port}"
