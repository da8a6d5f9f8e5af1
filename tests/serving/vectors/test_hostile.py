"""Thousands of malformed messages at every method: each gets a status it deserves, and the server still answers right.

A failure is replayed by the line it prints.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from protos.vireo.v1 import vectors_pb2 as pb
from tests.fakes import PATIENCE_S
from tests.serving.hostility import SEED, nothing_logged_as_an_error
from tests.serving.servers import ServerHere
from tests.serving.vectors.books import Stub
from tests.serving.vectors.test_grpc import has, point, vector

ROUNDS = 60
DESERVED = {
    "OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "DEADLINE_EXCEEDED",
}  # fmt: skip
TORN = ['{"vector":[1,0,0,0],"using":"v","filter":', "[" * 5_000, '{"must":[', '{"vector":' + "[" * 3_000]
METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["Vectors"].methods if not method.client_streaming]


def good(method: str, name: str) -> bytes:
    """A message that the method would take, or nearly."""
    kind = pb.DESCRIPTOR.services_by_name["Vectors"].methods_by_name[method].input_type.name
    found: Any = getattr(pb, kind)()
    if method == "Search":
        filter_ = has("price", range=pb.Range(gt=pb.Value(number=1)))
        found = pb.SearchRequest(vector=vector(1, 0, 0, 0), using="v", filter=filter_, payload=["*"], k=3)
    if method == "Upsert":
        found = pb.UpsertRequest(points=[point(9, 1, 2, 3, 4, price=pb.Value(number=1))])
    if hasattr(found, "collection"):
        found.collection = name
    encoded: bytes = found.SerializeToString()
    return encoded


def code_of(call: Callable[..., bytes], message: bytes) -> str:
    """The status it is answered with."""
    try:
        call(message, timeout=PATIENCE_S)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def spoiled(message: bytes, draw: random.Random) -> bytes:
    """Bytes changed, cut, doubled or put in."""
    data = bytearray(message)
    for _ in range(draw.randint(1, 4)):
        at = draw.randint(0, len(data))
        match draw.randint(0, 4):
            case 0:
                data[at : at + 1] = bytes([draw.randint(0, 255)])
            case 1:
                del data[at : at + draw.randint(1, 8)]
            case 2:
                data[at:at] = draw.randbytes(draw.randint(1, 12))
            case 3:
                data[at:at] = data[: draw.randint(0, 40)]
            case _:
                data[at : at + 8] = np.array([draw.choice([np.nan, np.inf, 3e38, -0.0])] * 2, "<f4").tobytes()
    return bytes(data)


@pytest.mark.parametrize("method", METHODS)
def test_no_message_is_answered_with_a_fault(running: ServerHere, stub: Stub, name: str, method: str) -> None:
    draw = random.Random(f"{SEED} {method}")
    with grpc.insecure_channel(running.address) as channel, nothing_logged_as_an_error("vireo", "asyncio"):
        call: Callable[..., bytes] = channel.unary_unary(f"/vireo.v1.Vectors/{method}")
        base = good(method, name)
        for _ in range(ROUNDS):
            message = spoiled(base, draw)
            assert code_of(call, message) in DESERVED, message
    assert stub.Count(pb.CountRequest(collection="declared")).count == 0


def test_no_json_is_answered_with_a_fault(http: httpx.Client, name: str) -> None:
    draw = random.Random(SEED)
    odd: list[Any] = [None, True, -1, 1e400, 2**70, "x", "", [], {}, [[]], {"a": {}}, [1] * 100]
    keys = [
        "vector",
        "legs",
        "k",
        "filter",
        "payload",
        "ids",
        "points",
        "fusion",
        "group_by",
        "offset",
        "rerank",
        "after",
    ]
    paths = ["search", "search/batch", "points/delete", "points/get", "points/payload", "scroll", "count", "snapshots"]
    with nothing_logged_as_an_error("vireo", "asyncio"):
        for _ in range(200):
            body = {draw.choice(keys): draw.choice(odd) for _ in range(draw.randint(0, 3))}
            text = json.dumps(body) if draw.random() < 0.9 else draw.choice(TORN)
            answer = http.post(f"/v1/collections/{name}/{draw.choice(paths)}", content=text)
            assert answer.status_code in (200, 400, 404, 413), (body, answer.text)
    assert http.post(f"/v1/collections/{name}/search", json={"vector": [1, 0, 0, 0], "using": "v"}).status_code == 200
