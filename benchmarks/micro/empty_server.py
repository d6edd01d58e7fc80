"""The unit of server cost: meshsigner's RPC shell that answers constant bytes at once.

grpc.aio on uvloop behind TLS, bytes in and bytes out, on the same method. No turns, no
work: what a call costs here is what grpcio, TLS and HTTP/2 cost.
"""

import argparse
import asyncio
import signal
from pathlib import Path

import grpc
import uvloop

SERVICE = "istio.v1.auth.IstioCertificateService"
METHOD = "CreateCertificate"


def constant_handler(answer: bytes) -> "grpc.GenericRpcHandler[bytes, bytes]":
    """Return a handler for CreateCertificate that gives every caller `answer`."""

    async def create_certificate(
        _request: bytes, _context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> bytes:
        return answer

    method = grpc.unary_unary_rpc_method_handler(create_certificate)
    return grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})


async def serve(listen: str, key: bytes, chain: bytes, answer: bytes) -> None:
    """Serve until SIGTERM or SIGINT."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((constant_handler(answer),))
    server.add_secure_port(listen, grpc.ssl_server_credentials([(key, chain)]))
    await server.start()
    print(f"empty server ready on {listen}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await server.stop(grace=None)


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listen", required=True, help="HOST:PORT on loopback")
    parser.add_argument("--key", type=Path, required=True, help="PEM of the serving key")
    parser.add_argument("--chain", type=Path, required=True, help="PEM of its certificates")
    parser.add_argument("--answer", type=Path, required=True, help="file with the answer's bytes")
    options = parser.parse_args()
    answer = options.answer.read_bytes()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            serve(options.listen, options.key.read_bytes(), options.chain.read_bytes(), answer)
        )


if __name__ == "__main__":
    main()
