"""Ensembles of a Triton repository, served as it stands: what clients get, and what is said of those that cannot be served."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException

from engine import load_spec, parse_spec
from serving.cli import main
from tests.engine import onnx_models
from tests.engine.onnx_models import affine, write
from tests.serving.calls import given
from tests.serving.servers import ServerHere, eventually

TENSORS = 'input [{name: "X" data_type: TYPE_FP32 dims: [2]}] output [{name: "Y" data_type: TYPE_FP32 dims: [2]}]'
Serve = Callable[..., tuple[ServerHere, InferenceServerClient]]


def step(model: str, into: str, out: str, *, version: int = -1, x: str = "x", y: str = "y") -> str:
    """A step that gives tensor `into` to the model as `x`, and calls what it gives as `y` tensor `out`."""
    maps = f'input_map {{key: "{x}" value: "{into}"}} output_map {{key: "{y}" value: "{out}"}}'
    return f'step {{model_name: "{model}" model_version: {version} {maps}}}'


def ensemble(*steps: str, rows_max: int = 4, tensors: str = TENSORS) -> str:
    """A config.pbtxt of such steps."""
    return f'platform: "ensemble" max_batch_size: {rows_max} {tensors} ensemble_scheduling {{ {" ".join(steps)} }}'


CHAIN = ensemble(step("triple", "mid", "Y"), step("double", "X", "mid", version=1))


def put(models: Path, name: str, config: str) -> None:
    """An ensemble as Triton wants it, with the empty folder of a version."""
    (models / name / "1").mkdir(parents=True, exist_ok=True)
    (models / name / "config.pbtxt").write_text(config)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Models that double and triple, eight rows at once."""
    for name, factor in (("double", 2.0), ("triple", 3.0)):
        write(tmp_path / "models" / name / "1", affine(factor))
        (tmp_path / "models" / name / "config.pbtxt").write_text("max_batch_size: 8")
    return tmp_path / "models"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves a folder, or a spec beside it, and stops it at the end."""
    opened: list[tuple[ServerHere, InferenceServerClient]] = []

    def start(models: Path, text: str | None = None) -> tuple[ServerHere, InferenceServerClient]:
        free = "server: {grpc_port: 0, http_port: null}\n"
        server = ServerHere(parse_spec(free + (text or "repository: {path: models}"), folder=models.parent))
        opened.append((server, InferenceServerClient(server.address)))
        return opened[-1]

    yield start
    for server, client in opened:
        client.close()
        server.stop()


def factor(client: InferenceServerClient, model: str, x: str = "X", y: str = "Y", rows: int = 3) -> float:
    """By which all rows of the answer are multiples of the question."""
    asked = np.arange(1, 2 * rows + 1, dtype=np.float32).reshape(rows, 2)
    answer = client.infer(model, [given(x, asked, "FP32")]).as_numpy(y)
    (found,) = set((answer / asked).ravel().tolist())
    return float(found)


def ready(server: ServerHere, name: str) -> bool:
    """Whether it answers."""
    return any(each.name == name and each.state == "READY" for each in server.engine.index())


def test_an_ensemble_is_a_graph_beside_those_of_the_spec_and_either_calls_the_other(models: Path, serve: Serve) -> None:
    put(models, "chain", CHAIN)
    put(models, "outer", ensemble(step("chain", "X", "t", version=1, x="X", y="Y"), step("mine", "t", "Y")))
    _, client = serve(models, """
repository: {path: models}
graphs:
  mine:
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}
    nodes: {one: {call: double, inputs: {x: x}}}
    outputs: {y: one.y}
  over:
    inputs: {x: {datatype: FP32, shape: [-1, 2]}}
    nodes: {one: {call: chain, inputs: {X: x}}}
    outputs: {y: one.Y}
