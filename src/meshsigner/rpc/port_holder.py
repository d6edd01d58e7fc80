"""Who listens on a TCP port of this machine, for an error that helps.

Talks to /proc; where there is none, or the holder belongs to another user, it
knows nothing and says so.

Source: Linux Documentation/networking/proc_net_tcp.rst.
"""

from collections.abc import Iterator
from pathlib import Path

_LISTEN = "0A"


def port_holder(port: int, proc: Path = Path("/proc")) -> str | None:
    """Name the process that listens on a port.

    Args:
        port: TCP port number.
        proc: Where the proc file system is.

    Returns:
        Command and process id, or None when they cannot be found.
    """
    inodes = set(_listening_inodes(port, proc))
    for descriptor in _descriptors(proc) if inodes else ():
        if _socket_inode(descriptor) in inodes:
            process = descriptor.parent.parent
            command = (process / "comm").read_text().strip()
            return f"{command} (process {process.name})"
    return None


def _listening_inodes(port: int, proc: Path) -> Iterator[str]:
    for table in ("net/tcp", "net/tcp6"):
        try:
            rows = (proc / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _descriptors(proc: Path) -> Iterator[Path]:
    for process in proc.glob("[0-9]*"):
        try:
            yield from (process / "fd").iterdir()
        except OSError:
            continue  # ended meanwhile, or another user's


def _socket_inode(descriptor: Path) -> str | None:
    try:
        target = str(descriptor.readlink())
    except OSError:
        return None
    return (
        target.removeprefix("socket:[").removesuffix("]") if target.startswith("socket:[") else None
    )
