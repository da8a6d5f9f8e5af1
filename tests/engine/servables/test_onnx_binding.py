"""Runs with bound tensors and from fixed buffers say what plain runs say. On the CPU, whose sessions can be bound as well."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, helper

from engine import Cancelled, Tensor, Unavailable
from engine.errors import ModelFailed
from engine.execution.binding import Binding, captures_of
from engine.servables import onnx_binding
from engine.servables.onnx import OnnxOptions, OnnxServable, load_onnx
from engine.servables.onnx_binding import BoundRun, CapturedRun
from engine.servables.servable import Traits
from engine.tensor import Array
from tests.engine import onnx_models
from tests.engine.onnx_models import BOOL, FLOAT, INT64, write
from tests.engine.servables.contract import ServableContract, floats
from tests.fakes import FP32, PATIENCE_S

CALLERS, CALLS = 8, 40


def _session(folder: Path, model: ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(write(folder, model)), providers=["CPUExecutionProvider"])


def _servable(folder: Path, model: ModelProto, rows: tuple[int, ...]) -> OnnxServable:
    """`model` bound on the CPU, with fixed buffers for each of `rows`."""
    signature = load_onnx(write(folder, model), OnnxOptions()).signature
    session = _session(folder, model)
    binding = Binding("cpu", captures=captures_of(signature, rows, 64))
    bound = CapturedRun(session, binding) if rows else BoundRun(session, binding)
    return OnnxServable(session, signature, Traits("onnxruntime_onnx", "as declared"), bound)


class TestBound(ServableContract):
    """The contract, with each run bound anew."""

    rows: tuple[int, ...] = ()

    @pytest.fixture
    def servable(self, tmp_path: Path) -> Iterator[OnnxServable]:
        """Sum and difference."""
        with closing(_servable(tmp_path, onnx_models.sum_and_difference(), self.rows)) as made:
            yield made

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """Two matrices."""
        return {name: Tensor(FP32, floats(rows, 3, seed + index)) for index, name in enumerate("ab")}


class TestCaptured(TestBound):
    """The contract, in fixed buffers that some requests fit and others do not."""

    rows = (2, 5)


@pytest.mark.parametrize("rows", [(), (4,)], ids=["bound", "captured"])
@pytest.mark.parametrize("kind", [FLOAT, INT64, BOOL])
def test_every_shape_of_memory_is_taken(tmp_path: Path, kind: int, rows: tuple[int, ...]) -> None:
    with closing(_servable(tmp_path, onnx_models.identity(kind), rows)) as servable:
        spec = servable.signature.inputs[0]
        values = np.arange(24).reshape(6, 4).astype(spec.datatype.dtype)
        values.flags.writeable = False
        for array in (values[:3, :2], values[::2, ::2], np.asfortranarray(values[:4, 1:3]), values[:0, :2]):
            out = servable.execute({"x": Tensor(spec.datatype, array)}, ())["y"].array
            np.testing.assert_array_equal(out, array)
            assert out.dtype == array.dtype


@pytest.mark.parametrize("rows", [(), (2, 4)], ids=["bound", "captured"])
def test_callers_at_once_each_get_their_own_which_no_later_run_changes(tmp_path: Path, rows: tuple[int, ...]) -> None:
    model = onnx_models.affine(2.0)

    def call(caller: int) -> list[tuple[Array, Array]]:
        rng = np.random.default_rng(caller)
        kept = []
        for _ in range(CALLS):
            array = rng.standard_normal((int(rng.integers(1, 7)), 2)).astype(np.float32)
            kept.append((array, servable.execute({"x": Tensor(FP32, array)}, ())["y"].array))
        return kept

    with closing(_servable(tmp_path, model, rows)) as servable, ThreadPoolExecutor(CALLERS) as callers:
        for array, out in [each for kept in callers.map(call, range(CALLERS)) for each in kept]:
            np.testing.assert_array_equal(out, 2 * array)


class OnDevice:
    """A session that says that it reads `x` on the first GPU, and what was bound to it: its own tensors stay on the CPU."""

    def __init__(self, session: onnxruntime.InferenceSession, monkeypatch: pytest.MonkeyPatch) -> None:
        self._session = session
        self.copied: list[tuple[str, int]] = []
        self.synchronised: list[str] = []
        real = onnxruntime.OrtValue.ortvalue_from_numpy

        def copied(array: Array, device: str, number: int) -> Any:  # noqa: ANN401
            self.copied.append((device, number))
            return real(array)

        monkeypatch.setattr(onnxruntime.OrtValue, "ortvalue_from_numpy", copied)
        for each in ("synchronize_inputs", "synchronize_outputs"):
            monkeypatch.setattr(onnxruntime.IOBinding, each, lambda _, each=each: self.synchronised.append(each))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._session, name)

    def get_input_memory_infos(self) -> list[Any]:
        """The first input is read on the GPU, the second on the CPU."""
        return [SimpleNamespace(name=each) for each in ("Cuda", "Cpu")]


def test_inputs_are_copied_to_where_they_are_read_before_the_run_and_no_device_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = OnDevice(_session(tmp_path, onnx_models.sum_and_difference()), monkeypatch)
    binding = Binding("cuda", 3)
    a, b = floats(2, 3, 1), floats(2, 3, 2)
    (total,) = BoundRun(session, binding)(["s"], {"a": a, "b": b}, onnxruntime.RunOptions())
    np.testing.assert_array_equal(total, a + b)
    assert session.copied == [("cuda", 3), ("cpu", 0)]
    assert session.synchronised == []


def test_outputs_whose_rows_are_only_known_afterwards_are_bound(tmp_path: Path) -> None:
    chosen = onnx_models.graph(
        [helper.make_node("NonZero", ["x"], ["y"])],
        {"x": (FLOAT, ["batch"])},
        {"y": (INT64, [1, "found"])},
    )
    session = _session(tmp_path, chosen)
    run = BoundRun(session, Binding("cpu"))
    for values in ([0, 1, 0, 2], [0, 0], []):
        array = np.array(values, np.float32)
        (out,) = run(["y"], {"x": array}, onnxruntime.RunOptions())
        np.testing.assert_array_equal(out, session.run(["y"], {"x": array})[0])


def test_a_model_without_a_batch_dimension_has_one_graph(tmp_path: Path) -> None:
    model = onnx_models.identity(FLOAT, (3, 2))
    with closing(_servable(tmp_path, model, (1,))) as servable:
        for seed in range(2):
            out = servable.execute({"x": Tensor(FP32, floats(3, 2, seed))}, ())["y"].array
            np.testing.assert_array_equal(out, floats(3, 2, seed))


class Watched:
    """A session that tells of its runs: on which thread, and for which graph."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
        self.runs: list[tuple[int, str]] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._session, name)

    def run_with_iobinding(self, bound: Any, options: onnxruntime.RunOptions) -> None:  # noqa: ANN401
        """As the session does."""
        self.runs.append((threading.get_ident(), options.get_run_config_entry("gpu_graph_id")))
        self._session.run_with_iobinding(bound, options)


