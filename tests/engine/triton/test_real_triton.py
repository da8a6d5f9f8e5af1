"""One model on a real Triton: the contract of servables, every datatype, deadlines, cancellations, streams, reloads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient

from engine import (
    Deadline,
    DeadlineExceeded,
    Engine,
    InvalidArgument,
    Request,
    Response,
    Tensor,
    Unavailable,
    Unimplemented,
    datatype_named,
    parse_spec,
)
from engine.clock import monotonic
from engine.home import Home
from engine.servables.servable import Servable
from engine.servables.tritonserver import load_triton
from engine.triton.declaration import TritonModelSpec
from engine.triton.servers import TritonServers
from tests.engine.servables.contract import ServableContract, floats
from tests.engine.triton.real import SCALE, RealTriton, write_model
from tests.fakes import FP32, PATIENCE_S


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealTriton]:
    made = RealTriton(tmp_path_factory.mktemp("triton"), ("scale", "slow", "echo", "count"))
    write_model(made.models, "scale", (1, 3))
    try:
        yield made.start()
    finally:
        made.kill()


class TestScale(ServableContract):
    @pytest.fixture
    def servable(self, triton: RealTriton) -> Iterator[Servable]:
        made = load_triton(TritonServers(monotonic, Home()), "scale", TritonModelSpec((triton.address,)))
        yield made
        made.close()

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        return {"x": Tensor(FP32, floats(rows, 5, seed))}


def engine_for(triton: RealTriton, more: str = "") -> Engine:
    models = ", ".join(f'{name}: {{servers: ["{triton.address}"]}}' for name in ("scale", "slow", "echo", "count"))
    engine = Engine(parse_spec(f"triton_models: {{{models}}}\n{more}", folder=Path()))
    engine.start()
    return engine


@pytest.fixture(scope="module")
def engine(triton: RealTriton) -> Iterator[Engine]:
    engine = engine_for(triton)
    yield engine
    engine.close()


def ask(engine: Engine, model: str, deadline_s: float | None = None, **values: tuple[str, list[object]]) -> Response:
    rows = (1,) if model in ("scale", "slow") else ()
    inputs = {
        name: Tensor.from_values(name, datatype_named(kind, of=name), (*rows, len(each)), each)
        for name, (kind, each) in values.items()
    }
    deadline = Deadline.NEVER if deadline_s is None else Deadline.after(deadline_s, engine.clock())
    return engine.infer(Request(model, inputs, deadline=deadline))


def when(so: Callable[[], bool]) -> None:
    """Returns when it is so; fails after PATIENCE_S."""
    until = time.monotonic() + PATIENCE_S
    while not so():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_every_kind_of_value_comes_back_as_it_went(engine: Engine) -> None:
    assert engine.problems() == {}
    values: dict[str, tuple[str, list[object]]] = {
        "text": ("BYTES", [b"caf\xc3\xa9", b"", b"\0\xff"]),
        "half": ("FP16", [0.5, -2.0]),
        "brain": ("BF16", [1.5, 3.0e38]),
        "flag": ("BOOL", [True, False]),
        "whole": ("INT64", [1 << 62, -5]),
    }
    outputs = ask(engine, "echo", None, **values).outputs
    for name, (kind, each) in values.items():
        sent = Tensor.from_values(name, datatype_named(kind, of=name), [len(each)], each)
        assert outputs[f"{name}_back"].to_bytes() == sent.to_bytes(), name


def test_a_large_tensor_goes_there_and_back(engine: Engine) -> None:
    rows = np.random.default_rng(1).standard_normal((16, 250_000)).astype(np.float32)  # 16 MB
    answer = engine.infer(Request("scale", {"x": Tensor(FP32, rows)}))
    assert np.array_equal(answer.outputs["y"].array, rows * 6)


def test_newest_version_answers_unless_the_spec_names_one(engine: Engine, triton: RealTriton) -> None:
    assert ask(engine, "scale", x=("FP32", [1.0])).outputs["y"].array.tolist() == [[6.0]]
    servable = load_triton(TritonServers(monotonic, Home()), "one", TritonModelSpec((triton.address,), "scale", 1))
    assert servable.execute({"x": Tensor(FP32, floats(1, 1, 0))}, ())["y"].array == 2 * floats(1, 1, 0)
    servable.close()


@pytest.mark.parametrize(
    ("key", "told"), [("version: 7", "scale"), ("model: nothing", "nothing")], ids=["version", "model"]
)
def test_what_is_not_there_is_told_as_the_server_tells_it(triton: RealTriton, key: str, told: str) -> None:
    spec = f'triton_models: {{scale: {{servers: ["{triton.address}"], {key}}}}}'
    engine = Engine(parse_spec(spec, folder=Path()))
    engine.start()
    problem = engine.problems()["scale"]
    engine.close()
    assert triton.address in problem
    assert told in problem


def test_values_that_a_model_refuses_are_the_callers_fault_and_others_are_answered(engine: Engine) -> None:
    with pytest.raises(InvalidArgument, match=r"model 'scale' version 1: Triton: .*x is not a number"):
        ask(engine, "scale", x=("FP32", [float("nan")]))
    assert ask(engine, "scale", x=("FP32", [1.0])).outputs["y"].array.tolist() == [[6.0]]


def test_a_deadline_passes_while_triton_computes(engine: Engine) -> None:
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        ask(engine, "slow", 0.1, x=("FP32", [1000.0]))
    assert time.monotonic() - started < 0.9
    statistics = engine.statistics("slow")[0][2]
    assert (statistics.dropped, statistics.fail.count) == (1, 0)


def test_a_cancelled_request_ends_at_once(engine: Engine) -> None:
    ended = threading.Event()
    inputs = {"x": Tensor(FP32, np.full((1, 1), 1500, np.float32))}
    job = engine.submit(Request("slow", inputs), lambda _: ended.set(), at_once=True)
    assert engine.waiting()["slow", 1] == 1
    job.cancel()
    assert ended.wait(1.0)
    assert engine.waiting()["slow", 1] == 0


def test_a_triton_on_a_unix_socket_answers(tmp_path: Path) -> None:
    server = RealTriton(tmp_path, ("scale",), unix=True).start()
    try:
        engine = Engine(parse_spec(f'triton_models: {{scale: {{servers: ["{server.address}"]}}}}', folder=Path()))
        engine.start()
        try:
            answer = ask(engine, "scale", PATIENCE_S, x=("FP32", [1.0, 2.0]))
            assert (answer.outputs["y"].array == np.array([[2.0, 4.0]], np.float32)).all()
        finally:
            engine.close()
    finally:
        server.kill()


def test_many_requests_hold_no_thread(engine: Engine) -> None:
    before, ended = threading.active_count(), threading.Semaphore(0)
    for index in range(200):
        inputs = {"x": Tensor(FP32, np.full((1, 1), index, np.float32))}
        engine.submit(Request("scale", inputs), lambda _: ended.release())
    engine.flush()
    assert threading.active_count() == before
    assert all(ended.acquire(timeout=PATIENCE_S) for _ in range(200))
    assert engine.statistics("scale")[0][2].success.count >= 200


def test_what_the_servers_count_is_told(triton: RealTriton) -> None:
    before = ask_triton_for_counts(triton)
    engine = engine_for(triton)
    for rows in (1, 1, 4):
        engine.infer(Request("scale", {"x": Tensor(FP32, floats(rows, 3, rows))}))

    def told() -> bool:
        counts = {each.model: each.counts for each in engine.triton_statistics()}["scale"]
        return counts is not None and counts.requests >= before + 3

    when(told)
    (found,) = [each for each in engine.triton_statistics() if each.model == "scale"]
    assert (found.server, found.ready, found.problem) == (triton.address, True, "")
    assert found.counts is not None
    assert found.counts.rows > found.counts.requests >= found.counts.executions > 0
    assert {1, 4} <= found.counts.batches.keys()
    assert sum(rows * count for rows, count in found.counts.batches.items()) == found.counts.rows
    assert found.counts.compute_ns > 0 < found.counts.queue_ns
    engine.close()
    assert engine.triton_statistics() == []


def ask_triton_for_counts(triton: RealTriton) -> int:
    client = InferenceServerClient(triton.address)
    versions = client.get_inference_statistics("scale").model_stats
    client.close()
    return sum(int(each.inference_stats.success.count) for each in versions)


def test_a_decoupled_model_answers_in_parts(engine: Engine) -> None:
    assert engine.streams("count", None)
    parts: list[int] = []
    ended = threading.Event()
    inputs = {"n": Tensor.from_values("n", datatype_named("INT32", of="n"), [1], [300])}
    engine.submit(
        Request("count", inputs), lambda _: ended.set(), lambda part: parts.append(int(part.outputs["i"].array[0]))
    )
    engine.flush()
    assert ended.wait(PATIENCE_S)
    assert parts == list(range(300))


def test_a_unary_call_of_a_decoupled_model_needs_one_answer(engine: Engine) -> None:
    assert ask(engine, "count", n=("INT32", [1])).outputs["i"].array.tolist() == [0]
    with pytest.raises(Unimplemented, match="more than one response"):
        ask(engine, "count", n=("INT32", [2]))


def test_a_graph_waits_for_a_model_on_triton_as_for_any_other(triton: RealTriton) -> None:
    graph = """
