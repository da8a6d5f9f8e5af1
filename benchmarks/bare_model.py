"""What the model alone costs: `session.run` in a loop over the varied inputs of a frames file.

    taskset -c 0 python -m benchmarks.bare_model --model models/fraud/1/model.onnx --frames requests.frames

Prints JSON: the median call in microseconds, and CPU microseconds per call. `bare_cost` measures in this process,
`measure_bare` in one of its own on the core that servers are given.
"""

import argparse
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import msgspec
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2
from tritonclient.utils import triton_to_np_dtype

from benchmarks.harness import SERVER_CORE, on_cores, python_module
from benchmarks.load.frames import message_of, read_frames
from benchmarks.machine import ROOT

CALLS = 20_000
WARMUP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class BareCost:
    """Microseconds for one call of the model, batch as in the frames."""

    median_us: float
    cpu_us: float


def rows_of(frame: bytes) -> dict[str, Any]:
    """The model's inputs in one frame: tensors of fixed-size elements in `raw_input_contents`."""
    call = service_pb2.ModelInferRequest.FromString(message_of(frame))
    pairs = zip(call.inputs, call.raw_input_contents, strict=True)
    return {tensor.name: array_of(tensor, raw) for tensor, raw in pairs}


def array_of(tensor: Any, raw: bytes) -> Any:  # noqa: ANN401 - protobuf messages are untyped here
    """The values of one input or output. Raises ValueError for BYTES, whose elements have no fixed size."""
    if tensor.datatype == "BYTES":
        raise ValueError(f"'{tensor.name}' holds BYTES")
    return np.frombuffer(raw, triton_to_np_dtype(tensor.datatype)).reshape(tensor.shape)


def open_session(model: Path) -> onnxruntime.InferenceSession:
    """The model as every server here runs it: on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def bare_cost(model: Path, frames: Path, calls: int) -> BareCost:
    """Time `calls` calls, one after another, on one thread; a tenth as many go before, untimed."""
    session = open_session(model)
    inputs = [rows_of(frame) for frame in read_frames(frames)]
    for index in range(int(calls * WARMUP_SHARE)):
        session.run(None, inputs[index % len(inputs)])
    took_ns, cpu_before_ns = [], time.process_time_ns()
    for index in range(calls):
        began_ns = time.perf_counter_ns()
        session.run(None, inputs[index % len(inputs)])
        took_ns.append(time.perf_counter_ns() - began_ns)
    cpu_ns = time.process_time_ns() - cpu_before_ns
    return BareCost(float(np.median(took_ns)) / 1e3, cpu_ns / calls / 1e3)


def measure_bare(model: Path, frames: Path, calls: int = CALLS, core: int = SERVER_CORE) -> BareCost:
    """The same in a process of its own, pinned to the core of the servers unless told."""
    words = ["--model", str(model), "--frames", str(frames), "--calls", str(calls)]
    command = on_cores(core, python_module("benchmarks.bare_model", *words))
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    return msgspec.json.decode(out, type=BareCost)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=CALLS)
    given = parser.parse_args()
    print(msgspec.json.encode(bare_cost(given.model, given.frames, given.calls)).decode())


if __name__ == "__main__":
    main()
