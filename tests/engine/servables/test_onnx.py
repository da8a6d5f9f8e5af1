"""ONNX models: what is read from the file, what is refused, and what comes out."""

from __future__ import annotations

import gc
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from engine import (
    BF16,
    BYTES,
    Internal,
    InvalidArgument,
    ModelLoadError,
    ResourceExhausted,
    Tensor,
    Unavailable,
    datatype_named,
)
from engine.servables.onnx import OnnxOptions, OnnxServable, load_onnx
from engine.servables.onnx_files import external_data
from engine.servables.probe import sample_inputs
from engine.servables.servable import Traits
from tests.engine import onnx_models
from tests.engine.onnx_models import BOOL, FLOAT, INT64, STRING, write
from tests.engine.servables.contract import ServableContract, floats
from tests.fakes import FP32

KINDS = {
    "BOOL": BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": STRING,
}


def _load(folder: Path, model: ModelProto, options: OnnxOptions | None = None) -> OnnxServable:
    return load_onnx(write(folder, model), options or OnnxOptions())


class TestOnnxServable(ServableContract):
    """The contract, on a model with two inputs and two outputs."""

    @pytest.fixture
    def servable(self, tmp_path: Path) -> OnnxServable:
        """Sum and difference."""
        return _load(tmp_path, onnx_models.sum_and_difference())

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """Two matrices."""
        return {name: Tensor(FP32, floats(rows, 3, seed + index)) for index, name in enumerate("ab")}


class TestOnnxStrings(ServableContract):
    """The contract, on strings."""

    @pytest.fixture
    def servable(self, tmp_path: Path) -> OnnxServable:
        """Strings through."""
        return _load(tmp_path, onnx_models.identity(STRING))

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """Text of any length, empty too."""
        return {"x": Tensor.from_values("x", BYTES, [rows, 2], [f"ß{seed}" * each for each in range(2 * rows)])}


class TestOnnxFixedShape(ServableContract):
    """The contract, on a model that does not batch."""

    @pytest.fixture
    def servable(self, tmp_path: Path) -> OnnxServable:
        """A fixed first dimension."""
        return _load(tmp_path, onnx_models.affine(first=4, last=4))

    def inputs(self, rows: int, seed: int) -> dict[str, Tensor]:
        """Always four rows."""
        return {"x": Tensor(FP32, floats(4, 2, seed))}


# Datatypes.


@pytest.mark.parametrize("name", list(KINDS))
def test_every_datatype_goes_in_and_comes_out_unchanged(tmp_path: Path, name: str) -> None:
    servable = _load(tmp_path, onnx_models.identity(KINDS[name]))
    datatype = datatype_named(name, of="x")
    if datatype is BYTES:
        tensor = Tensor.from_values("x", BYTES, [2, 2], ["", "a", "größe", "\0"])
    else:
        assert datatype.size is not None
        raw = bytes(index % 2 for index in range(4 * datatype.size))
        tensor = Tensor.from_raw("x", datatype, [2, 2], raw)
    output = servable.execute({"x": tensor}, ())["y"]
    assert output.datatype is datatype
    assert bytes(output.to_raw()) == bytes(tensor.to_raw())


def test_bfloat16_is_computed_on_its_bits(tmp_path: Path) -> None:
    servable = _load(tmp_path, onnx_models.bfloat16_identity())
    bits = (np.array([[1.5, -2.0], [0.0, 3e38]], np.float32).view(np.uint32) >> 16).astype(np.uint16)
    output = servable.execute({"x": Tensor(BF16, bits)}, ("y",))["y"]
    assert output.array.tolist() == bits.tolist()
    assert servable.execute({"x": Tensor(BF16, bits[:0])}, ())["y"].shape == (0, 2)


def test_string_that_is_not_utf_8_is_the_callers_fault(tmp_path: Path) -> None:
    servable = _load(tmp_path, onnx_models.identity(STRING))
    with pytest.raises(InvalidArgument, match="input 'x': an ONNX string must be UTF-8"):
        servable.execute({"x": Tensor.from_values("x", BYTES, [1, 2], [b"ok", b"\xff"])}, ())