graphs:
  chain:
    inputs: {x: {datatype: FP32, shape: [-1, -1]}}
    nodes:
      first: {call: scale, inputs: {x: x}}
      second: {call: scale, inputs: {x: first.y}}
    outputs: {y: second.y}
"""
    engine = engine_for(triton, graph)
    answers: list[float] = []
    ended = threading.Semaphore(0)

    def done(job: object) -> None:
        answers.append(float(job.response.outputs["y"].array[0, 0]))  # type: ignore[attr-defined]
        ended.release()

    for index in range(50):
        engine.submit(Request("chain", {"x": Tensor(FP32, np.full((1, 3), index, np.float32))}), done)
    engine.flush()
    assert all(ended.acquire(timeout=PATIENCE_S) for _ in range(50))
    engine.close()
    assert sorted(answers) == [36.0 * index for index in range(50)]


def test_a_model_that_is_replaced_by_one_of_other_tensors_is_loaded_anew(triton: RealTriton) -> None:
    write_model(triton.models, "changing", config=SCALE + "max_batch_size: 8")
    client = InferenceServerClient(triton.address)
    client.load_model("changing")
    engine = Engine(parse_spec(f'triton_models: {{changing: {{servers: ["{triton.address}"]}}}}', folder=Path()))
    engine.start()
    assert engine.describe("changing", None).signature.batchable
    write_model(triton.models, "changing", config=SCALE.replace("[ -1 ]", "[ 4 ]"))
    client.load_model("changing")
    when(lambda: not engine.describe("changing", None).signature.batchable)
    inputs = {"x": Tensor(FP32, np.ones(4, np.float32))}

    def answers() -> bool:
        try:
            return bool(np.all(engine.infer(Request("changing", inputs)).outputs["y"].array == 2.0))
        except Unavailable:
            return False

    assert answers()
    client.unload_model("changing")
    when(lambda: not answers())
    client.load_model("changing")
    when(answers)
    engine.close()
    client.close()
