"""`vireo export-triton`: what it writes, and what Vireo reads of it again. On a real Triton: test_triton_round_trip."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from onnx import helper
from tritonclient.grpc import model_config_pb2 as pb

from engine import (
    Array,
    Engine,
    FailedPrecondition,
    InvalidArgument,
    Request,
    Spec,
    Tensor,
    load_spec,
    parse_spec,
)
from serving.cli import main
from serving.model_config import read_config
from serving.triton_export import export_triton
from tests.engine.onnx_models import FLOAT, affine, flip, graph, total, write
from tests.engine.servables.contract import floats
from tests.fakes import FP32

SPEC = """
repository: {path: models}
graphs:
  chain:
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}
    nodes:
      first: {call: double, inputs: {x: x}}
      second: {call: triple, inputs: {x: first.y}}
    outputs: {y: second.y, half: first.y}
  bounded:
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}
    nodes: {first: {call: double, inputs: {x: x}, timeout_ms: 5}}
    outputs: {y: first.y}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("app")
    for name, factor in (("double", 2.0), ("triple", 3.0)):
        write(made / "models" / name / "1", affine(factor))
    return made


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    engine = Engine(parse_spec(SPEC, folder=folder))
    engine.start()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def exported(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "models"
    assert export_triton(engine, out, "onnxruntime") == [
        "double: version 1, onnxruntime",
        "triple: version 1, onnxruntime",
        "chain: an ensemble of double, triple",
        "bounded: not written, node 'first' has a condition, a bound or a fallback",
    ]
    return out


def config_of(folder: Path) -> pb.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), pb.ModelConfig())


def test_a_model_goes_with_its_file_its_batches_and_its_warm_up(exported: Path, folder: Path) -> None:
    assert (exported / "double/1/model.onnx").read_bytes() == (folder / "models/double/1/model.onnx").read_bytes()
    config = config_of(exported / "double")
    assert (config.platform, config.backend) == ("onnxruntime_onnx", "onnxruntime")
    assert config.HasField("dynamic_batching")
    assert [list(each.dims) for each in config.input] == [[2]]
    assert [each.batch_size for each in config.model_warmup] == [1, config.max_batch_size]
    assert config.parameters["intra_op_thread_count"].string_value == "1"


def test_vireo_reads_its_own_export(exported: Path, engine: Engine) -> None:
    read = read_config((exported / "double/config.pbtxt").read_text(), "pbtxt")
    signature = engine.describe("double", None).signature
    assert [(each.name, each.datatype, each.shape) for each in read.inputs] == [
        ("x", "FP32", signature.inputs[0].shape[1:])
    ]
    assert read.max_batch_size > 1


ROWS = """
repository: {path: models}
graphs:
  signs:
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}
    nodes:
      first: {call: double, inputs: {x: x}}
      score: {call: total, inputs: {x: first.y}}
      second: {call: flip, inputs: {score: score.total}}
    outputs: {scaled: first.y, flipped: second.flipped}
"""


def test_what_is_exported_answers_the_same_when_it_is_served_again(folder: Path, tmp_path: Path) -> None:
    """A tensor of one number a row has a dimension more on Triton, and so it has here when it is read as Triton reads it."""
    shutil.copytree(folder / "models" / "double", tmp_path / "models" / "double")
    write(tmp_path / "models/total/1", total())
    write(tmp_path / "models/flip/1", flip())
    x = floats(5, 2, 1)
    first, out = answers(parse_spec(ROWS, folder=tmp_path), x, tmp_path / "once")
    assert first["flipped"].shape == (5,)
    config = config_of(out / "flip")
    for tensor in (*config.input, *config.output):
        assert (list(tensor.dims), tensor.HasField("reshape"), list(tensor.reshape.shape)) == ([1], True, [])
    assert [list(each.dims) for each in config_of(out / "signs").output] == [[2], [1]]
    second, again = answers(load_spec(out), x, tmp_path / "twice")
    assert np.array_equal(second["scaled"], first["scaled"])
    assert np.array_equal(second["flipped"], first["flipped"].reshape(5, 1))
    for name in ("signs", "flip", "double"):
        once, twice = config_of(out / name), config_of(again / name)
        assert (once.input, once.output) == (twice.input, twice.output)
    steps = [config_of(each / "signs").ensemble_scheduling.step for each in (out, again)]
    assert (
        [each.model_name for each in steps[0]] == [each.model_name for each in steps[1]] == ["double", "total", "flip"]
    )


def answers(spec: Spec, x: Array, out: Path) -> tuple[dict[str, Array], Path]:
    """What the graph says of `x`, and where all of it was exported to."""
    engine = Engine(spec, read_config=read_config)
    engine.start()
    try:
        assert not engine.problems()
        found = engine.infer(Request("signs", {"x": Tensor(FP32, x)})).outputs
        export_triton(engine, out, "onnxruntime")
    finally:
        engine.close()
    return {name: each.array for name, each in found.items()}, out


def test_nothing_is_written_over_and_plans_are_not_made_up(engine: Engine, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="is not empty"):
        export_triton(engine, exported, "onnxruntime")
    with pytest.raises(FailedPrecondition, match=r"'double' version 1 has no model.plan .*trtexec --onnx=model.onnx"):
        export_triton(engine, tmp_path / "plans", "tensorrt")


def test_a_plan_beside_the_model_goes_for_a_gpu(engine: Engine, folder: Path, tmp_path: Path) -> None:
    plans = [folder / "models" / name / "1" / "model.plan" for name in ("double", "triple")]
    for each in plans:
        each.write_bytes(b"plan")
    try:
        export_triton(engine, tmp_path / "out", "tensorrt")
    finally:
        for each in plans:
            each.unlink()
    config = config_of(tmp_path / "out/double")
    assert (config.platform, config.default_model_filename) == ("tensorrt_plan", "model.plan")
    assert config.instance_group[0].kind == pb.ModelInstanceGroup.KIND_GPU
    assert (tmp_path / "out/double/1/model.plan").read_bytes() == b"plan"


def test_the_command_says_what_it_wrote(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = folder / "plain.yaml"
    app.write_text("repository: {path: models}")
    assert main(["export-triton", str(app), str(tmp_path / "out")]) == 0
    assert "double: version 1, onnxruntime" in capsys.readouterr().out


def test_a_model_that_triton_has_no_word_for_is_named_and_so_is_the_graph_of_it(tmp_path: Path) -> None:
    """Triton takes an empty shape only of what batches; a real one refuses the rest ("scalar tensors are not supported")."""
    negated = helper.make_node("Neg", ["v"], ["w"])
    write(tmp_path / "models/scalar/1", graph([negated], {"v": (FLOAT, [])}, {"w": (FLOAT, [])}))
    write(tmp_path / "models/double/1", affine(2.0))
    spec = """
repository: {path: models}
graphs:
  one:
    inputs: {v: {datatype: FP32, shape: []}}
    nodes: {only: {call: scalar, inputs: {v: v}}}
    outputs: {w: only.w}
"""
    engine = Engine(parse_spec(spec, folder=tmp_path))
    engine.start()
    lines = export_triton(engine, tmp_path / "out", "onnxruntime")
    engine.close()
    assert lines == [
        "double: version 1, onnxruntime",
        "scalar: not written, it has a tensor of shape [], which Triton has not",
        "one: not written, node 'only' calls 'scalar', which is no exported model",
    ]
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["double"]