def test_each_number_of_rows_has_its_graph_and_all_run_on_one_thread(tmp_path: Path) -> None:
    signature = load_onnx(write(tmp_path, onnx_models.affine()), OnnxOptions()).signature
    session = Watched(_session(tmp_path, onnx_models.affine()))
    run = CapturedRun(session, Binding("cpu", captures=captures_of(signature, (4, 2), 64)))
    options = onnxruntime.RunOptions()
    for rows in (1, 2, 3, 4, 5, 5):
        run(["y"], {"x": floats(rows, 2, rows)}, options)
    assert [graph for _, graph in session.runs] == ["1", "2", "1", "1", "2", "2", "-1", "-1"]
    assert len({thread for thread, _ in session.runs} - {threading.get_ident()}) == 1


def test_graphs_are_captured_by_one_model_at_a_time_and_replayed_by_all(tmp_path: Path) -> None:
    signature = load_onnx(write(tmp_path, onnx_models.affine()), OnnxOptions()).signature
    alone: list[bool] = []

    class Seen(Watched):
        def run_with_iobinding(self, bound: Any, options: onnxruntime.RunOptions) -> None:  # noqa: ANN401
            alone.append(onnx_binding._capturing.locked())
            super().run_with_iobinding(bound, options)

    run = CapturedRun(
        Seen(_session(tmp_path, onnx_models.affine())), Binding("cpu", captures=captures_of(signature, (2, 4), 64))
    )
    run(["y"], {"x": floats(2, 2, 0)}, onnxruntime.RunOptions())
    assert alone == [True, True, False]


