"""Connects to an SDS socket as another user, in a process of its own: `shared_socket`'s tests.

usage: python -m tests.wire.connect_as UID GID SOCKET NAME
Prints what the first request was answered with: names of secrets, or how the stream ended.
"""

import asyncio
import os
import sys
from pathlib import Path

from grpc.aio import AioRpcError

from tests.wire.sds import client_of, sotw_request


async def _ask(path: Path, name: str) -> str:
    async with client_of(path) as client:
        stream = client.sotw()
        try:
            await stream.send(sotw_request(name, node="a process of another user"))
            return ",".join((await stream.told()).secrets)
        except AioRpcError as error:
            return f"{error.code().name} {error.details()}"


if __name__ == "__main__":
    uid, gid, socket, secret = sys.argv[1:]
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
    print(asyncio.run(_ask(Path(socket), secret)))  # noqa: T201 - the answer
