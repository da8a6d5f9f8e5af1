"""From nothing to a served model: `python -m benchmarks.demo --cache .cache`, which `make demo` runs.

Trains a fraud model (once), starts `vireo serve`, scores transactions with unmodified Triton clients over gRPC and HTTP,
compares with LightGBM's own scores, and measures latency against the target. Exit code 1 when scores disagree, the
target is missed or the server does not end well.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import msgspec
import numpy as np
import tritonclient.grpc
import tritonclient.http
from numpy.typing import NDArray

from benchmarks.bench_fraud import COLUMNS, TARGET_MS, base_order, held, load_row
from benchmarks.fraud_inputs import INPUT, MODEL, OUTPUT, FraudInputs, fraud_inputs
from benchmarks.harness import Measured, measure
from benchmarks.load.order import LoadOrder, Protocol
from benchmarks.load.verdict import Verdict
from benchmarks.machine import ROOT
from benchmarks.options import Options
from benchmarks.servers import Server, start_vireo
from benchmarks.sweep import at_rate, outcome_of
from benchmarks.table import Cell, Table, as_text
from benchmarks.workloads.fraud.sample import Sample, read_sample
from benchmarks.workloads.fraud.summary import FILE as SUMMARY
from benchmarks.workloads.fraud.summary import Summary, quality_table, read_summary

RATES_PER_S = (300.0, 1000.0)
LOAD_S = 4.0
TRIES_MAX = 2
ROWS_SHOWN = 8
SHOWN = ("load", "offered/s", "goodput", "p50 ms", "p99 ms", "max ms", "server core", "verdict")
NEXT_HTTP_PORT = 8000

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The largest distance of served scores from LightGBM's own, by protocol, and how much is allowed."""

    differences: Mapping[str, float]
    bound: float

    @property
    def holds(self) -> bool:
        """Whether all are within the bound; a NaN is not."""
        return all(difference <= self.bound for difference in self.differences.values())


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache", help="where model, logs and specs go")
    return run(parser.parse_args(arguments).cache.resolve())


def run(cache: Path) -> int:
    """The whole demo; its exit code."""
    folder, out = cache / "fraud", cache / "demo"
    built_before = (folder / SUMMARY).exists()
    inputs = fraud_inputs(folder)
    summary, sample = read_summary(folder), read_sample(folder)
    if built_before:  # else the build has just printed it
        print(as_text(quality_table(summary)))
    with start_vireo(models=inputs.models, out=out) as server:
        print(f"vireo serve answers, gRPC on port {server.grpc_port}, HTTP on port {server.http_port}\n")
        agreement = compare_scores(server, sample, summary)
        measured = measure_latency(server, inputs, out)
        code = server.process.stop()
    print(f"the server got SIGTERM and ended with exit code {code}\n")
    write_request(sample, out / "transaction.json")
    print(next_steps(inputs.models, out / "transaction.json"))
    missed = any(one.load.verdict == Verdict.MISSED for one in measured)
    return int(not agreement.holds or missed or code != 0)


def compare_scores(server: Server, sample: Sample, summary: Summary) -> Agreement:
    """Score the sample as a user would, print some of it, and say how far from LightGBM it is."""
    version = int(sample.versions.max())
    own = sample.scores_of(version)
    served = {
        "gRPC": client_scores(tritonclient.grpc, server.grpc_port, sample, version),
        "HTTP": client_scores(tritonclient.http, server.http_port, sample, version),
    }
    agreement = agreement_of(own, served, summary.versions[str(version)].parity.bound)
    print(as_text(score_table(sample, own, served)))
    print(agreement_line(agreement, len(own)) + "\n")
    return agreement


def client_scores(library: ModuleType, port: int | None, sample: Sample, version: int) -> Scores:
    """The sample's scores by `tritonclient.grpc` or `tritonclient.http`, one request a transaction."""
    scores = []
    with library.InferenceServerClient(f"127.0.0.1:{port}") as client:
        for row in sample.rows:
            tensor = library.InferInput(INPUT, [1, len(row)], "FP32")
            tensor.set_data_from_numpy(row[None])
            scores.append(client.infer(MODEL, [tensor], model_version=str(version)).as_numpy(OUTPUT).item())
    return np.array(scores)


