"""The gateway of the stack beside ours: features from Redis, then the model on Triton. Runs in the environment `stack`.

    python -I stack_gateway.py ORDER.json

The order: `port` (to listen on), `redis_port`, `triton_port`, `lookup` (redis, redis-async or feast), `folder` (of Feast's
registry), `model`, `input`, `output`, `raw` (names of FP32 inputs that come with a request, first in the model's row), `entities`
(a list of {"name", "features"}: an INT64 input, and the names of its features, which follow in that order).

As lean as a service of this kind can be in Python, leaner than most are: uvloop, hiredis, one round trip for all hashes, values
stored as the four bytes that the model wants, requests to Triton and answers made by appending bytes to a prepared message.
"""

# mypy: disable-error-code="import-not-found,import-untyped,attr-defined,type-arg,no-any-return"

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import uvloop
from tritonclient.grpc import service_pb2 as pb

Keys = Sequence[int]
Lookup = Callable[[Keys], Awaitable[bytes]]
"""Identities of the entities in order to all their features, float32, in one piece."""

SERVICE = "inference.GRPCInferenceService"
RAW_INPUT_TAG, RAW_OUTPUT_TAG = b"\x3a", b"\x32"
"""Fields 7 of ModelInferRequest and 6 of ModelInferResponse, length-delimited, as they begin on the wire."""


def redis_lookup(order: dict[str, Any]) -> Lookup:
    """redis-py, pipelined, called on the loop itself: it waits for Redis meanwhile, but costs half of the asyncio client."""
    import redis

    client = redis.Redis(port=order["redis_port"])
    entities = [(f"{each['name']}:", each["features"]) for each in order["entities"]]

    async def look_up(keys: Keys) -> bytes:
        pipeline = client.pipeline(transaction=False)
        for (prefix, features), key in zip(entities, keys, strict=True):
            pipeline.hmget(prefix + str(key), features)
        return b"".join([value for values in pipeline.execute() for value in values])

    return look_up


def redis_async_lookup(order: dict[str, Any]) -> Lookup:
    """redis.asyncio, pipelined."""
    import redis.asyncio

    pool = redis.asyncio.BlockingConnectionPool(port=order["redis_port"], max_connections=64)
    client = redis.asyncio.Redis(connection_pool=pool)
    entities = [(f"{each['name']}:", each["features"]) for each in order["entities"]]

    async def look_up(keys: Keys) -> bytes:
        pipeline = client.pipeline(transaction=False)
        for (prefix, features), key in zip(entities, keys, strict=True):
            pipeline.hmget(prefix + str(key), features)
        return b"".join([value for values in await pipeline.execute() for value in values])

    return look_up


def feast_lookup(order: dict[str, Any]) -> Lookup:
    """Feast's SDK over Redis: one feature service, resolved once, read straight from the protobuf answer."""
    from stack_store import SERVICE as NAME
    from stack_store import open_store

    store = open_store(Path(order["folder"]), order["redis_port"])
    service = store.get_feature_service(NAME)
    names = [each["name"] for each in order["entities"]]
    places: list[int] = []

    async def look_up(keys: Keys) -> bytes:
        row = dict(zip(names, keys, strict=True))
        answer = store.get_online_features(features=service, entity_rows=[row]).proto
        if not places:
            found = {name: at for at, name in enumerate(answer.metadata.feature_names.val)}
            places.extend(found[feature] for each in order["entities"] for feature in each["features"])
        results = answer.results
        return np.array([results[at].values[0].float_val for at in places], np.float32).tobytes()

    return look_up


LOOKUPS = {"redis": redis_lookup, "redis-async": redis_async_lookup, "feast": feast_lookup}


class Gateway:
    """Answers ModelInfer: the request's inputs in any order, one row."""

    def __init__(self, order: dict[str, Any], look_up: Lookup, infer: Callable[[bytes], Awaitable[bytes]]) -> None:
        self.look_up, self.infer = look_up, infer
        self.names = [*order["raw"], *(each["name"] for each in order["entities"])]
        self.raws = len(order["raw"])
        width = self.raws + sum(len(each["features"]) for each in order["entities"])
        asked = pb.ModelInferRequest(model_name=order["model"])
        asked.inputs.add(name=order["input"], datatype="FP32", shape=[1, width])
        asked.outputs.add(name=order["output"])
        self.asked = asked.SerializeToString() + RAW_INPUT_TAG + varint(4 * width)
        answered = pb.ModelInferResponse(model_name=order["model"], model_version="1")
        answered.outputs.add(name=order["output"], datatype="FP32", shape=[1, 1])
        self.answered = answered.SerializeToString() + RAW_OUTPUT_TAG + varint(4)

    async def model_infer(self, message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Both stages."""
        request = pb.ModelInferRequest.FromString(message)
        given = dict(zip([each.name for each in request.inputs], request.raw_input_contents, strict=True))
        parts = [given[name] for name in self.names]
        keys = [int.from_bytes(each, "little", signed=True) for each in parts[self.raws :]]
        row = b"".join(parts[: self.raws]) + await self.look_up(keys)
        scored = pb.ModelInferResponse.FromString(await self.infer(self.asked + row))
        return self.answered + scored.raw_output_contents[0]

    async def server_live(self, message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """It is."""
        return bytes(pb.ServerLiveResponse(live=True).SerializeToString())

    async def model_ready(self, message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """It is."""
        return bytes(pb.ModelReadyResponse(ready=True).SerializeToString())


def varint(number: int) -> bytes:
    """As protobuf writes lengths."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


async def serve(order: dict[str, Any]) -> None:
    """Until a signal."""
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{order['triton_port']}")
    infer: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    gateway = Gateway(order, LOOKUPS[order["lookup"]](order), infer)
    methods = {"ModelInfer": gateway.model_infer, "ServerLive": gateway.server_live, "ModelReady": gateway.model_ready}
    handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(each) for name, each in methods.items()}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"127.0.0.1:{order['port']}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent))  # -I leaves it out
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(json.loads(Path(sys.argv[1]).read_text())))
