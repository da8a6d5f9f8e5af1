"""How many fraud scorings a second one core serves with p99 below 100 ms, and the latency at fixed rates.

Measured: an open loop of Poisson arrivals against `vireo serve` pinned to core 0, the generator on core 1; latency
counts from the scheduled send. First a sweep finds the highest rate whose p99 stays below 100 ms with at least 99.9%
of requests answered in time, over gRPC and over HTTP with the binary tensor extension; then 50% and 80% of each rate
are held longer. Data: the fraud model and its rotating requests, batch 1, from `benchmarks.workloads.fraud`.

    python -m benchmarks.bench_fraud --out .cache/bench            # some six minutes
    python -m benchmarks.bench_fraud --out .cache/bench --quick    # under one: fixed rates instead of the sweep
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.command import run_command
from benchmarks.fraud_inputs import FraudInputs, fraud_inputs
from benchmarks.harness import LOAD_CORE, Measured, measure
from benchmarks.load.order import LoadOrder, Protocol
from benchmarks.load.verdict import Verdict
from benchmarks.options import Options
from benchmarks.plots import percentile_plot, rate_plot
from benchmarks.report import Judgement, Report
from benchmarks.servers import Server, start_vireo
from benchmarks.sweep import SweepPlan, SweepResult, sweep
from benchmarks.table import Cell, Table

TARGET_MS = 100.0
HTTP_CONNECTIONS = 64
QUICK_RATES_PER_S = (250.0, 500.0, 1000.0, 2000.0)
SHARES = (0.5, 0.8)
COLUMNS = [
    "load", "offered/s", "goodput", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "server CPU µs/request",
    "server core", "generator core", "lateness p99 ms", "verdict",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FraudData:
    """The raw results; `sweeps`, by protocol, is empty in a quick run."""

    sweeps: dict[str, SweepResult]
    fixed: list[Measured]


def run(options: Options) -> Report:
    """Measure and report; nothing is written but the server's log and spec."""
    inputs = fraud_inputs(options.inputs)
    with start_vireo(models=inputs.models, out=options.out / "fraud") as server:
        order = base_order(server, inputs, options)
        found = {} if options.quick else {each.value: highest(order, server, each) for each in Protocol}
        orders = fixed_orders(order, server, found) if found else quick_orders(order, server)
        fixed = [measure(one, server.process) for one in orders]
    return report_of(options, FraudData(found, fixed))


def base_order(server: Server, inputs: FraudInputs, options: Options) -> LoadOrder:
    """The order that the sweep varies."""
    return LoadOrder(
        port=server.grpc_port,
        frames=str(inputs.frames),
        rate_per_s=QUICK_RATES_PER_S[0],
        duration_s=4.0 if options.quick else 5.0,
        warmup_s=1.0,
        seed=options.seed,
        core=LOAD_CORE,
        deadline_ms=TARGET_MS,
        target_ms=TARGET_MS,
    )


def highest(order: LoadOrder, server: Server, protocol: Protocol) -> SweepResult:
    """The highest rate that meets the target over one protocol."""
    first = held(order, server, protocol, QUICK_RATES_PER_S[0], order.duration_s)
    return sweep(first, SweepPlan(), lambda one: measure(one, server.process))


def quick_orders(order: LoadOrder, server: Server) -> list[LoadOrder]:
    """Fixed rates over gRPC, two of them over HTTP as well."""
    over_grpc = [held(order, server, Protocol.GRPC, rate, 4.0) for rate in QUICK_RATES_PER_S]
    return [*over_grpc, *(held(order, server, Protocol.HTTP, rate, 4.0) for rate in QUICK_RATES_PER_S[1:3])]


def fixed_orders(order: LoadOrder, server: Server, found: Mapping[str, SweepResult]) -> list[LoadOrder]:
    """Both shares of the rate found over each protocol; none where no rate was found."""
    rates = {protocol: found[protocol.value].rate_per_s for protocol in Protocol}
    return [
        held(order, server, protocol, rate * share, 15.0)
        for protocol, rate in rates.items()
        if rate is not None
        for share in SHARES
    ]


