"""The engine end to end: specs and files in, answers out, while everything around them changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from engine import (
    Array,
    Deadline,
    DeadlineExceeded,
    Engine,
    FailedPrecondition,
    InvalidArgument,
    Job,
    ModelConfig,
    ModelLoadError,
    NotFound,
    Request,
    ResourceExhausted,
    Response,
    Spec,
    SpecError,
    Tensor,
    Unavailable,
    parse_spec,
)
from tests.engine import onnx_models
from tests.engine.onnx_models import write
from tests.fakes import FP32, PATIENCE_S, Endings, Gate, ManualClock

HERE = __name__
GATES: list[Gate] = []
DOUBLE = """
  %s: {call: '%s:%s', batchable: %s, instances: 1, %s
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}, outputs: {y: {datatype: FP32, shape: [-1, 2]}}}
"""


def double(x: Array) -> Mapping[str, Array]:
    """Answers at once."""
    return {"y": x * 2}


def gated(x: Array) -> Mapping[str, Array]:
    """Waits at the test's gate, except for the zeros of the warm-up."""
    if x.any():
        GATES[-1]()
    return {"y": x * 2}


def repeat(x: Array) -> Iterator[Mapping[str, Array]]:
    """Three answers."""
    for factor in (1, 2, 3):
        yield {"y": x * factor}


def zero_is_not_welcome(x: Array) -> Mapping[str, Array]:
    """Refuses made-up inputs."""
    if not x.all():
        raise InvalidArgument("x must not be zero")
    return {"y": x}


def broken(x: Array) -> Mapping[str, Array]:
    """Cannot compute at all."""
    raise RuntimeError("no weights")


def _function(call: str, *, batchable: bool = True, more: str = "") -> str:
    return "functions:" + DOUBLE % ("f", HERE, call, str(batchable).lower(), more)


def _spec(folder: Path, text: str) -> Spec:
    return parse_spec(text, folder=folder)


def _rows(*values: float) -> Tensor:
    return Tensor(FP32, np.array([[each, each + 0.5] for each in values], np.float32))


def _request(model: str, *values: float, version: int | None = None, deadline: Deadline = Deadline.NEVER) -> Request:
    return Request(model, {"x": _rows(*values)}, version=version, deadline=deadline, id="r1")


