"""Large tensors to a Triton on the same host: in messages and in shared memory, through Vireo's own client, in turns.

Measured: one caller over loopback TCP, a model of Triton's Python backend that doubles FP32 rows of 4 KiB, from 4 KiB to 16 MiB
each way; Triton on core 0, Vireo's engine on core 1. Ways: all in the message; inputs in shared memory and answers in the message
(a model that does not tell the size of its answers); both in shared memory. p50 over all rounds, and CPU a call of this process
and of Triton with its model's process. Before a way is timed, its answer is compared with numpy's.

    python -m benchmarks.peers.triton install             # once; without it this benchmark is skipped
    python -m benchmarks shared-memory [--quick]
"""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from benchmarks.command import SkippedError, run_command
from benchmarks.harness import LOAD_CORE, ServerProcess
from benchmarks.options import Options
from benchmarks.peers.triton import start_over
from benchmarks.peers.triton_package import INSTALL, TritonPackage
from benchmarks.report import Judgement, Report
from benchmarks.servers import Server
from benchmarks.table import Cell, Table
from engine import Engine, Request, Tensor, datatype_named, parse_spec

ROW_KIB, ROWS = 4, (1, 4, 8, 16, 32, 64, 128, 256, 1024, 4096)
MESSAGES, INPUTS, BOTH = "messages", "inputs shared", "both shared"
WAYS = {
    MESSAGES: "{model: known, shared_memory: off}",
    INPUTS: "{model: unknown, shared_memory_bytes_min: 1}",
    BOTH: "{model: known, shared_memory_bytes_min: 1}",
}
MODELS = {"known": 256 * ROW_KIB, "unknown": -1}
"""By name, the size that is told of a row of the answer."""

CODE = """
import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        xs = [pb.get_input_tensor_by_name(each, "x").as_numpy() for each in requests]
        return [pb.InferenceResponse([pb.Tensor("y", x + x)]) for x in xs]
"""
CONFIG = """
name: "{name}"
backend: "python"
max_batch_size: 4096
instance_group [ {{ kind: KIND_CPU count: 1 }} ]
input [ {{ name: "x" data_type: TYPE_FP32 dims: [ {row} ] }} ]
output [ {{ name: "y" data_type: TYPE_FP32 dims: [ {told} ] }} ]
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """Calls of one way in one round: of so many KiB each way, their times, and CPU a call."""

    way: str
    kib: int
    took_ms: list[float]
    own_cpu_ms: float
    triton_cpu_ms: float


def run(options: Options) -> Report:
    """Measure and report. Raises SkippedError where there is no Triton."""
    if not TritonPackage().installed:
        raise SkippedError(f"shared-memory is skipped: no Triton is installed here; '{INSTALL}' does that")
    rounds = 2 if options.quick else 6
    with start_models(options.out / "shared-memory") as triton, on_core(LOAD_CORE):
        models = ", ".join(
            f'{way.replace(" ", "_")}: {{servers: ["127.0.0.1:{triton.grpc_port}"], {told[1:]}'
            for way, told in WAYS.items()
        )
        engine = Engine(parse_spec(f"triton_models: {{{models}}}", folder=Path()))
        engine.start()
        try:
            turns = list(measured(engine, triton.process, rounds, options.seed))
            shared = {each.model for each in engine.triton_statistics() if each.shared_requests}
        finally:
            engine.close()
    return report_of(options, turns, shared)


def start_models(out: Path) -> Server:
    """A Triton with both models."""
    shutil.rmtree(out, ignore_errors=True)
    for name, told in MODELS.items():
        folder = out / "models" / name / "1"
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(CODE)
        (folder.parent / "config.pbtxt").write_text(CONFIG.format(name=name, row=256 * ROW_KIB, told=told))
    return start_over(out / "models", "known", label="Triton, Python backend")


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """This process on one core, for as long as it lasts."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measured(engine: Engine, triton: ServerProcess, rounds: int, seed: int) -> Iterator[Turn]:
    """All ways in turns, in another order each round."""
    random = np.random.default_rng(seed)
    for rows in ROWS:
        x = random.standard_normal((rows, 256 * ROW_KIB)).astype(np.float32)
        for _ in range(rounds):
            for way in random.permutation(list(WAYS)):
                yield turn(engine, triton, str(way), x)


def turn(engine: Engine, triton: ServerProcess, way: str, x: npt.NDArray[np.float32]) -> Turn:
    """After two calls that are not counted, which also have a region made."""
    request = Request(way.replace(" ", "_"), {"x": Tensor(datatype_named("FP32", of="x"), x)})
    for _ in range(2):
        if not np.array_equal(engine.infer(request).outputs["y"].array, x + x):
            raise ValueError(f"{way}: the answer is not twice the input")
        time.sleep(0.05)
    count = max(5, 1_600 // (len(x) + 4))
    own_s, triton_s, took_ms = time.process_time(), triton.cpu_s(), []
    for _ in range(count):
        began = time.perf_counter()
        engine.infer(request)
        took_ms.append((time.perf_counter() - began) * 1e3)
    own_s, triton_s = time.process_time() - own_s, triton.cpu_s() - triton_s
    return Turn(way, len(x) * ROW_KIB, took_ms, own_s / count * 1e3, triton_s / count * 1e3)


def report_of(options: Options, turns: list[Turn], shared: set[str]) -> Report:
    """Table and judgements. Pure but for the machine's description."""

    def p50(way: str, kib: int) -> float:
        return median([ms for each in turns if (each.way, each.kib) == (way, kib) for ms in each.took_ms])

    def row(way: str, kib: int) -> list[Cell]:
        these = [each for each in turns if (each.way, each.kib) == (way, kib)]
        own, triton = (median([getattr(each, name) for each in these]) for name in ("own_cpu_ms", "triton_cpu_ms"))
        return [
            way,
            kib,
            round(p50(way, kib), 3),
            round(own, 3),
            round(triton, 3),
            sum(len(each.took_ms) for each in these),
        ]

    default = parse_spec('triton_models: {m: {servers: ["h:1"]}}', folder=Path()).triton_models["m"]
    least_kib = default.shared_memory_bytes_min // 1024
    sizes = [rows * ROW_KIB for rows in ROWS]
    large = [kib for kib in sizes if 2 * kib >= least_kib]
    times = [p50(MESSAGES, kib) / p50(BOTH, kib) for kib in large]
    said = ", ".join(f"{kib} KiB {each:.1f} times" for kib, each in zip(large, times, strict=True))
    expected = {way.replace(" ", "_") for way in WAYS} - {MESSAGES}
    columns = ["tensors", "KiB each way", "p50 ms", "own CPU ms", "Triton's CPU ms", "calls"]
    return Report(
        name="shared-memory",
        about="large tensors to a Triton on the same host, in messages and in shared memory",
        seed=options.seed,
        judgements=[
            Judgement("it was used where it was to be, and nowhere else", shared == expected, ", ".join(sorted(shared))),
            Judgement(f"p50 is lower wherever `auto` uses it (from {least_kib} KiB together)", min(times) > 1, said),
        ],
        tables=[Table("one caller", "loopback TCP; Triton on one core, the engine on the other", columns,
                      [row(way, kib) for kib in sizes for way in WAYS])],
        figures=[],
        data=turns,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
