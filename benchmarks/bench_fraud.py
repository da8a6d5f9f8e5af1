"""How many fraud decisions a second one core sustains with p99 below 100 ms, beside the stack that they replace.

Measured: an open loop of Poisson arrivals against each service pinned to core 0, the generator on core 1; latency counts
from the scheduled send. A sweep finds the highest rate whose p99 stays below 100 ms with at least 99.9% of requests answered in
time; then 50% and 80% of that rate are held longer. The services, one after another:

    the whole fraud graph (`benchmarks.workloads.fraud`): features, two models, decision, reasons, records
    the part of it that the stack does: three feature lookups, their join, the same model; scored events reach the log
    Redis by redis-py, on a loop, by asyncio or on threads, or Feast's SDK over Redis, then Triton: a lean gateway in Python

All stand on one core, the stack's three processes too. The stack's features are filled in beforehand: it gets streaming for free.
At the end of the first of ours it gets twice the rate that it sustains, with deadlines.

    python -m benchmarks.peers.triton install                      # once, and the two below; what is missing is left out
    python -m benchmarks.peers.environments install redis stack
    python -m benchmarks fraud --out .cache/bench                  # some ten minutes
    python -m benchmarks fraud --out .cache/bench --quick          # under two: fixed rates instead of the sweep
"""

import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.command import run_command
from benchmarks.features.part import Part, say
from benchmarks.fraud_inputs import FraudInputs, fraud_inputs
from benchmarks.fraud_report import TARGET_MS, FraudData, report_of
from benchmarks.graphs.contenders import STACKS, Contender, contenders
from benchmarks.graphs.overload import overload
from benchmarks.harness import LOAD_CORE
from benchmarks.load.order import LoadOrder, Protocol
from benchmarks.options import Options
from benchmarks.peers.environments import NotInstalledError
from benchmarks.report import Report
from benchmarks.servers import Server
from benchmarks.sustained import Found, sustained
from benchmarks.sweep import SweepPlan

HTTP_CONNECTIONS = 64
QUICK_RATES_PER_S = (250.0, 500.0, 1000.0, 2000.0)
STACK_QUICK_RATES_PER_S = (100.0, 200.0, 400.0)
PLAN = SweepPlan(start_per_s=2000.0, least_per_s=250.0)
STACK_PLAN = SweepPlan(start_per_s=250.0, least_per_s=100.0)


def run(options: Options) -> Report:
    """Measure and report; nothing is written but servers' logs and specs."""
    inputs = fraud_inputs(options.inputs)
    out = options.out / "fraud"
    out.mkdir(parents=True, exist_ok=True)
    found: list[Found] = []
    missing: list[str] = []
    overloaded: Part | None = None
    for name, opened in contenders(inputs, out, options.seed).items():
        if options.only and name not in options.only:
            continue
        say(f"fraud: {name}")
        try:
            with opened() as contender:
                found.append(measured(contender, options))
                if overloaded is None and contender.name not in STACKS:
                    overloaded = overloaded_part(contender, found[-1], out, options)
        except NotInstalledError as error:
            missing.append(f"{name} was not run: {error}")
    return report_of(options.seed, FraudData(found, overloaded, missing), quick=options.quick)


def measured(contender: Contender, options: Options) -> Found:
    """What it sustains."""
    order = order_of(contender.port, contender.frames, options)
    if contender.name in STACKS:
        return sustained(contender, order, STACK_PLAN, STACK_QUICK_RATES_PER_S, quick=options.quick)
    return sustained(contender, order, PLAN, QUICK_RATES_PER_S, quick=options.quick)


def overloaded_part(contender: Contender, found: Found, out: Path, options: Options) -> Part | None:
    """Twice the rate found; None where no rate was."""
    if found.rate_per_s is None:
        return None
    seen = [one.load.goodput_per_s for one in (found.swept.measured if found.swept else [])]
    return overload(contender, found.rate_per_s, max(seen, default=0.0), out, quick=options.quick)


def base_order(server: Server, inputs: FraudInputs, options: Options) -> LoadOrder:
    """An order to the fraud model alone."""
    return order_of(server.grpc_port, inputs.frames, options)


def order_of(port: int, frames: Path, options: Options) -> LoadOrder:
    """The order that a sweep varies."""
    return LoadOrder(
        port=port,
        frames=str(frames),
        rate_per_s=QUICK_RATES_PER_S[0],
        duration_s=4.0 if options.quick else 5.0,
        warmup_s=1.0,
        seed=options.seed,
        core=LOAD_CORE,
        deadline_ms=TARGET_MS,
        target_ms=TARGET_MS,
    )


def held(order: LoadOrder, server: Server, protocol: Protocol, rate_per_s: float, duration_s: float) -> LoadOrder:
    """`order` at one rate over one protocol."""
    over_http = protocol is Protocol.HTTP
    port = server.http_port if over_http and server.http_port is not None else server.grpc_port
    connections = HTTP_CONNECTIONS if over_http else order.connections
    return replace(
        order, port=port, protocol=protocol, rate_per_s=rate_per_s, duration_s=duration_s, connections=connections
    )


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
