"""The unit of the agent's memory: Python with grpcio, serving nothing on a Unix socket."""

import asyncio
import sys

from grpc import aio


async def serve(path: str) -> None:
    """Serve nothing until the process is ended."""
    server = aio.server()
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
