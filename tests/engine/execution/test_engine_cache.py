"""Engines of TensorRT are kept apart by what they were built for, and a folder of them is whole or not there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine import ModelLoadError, Signature, TensorSpec, parse_spec
from engine.execution.declaration import placed
from engine.execution.engine_cache import built, engine_folder, gpu_names, tensorrt_version
from engine.execution.options import Told, told
from engine.servables.onnx import OnnxOptions, load_onnx
from engine.tensor import FP32
from tests.engine import onnx_models
from tests.engine.execution.standin import GPU, Device
from tests.fakes import PATIENCE_S

RANKER = Signature((TensorSpec("features", FP32, (-1, 128)),), (TensorSpec("score", FP32, (-1, 1)),), True)
ENGINE = "TensorrtExecutionProvider_TRTKernel_graph_model_1_0_sm90.engine"
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")


def folder_of(text: str, folder: Path, files: Sequence[Path], gpus: Path, rows: int = 64) -> str:
    """What a session of a model in `files` is given."""
    spec = parse_spec(f"repository: {{path: models}}\nmodels:\n  m:\n    providers: {text}\n", folder=folder)
    providers = placed(spec.models["m"].providers, spec.path)
    ((_, options),) = told(providers, RANKER, rows, engine_folder(files, gpus))
    return options["trt_engine_cache_path"]


def test_engines_are_kept_apart_by_gpu_model_file_options_and_profile(tmp_path: Path) -> None:
    gpus = tmp_path / "gpus"
    for bus, name in (("0000:01", "NVIDIA H100 80GB HBM3"), ("0000:02", "NVIDIA L4")):
        (gpus / bus).mkdir(parents=True)
        (gpus / bus / "information").write_text(f"Model: \t\t {name}\nIRQ: 1\n")
    assert gpu_names(gpus) == ["NVIDIA H100 80GB HBM3", "NVIDIA L4"]
    assert gpu_names(tmp_path / "none") == []
    model, weights = tmp_path / "model.onnx", tmp_path / "weights.bin"
    model.write_bytes(b"one")
    weights.write_bytes(b"1")

    def path(options: str = "", rows: int = 64, where: Path = gpus, cache: str = "engines") -> Path:
        text = f"[{{tensorrt: {{cache: {cache}{options}}}}}]"
        return Path(folder_of(text, tmp_path, (model, weights), where, rows))

    first = path()
    assert not first.exists()
    assert first.parent == tmp_path / "engines"
    assert path() == first
    assert path(cache="elsewhere").name == first.name
    assert path(", io_binding: false").name == first.name
    others = {
        path(rows=32),
        path(", fp16: true"),
        path(where=tmp_path / "none"),
        path(", device_id: 1"),
        path(", builder_level: 5"),
    }
    model.write_bytes(b"two")
    others.add(path())
    weights.write_bytes(b"2")
    others.add(path())
    assert len(others) == 7
    assert first not in others


def test_a_calibration_table_counts_by_what_it_says(tmp_path: Path) -> None:
    text = "[{tensorrt: {cache: engines, int8: true, int8_table: TABLE}}]"
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"ranges")
    a, b = (folder_of(text.replace("TABLE", name), tmp_path, (), tmp_path) for name in ("a", "b"))
    assert a == b
    (tmp_path / "a").write_bytes(b"other ranges")
    assert folder_of(text.replace("TABLE", "a"), tmp_path, (), tmp_path) != a
    with pytest.raises(
        ModelLoadError, match=r"^tensorrt\.int8_table: .*/c: cannot be read: No such file or directory$"
    ):
        folder_of(text.replace("TABLE", "c"), tmp_path, (), tmp_path)


def test_without_a_cache_there_is_no_folder(tmp_path: Path) -> None:
    text = "repository: {path: m}\nmodels: {m: {providers: [{tensorrt: {}}]}}"
    spec = parse_spec(text, folder=tmp_path).models["m"]
    ((_, options),) = told(spec.providers, RANKER, 64, engine_folder(()))
    assert "trt_engine_cache_path" not in options


@needs_compiler
def test_the_version_is_that_of_the_library_that_is_loaded(tmp_path: Path) -> None:
    for number, folder in ((101401, "ten"), (100900, "other")):
        source = tmp_path / f"{folder}.c"
        source.write_text(f"int getInferLibVersion(void) {{ return {number}; }}\n")
        (tmp_path / folder).mkdir()
        library = tmp_path / folder / "libnvinfer.so.10"
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    script = (
        "import ctypes, sys\nfrom engine.execution.engine_cache import tensorrt_version\nprint(tensorrt_version())\n"
        "ctypes.CDLL(sys.argv[1])\nprint(tensorrt_version())"
    )
    for number, folder in ((101401, "ten"), (100900, "other")):
        asked = [sys.executable, "-c", script, str(tmp_path / folder / "libnvinfer.so.10")]
        said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
        assert said.split() == ["None", str(number)]


def test_no_version_is_told_of_a_library_that_was_removed_or_where_there_are_no_maps(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r-xp 00000000 08:01 12  /gone/libnvinfer.so.10 (deleted)\n7f02-7f03 rw-p 00000000 00:00 0\n"
    )
    assert tensorrt_version(maps) is None
    assert tensorrt_version(tmp_path / "none") is None


def asked(folder: Path) -> list[Told]:
    """What a session is told that keeps engines in `folder`."""
    return [(GPU[0], {"trt_engine_cache_path": str(folder), "trt_timing_cache_path": str(folder), "device_id": "0"})]


def cache_of(given: Sequence[Told]) -> Path:
    ((_, options),) = given
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"]
    return Path(options["trt_engine_cache_path"])


def test_what_is_written_is_a_draft_until_the_session_is_made_and_then_read(tmp_path: Path) -> None:
    final = tmp_path / "cache" / "key"

    def build(given: Sequence[Told]) -> str:
        assert cache_of(given).parent == final.parent
        assert not final.exists()
        (cache_of(given) / ENGINE).write_bytes(b"whole")
        return "made"

    assert built(asked(final), build) == "made"
    assert built(asked(final), lambda given: (cache_of(given) / ENGINE).read_bytes()) == b"whole"
    assert built(asked(final), cache_of) == final
    assert {each.name for each in final.parent.iterdir()} == {"key", "key.lock"}


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    final = tmp_path / "key"

    def fail(given: Sequence[Told]) -> None:
        (cache_of(given) / ENGINE).write_bytes(b"ha")
        raise ModelLoadError("no room")

    with pytest.raises(ModelLoadError, match="no room"):
        built(asked(final), fail)
    assert {each.name for each in tmp_path.iterdir()} == {"key.lock"}


def test_where_nothing_was_built_nothing_is_kept(tmp_path: Path) -> None:
    built(asked(tmp_path / "key"), lambda given: (cache_of(given) / "a.timing").write_bytes(b"times"))
    assert not (tmp_path / "key").exists()


def test_an_engine_that_cannot_be_read_is_built_anew(tmp_path: Path) -> None:
    final = tmp_path / "key"
    built(asked(final), lambda given: (cache_of(given) / ENGINE).write_bytes(b"of before"))

    def read(given: Sequence[Told]) -> bytes:
        engine = cache_of(given) / ENGINE
        if not engine.exists():
            engine.write_bytes(b"anew")
        elif engine.read_bytes() != b"anew":
            raise ModelLoadError(f"model.onnx: TensorRT EP could not deserialize engine from cache: {engine}")
        return engine.read_bytes()

    assert built(asked(final), read) == b"anew"
    assert (final / ENGINE).read_bytes() == b"anew"
    assert built(asked(final), read) == b"anew"


def test_another_error_with_a_finished_engine_is_raised_and_the_engine_stays(tmp_path: Path) -> None:
    final = tmp_path / "key"
    built(asked(final), lambda given: (cache_of(given) / ENGINE).write_bytes(b"whole"))

    def fail(given: Sequence[Told]) -> None:
        raise ModelLoadError("out of memory")

    with pytest.raises(ModelLoadError, match="out of memory"):
        built(asked(final), fail)
    assert (final / ENGINE).read_bytes() == b"whole"


def test_a_cache_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        ModelLoadError, match=r"^tensorrt\.cache: .*/file/key: cannot be made: (Not a directory|File exists)"
    ):
        built(asked(tmp_path / "file" / "key"), cache_of)


def test_threads_at_once_build_once(tmp_path: Path) -> None:
    start, builds = threading.Barrier(4), []

    def build(given: Sequence[Told]) -> bytes:
        engine = cache_of(given) / ENGINE
        if not engine.exists():
            builds.append(engine)
            engine.write_bytes(b"whole")
        return engine.read_bytes()

    def load(_: int) -> bytes:
        start.wait()
        return built(asked(tmp_path / "key"), build)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(load, range(4))) == [b"whole"] * 4
    assert len(builds) == 1


_BUILDER = """
    import sys, time
    from pathlib import Path
    from tests.engine.execution.test_engine_cache import ENGINE, asked, cache_of
    from engine.execution.engine_cache import built

    def build(given):
        engine = cache_of(given) / ENGINE
        if engine.exists():
            return "read " + engine.read_text()
        engine.write_text("half")
        print("building", flush=True)
        sys.stdin.readline()
        engine.write_text("whole")
        return "built"

    print(built(asked(Path(sys.argv[1])), build), flush=True)