# Signature and batchability.


def test_signature_is_read_from_the_file(tmp_path: Path) -> None:
    signature = _load(tmp_path, onnx_models.identity(INT64, ("batch", 3, "length", None))).signature
    (spec,) = signature.inputs
    assert (spec.name, spec.datatype.name, spec.shape, spec.optional) == ("x", "INT64", (-1, 3, -1, -1), False)
    assert signature.output_names == ("y",)


@pytest.mark.parametrize(
    ("model", "batchable", "why"),
    [
        (onnx_models.affine(), True, "rows together equal rows one by one bit for bit"),
        (onnx_models.affine(first=None, last=None), True, "dimension 0 of every tensor is free;"),
        (onnx_models.affine(first="batch", last=None), True, "free and named 'batch'"),
        (onnx_models.affine(first="n", last="m"), False, "dimension 0 goes by different names: m, n"),
        (onnx_models.affine(first=1, last=1), False, "dimension 0 of a tensor has a fixed size"),
        (onnx_models.identity(FLOAT, ()), False, "a tensor has no dimensions"),
        (onnx_models.identity(STRING), True, "rows together equal"),
        (onnx_models.identity(BOOL), True, "rows together equal"),
        (onnx_models.bfloat16_identity(), True, "rows together equal"),
        (onnx_models.lookup(2), True, "rows together equal"),
        (onnx_models.lookup(0), True, "made-up inputs fail on it"),
    ],
)
def test_batchability_is_inferred_and_explained(tmp_path: Path, model: ModelProto, batchable: bool, why: str) -> None:
    servable = _load(tmp_path, model)
    assert servable.signature.batchable == batchable
    assert why in servable.traits.batching


@pytest.mark.parametrize("kind", [FLOAT, INT64], ids=["float", "integer"])
@pytest.mark.parametrize("operator", ["softmax", "mean", "centred", "below max", "cumulative", "first row"])
def test_rows_that_depend_on_each_other_are_found_out_by_running_them(tmp_path: Path, operator: str, kind: int) -> None:
    if operator == "softmax" and kind == INT64:
        pytest.skip("softmax takes floats only")
    servable = _load(tmp_path, onnx_models.over_rows(operator, kind))
    assert not servable.signature.batchable
    if operator != "mean":  # there ONNX Runtime itself infers that one row comes out
        assert "dimension 0 of every tensor is free" in servable.traits.batching


@pytest.mark.parametrize("kind", [STRING, BOOL], ids=["string", "bool"])
def test_dependence_is_found_in_every_kind_of_value(tmp_path: Path, kind: int) -> None:
    assert not _load(tmp_path, onnx_models.over_rows("first row", kind)).signature.batchable


def test_configured_batch_size_is_believed_and_bounds_a_request(tmp_path: Path) -> None:
    signature = _load(tmp_path, onnx_models.affine(), OnnxOptions(rows_max=4)).signature
    assert (signature.batchable, signature.rows_max) == (True, 4)
    unbatched = _load(tmp_path, onnx_models.affine(), OnnxOptions(rows_max=0))
    assert not unbatched.signature.batchable
    assert unbatched.traits.batching == "max_batch_size is 0"


def test_configured_batch_size_on_a_model_that_cannot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ModelLoadError, match=r"model.onnx: max_batch_size is 4, but dimension 0 of a tensor has a fixed"
    ):
        _load(tmp_path, onnx_models.affine(first=1, last=1), OnnxOptions(rows_max=4))


def test_tensor_without_dimensions_is_served(tmp_path: Path) -> None:
    servable = _load(tmp_path, onnx_models.identity(FLOAT, ()))
    output = servable.execute({"x": Tensor(FP32, np.array(2.5, np.float32))}, ())["y"]
    assert output.shape == ()
    assert float(output.array) == 2.5


