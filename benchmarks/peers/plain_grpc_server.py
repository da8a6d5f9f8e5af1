"""The plain rival: grpc.aio, protobuf and onnxruntime. `python -m benchmarks.peers.plain_grpc_server --help`"""

import argparse
import asyncio
import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import grpc
import numpy as np
import onnxruntime as ort
import uvloop
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc as rpc


class Service(rpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    def __init__(self, path: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    async def ServerLive(self, request: pb.ServerLiveRequest, context: object) -> pb.ServerLiveResponse:  # noqa: N802
        return pb.ServerLiveResponse(live=True)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: object) -> pb.ModelReadyResponse:  # noqa: N802
        return pb.ModelReadyResponse(ready=True)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: object) -> pb.ModelInferResponse:  # noqa: N802
        rows = np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)
        answer = self.session.run(["fraud_probability"], {request.inputs[0].name: rows})[0]
        reply = pb.ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
        reply.outputs.add(name="fraud_probability", datatype="FP32", shape=answer.shape)
        reply.raw_output_contents.append(answer.tobytes())
        return reply


async def serve(options: argparse.Namespace) -> None:
    server = grpc.aio.server()
    rpc.add_GRPCInferenceServiceServicer_to_server(Service(options.model), server)
    server.add_insecure_port(f"127.0.0.1:{options.port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--uvloop", action="store_true")
    given = parser.parse_args()
    (uvloop.run if given.uvloop else asyncio.run)(serve(given))
