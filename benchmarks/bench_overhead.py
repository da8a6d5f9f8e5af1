"""What the server adds to the model: CPU per request and latency beside the bare model and beside a 40-line server.

Measured: a closed loop of 1, 8 and 32 callers over gRPC against `vireo serve`, against `peers/plain_grpc_server.py`
(grpc.aio, protobuf, onnxruntime; on asyncio, and again on uvloop), each pinned to core 0, the generator on core 1.
The servers run side by side and are loaded in turn, round after round, because the machine is noisy; figures are
medians over the rounds, ratios are medians of each round's ratio. Data: the fraud model, batch 1, rotating requests.
Promise: at concurrency 1 our CPU per request and p50 are at most 1.15 times those of the 40-line server.

    python -m benchmarks.bench_overhead --out .cache/bench            # some three minutes
    python -m benchmarks.bench_overhead --out .cache/bench --quick    # under one
"""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import msgspec

from benchmarks.bare_model import BareCost
from benchmarks.command import run_command
from benchmarks.fraud_inputs import FraudInputs, fraud_inputs
from benchmarks.harness import LOAD_CORE, SERVER_CORE, Measured, measure, python_module
from benchmarks.load.order import LoadOrder
from benchmarks.machine import ROOT
from benchmarks.options import Options
from benchmarks.plots import bar_plot
from benchmarks.report import Judgement, Report
from benchmarks.servers import Server, start_plain, start_vireo
from benchmarks.table import Cell, Table

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
class Turn:
    """One server under one number of callers in one round."""

    round: int
    server: str
    callers: int
    measured: Measured

    @property
    def cpu_us(self) -> float:
        return self.measured.server_cpu_us_per_request or float("nan")

    @property
    def p50_ms(self) -> float:
        value = self.measured.load.latency_ms.p50
        return float("nan") if value is None else value


@dataclass(frozen=True, slots=True)
class OverheadData:
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
        for number in range(plan.rounds):
            bare.append(bare_model(inputs))
            turns += one_round(number, servers, inputs, plan)
    return report_of(options, OverheadData(bare, turns))


def one_round(number: int, servers: Sequence[Server], inputs: FraudInputs, plan: Plan) -> list[Turn]:
    """Every server under every number of callers, servers taking turns; odd rounds go the other way round."""
    ordered = servers if number % 2 == 0 else servers[::-1]
    return [
        Turn(number, server.name, callers, measure(order_for(server, callers, inputs, plan), server.process))
        for callers in CALLERS
        for server in ordered
    ]


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


def bare_model(inputs: FraudInputs) -> BareCost:
    """`session.run` alone, on the server's core."""
    words = ["--model", str(inputs.model_file(1)), "--frames", str(inputs.frames)]
    command = ["taskset", "-c", str(SERVER_CORE), *python_module("benchmarks.bare_model", *words)]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    return msgspec.json.decode(out, type=BareCost)


def report_of(options: Options, data: OverheadData) -> Report:
    """Tables, plot and judgement from the raw results. Pure but for the machine's description."""
    names = list(dict.fromkeys(turn.server for turn in data.turns))
    bare_us = median(cost.median_us for cost in data.bare)
    told = f"Medians over {len(data.bare)} rounds; ratios to {RIVAL}. The bare model is a loop around session.run."
    rows: list[list[Cell]] = [
        ["bare session.run", 1, 1e6 / bare_us, bare_us / 1e3, None, bare_cpu_us(data), None, None, None]
    ]
    rows += [server_row(data.turns, name, callers) for callers in CALLERS for name in names]
    bars = {"bare session.run": bare_cpu_us(data), **{name: cpu_us(data.turns, name, 1) for name in names}}
    return Report(
        name="overhead",
        about="server CPU per request and latency, fraud model, batch 1, closed loop, one server core",
        seed=options.seed,
        judgements=judgements_of(data.turns),
        tables=[Table("Overhead", told, COLUMNS, rows)],
        figures=[bar_plot("CPU per request, one caller", bars, "µs")],
        data=data,
    )


def bare_cpu_us(data: OverheadData) -> float:
    """CPU of the model alone."""
    return median(cost.cpu_us for cost in data.bare)


def of(turns: Iterable[Turn], name: str, callers: int) -> list[Turn]:
    """The turns of one server under one number of callers, by round."""
    found = [turn for turn in turns if turn.server == name and turn.callers == callers]
    return sorted(found, key=lambda turn: turn.round)


def cpu_us(turns: Sequence[Turn], name: str, callers: int) -> float:
    """Median CPU per request in microseconds."""
    return median(turn.cpu_us for turn in of(turns, name, callers))


def cpu_ratio(turns: Sequence[Turn], name: str, callers: int) -> float:
    """Median over the rounds of CPU per request, ours or another's, over the rival's."""
    pairs = zip(of(turns, name, callers), of(turns, RIVAL, callers), strict=True)
    return median(one.cpu_us / rival.cpu_us for one, rival in pairs)


def p50_ratio(turns: Sequence[Turn], name: str, callers: int) -> float:
    """Median over the rounds of p50 over the rival's."""
    pairs = zip(of(turns, name, callers), of(turns, RIVAL, callers), strict=True)
    return median(one.p50_ms / rival.p50_ms for one, rival in pairs)


def server_row(turns: Sequence[Turn], name: str, callers: int) -> list[Cell]:
    """One line of the table."""
    mine = of(turns, name, callers)
    loads = [turn.measured.load for turn in mine]
    p99 = [load.latency_ms.p99 for load in loads if load.latency_ms.p99 is not None]
    return [
        name,
        callers,
        median(load.throughput_per_s for load in loads),
        median(turn.p50_ms for turn in mine),
        median(p99) if p99 else None,
        cpu_us(turns, name, callers),
        p50_ratio(turns, name, callers),
        cpu_ratio(turns, name, callers),
        sum(load.requests - load.ok for load in loads),
    ]


def judgements_of(turns: Sequence[Turn]) -> list[Judgement]:
    """The two promises, at concurrency 1."""
    cpu, p50 = cpu_ratio(turns, OURS, 1), p50_ratio(turns, OURS, 1)
    errors = sum(turn.measured.load.requests - turn.measured.load.ok for turn in turns if turn.server == OURS)
    return [
        Judgement(f"CPU per request at most {RATIO_MAX} of the 40-line server", cpu <= RATIO_MAX, f"{cpu:.2f}"),
        Judgement(f"p50 at one caller at most {RATIO_MAX} of the 40-line server", p50 <= RATIO_MAX, f"{p50:.2f}"),
        Judgement("no request fails", errors == 0, f"{errors} failed"),
    ]


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
