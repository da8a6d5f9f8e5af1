"""What the model alone costs: `session.run` in a loop over the varied rows of a frames file, in this process.

    taskset -c 0 python -m benchmarks.bare_model --model models/fraud/1/model.onnx --frames requests.frames

Prints JSON: the median call in microseconds, and CPU microseconds per call.
"""

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import msgspec
import numpy as np
import onnxruntime
from tritonclient.grpc import service_pb2

from benchmarks.load.frames import message_of, read_frames

WARMUP_CALLS = 2000


@dataclass(frozen=True, slots=True)
class BareCost:
    """Microseconds for one call of the model, batch as in the frames."""

    median_us: float
    cpu_us: float


def rows_of(frame: bytes) -> dict[str, Any]:
    """The model's inputs in one frame; FP32 in `raw_input_contents`."""
    call = service_pb2.ModelInferRequest.FromString(message_of(frame))
    pairs = zip(call.inputs, call.raw_input_contents, strict=True)
    return {tensor.name: np.frombuffer(raw, np.float32).reshape(tensor.shape) for tensor, raw in pairs}


def bare_cost(model: Path, frames: Path, calls: int) -> BareCost:
    """Time `calls` calls, one after another, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    inputs = [rows_of(frame) for frame in read_frames(frames)]
    for index in range(WARMUP_CALLS):
        session.run(None, inputs[index % len(inputs)])
    took_ns, cpu_before_ns = [], time.process_time_ns()
    for index in range(calls):
        began_ns = time.perf_counter_ns()
        session.run(None, inputs[index % len(inputs)])
        took_ns.append(time.perf_counter_ns() - began_ns)
    cpu_ns = time.process_time_ns() - cpu_before_ns
    return BareCost(float(np.median(took_ns)) / 1e3, cpu_ns / calls / 1e3)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=20_000)
    given = parser.parse_args()
    print(msgspec.json.encode(bare_cost(given.model, given.frames, given.calls)).decode())


if __name__ == "__main__":
    main()
