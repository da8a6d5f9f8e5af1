"""The `vireo` command: exit codes, and messages that name file, line and key."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.engine import onnx_models
from tests.serving.models import simple, write_model
from tests.serving.servers import vireo

DOUBLE = """
functions:
  double: {call: "beside:double", inputs: {x: {datatype: FP32, shape: [1]}}, outputs: {y: {datatype: FP32, shape: [1]}}}
"""

FUNCTION = """
functions:
  f:
    %s
    outputs: {y: {datatype: FP32, shape: [1]}}
"""
BAD_CALL = FUNCTION % "call: beside\n    inputs: {}"
BAD_DATATYPE = FUNCTION % "inputs: {x: {datatype: FP33, shape: [1]}}\n    call: beside:double"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A spec over a model and a function whose module lies beside the spec."""
    write_model(tmp_path / "models", "simple", simple())
    (tmp_path / "beside.py").write_text("def double(x):\n    return {'y': x * 2}\n")
    path = tmp_path / "app.yaml"
    path.write_text(f"repository: {{path: models}}\n{DOUBLE}")
    return path


def test_check_of_a_good_spec_counts_what_loads(app: Path) -> None:
    ended = vireo("check", app, folder=app.parent)
    assert (ended.returncode, ended.stdout) == (0, f"{app}: ok, 2 model version(s) load, 0 do not; transport native\n")


def test_modules_beside_the_spec_are_found_from_anywhere(app: Path) -> None:
    assert vireo("check", app, folder=Path("/")).returncode == 0


def test_check_names_every_model_that_does_not_load(app: Path) -> None:
    broken = app.parent / "models" / "broken" / "1"
    broken.mkdir(parents=True)
    (broken / "model.onnx").write_bytes(b"no model")
    (app.parent / "models" / "empty").mkdir()
    ended = vireo("check", app, folder=app.parent)
    assert ended.returncode == 1
    assert "broken version 1: model.onnx: not an ONNX file" in ended.stderr
    assert "empty: no version folder with model.onnx in it" in ended.stderr
    assert "not ok, 2 model version(s) load, 2 do not" in ended.stdout


def test_explain_says_what_was_inferred_and_why(app: Path) -> None:
    write_model(
        app.parent / "models", "alone", onnx_models.affine(2.0), "max_batch_size: 0 platform: 'onnxruntime_onnx'"
    )
    ended = vireo("explain", app, folder=app.parent)
    assert ended.returncode == 0, ended.stderr
    for text in (
        "gRPC on 127.0.0.1:8001, HTTP on 127.0.0.1:8000",
        "transport: native",
        "access: no authentication",
        "simple version 1: READY, onnxruntime_onnx",
        "INPUT0: INT32 [any, 16]",
        "because dimension 0 of every tensor is free and named 'batch'",
        "double version 1: READY, python",
        "expected compute time by rows",
    ):
        assert text in ended.stdout


GRAPH = """
graphs:
  "rates <&>/..":
    inputs: {{x: {{datatype: FP32, shape: [1]}}}}
    slo_ms: 50
    nodes:
      twice: {{call: double, inputs: {{x: x}}, on_error: {{default: {{y: 0}}}}}}
      again: {{call: double, inputs: {{x: twice.y}}, when: twice.y > 1, otherwise: {{y: 1}}}}
      named: {{call: {call}, inputs: {{INPUT0: {source}, INPUT1: {{value: 1}}}}}}
    outputs: {{y: again.y, sum: named.OUTPUT0}}
traffic:
  split:
    variants: {{champion: {{call: double, weight: 3}}, challenger: {{call: double, weight: 1}}}}
"""


def with_graph(app: Path, *, call: str = "simple", source: str = "{value: 2}") -> None:
    """Adds a graph over the model and the function."""
    app.write_text(app.read_text() + GRAPH.format(call=call, source=source))


def test_explain_draws_graphs(app: Path) -> None:
    with_graph(app)
    ended = vireo("explain", app, "--svg", app.parent / "drawn", folder=app.parent)
    assert ended.returncode == 0, ended.stderr
    for text in (
        "graph rates <&>/..: READY, 3 node(s), slo 50 ms",
        "out y: FP32 [1], again.y",
        ": double version 1, ",
        "x <- twice.y",
        "when twice.y > 1",
        "otherwise y = 1",
        "if failed: y = 0",
        "INPUT1 <- always 1",
        "split split: by chance",
        "champion: double version newest, weight 3, 75% of requests",
    ):
        assert text in ended.stdout
    assert re.search(r"\| again \*?\? ", ended.stdout)  # on the critical path or not, as it was measured
    (drawing,) = (app.parent / "drawn").iterdir()
    assert drawing.name == "rates%20%3C%26%3E%2F...svg"
    root = ElementTree.parse(drawing).getroot()
    assert "simple v1" in [each.text for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_drawing_where_nothing_can_be_written_says_so(app: Path) -> None:
    with_graph(app)
    (app.parent / "taken").write_text("")
    ended = vireo("explain", app, "--svg", app.parent / "taken", folder=app.parent)
    assert ended.returncode == 1
    assert "--svg: " in ended.stderr
    assert "cannot be written" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("call", "source", "message"),
    [
        ("simple", "x", "node 'named', input 'INPUT0': expected INT32 [-1, 16], 'x' gives FP32 [1]"),
        ("simple", "{value: 2.5}", "node 'named', input 'INPUT0': expected a whole number"),
        ("gone", "x", "node 'named': Request for unknown model: 'gone' is not found"),
    ],
)
def test_check_names_node_and_tensor_that_do_not_fit(call: str, source: str, message: str, app: Path) -> None:
    with_graph(app, call=call, source=source)
    ended = vireo("check", app, folder=app.parent)
    assert ended.returncode == 1
    assert f"rates <&>/..: graph 'rates <&>/..', {message}" in ended.stderr
    assert "1 do not" in ended.stdout
    explained = vireo("explain", app, folder=app.parent)
    assert f"rates <&>/..: UNAVAILABLE, graph 'rates <&>/..', {message}" in explained.stdout


