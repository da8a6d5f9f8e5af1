"""A provider that does not work here is left out or refused, in either case with the reason, and is asked once a process."""

from __future__ import annotations

import logging
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnxruntime.capi import build_and_package_info as build

from engine import Engine, ModelLoadError, Request, Tensor, parse_spec
from engine.execution.declaration import CudaSpec, ProviderSpec, TensorRtSpec
from engine.servables.onnx import OnnxOptions, load_onnx
from engine.servables.onnx_devices import problem_of
from tests.engine import onnx_models
from tests.engine.execution.standin import GPU, NO_DEVICE, NO_ROOM, NO_TENSORRT, OLD_DRIVER, Device
from tests.fakes import FP32

THIS = f"({onnxruntime.__name__} {onnxruntime.__version__})"
OPTIONAL = (ProviderSpec(tensorrt=TensorRtSpec(), required=False), ProviderSpec(cuda=CudaSpec(), required=False), "cpu")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    monkeypatch.setattr(build, "package_name", "onnxruntime")
    monkeypatch.delattr(build, "cuda_version", raising=False)
    return Device(monkeypatch, GPU)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (NO_DEVICE, "CUDA failure 100: no CUDA-capable device is detected"),
        (OLD_DRIVER, "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version"),
        ("first\nsecond", "first"),
        (None, "ONNX Runtime passes it over and does not say why"),
    ],
)
def test_the_reason_is_told_in_few_words(device: Device, words: str | None, reason: str) -> None:
    device.fails[GPU[1]] = words
    assert problem_of("cuda") == f"{reason} {THIS}"
    assert problem_of("cpu") is None


def test_the_cuda_that_it_was_built_for_is_told(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.fails[GPU[1]] = NO_DEVICE
    monkeypatch.setattr(build, "package_name", "onnxruntime-gpu")
    monkeypatch.setattr(build, "cuda_version", "13.0", raising=False)
    told = problem_of("cuda")
    assert told is not None
    assert told.endswith(f"is detected (onnxruntime-gpu {onnxruntime.__version__}, built for CUDA 13.0)")


def test_a_library_that_is_missing_is_named(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "capi" / "libonnxruntime_providers_tensorrt.so"
    library.parent.mkdir()
    library.write_bytes(b"no library")
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    device.fails[GPU[0]] = NO_TENSORRT
    told = problem_of("tensorrt")
    assert told is not None
    assert re.search(r"libonnxruntime_providers_tensorrt\.so: (file too short|invalid ELF header)", told)


def test_cuda_that_came_by_pip_is_loaded_where_the_linker_misses_it(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    library.parent.mkdir(parents=True)
    monkeypatch.setattr(onnxruntime, "__file__", str(library.parents[1] / "__init__.py"))
    loaded: list[int] = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loaded.append(len(device.probed)))
    library.write_bytes(b"no library")
    assert problem_of("cuda") is None
    assert loaded == []  # CUDA did not come by pip
    (tmp_path / "nvidia").mkdir()
    assert problem_of("tensorrt") is None
    assert loaded == []  # nothing is missing
    assert problem_of(ProviderSpec(cuda=CudaSpec(device_id=1))) is None
    assert loaded == [2]  # before it was asked, after the two others


def test_without_its_library_what_onnx_runtime_says_is_told(device: Device) -> None:
    device.fails[GPU[0]] = NO_TENSORRT
    told = problem_of("tensorrt")
    assert told is not None
    assert told.startswith("Please install TensorRT libraries as mentioned in the GPU requirements page")


def test_a_provider_is_asked_once_a_process_and_device(device: Device) -> None:
    device.fails[GPU[1]] = NO_DEVICE
    other = ProviderSpec(cuda=CudaSpec(device_id=1, graph_rows=(4,)))
    for each in ("cuda", ProviderSpec(cuda=CudaSpec(tf32=False)), other, "CUDAExecutionProvider", other):
        assert problem_of(each) is not None
    assert [each[0] for each in device.probed] == [(GPU[1], {"device_id": "0"}), (GPU[1], {"device_id": "1"})]


def test_threads_at_once_ask_once(device: Device) -> None:
    start = threading.Barrier(4)

    def ask(_: int) -> str | None:
        start.wait()
        return problem_of("cuda")

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, range(4))) == [None] * 4
    assert len(device.probed) == 1