""")  # fmt: skip
    assert client.is_server_ready()
    assert factor(client, "chain") == 6.0
    assert factor(client, "outer") == 12.0
    assert factor(client, "over", "x", "y") == 6.0
    told = client.get_model_metadata("chain")
    assert [(each.name, each.datatype, list(each.shape)) for each in told.inputs] == [("X", "FP32", [-1, 2])]
    with pytest.raises(InferenceServerException, match="5 rows, at most 4 are allowed"):
        factor(client, "chain", rows=5)


def test_the_folder_alone_is_enough_and_what_cannot_be_served_is_told(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(models, "chain", CHAIN)
    assert load_spec(models).graphs == {}
    assert main(["check", str(models)]) == 0
    assert "ok, 3 model version(s) load" in capsys.readouterr().out
    put(models, "ring", ensemble(step("back", "X", "Y")))
    put(models, "back", ensemble(step("ring", "X", "Y")))
    put(models, "wide", ensemble(step("double", "X", "Y"), rows_max=9))
    put(models, "nobody", ensemble(step("nope", "X", "Y")))
    put(models, "old", ensemble(step("double", "X", "Y", version=7)))
    whole = TENSORS.replace('"Y" data_type: TYPE_FP32', '"Y" data_type: TYPE_INT32')
    put(models, "whole", ensemble(step("double", "X", "Y"), tensors=whole))
    put(models, "spaced", CHAIN.replace('model_name: "triple"', 'model_name: "triple" model_namespace: "n"'))
    put(models, "nested", "ensemble_scheduling { step " * 2000)
    put(models, "typed", CHAIN.replace("model_version: -1", 'model_version: "new"'))
    put(models, "deep", CHAIN.replace("dims: [2]", f"dims: [{', '.join(['2'] * 33)}]", 1))
    put(models, "numbered", CHAIN.replace("TYPE_FP32", "99", 1))
    put(models, "long", ensemble(*(step("double", "X", f"t{number}") for number in range(300))))
    assert main(["check", str(models)]) == 1
    told = capsys.readouterr()
    assert "3 model version(s) load, 12 do not" in told.out
    lines = dict(line.split(": ", 1) for line in told.err.splitlines() if ": " in line)
    for name, words in {
        "back": "graphs call each other in a circle: back -> ring -> back",
        "ring": "'back' is not ready",
        "wide": "max_batch_size is 9, but step 'double' calls 'double', which takes at most 8 rows",
        "nobody": "node 'nope': Request for unknown model: 'nope' is not found",
        "old": "node 'double': model 'double' has no version 7 ready",
        "whole": r"output 'Y' is INT32 [-1, 2], its step gives FP32 [-1, 2]",
        "spaced": "step 1 (model 'triple'): model_namespace is not supported",
        "nested": "config.pbtxt: ",
        "typed": "config.pbtxt: ",
        "deep": "'X' has 33 dims, at most 32 are allowed",
        "numbered": "'X' has data_type 99, which is none",
        "long": "config.pbtxt: 300 steps, at most 256 are allowed",
    }.items():
        assert words in lines[name], name
    assert main(["explain", str(models)]) == 0
    assert "graph chain: READY" in capsys.readouterr().out


def test_steps_that_do_not_batch_make_no_ensemble_that_does(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(models / "fixed" / "1", affine(2.0, first=1, last=1))
    put(models, "e", ensemble(step("fixed", "X", "Y")))
    assert main(["check", str(models)]) == 1
    assert "step 'fixed' calls 'fixed', which does not batch" in capsys.readouterr().err
    put(models, "e", ensemble(step("fixed", "X", "Y"), rows_max=0, tensors=TENSORS.replace("[2]", "[1, 2]")))
    assert main(["check", str(models)]) == 0


@pytest.mark.parametrize(
    ("x", "words"),
    [
        ("dims: [2, 1] reshape: {shape: [2]}", None),
        ("dims: [2] reshape: {shape: [3]}", "reshape of 'x': [2] and [3] are not of as many elements"),
        ("dims: [-1] reshape: {shape: [2]}", "reshape of 'x': free sizes are not supported"),
        ("dims: [6] reshape: {shape: [2, 3]}", "input 'x' has shape [-1, 2, 3], in the model file [-1, 2]"),
    ],
)
def test_a_model_is_called_in_the_shape_that_its_config_gives_it(
    models: Path, serve: Serve, x: str, words: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f'max_batch_size: 8 input [{{name: "x" data_type: TYPE_FP32 {x}}}]'
    (models / "double" / "config.pbtxt").write_text(
        text + ' output [{name: "y" data_type: TYPE_FP32 dims: [1, 2] reshape: {shape: [2]}}]'
    )
    if words is not None:
        assert main(["check", str(models)]) == 1
        assert words in capsys.readouterr().err
        return
    _, client = serve(models)
    asked = np.arange(6, dtype=np.float32).reshape(3, 2, 1)
    answer = client.infer("double", [given("x", asked, "FP32")]).as_numpy("y")
    assert np.array_equal(answer, asked.reshape(3, 1, 2) * 2)
    with pytest.raises(InferenceServerException, match="shape"):
        client.infer("double", [given("x", asked.reshape(3, 2), "FP32")])


def test_ensembles_come_and_go_with_the_folder(models: Path, serve: Serve) -> None:
    server, client = serve(models, "repository: {path: models, control: poll, poll_s: 0.05}")
    put(models, "chain", CHAIN)
    eventually(lambda: ready(server, "chain"), "the new ensemble")
    assert factor(client, "chain") == 6.0
    put(models, "chain", ensemble(step("triple", "X", "Y")))
    eventually(lambda: factor(client, "chain") == 3.0, "the changed one")
    put(models, "chain", "ensemble_scheduling {")
    write(models / "later" / "1", affine(5.0))
    eventually(lambda: ready(server, "later"), "what came after the broken file")
    assert factor(client, "chain") == 3.0
    (models / "chain" / "config.pbtxt").unlink()
    (models / "chain" / "1").rmdir()
    (models / "chain").rmdir()
    eventually(lambda: not ready(server, "chain"), "its end")


def test_loading_an_ensemble_loads_its_models_and_a_wrong_one_is_refused(models: Path, serve: Serve) -> None:
    put(models, "chain", CHAIN)
    write(models / "other" / "1", onnx_models.sum_and_difference())
    server, client = serve(models, "repository: {path: models, control: explicit, load: []}")
    assert not client.is_model_ready("chain")
    client.load_model("chain")
    assert factor(client, "chain") == 6.0
    assert client.is_model_ready("double")
    assert not client.is_model_ready("other")
    client.unload_model("chain")
    assert not client.is_model_ready("chain")
    put(models, "chain", ensemble(step("double", "nothing", "Y")))
    with pytest.raises(InferenceServerException, match=r"failed to load 'chain': .*takes tensor 'nothing'"):
        client.load_model("chain")
    assert [(each.name, each.version, each.state) for each in server.engine.index() if each.name == "double"] == [
        ("double", 1, "READY")
    ]
