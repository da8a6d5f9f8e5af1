"""A stand-in for ONNX Runtime's CUDA provider where there is no GPU: sessions on the CPU, of another file where a device is to
say something else, and failures in the words of the real one.

The words are those of onnxruntime-gpu 1.31.1 on a machine without a GPU: `NO_DEVICE` and `OLD_DRIVER` with CUDA 13's libraries
and a libcuda that says so; `NO_TENSORRT` without TensorRT's libraries. Without CUDA's libraries it raises nothing and passes CUDA
over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from engine.servables import onnx_devices

_CALL = (
    "std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, const char*, const char*, "
    "SUCCTYPE, const char*, const char*, int) [with ERRTYPE = cudaError; bool THRW = true; SUCCTYPE = cudaError; "
    "std::conditional_t<THRW, void, common::Status> = void]"
)
_CUDA = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 {call} "
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:146 {call} CUDA failure {failure} ; GPU=-1 ; hostname=vm ; "
    "file=/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_execution_provider.cc ; line=355 ; "
    "expr=cudaSetDevice(info_.device_id); \n\n"
)
NO_DEVICE = _CUDA.format(call=_CALL, failure="100: no CUDA-capable device is detected")
OLD_DRIVER = _CUDA.format(call=_CALL, failure="35: CUDA driver version is insufficient for CUDA runtime version")
NO_ROOM = _CUDA.format(call=_CALL, failure="2: out of memory")
NO_TENSORRT = (
    "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void "
    "onnxruntime::python::RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::ProviderOptions&) Please "
    "install TensorRT libraries as mentioned in the GPU requirements page, make sure they're in the PATH or LD_LIBRARY_PATH, and "
    "that your GPU is supported.\n"
)
GPU = ("TensorrtExecutionProvider", "CUDAExecutionProvider")


class Device:
    """Providers of `there`, each of which works unless it is in `fails`: with the words that it raises, or None where it is
    passed over in silence. `says`: another file than a model's own that a device computes. `asked`: the providers of each
    session of a file, as they were given; `probed`: of each that was asked whether it works. `writes`: the name of an engine
    that is written to the cache."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...] = GPU[1:]) -> None:
        self.says: dict[str, Path] = {}
        self.fails: dict[str, str | None] = {}
        self.asked: list[Any] = []
        self.probed: list[Any] = []
        self.writes: str | None = None
        self.real = onnxruntime.InferenceSession
        monkeypatch.setattr(onnx_devices, "_verdicts", {})
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*there, "CPUExecutionProvider"])
        monkeypatch.setattr(onnxruntime, "InferenceSession", self._session)

    def _session(self, model: str | bytes, settings: Any, providers: Any, enable_fallback: int) -> Any:  # noqa: ANN401
        (self.probed if isinstance(model, bytes) else self.asked).append(providers)
        assert enable_fallback == 0
        names = [name for name, _ in providers]
        for words in (self.fails[name] for name in names if name in self.fails):
            if words is not None:
                raise RuntimeError(words)
        on_device = any(each in GPU for each in names)
        for cache in (each["trt_engine_cache_path"] for _, each in providers if "trt_engine_cache_path" in each):
            (Path(cache) / (self.writes or "")).write_bytes(b"engine")
        file = self.says.get(str(model), model) if on_device else model
        session = self.real(
            file if isinstance(file, bytes) else str(file), settings, providers=["CPUExecutionProvider"]
        )
        if on_device:
            session.get_providers = lambda: [each for each in names if each not in self.fails]
        return session


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """One on which CUDA works."""
    return Device(monkeypatch)