def held(order: LoadOrder, server: Server, protocol: Protocol, rate_per_s: float, duration_s: float) -> LoadOrder:
    """`order` at one rate over one protocol."""
    over_http = protocol is Protocol.HTTP
    port = server.http_port if over_http and server.http_port is not None else server.grpc_port
    connections = HTTP_CONNECTIONS if over_http else order.connections
    return LoadOrder(
        port=port,
        frames=order.frames,
        protocol=protocol,
        rate_per_s=rate_per_s,
        duration_s=duration_s,
        warmup_s=order.warmup_s,
        seed=order.seed,
        connections=connections,
        core=order.core,
        deadline_ms=order.deadline_ms,
        target_ms=order.target_ms,
    )


def load_row(measured: Measured) -> list[Cell]:
    """One line of the latency table."""
    load = measured.load
    latency = load.latency_ms
    name = f"{load.order.protocol.value} {load.order.rate_per_s or 0:,.0f}/s"
    return [
        name, load.offered_per_s, f"{load.goodput_share:.2%}", latency.p50, latency.p90, latency.p99, latency.p999,
        latency.max, measured.server_cpu_us_per_request, f"{measured.server_cpu_share:.0%}",
        f"{load.generator.cpu_share:.0%}", load.generator.lateness_p99_ms, load.verdict,
    ]  # fmt: skip


def report_of(options: Options, data: FraudData) -> Report:
    """Tables, plots and judgement from the raw results. Pure but for the machine's description."""
    tables = [Table("Latency at fixed rates", "Latency counts from the scheduled send.", COLUMNS, rows(data.fixed))]
    figures = [percentile_plot("Latency percentiles", curves(data.fixed), TARGET_MS)]
    told = "Every point, in the order taken; points whose generator was late are repeated."
    for name, found in data.sweeps.items():
        tables.append(Table(f"Rate sweep, {name}", told, COLUMNS, rows(found.measured)))
        figures.append(rate_plot(f"Latency over offered rate, {name}", rate_curves(found.measured), TARGET_MS))
    return Report(
        name="fraud",
        about="fraud scoring, batch 1, open loop (Poisson), server on one core, generator on another",
        seed=options.seed,
        judgements=[judgement_of(data)],
        tables=tables,
        figures=figures,
        data=data,
    )


def rows(measured: Sequence[Measured]) -> list[list[Cell]]:
    """A line for each measurement."""
    return [load_row(one) for one in measured]


def curves(measured: Sequence[Measured]) -> dict[str, list[tuple[float, float]]]:
    """Percentile curves by name."""
    return {str(load_row(one)[0]): one.load.latency_curve for one in measured}


def rate_curves(measured: Sequence[Measured]) -> dict[str, list[tuple[float, float]]]:
    """p50 and p99 over the offered rate, of the valid points."""
    valid = [one.load for one in measured if one.load.verdict in (Verdict.MET, Verdict.MISSED)]
    return {
        "p50": [(load.offered_per_s, load.latency_ms.p50) for load in valid if load.latency_ms.p50 is not None],
        "p99": [(load.offered_per_s, load.latency_ms.p99) for load in valid if load.latency_ms.p99 is not None],
    }


def judgement_of(data: FraudData) -> Judgement:
    """p99 below the target at every fixed rate, and what the sweep found."""
    promise = f"p99 below {TARGET_MS:g} ms with at least 99.9% answered in time"
    verdicts = [one.load.verdict for one in data.fixed]
    invalid = [verdict for verdict in verdicts if verdict not in (Verdict.MET, Verdict.MISSED)]
    if Verdict.MISSED in verdicts or not verdicts:
        return Judgement(promise, False, "missed at a fixed rate" if verdicts else "at no rate")
    found = [_said(name, each) for name, each in data.sweeps.items()]
    said = "; ".join([f"{len(verdicts) - len(invalid)} of {len(verdicts)} fixed rates valid", *found])
    return Judgement(promise, None if invalid else True, said)


def _said(name: str, found: SweepResult) -> str:
    rate = f"highest rate over {name} {found.rate_per_s or 0:,.0f}/s"
    return f"{rate} or more (the generator was at its end)" if found.bounded_by_generator else rate


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
