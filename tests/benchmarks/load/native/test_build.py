"""Compiling on demand, and what happens where that cannot be."""

import ctypes
import shutil
from pathlib import Path

import pytest

from benchmarks.load import run
from benchmarks.load.native import engine as native_engine
from benchmarks.load.native.build import BuildError, library
from benchmarks.load.order import Engine, LoadOrder, Protocol

needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here")
ORDER = LoadOrder(port=1, frames="unread", callers=1)


def source(folder: Path, value: int) -> Path:
    written = folder / "seven.cpp"
    written.write_text(f'extern "C" int seven() {{ return {value}; }}\n')
    return written


@needs_compiler
def test_library_is_compiled_once_and_anew_when_its_source_changes(tmp_path: Path) -> None:
    first = library(source(tmp_path, 7), cache=tmp_path / "cache")
    built_ns = first.stat().st_mtime_ns
    assert ctypes.CDLL(str(first)).seven() == 7
    assert library(source(tmp_path, 7), cache=tmp_path / "cache", compiler="no-such-compiler") == first
    assert first.stat().st_mtime_ns == built_ns
    second = library(source(tmp_path, 8), cache=tmp_path / "cache")
    assert ctypes.CDLL(str(second)).seven() == 8
    assert sorted((tmp_path / "cache").iterdir()) == sorted([first, second])


@needs_compiler
def test_source_that_does_not_compile_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "bad.cpp").write_text("int main( {")
    with pytest.raises(BuildError, match="expected"):
        library(tmp_path / "bad.cpp", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_missing_compiler_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no-such-compiler"):
        library(source(tmp_path, 7), cache=tmp_path / "cache", compiler="no-such-compiler")


def test_cache_that_cannot_be_written_is_an_error_of_the_build(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(BuildError):
        library(source(tmp_path, 7), cache=tmp_path / "cache", compiler="true")


def test_python_engine_stands_in_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> ctypes.CDLL:
        raise BuildError("no C++ compiler")

    monkeypatch.setattr(native_engine, "loaded", refuse)
    assert run.chosen_engine(ORDER) == (Engine.PYTHON, "no C++ compiler")
    with pytest.raises(BuildError):
        run.chosen_engine(LoadOrder(port=1, frames="unread", callers=1, engine=Engine.NATIVE))


def test_python_engine_is_no_stand_in_where_it_is_asked_for() -> None:
    assert run.chosen_engine(LoadOrder(port=1, frames="unread", callers=1, engine=Engine.PYTHON)) == (
        Engine.PYTHON,
        None,
    )
    http = LoadOrder(port=1, frames="unread", callers=1, protocol=Protocol.HTTP)
    assert run.chosen_engine(http) == (Engine.PYTHON, None)


def test_native_engine_refuses_http() -> None:
    with pytest.raises(ValueError, match="gRPC only"):
        LoadOrder(port=1, frames="unread", callers=1, protocol=Protocol.HTTP, engine=Engine.NATIVE)
