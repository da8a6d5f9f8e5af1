"""A grpc.aio server that misbehaves as the first byte of each message says; run in a process of its own.

python -m tests.benchmarks.load.scripted_server PORT

b"o" answers, b"e" fails with RESOURCE_EXHAUSTED, b"b" answers with a mebibyte, b"s" (once) blocks the whole server for
STALL_S and prints when (monotonic ns), b"w" never answers.
"""

import asyncio
import sys
import time

import grpc

METHOD = "/test.Scripted/Call"
STALL_S = 0.2
BIG = bytes(2**20)

Context = grpc.aio.ServicerContext[bytes, bytes]


class Script(grpc.GenericRpcHandler):
    """Every method is the scripted one."""

    def __init__(self) -> None:
        self._stalled = False

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self.call)
        return handler

    async def call(self, request: bytes, context: Context) -> bytes:
        kind = request[:1]
        if kind == b"e":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "scripted")
        if kind == b"w":
            await asyncio.sleep(3600)
        if kind == b"s" and not self._stalled:
            self._stalled = True
            self.stall()
        return BIG if kind == b"b" else b"fine"

    def stall(self) -> None:
        began_ns = time.monotonic_ns()
        time.sleep(STALL_S)
        print(began_ns, time.monotonic_ns(), flush=True)


async def serve(port: int) -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Script(),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
