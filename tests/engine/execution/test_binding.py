"""Which sessions are bound, which graphs are captured, and what is padded up to one."""

from __future__ import annotations

import numpy as np
import pytest

from engine import ModelLoadError
from engine.execution.binding import Binding, binding_of, capture_for, captures_of, padded_into
from engine.execution.declaration import CudaSpec, Providers, ProviderSpec, TensorRtSpec, provider_problems
from engine.execution.options import cuda_options
from engine.servables.signature import ANY, Signature, TensorSpec
from engine.tensor import BF16, BYTES, DATATYPES, Array, DataType

FP32, INT64 = DATATYPES["FP32"], DATATYPES["INT64"]


def signature(shape: tuple[int, ...] = (ANY, 3), datatype: DataType = FP32, *, batchable: bool = True) -> Signature:
    return Signature((TensorSpec("x", datatype, shape),), (TensorSpec("y", INT64, (ANY, 2)[-len(shape) :]),), batchable)


def cuda(*rows: int, io_binding: bool = True) -> ProviderSpec:
    return ProviderSpec(cuda=CudaSpec(device_id=2, io_binding=io_binding, graph_rows=rows))


def test_sessions_on_a_gpu_are_bound_to_it_and_others_not() -> None:
    assert binding_of(["cpu"], signature(), 8) is None
    assert binding_of(["cuda", "cpu"], signature(), 8) == Binding("cuda", 0)
    assert binding_of(["TensorrtExecutionProvider", "cpu"], signature(), 8) == Binding("cuda", 0)
    assert binding_of([cuda(), "cpu"], signature(), 8) == Binding("cuda", 2)
    assert binding_of([ProviderSpec(tensorrt=TensorRtSpec(device_id=1))], signature(), 8) == Binding("cuda", 1)
    assert binding_of([cuda(io_binding=False), "cpu"], signature(), 8) is None
    assert binding_of(["AzureExecutionProvider", "cpu"], signature(), 8) is None


@pytest.mark.parametrize("datatype", [BYTES, BF16])
def test_what_numpy_or_a_device_cannot_hold_is_not_bound(datatype: DataType) -> None:
    assert binding_of(["cuda"], signature(datatype=datatype), 8) is None
    with pytest.raises(ModelLoadError, match=f"graph_rows: {datatype} of 'x' cannot be bound"):
        binding_of([cuda(1)], signature(datatype=datatype), 8)


def test_graphs_come_in_the_order_of_their_rows() -> None:
    binding = binding_of([cuda(8, 1)], signature(), 8)
    assert binding is not None
    assert [each.rows for each in binding.captures] == [1, 8]
    assert binding.captures[1].inputs["x"].shape == (8, 3)
    assert binding.captures[1].outputs["y"].shape == (8, 2)
    assert binding.captures[1].outputs["y"].dtype == np.int64


@pytest.mark.parametrize(
    ("taken", "rows", "told"),
    [
        (signature(), 9, "graph_rows: 9, but a batch has at most 8 rows"),
        (signature((ANY, ANY)), 4, r"'x' has shape \[-1, -1\], but in a CUDA graph every size is fixed but the rows"),
        (signature((4, 3), batchable=False), 2, r"graph_rows: 2, but the model takes no batches: give \[1\]"),
        (signature((ANY, 3), batchable=False), 1, r"'x' has shape \[-1, 3\]"),
    ],
)
def test_graphs_that_cannot_be_are_refused(taken: Signature, rows: int, told: str) -> None:
    with pytest.raises(ModelLoadError, match=told):
        captures_of(taken, [rows], 8)


def test_rows_go_to_the_least_graph_that_holds_them() -> None:
    captures = captures_of(signature(), [2, 8], 8)
    found = [capture_for(captures, {"x": np.zeros((rows, 3), np.float32)}) for rows in range(10)]
    assert found == [None, 0, 0, 1, 1, 1, 1, 1, 1, None]


@pytest.mark.parametrize(
    "feeds",
    [
        {"x": np.zeros((1, 4), np.float32)},
        {"x": np.zeros((1, 3))},
        {"x": np.zeros((), np.float32)},
        {},
        {"x": np.zeros((1, 3), np.float32), "z": np.zeros((1, 3), np.float32)},
    ],
    ids=["another size", "another datatype", "no dimensions", "missing", "unknown"],
)
def test_what_is_not_as_captured_is_left_to_a_plain_run(feeds: dict[str, Array]) -> None:
    assert capture_for(captures_of(signature(), [4], 8), feeds) is None


def test_inputs_that_disagree_on_rows_are_left_to_a_plain_run() -> None:
    two = Signature(tuple(TensorSpec(each, FP32, (ANY, 3)) for each in "ab"), (), batchable=True)
    captures = captures_of(two, [4], 8)
    arrays = {"a": np.zeros((2, 3), np.float32), "b": np.zeros((3, 3), np.float32)}
    assert capture_for(captures, arrays) is None
    assert capture_for(captures, {**arrays, "b": arrays["a"]}) == 0


def test_padding_repeats_the_last_row_and_leaves_nothing_of_before() -> None:
    buffer = np.full((4, 2), 9)
    padded_into(buffer, np.array([[1, 2], [3, 4]]))
    assert buffer.tolist() == [[1, 2], [3, 4], [3, 4], [3, 4]]
    padded_into(buffer, np.arange(8).reshape(4, 2))
    assert buffer.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    scalar = np.array(0)
    padded_into(scalar, np.array(7))
    assert scalar == 7


def test_graphs_are_declared_to_onnx_runtime_and_checked() -> None:
    assert cuda_options(CudaSpec(graph_rows=(1, 8)))["enable_cuda_graph"] == "1"
    assert "enable_cuda_graph" not in cuda_options(CudaSpec())

    def told(*providers: str | ProviderSpec) -> list[str]:
        declared: Providers = providers
        return [f"{key}: {problem}" for key, problem in provider_problems(declared)]

    assert told(cuda(1, 8), "cpu") == []
    assert told(cuda(0)) == ["providers[0].cuda.graph_rows: must be at most 16 different numbers from 1 on, got [0]"]
    assert told(cuda(4, 4))[0].endswith("got [4, 4]")
    assert told(cuda(1, io_binding=False)) == ["providers[0].cuda.graph_rows: CUDA graphs need io_binding"]
    assert told("tensorrt", cuda(1)) == [
        "providers: cuda.graph_rows needs every node on CUDA, but tensorrt is there as well"
    ]