def test_outputs_come_in_the_order_asked_for(tmp_path: Path) -> None:
    servable = _load(tmp_path, onnx_models.sum_and_difference())
    inputs = {name: Tensor(FP32, floats(2, 3, 0)) for name in "ab"}
    assert list(servable.execute(inputs, ("d", "s"))) == ["d", "s"]


def test_tensor_kind_that_no_client_can_speak_is_refused(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("y", FLOAT, ["batch", 2])
    model = onnx_models.affine()
    model.graph.node.append(helper.make_node("SequenceConstruct", ["y"], ["z"]))
    sequence.name = "z"
    model.graph.output.append(sequence)
    with pytest.raises(ModelLoadError, match=r"tensor 'z' has type seq\(tensor\(float\)\), which cannot be served"):
        _load(tmp_path, model)


# Errors.


def test_value_the_model_refuses_is_the_callers_fault(tmp_path: Path) -> None:
    servable = _load(tmp_path, onnx_models.lookup(2))
    with pytest.raises(InvalidArgument, match="ONNX Runtime refuses the input"):
        servable.execute({"x": Tensor(datatype_named("INT64", of="x"), np.array([[7]]))}, ())


def test_value_a_node_cannot_compute_is_the_callers_fault(tmp_path: Path) -> None:
    cast = onnx_models.graph(
        [helper.make_node("Cast", ["x"], ["y"], to=onnx_models.FLOAT)],
        {"x": (onnx_models.STRING, ["batch"])},
        {"y": (onnx_models.FLOAT, ["batch"])},
    )
    with pytest.raises(InvalidArgument, match=r"ONNX Runtime failed on the input: .* running Cast node"):
        _load(tmp_path, cast).execute({"x": Tensor.from_values("x", BYTES, [1], ["one"])}, ())


def test_value_that_asks_for_more_memory_than_there_is_exhausts_resources(tmp_path: Path) -> None:
    fill = onnx_models.graph(
        [helper.make_node("ConstantOfShape", ["x"], ["y"])],
        {"x": (onnx_models.INT64, ["rank"])},
        {"y": (onnx_models.FLOAT, ["a"])},
    )
    with pytest.raises(ResourceExhausted, match="out of memory"):
        _load(tmp_path, fill).execute({"x": Tensor(datatype_named("INT64", of="x"), np.array([1 << 50]))}, ())


def test_failure_inside_the_model_is_internal(tmp_path: Path) -> None:
    servable = _load(tmp_path, onnx_models.affine())
    with pytest.raises((Internal, InvalidArgument), match="ONNX Runtime"):
        servable.execute({"x": Tensor(FP32, floats(2, 7, 0))}, ())
    with pytest.raises(Internal, match="ONNX Runtime failed"):
        servable.execute({}, ())


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08", b"<html>", bytes(1000)])
def test_file_that_is_no_model_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"^model.onnx: "):
        load_onnx(path, OnnxOptions())


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"^model.onnx: "):
        load_onnx(tmp_path / "model.onnx", OnnxOptions())


def test_truncated_model_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, onnx_models.sum_and_difference())
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelLoadError, match=r"^model.onnx: "):
        load_onnx(path, OnnxOptions())


def test_provider_that_is_not_here_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(
        ModelLoadError, match=r"no execution provider 'Warp' here; .*; available: .*CPUExecutionProvider"
    ):
        _load(tmp_path, onnx_models.affine(), OnnxOptions(providers=("CPUExecutionProvider", "Warp")))


# External data.


def test_external_data_beside_the_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(np.array([10, 20], np.float32).tobytes())
    servable = _load(tmp_path, onnx_models.outside_data("w.bin"))
    assert servable.execute({"x": Tensor(FP32, np.ones((1, 2), np.float32))}, ())["y"].array.tolist() == [[11, 21]]
    (model,) = tmp_path.rglob("*.onnx")
    assert external_data(model) == [tmp_path / "w.bin"]