def test_inputs_of_graphs_go_by_way_of_pinned_memory_where_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = load_onnx(write(tmp_path, onnx_models.affine()), OnnxOptions()).signature
    session = _session(tmp_path, onnx_models.affine())
    pinned: list[Array] = []

    def given(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> Array:
        pinned.append(np.zeros(shape, dtype))
        return pinned[-1]

    monkeypatch.setattr(onnx_binding, "pinned_zeros", given)
    monkeypatch.setattr(onnx_binding, "_ON_DEVICE", "Cpu")
    monkeypatch.setattr(
        onnx_binding, "_on_device", lambda buffer, _: onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            buffer.shape, buffer.dtype.type
        )
    )  # fmt: skip
    run = CapturedRun(session, Binding("cuda", captures=captures_of(signature, (2, 4), 64)))
    assert run.note == "CUDA graphs of 2, 4 row(s) on cuda:0, inputs by way of pinned memory"
    values = floats(3, 2, 1)
    (out,) = run(["y"], {"x": values}, onnxruntime.RunOptions())
    np.testing.assert_array_equal(out, session.run(["y"], {"x": values})[0])
    np.testing.assert_array_equal(pinned[1], [*values, values[-1]])
    monkeypatch.setattr(onnx_binding, "pinned_zeros", lambda *_: None)
    plain = CapturedRun(session, Binding("cuda", captures=captures_of(signature, (2,), 64)))
    assert plain.note.endswith("inputs by way of memory that is not pinned")


def test_what_nobody_waits_for_is_not_run(tmp_path: Path) -> None:
    signature = load_onnx(write(tmp_path, onnx_models.affine()), OnnxOptions()).signature
    run = CapturedRun(
        _session(tmp_path, onnx_models.affine()), Binding("cpu", captures=captures_of(signature, (4,), 64))
    )
    stopped = onnxruntime.RunOptions()
    stopped.terminate = True
    with pytest.raises(Cancelled, match="nobody waits"):
        run(["y"], {"x": floats(1, 2, 0)}, stopped)


def test_the_thread_of_a_closed_model_ends(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    servable = _servable(tmp_path, onnx_models.affine(), (4,))
    (thread,) = set(threading.enumerate()) - before
    servable.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    with pytest.raises(Unavailable, match="unloaded"):
        servable.execute({"x": Tensor(FP32, floats(1, 2, 0))}, ())


@pytest.mark.parametrize("rows", [(), (4,)], ids=["bound", "captured"])
def test_values_a_model_fails_on_are_told_and_the_next_run_succeeds(tmp_path: Path, rows: tuple[int, ...]) -> None:
    with closing(_servable(tmp_path, onnx_models.lookup(4), rows)) as servable:
        spec, out = servable.signature.inputs[0], servable.signature.output_names[0]
        plain = load_onnx(write(tmp_path, onnx_models.lookup(4)), OnnxOptions())
        shape = (2, *[1 if each < 0 else each for each in spec.shape[1:]])
        good, bad = (Tensor(spec.datatype, np.full(shape, each, spec.datatype.dtype)) for each in (3, 99))
        with pytest.raises(ModelFailed, match=r"failed on the input: .* out of data bounds, idx=99"):
            servable.execute({spec.name: bad}, ())
        expected = plain.execute({spec.name: good}, ())[out].array
        np.testing.assert_array_equal(servable.execute({spec.name: good}, ())[out].array, expected)
