"""What callers feel when version 2 of a model is loaded under load.

Measured: an open loop of 200 requests a second (Poisson) over gRPC against `vireo serve` on core 0 with explicit model
control and only the newest version kept; in mid-run `models/fraud/2` is copied in and RepositoryModelLoad is called.
Samples are split by the instant they were due: before (until the copy), during (from the load call until version 2
answers, at least two seconds), after. Rounds, each with a fresh server, are pooled so that p99 has samples enough.
Data: the fraud model, batch 1. Promise: no request fails, and p99 during the swap is at most 1.5 times that before.

    python -m benchmarks.bench_swap --out .cache/bench            # some two minutes
    python -m benchmarks.bench_swap --out .cache/bench --quick    # under one
"""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.command import run_command
from benchmarks.fraud_inputs import MODEL, FraudInputs, fraud_inputs
from benchmarks.harness import LOAD_CORE, NS_PER_S, ServerError, sleep_until
from benchmarks.load.frames import message_of, read_frames
from benchmarks.load.latency import Percentiles, curve, percentiles
from benchmarks.load.order import LoadOrder
from benchmarks.load.process import LoadProcess
from benchmarks.load.result import LoadResult, errors_by_name
from benchmarks.load.samples import Samples, load_samples
from benchmarks.load.verdict import Verdict
from benchmarks.options import Options
from benchmarks.plots import percentile_plot
from benchmarks.report import Judgement, Report
from benchmarks.servers import start_vireo
from benchmarks.table import Cell, Table

RATE_PER_S = 200.0
BEFORE_S, AFTER_S = 4.0, 2.0
DURING_S_MIN = 2.0
SWAP_S_MAX = 20.0
RATIO_MAX = 1.5
PROBE_S = 0.02
LOAD_S_MAX = 60.0
PHASES = ("before", "during", "after")


@dataclass(frozen=True, slots=True)
class Instants:
    """When things happened in one round, monotonic ns."""

    copied_ns: int
    called_ns: int
    returned_ns: int
    answered_ns: int

    @property
    def during_until_ns(self) -> int:
        """The end of the window "during"."""
        return max(self.answered_ns, self.called_ns + int(DURING_S_MIN * NS_PER_S))


@dataclass(frozen=True, slots=True)
class Round:
    """One swap."""

    instants: Instants
    load: LoadResult
    samples: Samples


def run(options: Options) -> Report:
    """Measure and report."""
    inputs = fraud_inputs(options.inputs)
    count = 4 if options.quick else 10
    return report_of(options, [one_round(number, inputs, options) for number in range(count)])


def one_round(number: int, inputs: FraudInputs, options: Options) -> Round:
    """A fresh repository with version 1, a fresh server, one swap."""
    out = options.out / "swap"
    models = fresh_repository(inputs, out / "models")
    with start_vireo(models=models, out=out, control="explicit", latest=1) as server:
        order = swap_order(server.grpc_port, inputs, options.seed + number, out / "samples.npz")
        with LoadProcess(order) as load:
            sleep_until(load.window.begin_ns + int(BEFORE_S * NS_PER_S))
            instants = swap(server.grpc_port, inputs, models)
            result = load.finish()
        samples = load_samples(out / "samples.npz").between(result.begin_ns, result.end_ns)
    return Round(instants, result, samples)


def fresh_repository(inputs: FraudInputs, models: Path) -> Path:
    """A copy of the repository with version 1 only."""
    shutil.rmtree(models, ignore_errors=True)
    ignored = shutil.ignore_patterns("2")
    shutil.copytree(inputs.models / MODEL, models / MODEL, ignore=ignored)
    return models


def swap_order(port: int, inputs: FraudInputs, seed: int, samples: Path) -> LoadOrder:
    """The load that runs through the whole swap."""
    return LoadOrder(
        port=port,
        frames=str(inputs.frames),
        rate_per_s=RATE_PER_S,
        duration_s=BEFORE_S + DURING_S_MIN + AFTER_S,
        warmup_s=1.0,
        seed=seed,
        core=LOAD_CORE,
        samples=str(samples),
    )


