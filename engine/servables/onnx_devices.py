"""Whether an execution provider works on this machine, and if not, why: each is asked once a process with a model of one node.

That ONNX Runtime was built with a provider says nothing of a device. It answers in three ways where there is none: CUDA raises
where its libraries are there and the driver knows no device, TensorRT raises where its libraries are not there, and CUDA without
its libraries, or without a driver, is passed over with a line on stderr (seen with onnxruntime-gpu 1.31.1).
"""

from __future__ import annotations

import ctypes
import re
import threading
from pathlib import Path
from typing import Final

from engine.execution.declaration import NAMES, ProviderSpec, declared_by, onnx_name

_LIBRARIES: Final = {NAMES["cuda"]: "cuda", NAMES["tensorrt"]: "tensorrt"}
"""Providers that ONNX Runtime keeps in a library of their own, and how it is named."""
_CUDA_FAILURE: Final = re.compile(r"CUDA failure \d+: [^;]*[^; ]")
_SOURCE: Final = re.compile(r"^/onnxruntime_src/\S+ (?:.*\) )?")
"""Where in its source it says so, and in which function."""
_PASSING: Final = ("out of memory",)
"""What may be otherwise a moment later is asked anew."""
_OPSET: Final = 17
_IR_VERSION: Final = 8
_SILENT: Final = 4

_lock = threading.Lock()
_verdicts: dict[tuple[str, int], str | None] = {}


def problem_of(provider: str | ProviderSpec) -> str | None:
    """Why `provider`, which ONNX Runtime was built with, does not work on its device here; None where it does. Threads wait for
    one another: none asks a device that another is asking."""
    name, device_id = onnx_name(provider), _device_id(provider)
    if name == NAMES["cpu"]:
        return None
    with _lock:
        if (name, device_id) not in _verdicts:
            verdict = _asked(name, device_id)
            if verdict is not None and any(each in verdict for each in _PASSING):
                return verdict
            _verdicts[name, device_id] = verdict
        return _verdicts[name, device_id]


def _device_id(provider: str | ProviderSpec) -> int:
    spec = declared_by(provider)
    options = None if spec is None else spec.cuda or spec.tensorrt
    return 0 if options is None else options.device_id


def _asked(name: str, device_id: int) -> str | None:
    import onnxruntime

    by_pip = Path(onnxruntime.__file__).parents[1] / "nvidia"
    if by_pip.is_dir() and _missing_library(name) is not None:
        onnxruntime.preload_dlls()  # where the linker does not look, and ONNX Runtime only when asked
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _SILENT
    options = {"device_id": str(device_id)} if name in _LIBRARIES else {}
    asked = [(name, options), (NAMES["cpu"], {})]
    try:
        session = onnxruntime.InferenceSession(_identity(), settings, providers=asked, enable_fallback=0)
    except Exception as error:
        return f"{_reason(name, error)} ({_build()})"
    return None if name in session.get_providers() else f"{_reason(name, None)} ({_build()})"


def _identity() -> bytes:
    """A model of one node whose rows vary, so that TensorRT builds no engine for it."""
    from onnx import TensorProto, helper

    tensors = [helper.make_tensor_value_info(each, TensorProto.FLOAT, ["rows"]) for each in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "asked", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    return bytes(model.SerializeToString())


def _reason(name: str, error: Exception | None) -> str:
    """CUDA's own words where there are some, else the library that is missing, else what ONNX Runtime says."""
    text = "" if error is None else str(error)
    if found := _CUDA_FAILURE.search(text):
        return found.group()
    if (missing := _missing_library(name)) is not None:
        return missing
    return _first_line(text) or "ONNX Runtime passes it over and does not say why"


def _missing_library(name: str) -> str | None:
    """What the dynamic linker misses for the provider's library; None where nothing, or where it has none."""
    import onnxruntime

    if name not in _LIBRARIES:
        return None
    library = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime_providers_{_LIBRARIES[name]}.so"
    if not library.is_file():
        return None
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        return _first_line(str(error))
    return None


def _build() -> str:
    """Which ONNX Runtime this is, and the CUDA it was built for."""
    from onnxruntime.capi import build_and_package_info as build

    cuda = getattr(build, "cuda_version", "")  # builds for CPUs have none
    return f"{build.package_name} {build.__version__}" + (f", built for CUDA {cuda}" if cuda else "")


def _first_line(text: str) -> str:
    return _SOURCE.sub("", text.strip().partition("\n")[0])[:300]
