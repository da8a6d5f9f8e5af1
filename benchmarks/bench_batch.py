"""What callers feel while `vireo batch` has the same server score a file, with a rate and without.

Measured: an open loop of Poisson arrivals over gRPC against `vireo serve` on core 0, the generator on core 1; rounds of online
alone, beside a capped batch run, and beside one that takes what it gets, in turn, pooled. The run's own process shares the
server's core, which one on another machine would not: the worst case. Data: the fraud model; the file repeats the online rows.
Promise: beside the capped run, no online request fails and p99 is at most 1.5 times that of online alone.

    python -m benchmarks batch --out .cache/bench            # some three minutes
    python -m benchmarks batch --out .cache/bench --quick    # one
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import json
from tritonclient.grpc import service_pb2

from benchmarks.command import run_command
from benchmarks.fraud_inputs import INPUT, MODEL, FraudInputs, fraud_inputs
from benchmarks.harness import LOAD_CORE, SERVER_CORE, Measured, ServerProcess, measure
from benchmarks.load.frames import message_of, read_frames
from benchmarks.load.latency import percentiles
from benchmarks.load.order import LoadOrder
from benchmarks.load.samples import load_samples
from benchmarks.load.verdict import Verdict
from benchmarks.options import Options
from benchmarks.report import Judgement, Report
from benchmarks.servers import Server, start_vireo
from benchmarks.table import Cell, Table

ONLINE_PER_S = 2000.0
BATCH_ROWS_PER_S = 2000.0
RATIO_MAX = 1.5
FILE_ROWS = 20_000_000
ALONE, CAPPED, FREE = "online alone", f"beside a batch run of {BATCH_ROWS_PER_S:g} rows/s", "beside one without a rate"


@dataclass(frozen=True, slots=True)
class Round:
    """One measured window, the latencies in it, and the rows a second of the batch run beside it."""

    kind: str
    measured: Measured
    latency_ns: np.ndarray[tuple[int], np.dtype[np.int64]]
    batch_rows_per_s: float


def run(options: Options) -> Report:
    """Measure and report."""
    inputs = fraud_inputs(options.inputs)
    out = options.out / "batch"
    out.mkdir(parents=True, exist_ok=True)
    source = write_rows(inputs, out / "rows")
    rounds = []
    with start_vireo(models=inputs.models, out=out) as server:
        for number in range(2 if options.quick else 5):
            for kind in (ALONE, CAPPED, FREE):
                seed = options.seed + number
                rounds.append(one_round(kind, server, inputs, source, out, seed=seed, quick=options.quick))
    return report_of(options, rounds)


def write_rows(inputs: FraudInputs, folder: Path) -> Path:
    """The rows of the online requests, again and again, as a folder of links to one Parquet file."""
    rows = []
    for frame in read_frames(inputs.frames):
        message = service_pb2.ModelInferRequest.FromString(message_of(frame))
        rows.append(np.frombuffer(message.raw_input_contents[0], np.float32))
    values = np.tile(np.stack(rows), (200, 1))
    folder.mkdir(exist_ok=True)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    first = folder / "rows-0000.parquet"
    pq.write_table(pa.table({INPUT: column}), first)
    for index in range(1, FILE_ROWS // len(values)):
        link = folder / f"rows-{index:04}.parquet"
        link.unlink(missing_ok=True)
        link.hardlink_to(first)
    return folder


@contextmanager
def batch_run(kind: str, server: Server, source: Path, out: Path) -> Iterator[Path | None]:
    """`vireo batch` against the server while this is open; where its output lies."""
    if kind == ALONE:
        yield None
        return
    target = out / "scores"
    command = [
        sys.executable, "-m", "serving.cli", "batch", str(out / "app.yaml"), MODEL, "--input", str(source),
        "--output", str(target), "--server", f"127.0.0.1:{server.grpc_port}", "--batch-size", "64", "--restart", "--json",
        *(["--rate", f"{BATCH_ROWS_PER_S:g}"] if kind == CAPPED else []),
    ]  # fmt: skip
    log = out / "batch.log"
    with ServerProcess(command, log=log, core=SERVER_CORE) as process:
        process.wait_ready(lambda: (target / "_progress" / "progress.json").exists())
        yield log


def one_round(
    kind: str, server: Server, inputs: FraudInputs, source: Path, out: Path, *, seed: int, quick: bool
) -> Round:
    """The online load, with a batch run beside it or not."""
    samples = out / "samples.npz"
    order = LoadOrder(
        port=server.grpc_port, frames=str(inputs.frames), rate_per_s=ONLINE_PER_S, duration_s=6.0 if quick else 10.0,
        warmup_s=2.0, seed=seed, core=LOAD_CORE, samples=str(samples),
    )  # fmt: skip
    (out / "scores" / "_progress" / "progress.json").unlink(missing_ok=True)
    with batch_run(kind, server, source, out) as log:
        measured = measure(order, server.process)
    rate = 0.0 if log is None else json.decode(summary_line(log))["rows_per_s"]
    load = measured.load
    return Round(kind, measured, load_samples(samples).between(load.begin_ns, load.end_ns).latency_ns, rate)


def summary_line(log: Path) -> str:
    """The line of JSON that a batch run ends with."""
    return next(line for line in log.read_text().splitlines() if line.startswith("{"))


def report_of(options: Options, rounds: list[Round]) -> Report:
    """Table and judgements. Pure but for the machine's description."""
    rows: list[list[Cell]] = []
    p99: dict[str, float | None] = {}
    for kind in (ALONE, CAPPED, FREE):
        mine = [one for one in rounds if one.kind == kind]
        pooled = percentiles(np.concatenate([one.latency_ns for one in mine]))
        p99[kind] = pooled.p99
        batch = float(np.mean([one.batch_rows_per_s for one in mine])) or None
        rows.append([kind, pooled.count, pooled.p50, pooled.p90, pooled.p99, pooled.max, failed(mine), batch])
    told = f"{len(rounds)} rounds; {ONLINE_PER_S:g} online requests/s, latency from the scheduled send; all of it on one core."
    columns = ["online", "samples", "p50 ms", "p90 ms", "p99 ms", "max ms", "failed", "batch rows/s"]
    return Report(
        name="batch",
        about="online latency beside a batch run on the same server",
        seed=options.seed,
        judgements=judgements_of(rounds, p99[ALONE], p99[CAPPED]),
        tables=[Table("Online latency beside a batch run", told, columns, rows)],
        figures=[],
        data=[{"kind": one.kind, "measured": one.measured, "batch_rows_per_s": one.batch_rows_per_s} for one in rounds],
    )


def failed(rounds: list[Round]) -> int:
    """Online requests that did not end OK."""
    return sum(sum(one.measured.load.errors.values()) for one in rounds)


def judgements_of(rounds: list[Round], alone: float | None, capped: float | None) -> list[Judgement]:
    """No failure, and the ratio of p99; not decided when the generator was late."""
    count = failed([one for one in rounds if one.kind != FREE])
    late = any(one.measured.load.verdict == Verdict.LATE for one in rounds if one.kind != FREE)
    nothing = Judgement("no online request fails beside a capped batch run", not count, f"{count} failed")
    promise = f"p99 beside a capped batch run at most {RATIO_MAX} of online alone"
    if not alone or not capped:
        return [nothing, Judgement(promise, None, "too few samples")]
    said = f"{capped:.3f} ms / {alone:.3f} ms = {capped / alone:.2f}{', generator late' if late else ''}"
    return [nothing, Judgement(promise, None if late else capped <= RATIO_MAX * alone, said)]


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
