"""A feature view whose entities are in shards over a real broker: the same answers as in one process, and no write lost."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc

from protos.vireo.v1 import features_pb2 as pb
from protos.vireo.v1 import features_pb2_grpc
from tests.engine.log.broker import Tansu, tansu
from tests.fakes import PATIENCE_S
from tests.serving.features.conftest import compile_kernels
from tests.serving.ray_host.conftest import START_S, OnRay, replicas_of
from tests.serving.servers import ServerProcess, eventually

CARDS = [f"card-{number}" for number in range(20)]
APP = """
server: {grpc_port: 0, http_port: 0, name: state}
logs:
  payments:
    schema: {card: string, amount: float64, at: timestamp, shop: string}
    kafka: {bootstrap_servers: 'ADDRESS', topic: TOPIC, key: card}
feature_views:
  spending:
    source: payments
    entity: card
    event_time: at
    request: {now: number}
    features:
      count: {aggregation: count, window: 1h}
      total: {aggregation: sum, column: amount, window: 1h}
      shop: {aggregation: last, column: shop}
      share: {expression: now / total}
    snapshot: {path: snapshots, every: 1s, store: "file://STORE"}
placement:
  ingress: {cpus: 0.5}
  cards: {serves: [spending], shards: 2, replicas: 2, cpus: 0.5}
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[Tansu]:
    with tansu() as found:
        yield found


@pytest.fixture(scope="module", params=["embedded", "ray"])
def served(
    request: pytest.FixtureRequest, broker: Tansu, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """The same spec on one host or the other."""
    compile_kernels(tmp_path_factory.mktemp("compiling"))
    app = tmp_path_factory.mktemp(request.param) / "app.yaml"
    text = APP.replace("ADDRESS", broker.address).replace("TOPIC", broker.topic(5))
    app.write_text(text.replace("STORE", f"{app.parent}/store"), encoding="utf-8")
    if request.param == "ray":
        on_ray: OnRay = request.getfixturevalue("on_ray")
        yield on_ray(app)
        return
    server = ServerProcess(app, patience_s=START_S)
    yield server
    server.kill()


@pytest.fixture
def stub(served: ServerProcess) -> Iterator[Any]:
    with grpc.insecure_channel(served.address) as channel:
        yield features_pb2_grpc.FeaturesStub(channel)  # type: ignore[no-untyped-call]


def _push(stub: Any, cards: list[str], amount: float = 1.0) -> str:  # noqa: ANN401
    """Events of now; their token."""
    request = pb.PushRequest(log="payments")
    now = datetime.now(UTC).isoformat()
    for card in cards:
        request.rows.add().update({"card": card, "amount": amount, "at": now, "shop": f"at-{card}"})
    token: str = stub.Push(request, timeout=PATIENCE_S).token
    return token


def _counts(stub: Any, cards: list[str], after: str = "") -> list[float]:  # noqa: ANN401
    request = pb.GetRequest(view="spending", text_entities=cards, features=["count"], after=after)
    return [0.0 if each != each else each for each in stub.Get(request, timeout=PATIENCE_S).values]


def test_a_read_that_carries_a_token_sees_the_write_and_rows_come_in_the_order_asked(
    served: ServerProcess,
    stub: Any,  # noqa: ANN401
) -> None:
    cards = [f"order-{number}" for number in range(40)]
    for number in range(3):
        token = _push(stub, cards[: 13 * (number + 1)])
        asked = cards[::-1]
        wanted = [float(sum(index < 13 * (each + 1) for each in range(number + 1))) for index in range(39, -1, -1)]
        assert _counts(stub, asked, token) == wanted
    request = pb.GetRequest(view="spending", text_entities=[*cards[:2], "nobody"], after=token)
    request.request["now"].numbers.append(6.0)
    answer = stub.Get(request, timeout=PATIENCE_S)
    assert list(answer.features) == ["count", "total", "shop", "share"]
    assert list(answer.statuses) == [pb.ROW_STATUS_PRESENT, pb.ROW_STATUS_PRESENT, pb.ROW_STATUS_MISSING]
    assert np.array(answer.values).reshape(3, 4)[0, [0, 1, 3]].tolist() == [3.0, 3.0, 2.0]
    assert list(answer.texts[0].values) == ["at-order-0", "at-order-1", ""]


def test_the_view_is_a_model_and_speaks_http(served: ServerProcess, stub: Any) -> None:  # noqa: ANN401
    token = _push(stub, ["http-1", "http-2", "http-2"], 4.0)
    url = f"http://{served.http_address}/v1/features/spending/get"
    answer = httpx.post(
        url, params={"after": token}, json={"entities": ["http-2", "http-1"]}, timeout=PATIENCE_S
    ).json()
    assert [row[:3] for row in answer["rows"]] == [[2.0, 8.0, "at-http-2"], [1.0, 4.0, "at-http-1"]]
    names = np.array([b"http-1", b"http-2"], object)
    asked = tritonclient.grpc.InferInput("card", [2], "BYTES")
    asked.set_data_from_numpy(names)
    with tritonclient.grpc.InferenceServerClient(served.address) as client:
        found = client.infer("spending", [asked])
    assert found.as_numpy("features")[:, 1].tolist() == [4.0, 8.0]
    assert found.as_numpy("status").tolist() == [0, 0]


def test_a_token_that_is_never_reached_fails_at_the_deadline(served: ServerProcess, stub: Any) -> None:  # noqa: ANN401
    request = pb.GetRequest(view="spending", text_entities=["a"], after="0:999999,1:999999,2:999999,3:999999,4:999999")
    with pytest.raises(grpc.RpcError) as refused:
        stub.Get(request, timeout=0.3)
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    request.after = "sometime"
    with pytest.raises(grpc.RpcError) as refused:
        stub.Get(request, timeout=PATIENCE_S)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_no_acknowledged_write_is_lost_and_reads_go_on_where_a_replica_is_killed(
    served: ServerProcess,
    stub: Any,  # noqa: ANN401
) -> None:
    if not (replicas := replicas_of("state", "cards-1-of-2")):
        pytest.skip("the embedded host has no replicas")
    over, read, tokens = threading.Event(), queue.Queue[str](), queue.Queue[str]()

    def write() -> None:
        while not over.is_set():
            tokens.put(_push(stub, CARDS))

    def ask() -> None:
        while not over.is_set():
            try:
                assert len(_counts(stub, CARDS)) == len(CARDS)
                read.put("")
            except grpc.RpcError as error:
                read.put(str(error))

    callers = [threading.Thread(target=each) for each in (write, ask, ask)]
    for caller in callers:
        caller.start()
    try:
        eventually(lambda: read.qsize() > 200, "reads are answered", START_S)
        os.kill(replicas[0], signal.SIGKILL)
        eventually(lambda: len({*replicas_of("state", "cards-1-of-2")} - {replicas[0]}) == 2, "another comes", START_S)
        answered = read.qsize()
        eventually(lambda: read.qsize() > answered + 200, "reads are answered", START_S)
    finally:
        over.set()
        for caller in callers:
            caller.join(START_S)
    pushed = [tokens.get() for _ in range(tokens.qsize())]
    for _ in range(8):  # whichever replica answers
        assert _counts(stub, CARDS, ",".join(pushed[-3:])) == [float(len(pushed))] * len(CARDS)
    outcomes = [read.get() for _ in range(read.qsize())]
    failed = [each for each in outcomes if each]
    assert len(failed) <= len(outcomes) / 1000, failed[:3]