def _factor(response: Response, *values: float) -> float:
    """Which factor the answer was computed with; all rows must agree."""
    (factor,) = set((response.outputs["y"].array / _rows(*values).array).ravel().tolist())
    return float(factor)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Starts engines over a folder and closes them at the end."""
    engines: list[Engine] = []

    def make(text: str, clock: ManualClock | None = None) -> Engine:
        spec = _spec(tmp_path, text)
        engine = Engine(spec, read_config=_read_config) if clock is None else Engine(spec, clock=clock)
        engines.append(engine)
        engine.start()
        return engine

    yield make
    for each in engines:
        each.close(0)


def _read_config(text: str, form: str) -> ModelConfig:
    """Reads a number as max_batch_size."""
    if not text.strip().isdigit():
        raise ModelLoadError(f"config.{form}:1: expected a number")
    return ModelConfig(max_batch_size=int(text))


Start = Callable[..., Engine]


# One request.


def test_model_of_the_repository_answers_with_its_own_name_version_and_ledger(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "a" / "3", onnx_models.affine(3.0))
    engine = start("repository: {path: .}")
    response = engine.infer(_request("a", 1.0, 2.0))
    assert _factor(response, 1.0, 2.0) == 3.0
    assert (response.model, response.version, response.id) == ("a", 3, "r1")
    ledger = response.ledger
    assert 0 < ledger.received_ns <= ledger.started_ns <= ledger.computed_ns
    assert ledger.batch_rows == 2
    (statistics,) = (each for _, _, each in engine.statistics("a"))
    assert (statistics.success.count, statistics.rows) == (1, 2)
    assert engine.ready


def test_function_answers_like_a_model(start: Start) -> None:
    engine = start(_function("double"))
    assert _factor(engine.infer(_request("f", 1.0)), 1.0) == 2.0
    description = engine.describe("f", None)
    assert (description.version, description.ready_versions, description.source) == (1, (1,), f"function {HERE}:double")
    assert description.expected_us.keys() == {1, 2, 4, 8, 16, 32, 64}


def test_unknown_model_and_version_are_named_with_the_nearest(start: Start) -> None:
    engine = start(_function("double"))
    with pytest.raises(NotFound, match="unknown model: 'ff' is not found; nearest: 'f'"):
        engine.infer(_request("ff", 1.0))
    with pytest.raises(NotFound, match="model 'f' has no version 2 ready; ready: 1"):
        engine.infer(_request("f", 1.0, version=2))
    assert engine.is_ready("f", 1)
    with pytest.raises(NotFound):
        engine.is_ready("f", 2)
    with pytest.raises(NotFound):
        engine.statistics("ff")


def test_request_that_breaks_the_signature_is_refused_and_holds_nothing(start: Start) -> None:
    engine = start(_function("double"))
    with pytest.raises(InvalidArgument, match="missing input 'x'"):
        engine.infer(Request("f", {}))
    engine.close()  # does not wait for a user who never was
    assert engine.waiting() == {}


def test_nothing_is_computed_before_flush_and_done_is_called_once(start: Start) -> None:
    engine, endings = start(_function("double")), Endings()
    engine.submit(_request("f", 1.0), endings)
    engine.submit(_request("f", 2.0), endings)
    assert engine.waiting() == {("f", 1): 2}
    assert endings.jobs == []
    engine.flush()
    endings.wait(2)
    assert [each.ledger.batch_rows for each in endings.jobs] == [2, 2]
    engine.flush()
    assert len(endings.jobs) == 2


def test_streaming_function_answers_in_parts(start: Start) -> None:
    engine, endings, parts = start(_function("repeat", batchable=False)), Endings(), list[Response]()
    assert engine.problems() == {}
    assert engine.streams("f", None)
    engine.submit(_request("f", 1.0), endings, parts.append)
    engine.flush()
    endings.wait(1)
    assert endings.errors == [None]
    assert [_factor(each, 1.0) for each in parts] == [1.0, 2.0, 3.0]


# Many threads.


def test_many_threads_get_answers_bit_equal_to_single_ones(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "a" / "1", onnx_models.affine(1.1))
    engine = start("repository: {path: .}\nmodels: {a: {batching: {rows_max: 8}}}")
    inputs = [[float(each + index) for each in range(1 + index % 5)] for index in range(400)]
    single = [engine.infer(_request("a", *each)).outputs["y"].array.tobytes() for each in inputs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda each: engine.infer(_request("a", *each)), inputs))
    assert [each.outputs["y"].array.tobytes() for each in together] == single
    (statistics,) = (each for _, _, each in engine.statistics("a"))
    assert statistics.success.count == 800
    assert max(statistics.by_batch_size) <= 8


def test_threads_that_submit_and_flush_for_each_other_lose_nothing(start: Start) -> None:
    engine = start(_function("double") + (DOUBLE % ("g", HERE, "double", "true", "")))
    endings, failures = Endings(), list[BaseException]()

    def call(model: str) -> None:
        try:
            for value in range(1, 301):
                engine.submit(_request(model, value), endings)
                if value % 3:
                    engine.flush()
            engine.flush()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=call, args=("fg"[index % 2],)) for index in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    endings.wait(1200)
    assert len(endings.jobs) == 1200
    assert all(each.error is None for each in endings.jobs)


def test_version_swap_under_load_fails_nothing_and_mixes_nothing(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "a" / "1", onnx_models.affine(1.0))
    engine = start("repository: {path: ., control: explicit}")
    stop, wrong, served = threading.Event(), list[object](), set[int]()

    def call() -> None:
        while not stop.is_set():
            try:
                response = engine.infer(_request("a", 1.0, 7.0))
                if _factor(response, 1.0, 7.0) != response.version:
                    wrong.append(response)
                served.add(response.version)
            except Exception as error:
                wrong.append(error)

    callers = [threading.Thread(target=call, daemon=True) for _ in range(3)]
    for each in callers:
        each.start()
    for version in range(2, 12):
        write(tmp_path / "a" / str(version), onnx_models.affine(float(version)))
        engine.load("a")
        assert engine.infer(_request("a", 1.0)).version == version
    stop.set()
    for each in callers:
        each.join(PATIENCE_S)
        assert not each.is_alive()
    assert wrong == []
    assert max(served) >= 9


# Deadlines and queues.


def test_requests_without_a_deadline_take_the_models_own(start: Start) -> None:
    clock, endings, gate = ManualClock(), Endings(), Gate()
    GATES.append(gate)
    engine = start(_function("gated", more="timeout_ms: 50, inline_us_max: 0,"), clock)
    engine.submit(_request("f", 1.0), endings)
    engine.flush()
    gate.wait_entered()
    engine.submit(_request("f", 2.0), endings)
    engine.submit(_request("f", 3.0, deadline=Deadline.after(1.0, clock())), endings)
    clock.advance(0.050)
    gate.open()
    endings.wait(3)
    by_value = {float(each.request.inputs["x"].array[0, 0]): each.error for each in endings.jobs}
    assert isinstance(by_value[2.0], DeadlineExceeded)
    assert by_value[1.0] is None
    assert by_value[3.0] is None


def test_full_queue_of_one_model_sheds_and_recovers(start: Start) -> None:
    endings, gate = Endings(), Gate()
    GATES.append(gate)
    engine = start(_function("gated", more="queue: {requests_max: 2}, inline_us_max: 0,"))
    engine.submit(_request("f", 1.0), endings)
    engine.flush()
    gate.wait_entered()
    for value in (2.0, 3.0):
        engine.submit(_request("f", value), endings)
    with pytest.raises(ResourceExhausted, match="queue is full"):
        engine.submit(_request("f", 4.0), endings)
    gate.open()
    endings.wait(3)
    assert _factor(engine.infer(_request("f", 5.0)), 5.0) == 2.0


# What cannot be served.


def test_broken_model_is_a_problem_and_the_others_serve(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "m" / "good" / "1", onnx_models.affine())
    (tmp_path / "m" / "bad" / "1").mkdir(parents=True)
    (tmp_path / "m" / "bad" / "1" / "model.onnx").write_bytes(b"not a model")
    engine = start("repository: {path: m}\n" + _function("broken"))
    assert engine.problems().keys() == {"bad", "f"}
    assert "not an ONNX file" in engine.problems()["bad"]
    assert "warm-up with 1 row(s) of zeros failed" in engine.problems()["f"]
    assert not engine.ready
    assert not engine.is_ready("bad", None)
    assert _factor(engine.infer(_request("good", 1.0)), 1.0) == 2.0
    with pytest.raises(Unavailable, match=r"model 'bad' is not ready: .*not an ONNX file"):
        engine.infer(_request("bad", 1.0))


def test_servable_that_refuses_made_up_values_is_served_and_says_so(start: Start) -> None:
    engine = start(_function("zero_is_not_welcome"))
    assert engine.ready
    assert "not warmed up: made-up inputs of 1 row(s) fail: x must not be zero" in engine.describe("f", None).notes[0]
    assert _factor(engine.infer(_request("f", 1.0)), 1.0) == 1.0


def test_configuration_bounds_a_models_batches(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "a" / "1", onnx_models.affine())
    (tmp_path / "a" / "config.pbtxt").write_text("4")
    engine = start("repository: {path: .}")
    description = engine.describe("a", None)
    assert (description.signature.rows_max, description.options.batch.rows_max) == (4, 4)
    with pytest.raises(InvalidArgument, match="5 rows, at most 4"):
        engine.infer(_request("a", 1, 2, 3, 4, 5))


def test_missing_repository_folder_is_a_spec_error(tmp_path: Path) -> None:
    engine = Engine(_spec(tmp_path, "repository: {path: none}"))
    with pytest.raises(SpecError, match="is not a folder"):
        engine.start()
    engine.close()


# Control.


@pytest.mark.parametrize("control", ["none", "poll"])
def test_load_and_unload_are_off_unless_the_spec_turns_them_on(start: Start, tmp_path: Path, control: str) -> None:
    write(tmp_path / "a" / "1", onnx_models.affine())
    engine = start(f"repository: {{path: ., control: {control}}}")
    for call in (engine.load, engine.unload):
        with pytest.raises(FailedPrecondition, match=f"model control is off: repository.control is '{control}'"):
            call("a")
    assert engine.ready


def test_explicit_control_loads_and_unloads(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "a" / "1", onnx_models.affine())
    engine = start("repository: {path: ., control: explicit, load: []}")
    assert engine.ready
    assert not engine.is_ready("a", None)
    engine.load("a")
    assert engine.is_ready("a", None)
    engine.unload("a")
    assert engine.ready
    with pytest.raises(Unavailable):
        engine.infer(_request("a", 1.0))
    engine.load("a", "8")
    assert engine.describe("a", None).signature.rows_max == 8
    with pytest.raises(ModelLoadError, match=r"config.json:1: expected a number"):
        engine.load("a", "not a number")
    with pytest.raises(NotFound):
        engine.load("gone")


def test_applying_a_new_spec_swaps_without_failing_those_in_flight(start: Start, tmp_path: Path) -> None:
    endings, gate = Endings(), Gate()
    GATES.append(gate)
    engine = start(_function("gated", more="inline_us_max: 0,"))
    engine.submit(_request("f", 1.0), endings)
    engine.flush()
    gate.wait_entered()
    engine.apply(_spec(tmp_path, _function("zero_is_not_welcome")))
    assert _factor(engine.infer(_request("f", 1.0)), 1.0) == 1.0
    gate.open()
    endings.wait(1)
    assert endings.jobs[0].response is not None
    assert _factor(endings.jobs[0].response, 1.0) == 2.0


def test_spec_that_cannot_be_applied_leaves_everything_as_it_was(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "a" / "1", onnx_models.affine())
    engine = start("repository: {path: .}")
    before = engine.spec
    with pytest.raises(NotFound, match="model 'gone' is not in the repository"):
        engine.apply(_spec(tmp_path, "repository: {path: ., control: explicit, load: [gone]}"))
    assert engine.spec == before
    assert engine.ready
    assert _factor(engine.infer(_request("a", 1.0)), 1.0) == 2.0


# The end.


def test_engine_that_stops_accepting_refuses_the_new_and_finishes_the_old(start: Start) -> None:
    endings, gate = Endings(), Gate()
    GATES.append(gate)
    engine = start(_function("gated", more="inline_us_max: 0,"))
    engine.submit(_request("f", 1.0), endings)
    engine.flush()
    gate.wait_entered()
    engine.stop_accepting()
    assert not engine.ready
    assert not engine.is_ready("f", None)
    with pytest.raises(Unavailable, match="shutting down or not yet ready"):
        engine.infer(_request("f", 2.0))
    closer = threading.Thread(target=engine.close, args=(PATIENCE_S,))
    closer.start()
    gate.open()
    endings.wait(1)
    closer.join(PATIENCE_S)
    assert not closer.is_alive()
    assert endings.errors == [None]


def test_close_without_patience_fails_what_waits(start: Start) -> None:
    endings, gate = Endings(), Gate()
    GATES.append(gate)
    engine = start(_function("gated", more="inline_us_max: 0,"))
    engine.submit(_request("f", 1.0), endings)
    engine.flush()
    gate.wait_entered()  # or both would run in one batch
    engine.submit(_request("f", 2.0), endings)
    engine.close(0)
    assert [type(each) for each in endings.errors] == [Unavailable]
    gate.open()
    endings.wait(2)


def test_engine_refuses_requests_before_it_starts(tmp_path: Path) -> None:
    engine = Engine(_spec(tmp_path, _function("double")))
    with pytest.raises(Unavailable):
        engine.infer(_request("f", 1.0))
    assert not engine.ready
    engine.close()


def test_engines_leave_no_thread_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    engine = Engine(_spec(tmp_path, _function("double", more="inline_us_max: 0,")))
    engine.start()
    ended: list[Job] = []
    engine.submit(_request("f", 1.0), ended.append)
    engine.flush()
    engine.close()
    for each in set(threading.enumerate()) - before:
        each.join(PATIENCE_S)
        assert not each.is_alive()
    assert len(ended) == 1
