"""The gateway of the stack beside ours: features from Redis, then the model on Triton. Runs in the environment `stack`.

    python -I stack_gateway.py ORDER.json

The order: `port` (to listen on), `redis_port`, `triton_port`, `lookup` (redis, redis-async, redis-threads or feast), `folder`
(of Feast's registry), `model`, `input`, `output`, `raw` (names of FP32 inputs that come with a request, first in the row),
`entities` (a list of {"name", "features"}: an INT64 input, and the names of its features, which follow in that order).

As lean as a service of this kind can be in Python, leaner than most are: hiredis, one round trip for all hashes, values stored as
the four bytes that the model wants, requests to Triton and answers made by appending bytes to a prepared message. On grpc.aio
and uvloop; redis-threads is grpc's synchronous server and THREADS threads.
"""

# mypy: disable-error-code="import-not-found,import-untyped,attr-defined,type-arg,no-any-return"

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import uvloop
from tritonclient.grpc import service_pb2 as pb

Keys = Sequence[int]
Lookup = Callable[[Keys], bytes]
"""Identities of the entities in order to all their features, float32, in one piece."""

SERVICE = "inference.GRPCInferenceService"
RAW_INPUT_TAG, RAW_OUTPUT_TAG = b"\x3a", b"\x32"
"""Fields 7 of ModelInferRequest and 6 of ModelInferResponse, length-delimited, as they begin on the wire."""

THREADS = 16
THREADED, ASYNCHRONOUS, FEAST = "redis-threads", "redis-async", "feast"


def redis_lookup(order: dict[str, Any]) -> Lookup:
    """redis-py, pipelined. On a loop it holds the loop up while it waits, but costs half of the asyncio client."""
    import redis

    client = redis.Redis(port=order["redis_port"])
    entities = [(f"{each['name']}:", each["features"]) for each in order["entities"]]

    def look_up(keys: Keys) -> bytes:
        pipeline = client.pipeline(transaction=False)
        for (prefix, features), key in zip(entities, keys, strict=True):
            pipeline.hmget(prefix + str(key), features)
        return b"".join([value for values in pipeline.execute() for value in values])

    return look_up


def redis_async_lookup(order: dict[str, Any]) -> Callable[[Keys], Awaitable[bytes]]:
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

    def look_up(keys: Keys) -> bytes:
        row = dict(zip(names, keys, strict=True))
        answer = store.get_online_features(features=service, entity_rows=[row]).proto
        if not places:
            found = {name: at for at, name in enumerate(answer.metadata.feature_names.val)}
            places.extend(found[feature] for each in order["entities"] for feature in each["features"])
        results = answer.results
        return np.array([results[at].values[0].float_val for at in places], np.float32).tobytes()

    return look_up


class Messages:
    """Requests read, requests to Triton and answers made. One row; the request's inputs in any order."""

    def __init__(self, order: dict[str, Any]) -> None:
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

    def read(self, message: bytes) -> tuple[bytes, Keys]:
        """What the row begins with, and the identities."""
        request = pb.ModelInferRequest.FromString(message)
        given = dict(zip([each.name for each in request.inputs], request.raw_input_contents, strict=True))
        parts = [given[name] for name in self.names]
        keys = [int.from_bytes(each, "little", signed=True) for each in parts[self.raws :]]
        return b"".join(parts[: self.raws]), keys

    def ask(self, begun: bytes, features: bytes) -> bytes:
        """The request to Triton."""
        return self.asked + begun + features

    def answer(self, scored: bytes) -> bytes:
        """Triton's answer, passed on."""
        return self.answered + pb.ModelInferResponse.FromString(scored).raw_output_contents[0]


def varint(number: int) -> bytes:
    """As protobuf writes lengths."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


async def serve(order: dict[str, Any]) -> None:
    """On an event loop, until a signal."""
    messages = Messages(order)
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{order['triton_port']}")
    infer: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer")
    if order["lookup"] == ASYNCHRONOUS:
        look_up_async = redis_async_lookup(order)

        async def model_infer(message: bytes, _: object) -> bytes:
            begun, keys = messages.read(message)
            return messages.answer(await infer(messages.ask(begun, await look_up_async(keys))))
    else:
        look_up = (feast_lookup if order["lookup"] == FEAST else redis_lookup)(order)

        async def model_infer(message: bytes, _: object) -> bytes:
            begun, keys = messages.read(message)
            return messages.answer(await infer(messages.ask(begun, look_up(keys))))

    await answer_by(model_infer, order["port"])


async def answer_by(model_infer: Callable[[bytes, object], Awaitable[bytes]], port: int) -> None:
    """Answers ModelInfer so, and that it is live and ready, until a signal."""

    async def live(message: bytes, _: object) -> bytes:
        return bytes(pb.ServerLiveResponse(live=True).SerializeToString())

    async def ready(message: bytes, _: object) -> bytes:
        return bytes(pb.ModelReadyResponse(ready=True).SerializeToString())

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handlers_of(model_infer, live, ready),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


def serve_by_threads(order: dict[str, Any]) -> None:
    """On threads, until a signal."""
    messages, look_up = Messages(order), redis_lookup(order)
    channel = grpc.insecure_channel(f"127.0.0.1:{order['triton_port']}")
    infer: Any = channel.unary_unary(f"/{SERVICE}/ModelInfer")

    def model_infer(message: bytes, _: object) -> bytes:
        begun, keys = messages.read(message)
        return messages.answer(infer(messages.ask(begun, look_up(keys))))

    def live(message: bytes, _: object) -> bytes:
        return bytes(pb.ServerLiveResponse(live=True).SerializeToString())

    def ready(message: bytes, _: object) -> bytes:
        return bytes(pb.ModelReadyResponse(ready=True).SerializeToString())

    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((handlers_of(model_infer, live, ready),))
    server.add_insecure_port(f"127.0.0.1:{order['port']}")
    server.start()
    server.wait_for_termination()


def handlers_of(model_infer: Any, live: Any, ready: Any) -> Any:  # noqa: ANN401 - of either kind of server
    """The three calls, over bytes."""
    methods = {"ModelInfer": model_infer, "ServerLive": live, "ModelReady": ready}
    handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(each) for name, each in methods.items()}
    return grpc.method_handlers_generic_handler(SERVICE, handlers)


def main() -> None:
    """Serve as the order says."""
    order = json.loads(Path(sys.argv[1]).read_text())
    if order["lookup"] == THREADED:
        serve_by_threads(order)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(order))


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parent))  # -I leaves it out
    main()