def test_a_device_without_room_is_asked_again(device: Device) -> None:
    device.fails[GPU[1]] = NO_ROOM
    told = problem_of("cuda")
    assert told is not None
    assert told.startswith("CUDA failure 2: out of memory")
    device.fails.clear()
    assert problem_of("cuda") is None


def test_what_need_not_be_is_left_out_and_the_reason_is_noted_and_logged(
    device: Device, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    device.fails |= {GPU[0]: NO_TENSORRT, GPU[1]: NO_DEVICE}
    path = onnx_models.write(tmp_path, onnx_models.affine())
    with caplog.at_level(logging.WARNING, "vireo.engine"):
        servable = load_onnx(path, OnnxOptions(providers=OPTIONAL))
    cuda = f"left out cuda: CUDA failure 100: no CUDA-capable device is detected {THIS}"
    assert servable.traits.notes[-1] == cuda.replace("left out", "left out:")
    assert "left out: tensorrt: " in servable.traits.notes[-2]
    assert [each.getMessage() for each in caplog.records][-1] == f"{path}: {cuda}"
    ones = {"x": Tensor(FP32, np.ones((2, 2), np.float32))}
    assert servable.execute(ones, ())["y"].array.tolist() == [[2, 2], [2, 2]]
    assert [[name for name, _ in each] for each in device.asked] == [["CPUExecutionProvider"]]


def test_what_works_is_used_without_what_does_not(device: Device, tmp_path: Path) -> None:
    device.fails[GPU[0]] = NO_TENSORRT
    notes = load_onnx(onnx_models.write(tmp_path, onnx_models.affine()), OnnxOptions(providers=OPTIONAL)).traits.notes
    assert notes[0].startswith("ONNX Runtime on CUDAExecutionProvider, CPUExecutionProvider")
    assert notes[-2].startswith("agrees with the CPU")
    assert notes[-1].startswith("left out: tensorrt: ")


@pytest.mark.parametrize("words", [NO_DEVICE, None], ids=["raises", "passed over"])
def test_what_must_be_refuses_the_version(device: Device, tmp_path: Path, words: str | None) -> None:
    device.fails[GPU[1]] = words
    path = onnx_models.write(tmp_path, onnx_models.affine())
    expected = (
        r"^model\.onnx: the execution provider 'cuda' does not work here: .*; asked for: cuda, cpu; available: Tensorrt"
    )
    with pytest.raises(ModelLoadError, match=expected):
        load_onnx(path, OnnxOptions(providers=("cuda", "cpu")))
    assert device.asked == []


def test_a_declared_gpu_that_is_not_there_serves_on_the_cpu_and_explains_it(device: Device, tmp_path: Path) -> None:
    device.fails[GPU[1]] = NO_DEVICE
    onnx_models.write(tmp_path / "models" / "m" / "1", onnx_models.affine(2.0))
    text = "repository: {path: models}\nmodels: {m: {providers: [{cuda: {}, required: false}, cpu]}}"
    engine = Engine(parse_spec(text, folder=tmp_path))
    engine.start()
    try:
        request = Request("m", {"x": Tensor(FP32, np.ones((1, 2), np.float32))})
        assert engine.infer(request).outputs["y"].array.tolist() == [[2, 2]]
        notes = engine.describe("m", None).traits.notes
        assert any(each.startswith("left out: cuda: CUDA failure 100: no CUDA-capable") for each in notes)
    finally:
        engine.close()


def test_the_model_that_is_asked_with_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.servables.onnx_devices._verdicts", {})
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no other provider than the CPU")
    assert problem_of("AzureExecutionProvider") is None
    with pytest.warns(UserWarning, match="'CUDAExecutionProvider' is not in available provider names"):
        assert problem_of("CUDAExecutionProvider") is not None
