"""A cancellation reaches what runs: ONNX models that would never end, and functions that ask whether anybody still waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from engine import (
    BF16,
    Array,
    Cancelled,
    Deadline,
    Job,
    Ledger,
    ModelStatistics,
    Request,
    Tensor,
    current_work,
    datatype_named,
)
from engine.clock import monotonic
from engine.scheduling.worker import Worker, WorkerOptions
from engine.servables.function import load_function
from engine.servables.onnx import OnnxOptions, load_onnx
from engine.servables.servable import Servable
from engine.servables.signature import Signature, TensorSpec
from tests.engine import onnx_models
from tests.engine.onnx_models import FLOAT, write
from tests.fakes import FP32, PATIENCE_S, Endings

ENDLESS = 1 << 60
INT64 = datatype_named("INT64", of="tests")


def _job(turns: int, endings: Endings, value: Tensor) -> Job:
    one = np.array([1.0], np.float32)
    inputs = {"n": Tensor(INT64, np.array(turns)), "x": Tensor(FP32, one), "v": value}
    return Job(Request("loop", inputs), 1, Ledger(monotonic()), endings)


def _until_it_runs(job: Job) -> None:
    """Returns when the worker has made `job` interruptible, which it does as it begins."""
    until = time.monotonic() + PATIENCE_S
    while job.on_cancel is None:
        assert time.monotonic() < until, "the job was never begun"
        time.sleep(0.001)


@pytest.mark.parametrize("kind", [FLOAT, TensorProto.BFLOAT16], ids=["numpy", "bfloat16"])
def test_onnx_model_that_would_never_end_is_stopped_when_it_is_cancelled_and_serves_on(
    tmp_path: Path, kind: int
) -> None:
    servable = load_onnx(write(tmp_path, onnx_models.loop(kind)), OnnxOptions())
    statistics, endings = ModelStatistics(), Endings()
    worker = Worker("loop", 1, servable, WorkerOptions(), monotonic, statistics)
    value = Tensor(FP32, np.ones(1, np.float32)) if kind == FLOAT else Tensor(BF16, np.ones(1, np.uint16))
    endless, short = _job(ENDLESS, endings, value), _job(5, endings, value)
    worker.submit(endless)
    worker.flush()
    _until_it_runs(endless)
    worker.submit(short)
    endless.cancel()
    endings.wait(2)
    assert endings.jobs == [endless, short]
    assert isinstance(endless.error, Cancelled)
    assert short.response is not None
    np.testing.assert_array_equal(short.response.outputs["y"].array, [6.0])
    assert (statistics.dropped, statistics.fail.count, statistics.success.count) == (1, 0, 1)
    assert endless.on_cancel is None
    worker.close()


def test_onnx_model_on_the_callers_own_thread_is_run_as_it_always_was(tmp_path: Path) -> None:
    servable = load_onnx(write(tmp_path, onnx_models.loop()), OnnxOptions())
    worker, endings = Worker("loop", 1, servable, WorkerOptions(), monotonic, ModelStatistics()), Endings()
    only = _job(5, endings, Tensor(FP32, np.ones(1, np.float32)))
    worker.warm_up(only.request.inputs, 1)
    assert worker.run_at_once(only)
    assert only.error is None
    assert only.on_cancel is None


BEGUN, TURNS = threading.Event(), list[int]()


def polls(x: Array) -> Mapping[str, Array]:
    """Computes until nobody waits."""
    work = current_work()
    assert work is not None
    BEGUN.set()
    for turn in range(ENDLESS):
        if work.stopped:
            TURNS.append(turn)
            raise InterruptedError("nobody waits")
    return {"y": x}


def polls_in_parts(x: Array) -> Iterator[Mapping[str, Array]]:
    """One answer, and then nothing until nobody waits."""
    yield {"y": x}
    yield polls(x)


def _polling(function: str) -> Servable:
    signature = Signature((TensorSpec("x", FP32, (-1,)),), (TensorSpec("y", FP32, (-1,)),), batchable=True)
    return load_function("polls", f"{__name__}:{function}", signature)


@pytest.mark.parametrize("function", ["polls", "polls_in_parts"])
@pytest.mark.parametrize("why", ["cancelled", "deadline"])
def test_function_that_asks_ends_when_nobody_waits_any_more(function: str, why: str) -> None:
    BEGUN.clear()
    TURNS.clear()
    statistics, endings = ModelStatistics(), Endings()
    worker = Worker("polls", 1, _polling(function), WorkerOptions(), monotonic, statistics)
    now_ns = monotonic()
    deadline = Deadline(now_ns + 50_000_000) if why == "deadline" else Deadline.NEVER
    request = Request("polls", {"x": Tensor(FP32, np.ones(1, np.float32))}, deadline=deadline)
    only = Job(request, 1, Ledger(now_ns), endings, (lambda _: None) if function == "polls_in_parts" else None)
    worker.submit(only)
    worker.flush()
    if why == "cancelled":
        assert BEGUN.wait(PATIENCE_S)
        only.cancel()
    endings.wait(1)
    assert len(TURNS) <= 1  # none where the deadline passed before it began
    assert only.error is not None
    assert (statistics.dropped + statistics.fail.count, statistics.success.count) == (1, 0)
    assert isinstance(only.error, Cancelled) == (why == "cancelled")
    worker.close()