def test_what_a_spec_alone_tells_of_a_graph_is_told_with_its_line(app: Path) -> None:
    with_graph(app)
    app.write_text(app.read_text().replace("inputs: {x: twice.y}", "inputs: {x: thrice.y}"))
    ended = vireo("check", app, folder=app.parent)
    assert ended.returncode == 1
    assert "app.yaml:12: graphs.rates <&>/...nodes.again.inputs.x" in ended.stderr
    assert "'thrice'" in ended.stderr


def test_a_folder_is_explained_as_a_repository(app: Path) -> None:
    ended = vireo("explain", app.parent / "models", folder=app.parent)
    assert "simple version 1: READY" in ended.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("server: {hots: x}", ("app.yaml:1:", "unknown key 'hots'", "nearest: 'host'")),
        ("server:\n  grpc_port: high", ("app.yaml:2:", "server.grpc_port", "expected a whole number", "'high'")),
        ("server: {grpc_port: 70000}", ("app.yaml:1:", "server.grpc_port", "from 0 to 65535", "70000")),
        (BAD_CALL, ("app.yaml:4:", "functions.f.call", "'package.module:name'", "'beside'")),
        (BAD_DATATYPE, ("app.yaml:4:", "functions.f.inputs.x.datatype", "'FP33'", "nearest: 'FP32'")),
        ("\nmodels: {a: {}}", ("app.yaml:2:", "models", "needs a repository")),
        ("repository: {path: nowhere}", ("repository.path", "nowhere", "is not a folder")),
        ("server: {host: 0.0.0.0}", ("server.host", "0.0.0.0", "server.auth", "allow_remote_without_auth")),
        ("server: {auth: {tokens_env: NO_SUCH_TOKENS}}", ("server.auth", "no tokens found")),
        ("server: [1", ("app.yaml", "not valid YAML")),
    ],
)
@pytest.mark.parametrize("command", ["serve", "check", "explain"])
def test_every_command_says_what_is_wrong_with_a_spec(
    command: str, text: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "app.yaml").write_text(text)
    ended = vireo(command, "app.yaml", folder=tmp_path)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    for word in words:
        assert word in ended.stderr


def test_a_spec_that_is_not_there_is_told(tmp_path: Path) -> None:
    ended = vireo("check", "nothing.yaml", folder=tmp_path)
    assert ended.returncode == 1
    assert "nothing.yaml: cannot be read" in ended.stderr


def test_a_function_that_cannot_be_imported_is_named(app: Path) -> None:
    (app.parent / "beside.py").write_text("import no_such_module\n")
    ended = vireo("check", app, folder=app.parent)
    assert ended.returncode == 1
    assert "double version 1: function 'double': cannot import 'beside:double'" in ended.stderr
    assert "no_such_module" in ended.stderr
    assert "1 model version(s) load, 1 do not" in ended.stdout


def test_serving_on_no_port_is_refused(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("server: {grpc_port: null, http_port: null}")
    ended = vireo("serve", "app.yaml", folder=tmp_path)
    assert ended.returncode == 1
    assert "grpc_port, http_port and unix_socket are all null" in ended.stderr


@pytest.mark.parametrize("port", ["high", "65536", "99999", "-1", ""])
@pytest.mark.parametrize("front", ["grpc", "http"])
def test_a_port_that_cannot_be_is_wrong_usage(front: str, port: str, app: Path) -> None:
    ended = vireo("serve", app, f"--{front}-port={port}", folder=app.parent)
    assert ended.returncode == 2
    assert f"argument --{front}-port: {port!r} is not a port from 0 to 65535" in ended.stderr


@pytest.mark.parametrize("arguments", [(), ("srve",), ("serve",), ("serve", "app.yaml", "--colour")])
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ended = vireo(*arguments, folder=tmp_path)
    assert ended.returncode == 2
    assert "usage: vireo" in ended.stderr


@pytest.mark.parametrize("command", ["serve", "compile"])
def test_a_processor_that_is_not_known_is_told_in_one_line(command: str, app: Path) -> None:
    arguments = [] if command == "compile" else [app]
    ended = vireo(command, *arguments, folder=app.parent, VIREO_KERNEL_CPUS="x86-64-v4,znver9")
    assert ended.returncode == 1
    assert ended.stderr == (
        "vireo: VIREO_KERNEL_CPUS: no kind of processor is called 'znver9'; there are x86-64-v4, x86-64-v3\n"
    )


def test_bench_hands_its_options_on(tmp_path: Path) -> None:
    ended = vireo("bench", "fraud", "--help", folder=tmp_path)
    assert ended.returncode == 0
    assert "--quick" in ended.stdout