"""


def builder(folder: Path) -> subprocess.Popen[str]:
    """A process that builds an engine in `folder`: says so, and goes on when it is told."""
    script = textwrap.dedent(_BUILDER)
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_process_that_is_killed_while_it_builds_leaves_no_engine(tmp_path: Path) -> None:
    with builder(tmp_path / "key") as first:
        assert line_of(first) == "building"
        os.kill(first.pid, signal.SIGKILL)
    assert not (tmp_path / "key").exists()
    assert (tmp_path / "key.draft" / ENGINE).read_text() == "half"
    with builder(tmp_path / "key") as second:
        assert line_of(second) == "building"
        second.communicate("go on\n", timeout=PATIENCE_S)
    assert (tmp_path / "key" / ENGINE).read_text() == "whole"
    assert not (tmp_path / "key.draft").exists()


def test_of_two_processes_one_builds_and_the_other_reads_what_it_built(tmp_path: Path) -> None:
    with builder(tmp_path / "key") as first, builder(tmp_path / "key") as second:
        for each in (first, second):
            assert each.stdin is not None
            each.stdin.write("go on\n")
            each.stdin.flush()
        said = sorted(each.communicate(timeout=PATIENCE_S)[0].split("\n") for each in (first, second))
    assert said == [["building", "built", ""], ["read whole", ""]]


def test_a_model_on_tensorrt_is_loaded_from_a_draft_and_then_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(monkeypatch, GPU)
    device.writes = ENGINE
    path = onnx_models.write(tmp_path, onnx_models.affine())
    text = (
        f"repository: {{path: .}}\nmodels: {{m: {{providers: [{{tensorrt: {{cache: {tmp_path / 'engines'}}}}}, cpu]}}}}"
    )
    spec = parse_spec(text, folder=tmp_path)
    options = OnnxOptions(providers=spec.models["m"].providers, batch_rows=8)
    for _ in range(2):
        load_onnx(path, options).close()
    first, second = (Path(each[0][1]["trt_engine_cache_path"]) for each in device.asked if each[0][0] == GPU[0])
    assert first == second.with_suffix(".draft")
    assert [each.name for each in second.iterdir()] == [ENGINE]
