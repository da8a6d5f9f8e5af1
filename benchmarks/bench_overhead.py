"""What the server adds to the model: CPU per request and latency beside the bare model and beside a 40-line server.

Measured: a closed loop of 1, 8 and 32 callers over gRPC against `vireo serve`, against `peers/plain_grpc_server.py`
(grpc.aio, protobuf, onnxruntime; on asyncio, and again on uvloop), each pinned to core 0, the generator on core 1.
The servers run side by side and are loaded in turn, round after round, because the machine is noisy; figures are
medians over the rounds, ratios are medians of each round's ratio. Data: the fraud model, batch 1, rotating requests.
Promise: at concurrency 1 our CPU per request and p50 are at most 1.15 times those of the 40-line server.

    python -m benchmarks.bench_overhead --out .cache/bench            # some three minutes
    python -m benchmarks.bench_overhead --out .cache/bench --quick    # under one
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from benchmarks.bare_model import BareCost, measure_bare
from benchmarks.command import run_command
from benchmarks.fraud_inputs import FraudInputs, fraud_inputs
from benchmarks.harness import LOAD_CORE, Measured, measure
from benchmarks.load.order import LoadOrder
from benchmarks.options import Options
from benchmarks.plots import bar_plot
from benchmarks.report import Judgement, Report
from benchmarks.servers import Server, start_plain, start_vireo
from benchmarks.table import Cell, Table, number_cell
from benchmarks.turns import Rounds, Turn, cpu, one_round, p50, p99, rate

CALLERS = (1, 8, 32)
RATIO_MAX = 1.15
OURS, RIVAL = "vireo", "plain grpc.aio"
COLUMNS = ["server", "callers", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "p50 ratio", "CPU ratio", "errors"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to look."""

    rounds: int
    duration_s: float
    warmup_s: float


@dataclass(frozen=True, slots=True)
class OverheadData(Rounds):
    """The raw results."""

    bare: list[BareCost]
    turns: list[Turn]


def run(options: Options) -> Report:
    """Measure and report."""
    inputs = fraud_inputs(options.inputs)
    plan = Plan(2, 1.0, 0.3) if options.quick else Plan(5, 3.0, 0.5)
    out = options.out / "overhead"
    bare: list[BareCost] = []
    turns: list[Turn] = []
    with ExitStack() as stack:
        servers = [
            stack.enter_context(start_vireo(models=inputs.models, out=out)),
            stack.enter_context(start_plain(model_file=inputs.model_file(1), out=out)),
            stack.enter_context(start_plain(model_file=inputs.model_file(1), out=out, uvloop=True)),
        ]

        def measured(server: Server, callers: int) -> Measured:
            return measure(order_for(server, callers, inputs, plan), server.process)

        for number in range(plan.rounds):
            bare.append(measure_bare(inputs.model_file(1), inputs.frames))
            turns += one_round(number, servers, CALLERS, measured)
    return report_of(options, OverheadData(bare, turns))


def order_for(server: Server, callers: int, inputs: FraudInputs, plan: Plan) -> LoadOrder:
    """A closed loop against one server."""
    return LoadOrder(
        port=server.grpc_port,
        frames=str(inputs.frames),
        callers=callers,
        duration_s=plan.duration_s,
        warmup_s=plan.warmup_s,
        core=LOAD_CORE,
    )


def report_of(options: Options, data: OverheadData) -> Report:
    """Tables, plot and judgement from the raw results. Pure but for the machine's description."""
    names = list(dict.fromkeys(turn.server for turn in data.turns))
    bare_us = median(cost.median_us for cost in data.bare)
    told = f"Medians over {len(data.bare)} rounds; ratios to {RIVAL}. The bare model is a loop around session.run."
    rows: list[list[Cell]] = [
        ["bare session.run", 1, 1e6 / bare_us, bare_us / 1e3, None, bare_cpu_us(data), None, None, None]
    ]
    rows += [server_row(data, name, callers) for callers in CALLERS for name in names]
    bars = {"bare session.run": bare_cpu_us(data), **{name: data.middle(cpu, name, 1) for name in names}}
    return Report(
        name="overhead",
        about="server CPU per request and latency, fraud model, batch 1, closed loop, one server core",
        seed=options.seed,
        judgements=judgements_of(data),
        tables=[Table("Overhead", told, COLUMNS, rows)],
        figures=[bar_plot("CPU per request, one caller", bars, "µs")],
        data=data,
    )


def bare_cpu_us(data: OverheadData) -> float:
    """CPU of the model alone."""
    return median(cost.cpu_us for cost in data.bare)


def server_row(data: OverheadData, name: str, callers: int) -> list[Cell]:
    """One line of the table."""
    return [
        name,
        callers,
        *(number_cell(data.middle(figure, name, callers)) for figure in (rate, p50, p99, cpu)),
        *(number_cell(data.ratio(figure, name, RIVAL, callers)) for figure in (p50, cpu)),
        sum(turn.failed for turn in data.of(name, callers)),
    ]


def judgements_of(data: OverheadData) -> list[Judgement]:
    """The two promises, at concurrency 1."""
    cpu_ratio, p50_ratio = data.ratio(cpu, OURS, RIVAL, 1), data.ratio(p50, OURS, RIVAL, 1)
    errors = sum(turn.failed for turn in data.turns if turn.server == OURS)
    return [
        Judgement(
            f"CPU per request at most {RATIO_MAX} of the 40-line server", cpu_ratio <= RATIO_MAX, f"{cpu_ratio:.2f}"
        ),
        Judgement(
            f"p50 at one caller at most {RATIO_MAX} of the 40-line server", p50_ratio <= RATIO_MAX, f"{p50_ratio:.2f}"
        ),
        Judgement("no request fails", errors == 0, f"{errors} failed"),
    ]


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
