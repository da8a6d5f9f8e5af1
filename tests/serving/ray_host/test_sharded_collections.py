"""A collection whose points are in shards on Ray, over a real broker: searched as one, and no write lost with a replica."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc

from protos.vireo.v1 import vectors_pb2 as pb
from protos.vireo.v1 import vectors_pb2_grpc
from tests.engine.log.broker import tansu
from tests.fakes import PATIENCE_S
from tests.serving.features.conftest import compile_kernels
from tests.serving.ray_host.conftest import START_S, OnRay, replicas_of, until_replaced
from tests.serving.servers import ServerProcess, eventually

APP = """
server: {grpc_port: 0, http_port: 0, name: found}
vectors:
  path: collections
  fixed: true
  collections:
    items:
      vectors: {v: {size: 4, metric: l2}}
      fields: {n: {type: integer}}
      kafka: {bootstrap_servers: 'ADDRESS', topic: TOPIC, format: arrow}
      snapshot: {store: "file://STORE", every: 1s}
searches:
  near: {collection: items, k: 3}
placement:
  ingress: {cpus: 0.5}
  parts: {serves: [items], shards: 2, cpus: 0.5, on_lost: partial}
"""
LOST = "parts-1-of-2"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("found") / "app.yaml"


@pytest.fixture(scope="module")
def served(app: Path, on_ray: OnRay, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    compile_kernels(tmp_path_factory.mktemp("compiling"))
    with tansu() as broker:
        text = APP.replace("ADDRESS", broker.address).replace("TOPIC", broker.topic(5))
        app.write_text(text.replace("STORE", f"{app.parent}/store"), encoding="utf-8")
        server = on_ray(app)
        yield server
        server.signal(signal.SIGTERM)  # while there is a broker


@pytest.fixture
def stub(served: ServerProcess) -> Iterator[Any]:
    with grpc.insecure_channel(served.address) as channel:
        yield vectors_pb2_grpc.VectorsStub(channel)  # type: ignore[no-untyped-call]


def _vector(number: int) -> list[float]:
    return [float(number), 1.0, 0.0, 0.0]


def _upsert(stub: Any, numbers: range, n: int = 0) -> str:  # noqa: ANN401
    """Points of these ids; the token of the write."""
    request = pb.UpsertRequest(collection="items")
    for number in numbers:
        point = request.points.add(id=pb.PointId(integer=number))
        point.vectors["v"].values.extend(_vector(number))
        point.payload["n"].integer = n
    token: str = stub.Upsert(request, timeout=PATIENCE_S).token
    return token


def _search(stub: Any, number: int, k: int, after: str = "") -> Any:  # noqa: ANN401
    request = pb.SearchRequest(collection="items", k=k, exact=True, after_token=after, payload=["n"])
    request.vector.values.extend(_vector(number))
    return stub.Search(request, timeout=PATIENCE_S)


def test_a_search_over_shards_finds_what_was_written_by_grpc_http_and_as_a_model(
    served: ServerProcess,
    stub: Any,  # noqa: ANN401
) -> None:
    token = _upsert(stub, range(200))
    found = _search(stub, 50, 5, token)
    assert [found.ids[0], set(found.ids), list(found.scores)] == [50, {48, 49, 50, 51, 52}, [0, 1, 1, 2, 2]]
    assert list(found.missing) == []
    url = f"http://{served.http_address}/v1/collections/items"
    body = {"vector": _vector(7), "k": 1, "payload": ["n"]}
    answer = httpx.post(f"{url}/search", params={"after": token}, json=body, timeout=PATIENCE_S).json()
    assert answer == {"hits": [{"id": 7, "score": 0.0, "payload": {"n": 0}}]}
    deleted = httpx.post(f"{url}/points/delete", json={"ids": [7, 8]}, timeout=PATIENCE_S).json()
    count = httpx.post(f"{url}/count", params={"after": deleted["token"]}, json={}, timeout=PATIENCE_S).json()
    assert count == {"count": 198}
    asked = tritonclient.grpc.InferInput("query", [1, 4], "FP32")
    asked.set_data_from_numpy(np.array([_vector(100)], np.float32))
    with tritonclient.grpc.InferenceServerClient(served.address) as client:
        assert client.infer("near", [asked]).as_numpy("ids")[0, 0] == 100
    assert httpx.get(url, timeout=PATIENCE_S).json()["points"] == 198


def test_a_token_that_is_never_reached_fails_at_the_deadline(stub: Any) -> None:  # noqa: ANN401
    request = pb.GetPointsRequest(collection="items", after_token=",".join(f"{each}:999999" for each in range(5)))
    request.ids.add(integer=3)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Get(request, timeout=0.3)
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_killed_shard_is_told_as_missing_and_comes_back_with_all_that_was_acknowledged(stub: Any) -> None:  # noqa: ANN401
    tokens = [_upsert(stub, range(1000, 1100), n) for n in range(3)]
    (process,) = replicas_of("found", LOST)
    os.kill(process, signal.SIGKILL)
    seen = list[list[str]]()

    def is_missing() -> bool:
        request = pb.SearchRequest(collection="items", k=300, exact=True)
        request.vector.values.extend(_vector(0))
        seen.append(list(stub.Search(request, timeout=1.0).missing))
        return seen[-1] == [LOST]

    eventually(is_missing, "a search tells the shard as missing", START_S)
    tokens.append(_upsert(stub, range(1000, 1100), 3))
    until_replaced("found", LOST, process, replicas=1)
    eventually(lambda: not list(_search(stub, 0, 300).missing), "the shard answers", START_S)
    found = _search(stub, 1000, 100, tokens[-1])
    assert sorted(found.ids) == list(range(1000, 1100))
    assert {point.payload["n"].integer for point in found.points} == {3}


def test_another_number_of_shards_moves_partitions_and_loses_nothing(
    served: ServerProcess,
    app: Path,
    stub: Any,  # noqa: ANN401
) -> None:
    token = _upsert(stub, range(2000, 2100), 5)
    app.write_text(app.read_text(encoding="utf-8").replace("shards: 2", "shards: 3"), encoding="utf-8")
    served.signal(signal.SIGHUP)
    numbers = 0

    def is_moved() -> bool:
        nonlocal numbers, token
        numbers += 1
        token = _upsert(stub, range(3000, 3010), numbers)
        found = _search(stub, 3000, 10, token)
        assert {point.payload["n"].integer for point in found.points} == {numbers}
        return not replicas_of("found", LOST)

    eventually(is_moved, "the shards of before are gone", START_S)
    assert all(replicas_of("found", f"parts-{number}-of-3") for number in range(3))
    found = _search(stub, 2000, 100, token)
    assert sorted(found.ids) == list(range(2000, 2100))
    assert list(found.missing) == []
