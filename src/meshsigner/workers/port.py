"""Keeps a TCP port for the workers of this server alone.

SO_REUSEPORT lets any process of the same user join a port; two servers with two
roots would share it in silence. So the supervisor takes the port before any
worker does: an exclusive bind finds whoever listens there, and a name in the
kernel's abstract namespace, which like the port belongs to the network
namespace and ends with its process, finds another supervisor whose workers do
not listen yet.

Source: socket(7) SO_REUSEPORT, unix(7) abstract sockets.
"""

import socket
import struct
from contextlib import ExitStack
from pathlib import Path

from meshsigner.config.fields import Address
from meshsigner.errors import ConfigurationError
from meshsigner.rpc.port_holder import port_holder

_CREDENTIALS = struct.Struct("3i")  # ucred: pid, uid, gid


class ReservedPort:
    """A port that nobody else has, until `release`.

    Args:
        wanted: Where; port 0 takes a free one.

    Attributes:
        address: Where workers listen.

    Raises:
        ConfigurationError: Somebody else has it, named where possible.
    """

    def __init__(self, wanted: Address) -> None:
        with ExitStack() as undo:
            port = undo.enter_context(_bound(wanted))
            self.address = Address(wanted.host, port.getsockname()[1])
            undo.enter_context(_claimed(self.address))
            # From here on workers may join; until now the bind was exclusive.
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._held = undo.pop_all()

    def release(self) -> None:
        """Give the port back."""
        self._held.close()


def _bound(wanted: Address) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            wanted.host.strip("[]"), wanted.port, type=socket.SOCK_STREAM
        )[0]
        with ExitStack() as undo:
            port = undo.enter_context(socket.socket(family, kind, protocol))
            # connections of an earlier server that have not quite ended are no obstacle
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            port.bind(where)
            undo.pop_all()
    except OSError as error:
        holder = _claimant(_name_of(wanted)) or port_holder(wanted.port)
        raise ConfigurationError(_taken(wanted, holder)) from error
    return port


def _claimed(address: Address) -> socket.socket:
    """Take the name that stands for the port among supervisors."""
    name = _name_of(address)
    with ExitStack() as undo:
        claim = undo.enter_context(socket.socket(socket.AF_UNIX))
        try:
            claim.bind(name)
        except OSError as error:
            raise ConfigurationError(_taken(address, _claimant(name))) from error
        claim.listen(1)
        undo.pop_all()
    return claim


def _name_of(address: Address) -> str:
    return f"\0meshsigner/{address}"


def _claimant(name: str) -> str | None:
    """Ask the kernel who holds a name."""
    with socket.socket(socket.AF_UNIX) as question:
        try:
            question.connect(name)
            credentials = question.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
            pid = _CREDENTIALS.unpack(credentials)[0]
            command = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            return None
    return f"{command} (process {pid})"


def _taken(address: Address, holder: str | None) -> str:
    who = f"{holder} listens there" if holder else "the port is taken or not ours"
    return f"cannot listen on {address}: {who}; stop it, or set another port"
