"""What Triton is told of an ONNX model: read from the file, written as config.pbtxt."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.peers.triton_config import Backend, ModelConfig, TensorConfig, config_text, model_config, read_model

ONE = ModelConfig(True, [TensorConfig("features", "TYPE_FP32", (44,))], [TensorConfig("score", "TYPE_FP32", (1,))])


def argument(name: str, kind: str, shape: list[int | str | None]) -> Any:  # noqa: ANN401
    return SimpleNamespace(name=name, type=f"tensor({kind})", shape=shape)


def test_config_of_a_model_that_batches_is_complete() -> None:
    assert config_text(ONE, rows_max=64, dynamic_batching=True) == (
        'backend: "python"\n'
        "max_batch_size: 64\n"
        'input [ { name: "features" data_type: TYPE_FP32 dims: [ 44 ] } ]\n'
        'output [ { name: "score" data_type: TYPE_FP32 dims: [ 1 ] } ]\n'
        "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
        "dynamic_batching { }\n"
    )


def test_dynamic_batching_is_left_out_when_not_wanted_or_not_possible() -> None:
    fixed = ModelConfig(False, ONE.inputs, ONE.outputs)
    assert "dynamic_batching" not in config_text(ONE, rows_max=64, dynamic_batching=False)
    assert "dynamic_batching" not in config_text(fixed, rows_max=64, dynamic_batching=True)
    assert "max_batch_size: 0\n" in config_text(fixed, rows_max=64, dynamic_batching=True)


def test_config_for_the_onnx_backend_asks_for_one_thread_as_the_others_have() -> None:
    text = config_text(ONE, rows_max=8, dynamic_batching=True, backend=Backend.ONNXRUNTIME)
    assert text.startswith('backend: "onnxruntime"\nmax_batch_size: 8\n')
    assert 'key: "intra_op_thread_count" value: { string_value: "1" }' in text


def test_free_first_dimensions_make_a_batch_and_other_free_ones_stay() -> None:
    inputs = [argument("ids", "int64", ["batch", None]), argument("text", "string", [None, 3])]
    found = model_config(inputs, [argument("out", "double", ["batch", 2])])
    assert found == ModelConfig(
        True,
        [TensorConfig("ids", "TYPE_INT64", (-1,)), TensorConfig("text", "TYPE_STRING", (3,))],
        [TensorConfig("out", "TYPE_FP64", (2,))],
    )


@pytest.mark.parametrize("shape", [[2, "k"], []], ids=["fixed", "scalar"])
def test_one_tensor_without_a_free_first_dimension_forbids_batches(shape: list[int | str | None]) -> None:
    found = model_config([argument("a", "uint8", shape)], [argument("b", "bool", ["batch", 1])])
    assert not found.batches
    assert found.inputs == [TensorConfig("a", "TYPE_UINT8", tuple(s if isinstance(s, int) else -1 for s in shape))]
    assert found.outputs == [TensorConfig("b", "TYPE_BOOL", (-1, 1))]


def test_a_tensor_with_no_dimension_but_the_batch_gets_the_one_that_triton_demands() -> None:
    found = model_config([argument("a", "float", ["n", 3])], [argument("sum", "float", ["n"])])
    assert '"sum" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } }' in config_text(
        found, rows_max=4, dynamic_batching=False
    )


def test_what_is_no_tensor_is_refused_by_name() -> None:
    maps: Any = SimpleNamespace(name="probabilities", type="seq(map(int64,tensor(float)))", shape=[])
    with pytest.raises(ValueError, match="'probabilities' is a seq"):
        model_config([argument("a", "float", ["n", 3])], [maps])


def test_names_types_and_shapes_are_read_from_the_file(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT32)],
        "cast",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["rows", 5])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["rows", 5])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "cast.onnx")
    assert read_model(tmp_path / "cast.onnx") == ModelConfig(
        True, [TensorConfig("x", "TYPE_FP16", (5,))], [TensorConfig("y", "TYPE_INT32", (5,))]
    )
