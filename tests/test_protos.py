"""The generated code of protos/ is what protoc makes of the .proto files that lie beside it."""

from __future__ import annotations

from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*.proto"))


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_generating_again_gives_the_code_that_is_committed(source: Path, tmp_path: Path) -> None:
    outs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    include = files("grpc_tools") / "_proto"
    assert protoc.main(["protoc", f"-I{ROOT}", f"-I{include}", *outs, str(ROOT / source)]) == 0
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.py*"))
    assert len(made) == 3
    for each in made:
        assert (tmp_path / each).read_text() == (ROOT / each).read_text(), f"{each}: run 'make protos'"


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_every_method_is_explained(source: Path) -> None:
    lines = (ROOT / source).read_text().splitlines()
    for before, line in pairwise(lines):
        if line.startswith("  rpc "):
            assert before.strip().startswith("//"), line


def test_there_is_something_to_check() -> None:
    assert SOURCES
