"""An application exported for Triton, on a real Triton: its own reader of configurations takes what was written, and models and
ensembles answer there as they do here.

Its package has no ONNX Runtime backend: the models run in its Python backend, all else is as it was written.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from onnx import helper
from tritonclient.grpc import InferenceServerClient
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException

from benchmarks.peers.triton_exported import to_python_backend
from engine import BYTES, Engine, Request, Spec, Tensor, load_spec, parse_spec
from serving.model_config import read_config
from serving.triton_export import CONFIG, export_triton
from tests.engine.onnx_models import (
    FLOAT,
    STRING,
    Dim,
    affine,
    flip,
    graph,
    identity,
    over_rows,
    sum_and_difference,
    total,
    write,
)
from tests.engine.servables.contract import floats
from tests.engine.triton.real import RealTriton
from tests.fakes import FP32
from tests.serving.test_triton_export import ROWS

SPEC = (
    ROWS
    + """
  fan:
    inputs: {x: {datatype: FP32, shape: [-1, 3]}, z: {datatype: FP32, shape: [-1, 3]}}
    nodes:
      one: {call: both, inputs: {a: x, b: z}}
      two: {call: both, inputs: {a: x, b: one.s}}
    outputs: {s: two.s}
  free:
    inputs: {x: {datatype: FP32, shape: [-1, -1]}}
    nodes:
      one: {call: negated, inputs: {x: x}}
      two: {call: double, inputs: {x: one.y}}
      three: {call: negated, inputs: {x: two.y}}
    outputs: {y: three.y}
  level:
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    nodes:
      one: {call: mean, inputs: {x: x}}
      two: {call: mean, inputs: {x: one.y}}
    outputs: {y: two.y}
  words:
    inputs: {x: {datatype: BYTES, shape: [-1, 2]}}
    nodes:
      one: {call: text, inputs: {x: x}}
      two: {call: text, inputs: {x: one.y}}
    outputs: {y: two.y}
  refold:
    inputs: {x: {datatype: FP32, shape: [-1, 6]}}
    nodes:
      one: {call: folded, inputs: {x: x}}
    outputs: {y: one.y}
"""
)
FOLDED = """
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 6 ] reshape { shape: [ 2, 3 ] } } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 3, 2 ] reshape { shape: [ 2, 3 ] } } ]
"""
TEXTS = np.array([[b"caf\xc3\xa9", b""], [b"one", b"x"]], object)
ASKED = {
    "signs": {"x": floats(5, 2, 1)},
    "flip": {"score": floats(5, 1, 2).reshape(5)},
    "fan": {"x": floats(4, 3, 3), "z": floats(4, 3, 4)},
    "free": {"x": floats(3, 2, 5)},
    "level": {"x": floats(3, 1, 6)},
    "words": {"x": TEXTS},
    "refold": {"x": floats(8, 6, 7)},
}
"""What each graph, and the one model of one number a row, is asked here."""


def write_models(models: Path) -> None:
    negated = helper.make_node("Neg", ["x"], ["y"])
    wide: list[Dim] = ["batch", "width"]
    made = {
        "double": affine(2.0),
        "total": total(),
        "flip": flip(),
        "both": sum_and_difference(),
        "negated": graph([negated], {"x": (FLOAT, wide)}, {"y": (FLOAT, wide)}),
        "mean": over_rows("mean"),
        "text": identity(STRING),
        "folded": identity(FLOAT, ("batch", 2, 3)),
    }
    for name, model in made.items():
        write(models / name / "1", model)
    (models / "folded" / CONFIG).write_text(FOLDED)


def started(spec: Spec) -> Engine:
    engine = Engine(spec, read_config=read_config)
    engine.start()
    assert engine.problems() == {}
    return engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("app")
    write_models(folder / "models")
    engine = started(parse_spec(SPEC, folder=folder))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def exported(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "models"
    assert not [line for line in export_triton(engine, out, "onnxruntime") if "not written" in line]
    return out


@pytest.fixture(scope="module")
def triton(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealTriton]:
    made = RealTriton(tmp_path_factory.mktemp("triton"), ())
    shutil.copytree(exported, made.models, dirs_exist_ok=True)
    for file in made.models.glob("*/1/model.onnx"):
        to_python_backend(file.parent.parent)
    try:
        yield made.start("signs")
    finally:
        made.kill()


@pytest.fixture(scope="module")
def fronted(triton: RealTriton) -> Iterator[Engine]:
    """An engine whose models are those of that Triton, ensembles among them."""
    named = ", ".join(f'{name}: {{servers: ["{triton.address}"]}}' for name in ASKED)
    engine = started(parse_spec(f"triton_models: {{{named}}}", folder=triton.models.parent))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def read_again(exported: Path) -> Iterator[Engine]:
    """An engine that serves what was exported."""
    engine = started(load_spec(exported))
    yield engine
    engine.close()


def config_of(model: Path) -> pb.ModelConfig:
    return text_format.Parse((model / CONFIG).read_text(), pb.ModelConfig())


def test_tritons_own_reader_takes_each_configuration_as_it_was_written(triton: RealTriton) -> None:
    client = InferenceServerClient(triton.address)
    for model in sorted(triton.models.iterdir()):
        assert client.is_model_ready(model.name), model.name
        read, written = client.get_model_config(model.name).config, config_of(model)
        for field in ("max_batch_size", "input", "output", "version_policy", "model_warmup", "ensemble_scheduling"):
            assert getattr(read, field) == getattr(written, field), (model.name, field)
    client.close()


@pytest.mark.parametrize("name", ASKED)
def test_what_is_exported_answers_there_and_when_it_is_read_again_as_it_does_here(
    engine: Engine, read_again: Engine, fronted: Engine, name: str
) -> None:
    """Shapes are told alike by Triton and by Vireo of what was exported: one number a row has a dimension more there."""
    inputs = {key: Tensor(FP32 if each.dtype != object else BYTES, each) for key, each in ASKED[name].items()}
    here = engine.infer(Request(name, inputs)).outputs
    signatures = [each.describe(name, None).signature for each in (read_again, fronted)]
    assert signatures[0] == signatures[1]
    told = {each.name: each.shape for each in signatures[0].inputs}
    asked = {
        key: Tensor(
            each.datatype, each.array.reshape(*each.array.shape, 1) if len(told[key]) > each.array.ndim else each.array
        )
        for key, each in inputs.items()
    }
    for other in (read_again, fronted):
        found = other.infer(Request(name, asked)).outputs
        assert found.keys() == here.keys()
        for key, each in here.items():
            assert found[key].to_bytes() == each.to_bytes(), (key, other is fronted)


def test_as_it_is_written_triton_misses_nothing_but_the_backend(exported: Path, tmp_path: Path) -> None:
    bare = RealTriton(tmp_path, ("scale",))
    try:
        bare.start()
        shutil.copytree(exported, bare.models, dirs_exist_ok=True)
        client = InferenceServerClient(bare.address)
        for model in sorted(exported.iterdir()):
            with pytest.raises(
                InferenceServerException, match="unable to find backend library for backend 'onnxruntime'"
            ):
                client.load_model(model.name)
        spoiled = config_of(bare.models / "double")
        del spoiled.input[0].dims[:]
        (bare.models / "double" / CONFIG).write_text(text_format.MessageToString(spoiled))
        with pytest.raises(InferenceServerException, match="failed to poll"):  # as a wrong one is told
            client.load_model("double")
        client.close()
    finally:
        bare.kill()