def swap(port: int, inputs: FraudInputs, models: Path) -> Instants:
    """Copy version 2 in, have it loaded, wait until it answers. Raises ServerError when it does not in SWAP_S_MAX."""
    copied_ns = time.monotonic_ns()
    shutil.copytree(inputs.models / MODEL / "2", models / MODEL / "2")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        called_ns = time.monotonic_ns()
        stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=MODEL), timeout=LOAD_S_MAX)
        returned_ns = time.monotonic_ns()
        request = service_pb2.ModelInferRequest.FromString(message_of(read_frames(inputs.frames)[0]))
        request.model_version = ""
        while stub.ModelInfer(request, timeout=5.0).model_version != "2":
            if time.monotonic_ns() > called_ns + SWAP_S_MAX * NS_PER_S:
                raise ServerError(f"version 2 does not answer {SWAP_S_MAX:g} s after its load")
            time.sleep(PROBE_S)
    return Instants(copied_ns, called_ns, returned_ns, time.monotonic_ns())


def phase_of(one: Round, phase: str) -> Samples:
    """The samples of one round that were due in a phase."""
    instants = one.instants
    spans = {
        "before": (one.load.begin_ns, instants.copied_ns),
        "during": (instants.called_ns, instants.during_until_ns),
        "after": (instants.during_until_ns, one.load.end_ns),
    }
    return one.samples.between(*spans[phase])


def pooled_latency(rounds: Sequence[Round], phase: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Latency in ns of a phase over all rounds; requests that ended OK."""
    return np.concatenate([phase_of(one, phase).latency_ns for one in rounds])


def failures(rounds: Sequence[Round], phase: str | None = None) -> dict[str, int]:
    """Requests that did not end OK, by status, in one phase or in all of the run."""
    told: dict[str, int] = {}
    for one in rounds:
        for name, count in errors_by_name(one.samples if phase is None else phase_of(one, phase)).items():
            told[name] = told.get(name, 0) + count
    return told


def report_of(options: Options, rounds: Sequence[Round]) -> Report:
    """Table, plot and judgements. Pure but for the machine's description."""
    pooled = {phase: percentiles(pooled_latency(rounds, phase)) for phase in PHASES}
    told = f"{len(rounds)} swaps pooled; {RATE_PER_S:g} requests/s, latency from the scheduled send."
    rows = [phase_row(phase, pooled[phase], sum(failures(rounds, phase).values())) for phase in PHASES]
    columns = ["phase", "samples", "p50 ms", "p90 ms", "p99 ms", "max ms", "failed"]
    return Report(
        name="swap",
        about=f"loading version 2 of the fraud model under {RATE_PER_S:g} requests/s",
        seed=options.seed,
        judgements=judgements_of(rounds, pooled),
        tables=[Table("Latency around the swap", told, columns, rows), rounds_table(rounds)],
        figures=[percentile_plot("Latency around the swap", {p: curve(pooled_latency(rounds, p)) for p in PHASES})],
        data=[{"instants": one.instants, "load": one.load} for one in rounds],
    )


def phase_row(phase: str, latency: Percentiles, failed: int) -> list[Cell]:
    """One line of the table."""
    return [phase, latency.count, latency.p50, latency.p90, latency.p99, latency.max, failed]


def rounds_table(rounds: Sequence[Round]) -> Table:
    """How long each swap took, and whether the generator was good."""
    rows: list[list[Cell]] = [
        [str(number), span_ms(one.instants.called_ns, one.instants.returned_ns),
         span_ms(one.instants.called_ns, one.instants.answered_ns), one.load.generator.lateness_p99_ms, one.load.verdict]
        for number, one in enumerate(rounds, 1)
    ]  # fmt: skip
    columns = ["round", "load call ms", "until version 2 answers ms", "lateness p99 ms", "verdict"]
    return Table("Each swap", "The load call returns when the version is ready.", columns, rows)


def span_ms(begin_ns: int, end_ns: int) -> float:
    """Between two instants, in ms."""
    return (end_ns - begin_ns) / 1e6


def judgements_of(rounds: Sequence[Round], pooled: dict[str, Percentiles]) -> list[Judgement]:
    """No failure, and the ratio of p99; not decided when the generator was late in a round."""
    failed = failures(rounds)
    late = [one for one in rounds if one.load.verdict == Verdict.LATE]
    before, during = pooled["before"].p99, pooled["during"].p99
    promise = f"p99 during the swap at most {RATIO_MAX} of before"
    nothing = Judgement("zero failed requests", not failed, f"{failed or 'none'}")
    if before is None or during is None:
        return [nothing, Judgement(promise, None, "too few samples")]
    ratio = during / before
    said = f"{during:.3f} ms / {before:.3f} ms = {ratio:.2f}" + (
        f", generator late in {len(late)} rounds" if late else ""
    )
    return [nothing, Judgement(promise, None if late else ratio <= RATIO_MAX, said)]


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