def agreement_of(own: Scores, served: Mapping[str, Scores], bound: float) -> Agreement:
    """How far each protocol's scores are from LightGBM's own."""
    return Agreement({name: float(np.abs(scores - own).max()) for name, scores in served.items()}, bound)


def agreement_line(agreement: Agreement, count: int) -> str:
    """The agreement in a sentence."""
    said = ", ".join(f"{difference:.1e} over {name}" for name, difference in agreement.differences.items())
    word = "agree" if agreement.holds else "DISAGREE"
    return f"{count} transactions {word}: largest difference {said}, allowed {agreement.bound:.0e}"


def score_table(sample: Sample, own: Scores, served: Mapping[str, Scores]) -> Table:
    """A few transactions, half of them frauds, with every score."""
    half = ROWS_SHOWN // 2
    shown = [*np.flatnonzero(sample.labels)[:half], *np.flatnonzero(~sample.labels)[:half]]
    columns = ["amount", "truth", "LightGBM", *(f"over {name}" for name in served)]
    rows: list[list[Cell]] = [
        [
            f"{sample.amounts[row]:.2f}",
            "fraud" if sample.labels[row] else "genuine",
            *(f"{scores[row]:.7f}" for scores in (own, *served.values())),
        ]
        for row in shown
    ]
    return Table("Fraud probability of some transactions", "Their days are new to the model.", columns, rows)


def measure_latency(server: Server, inputs: FraudInputs, out: Path) -> list[Measured]:
    """Hold each rate over each protocol and print the table."""
    order = base_order(server, inputs, Options(out=out, inputs=inputs.frames.parent))
    orders = [held(order, server, protocol, rate, LOAD_S) for protocol in Protocol for rate in RATES_PER_S]
    print(f"measuring latency, {len(orders)} loads of {LOAD_S:g} s", flush=True)
    measured = [measure_validly(one, server) for one in orders]
    print(as_text(latency_table(measured)))
    if any(outcome_of(one.load.verdict) is None for one in measured):
        print(f"An invalid verdict, {TRIES_MAX} times over, says that this machine is too busy to judge the server.\n")
    return measured


def measure_validly(order: LoadOrder, server: Server) -> Measured:
    """The first measurement that says something about the server, or the last of TRIES_MAX."""
    assert order.rate_per_s is not None
    for attempt in range(TRIES_MAX):
        measured = measure(at_rate(order, order.rate_per_s, attempt), server.process)
        if outcome_of(measured.load.verdict) is not None:
            break
    return measured


def latency_table(measured: Sequence[Measured]) -> Table:
    """The columns of the fraud benchmark that matter at first sight."""
    rows = [[load_row(one)[COLUMNS.index(name)] for name in SHOWN] for one in measured]
    about = f"Poisson arrivals, one row each, timed from the scheduled send; the target is p99 below {TARGET_MS:g} ms."
    return Table("Latency", about, list(SHOWN), rows)


def write_request(sample: Sample, file: Path) -> None:
    """The first transaction as a JSON request for HTTP."""
    row = sample.rows[0]
    tensor = {"name": INPUT, "shape": [1, len(row)], "datatype": "FP32", "data": row.tolist()}
    file.write_bytes(msgspec.json.encode({"inputs": [tensor]}) + b"\n")


def next_steps(models: Path, request: Path) -> str:
    """What to try, as commands to paste."""
    vireo = Path(sys.executable).with_name("vireo")
    commands = [
        [near(vireo), "serve", near(models), "--http-port", str(NEXT_HTTP_PORT)],
        ["curl", "-s", f"http://127.0.0.1:{NEXT_HTTP_PORT}/v2/models/{MODEL}/infer", "-d", f"@{near(request)}"],
        [near(vireo), "explain", near(models)],
        ["make", "bench"],
    ]
    notes = ["serve it yourself", "and ask it, from another terminal", "what was inferred and chosen, and why", "more"]
    lines = [f"  {shlex.join(command)}  # {note}" for command, note in zip(commands, notes, strict=True)]
    return "Try next:\n" + "\n".join(lines)


def near(path: Path) -> str:
    """The path as seen from here, where that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


if __name__ == "__main__":
    sys.exit(main())