@pytest.mark.parametrize("hidden", [False, True], ids=["plain", "in a branch"])
@pytest.mark.parametrize("location", ["../secret", "/{root}/secret", "sub/../../secret", "link", "folder/secret"])
def test_external_data_outside_the_models_folder_is_refused(tmp_path: Path, location: str, hidden: bool) -> None:
    (tmp_path / "secret").write_bytes(bytes(8))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path)
    location = location.replace("/{root}", str(tmp_path))
    build = onnx_models.outside_data_in_branch if hidden else onnx_models.outside_data
    with pytest.raises(ModelLoadError, match=r"keeps its data in '.*', outside the model's folder"):
        _load(folder, build(location))


@pytest.mark.parametrize("location", ["gone.bin", "", ".", "*/_ORT_MEM_ADDR_/*"])
def test_external_data_that_is_no_file_is_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(ModelLoadError, match=r"keeps its data in '.*', which is no file"):
        _load(tmp_path, onnx_models.outside_data(location))


def test_external_data_shorter_than_claimed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"1234")
    with pytest.raises(ModelLoadError, match=r"^model.onnx: ONNX Runtime cannot load it"):
        _load(tmp_path, onnx_models.outside_data("w.bin"))


def test_external_data_of_a_sparse_constant_is_checked_too(tmp_path: Path) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "v")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    onnx_models._put_outside(values, "../secret", 4)
    sparse = helper.make_sparse_tensor(values, indices, [2])
    nodes = [
        helper.make_node("Constant", [], ["w"], sparse_value=sparse),
        helper.make_node("Add", ["x", "w"], ["y"]),
    ]
    shape: list[int | str | None] = ["batch", 2]
    with pytest.raises(ModelLoadError, match="outside the model's folder"):
        _load(tmp_path / "m", onnx_models.graph(nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, shape)}))


# Life.


def _sessions() -> int:
    gc.collect()
    return sum(
        type(each) is onnxruntime.InferenceSession for each in gc.get_objects()
    )  # isinstance follows dead weak proxies


@pytest.mark.parametrize("kind", [FLOAT, TensorProto.BFLOAT16], ids=["float", "bfloat16"])
def test_closed_model_gives_its_session_back_and_refuses_latecomers(tmp_path: Path, kind: int) -> None:
    before = _sessions()
    servable = _load(tmp_path, onnx_models.identity(kind))
    assert _sessions() == before + 1
    servable.close()
    assert _sessions() == before
    with pytest.raises(Unavailable, match="unloaded"):
        servable.execute(sample_inputs(servable.signature, 1), ())


def test_loaded_model_needs_its_file_no_more(tmp_path: Path) -> None:
    servable = _load(tmp_path / "m", onnx_models.affine())
    shutil.rmtree(tmp_path / "m")
    assert servable.execute({"x": Tensor(FP32, np.ones((1, 2), np.float32))}, ())["y"].array.tolist() == [[2, 2]]


def test_an_arena_that_is_used_up_is_want_of_memory_and_no_fault_of_the_input(tmp_path: Path) -> None:
    bound = onnxruntime.OrtArenaCfg(
        {
            "max_mem": 1 << 20,
            "arena_extend_strategy": 1,
            "initial_chunk_size_bytes": 1 << 16,
            "max_dead_bytes_per_chunk": -1,
        }
    )
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, bound)  # for sessions that ask for it, such as this one alone
    settings = onnxruntime.SessionOptions()
    settings.add_session_config_entry("session.use_env_allocators", "1")
    settings.log_severity_level = 4
    path = onnx_models.write(tmp_path, onnx_models.affine())
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    servable = OnnxServable(
        session, load_onnx(path, OnnxOptions()).signature, Traits("onnxruntime_onnx", "as declared")
    )
    large, small = (Tensor(FP32, np.ones((rows, 2), np.float32)) for rows in (1 << 20, 2))
    with pytest.raises(
        ResourceExhausted, match=r"ONNX Runtime is out of memory: .* smaller than requested bytes of 8388608"
    ):
        servable.execute({"x": large}, ())
    assert servable.execute({"x": small}, ())["y"].array.tolist() == [[2, 2], [2, 2]]
