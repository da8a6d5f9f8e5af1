"""The native rival: pygrpc-native's NativeGrpcFront, protobuf and onnxruntime, as bare as the plain one.

It imports nothing of ours: `benchmarks.peers.native_front` runs it in an environment of its own.
"""

import argparse
import os
from collections.abc import Callable

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnxruntime as ort
from pygrpc_native import EVENT_CALL, NativeGrpcFront  # type: ignore[import-not-found]
from tritonclient.grpc import service_pb2 as pb

SERVICE = "/inference.GRPCInferenceService"
ENTRY_CALLS_MAX = 64  # handed to Python at once; one by one costs the same within 3%
IO_THREADS = 1  # its kindest setting on one core: 25 us of CPU a request at 32 callers, 34 with two threads

Answer = Callable[[bytes], bytes]


class Service:
    """What each method answers: bytes in, bytes out."""

    def __init__(self, path: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.output: str = self.session.get_outputs()[0].name
        self.methods: dict[str, Answer] = {"ModelInfer": self.infer, "ServerLive": self.live, "ModelReady": self.ready}

    def live(self, message: bytes) -> bytes:
        return bytes(pb.ServerLiveResponse(live=True).SerializeToString())

    def ready(self, message: bytes) -> bytes:
        return bytes(pb.ModelReadyResponse(ready=True).SerializeToString())

    def infer(self, message: bytes) -> bytes:
        request = pb.ModelInferRequest.FromString(message)
        rows = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
        answer = self.session.run([self.output], {request.inputs[0].name: rows})[0]
        reply = pb.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        reply.outputs.add(name=self.output, datatype="FP32", shape=answer.shape)
        reply.raw_output_contents.append(answer.tobytes())
        return bytes(reply.SerializeToString())


def serve(path: str, port: int) -> None:
    """Answer until a signal ends the process."""
    methods = Service(path).methods
    answers = list(methods.values())
    names = [(f"{SERVICE}/{name}", False) for name in methods]
    front = NativeGrpcFront(f"127.0.0.1:{port}", names, io_threads=IO_THREADS)
    front.start()
    while (events := front.recv_batch(ENTRY_CALLS_MAX)) is not None:
        for kind, call, method, message, _ in events:
            if kind == EVENT_CALL:
                front.respond(call, answers[method](message))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    given = parser.parse_args()
    serve(given.model, given.port)
