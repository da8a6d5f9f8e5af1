"""What the documents say is so: links lead somewhere, specs are read, and the tutorials' programs run."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from onnx import TensorProto, helper

import engine
from engine import AuthSpec, ServerSpec, Spec, TlsSpec, TracingSpec, VersionSpec, VireoError, parse_spec
from serving.status import grpc_name, http_status
from tests.engine.onnx_models import graph, write
from tests.serving.servers import ServerHere, spec_for

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "deploy" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")
TUTORIALS = ROOT / "docs" / "tutorials"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = [each for each in LINK.findall(page.read_text()) if "://" not in each]
    missing = [each for each in targets if not (page.parent / each).exists()]
    assert not missing


def test_every_spec_in_the_documents_is_read() -> None:
    found = [block for page in PAGES for block in blocks(page, "yaml")]
    assert len(found) >= 4
    for block in found:
        parse_spec(_whole(block), folder=ROOT)


def _whole(block: str) -> str:
    """A fragment that begins below a repository gets one, as the reader has."""
    return block if "models:" not in block or "repository:" in block else f"repository: {{path: models}}\n{block}"


def test_the_reference_names_every_key_of_the_spec() -> None:
    text = (ROOT / "docs" / "reference" / "spec.md").read_text()
    kinds: list[type] = [Spec, ServerSpec, AuthSpec, TlsSpec, TracingSpec, VersionSpec]
    keys = {each.name for kind in kinds for each in dataclasses.fields(kind)} - {"folder"}
    keys |= set(_nested_keys())
    assert not {key for key in keys if f"{key}:" not in text}


def _nested_keys() -> Iterator[str]:
    spec = parse_spec(
        "repository: {path: m}\nmodels: {a: {}}\nfunctions: {f: {call: 'a:b', inputs: {x: {datatype: FP32, shape: [1]}}, "
        "outputs: {y: {datatype: FP32, shape: [1]}}}}",
        folder=ROOT,
    )
    assert spec.repository is not None
    function = spec.functions["f"]
    model = spec.models["a"]
    for value in (spec.repository, model, model.batching, model.queue, function, function.inputs["x"]):
        yield from (each.name for each in dataclasses.fields(value))


def test_the_reference_names_every_status() -> None:
    text = (ROOT / "docs" / "reference" / "protocol.md").read_text()
    kinds = [each for each in vars(engine).values() if isinstance(each, type) and issubclass(each, VireoError)]
    assert len(kinds) > 10
    for error in (kind("") for kind in kinds if kind is not VireoError):
        assert re.search(rf"\| `{grpc_name(error)}` \| {http_status(error)} ", text), type(error).__name__


@pytest.fixture
def tutorial_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerHere]:
    """Serves what the tutorials have the reader make: a model `fraud` and the functions of `bands.py`."""
    mean = helper.make_node("ReduceMean", ["features"], ["fraud_probability"], axes=[1], keepdims=1)
    model = graph(
        [mean],
        {"features": (TensorProto.FLOAT, ["rows", 3])},
        {"fraud_probability": (TensorProto.FLOAT, ["rows", 1])},
    )
    write(tmp_path / "models" / "fraud" / "1", model)
    shutil.copytree(tmp_path / "models" / "fraud" / "1", tmp_path / "models" / "fraud" / "2")
    page = TUTORIALS / "functions.md"
    (tmp_path / "bands.py").write_text(next(each for each in blocks(page, "python") if "def risk_band" in each))
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "server: {grpc_port: 0, http_port: 0}\nrepository: {path: models, control: explicit}\n"
    running = ServerHere(spec_for(text + blocks(page, "yaml")[0], tmp_path, "grpcio"))
    yield running
    running.stop()


def test_programs_of_the_tutorials_run(tutorial_server: ServerHere, capsys: pytest.CaptureFixture[str]) -> None:
    # see tests/serving/features, vectors, test_language_upstream.py and test_language_local.py
    others = ("features-api.md", "vectors.md", "upstream-providers.md", "language-models.md")
    elsewhere = {TUTORIALS / each for each in others}
    for page in sorted(set(TUTORIALS.glob("*.md")) - elsewhere):
        for block in blocks(page, "python"):
            if "client" in block:
                program = _at(tutorial_server, dedent(block))
                exec(compile(program, page.name, "exec"), {"__name__": page.stem})
    printed = capsys.readouterr().out
    assert "[[0.]\n [0.]]" in printed
    assert "fraud 2 READY" in printed
    assert "[3, 2, 1]" in printed


def test_programs_of_the_features_tutorial_run_in_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = TUTORIALS / "features.md"
    monkeypatch.chdir(tmp_path)
    Path("features.yaml").write_text(blocks(page, "yaml")[0])
    programs = blocks(page, "python")
    assert len(programs) == 2
    for program in programs:
        exec(compile(program, page.name, "exec"), {"__name__": page.stem})
    printed = capsys.readouterr().out
    assert "count_1d        10.00" in printed
    assert "km              505." in printed
    assert "[0 1]" in printed
    assert "'fraud', 'count_10m'" in printed, printed


def _at(server: ServerHere, program: str) -> str:
    """The program, with this server's ports for those it names."""
    return program.replace("127.0.0.1:8001", server.address).replace(
        "127.0.0.1:8000", f"127.0.0.1:{server.host.http_port}"
    )
