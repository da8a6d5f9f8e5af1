"""What a second core adds where the model releases the GIL: requests a second of one `vireo serve` on one core and on two.

Measured: a closed loop of 32 and 64 callers over gRPC against `vireo serve` pinned to core 0, and against another pinned
to cores 0 and 1. The generator (compiled, never spinning) is on core 1 in both cases: it shares that core with the
server of two, which can do at most 2 less the generator's share times what one core does. The servers run side by side
and are loaded in turn, round after round, odd rounds the other way round; figures are medians over the rounds, ratios
are medians of each round's ratio. Data: two rankers, 100 candidates of 128 features a request, 256 different ones, that
take some 70 and 300 µs; and the fraud model, one row a request, which takes 8 µs and is told of, not judged: what
surrounds so small a model holds the GIL.
Promise: two cores do at least 1.7 times as many requests a second as one.

    python -m benchmarks.bench_cores --out .cache/bench                        # some four minutes
    python -m benchmarks.bench_cores --out .cache/bench --quick                # about one
    python -m benchmarks.bench_cores --transports native,grpcio                # the first is judged
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare_model import BareCost, measure_bare
from benchmarks.command import run_command
from benchmarks.cores_report import ONE, TWO, CoresRun, judgements_of, notes_of, table_of
from benchmarks.fraud_inputs import MODEL as FRAUD
from benchmarks.fraud_inputs import fraud_inputs
from benchmarks.harness import LOAD_CORE, SERVER_CORE, Measured, measure
from benchmarks.load.order import Engine, LoadOrder
from benchmarks.options import Options
from benchmarks.plots import bar_plot
from benchmarks.report import Report
from benchmarks.servers import ROWS_MAX, Server, start_vireo
from benchmarks.turns import one_round, rate
from benchmarks.workloads.ranker.inputs import ranker_inputs
from benchmarks.workloads.ranker.network import MODEL as RANKER
from benchmarks.workloads.ranker.network import WIDE
from benchmarks.workloads.ranker.requests import BATCH_REQUESTS_MAX, CANDIDATES

CORES = {ONE: (SERVER_CORE,), TWO: (SERVER_CORE, LOAD_CORE)}
CALLERS = (32, 64)
FRAUD_VERSION = 2
TRANSPORT = "native"


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to look."""

    rounds: int
    duration_s: float
    warmup_s: float
    bare_calls_share: float


@dataclass(frozen=True, slots=True)
class Workload:
    """A model and its requests. `judged`: the promise is made for it."""

    model: str
    models: Path
    model_file: Path
    frames: Path
    rows_max: int
    bare_calls: int
    judged: bool


def run(options: Options) -> Report:
    """Measure and report."""
    plan = Plan(2, 1.0, 0.3, 0.2) if options.quick else Plan(5, 2.0, 0.4, 1.0)
    transports = options.transports or (TRANSPORT,)
    met = [(transport, workload) for transport in transports for workload in workloads(options)]
    runs = [run_model(workload, transport, transport == transports[0], plan, options) for transport, workload in met]
    return report_of(options, runs)


def workloads(options: Options) -> list[Workload]:
    """All models, made now where they are missing."""
    fraud = fraud_inputs(options.inputs)
    small = Workload(FRAUD, fraud.models, fraud.model_file(FRAUD_VERSION), fraud.frames, ROWS_MAX, 20_000, judged=False)
    return [ranker(RANKER, 5_000), ranker(WIDE, 1_500), small]


def ranker(model: str, bare_calls: int) -> Workload:
    """One of the rankers."""
    inputs = ranker_inputs(model=model)
    rows_max = BATCH_REQUESTS_MAX * CANDIDATES
    return Workload(model, inputs.models, inputs.model_file, inputs.frames, rows_max, bare_calls, judged=True)


def run_model(workload: Workload, transport: str, first: bool, plan: Plan, options: Options) -> CoresRun:
    """All rounds with one model over one transport, on servers started for it."""
    out = options.out / "cores" / workload.model / transport
    bare, pairs, turns = [], [], []
    with ExitStack() as stack:
        servers = [stack.enter_context(start(name, workload, transport, out)) for name in CORES]

        def measured(server: Server, callers: int) -> Measured:
            return measure(order_for(server, callers, workload, plan), server.process)

        for number in range(plan.rounds):
            calls = int(workload.bare_calls * plan.bare_calls_share)
            bare.append(bare_on(workload, calls, SERVER_CORE)[0])
            pairs.append(bare_on(workload, calls, *CORES[TWO]))
            turns += one_round(number, servers, CALLERS, measured)
    name = f"{workload.model} over {transport}"
    return CoresRun(name, workload.judged and first, bare, [(one, other) for one, other in pairs], turns)


def start(name: str, workload: Workload, transport: str, out: Path) -> Server:
    """`vireo serve` on the cores that go by this name."""
    server = start_vireo(
        models=workload.models,
        out=out / name.replace(" ", "-"),
        model=workload.model,
        rows_max=workload.rows_max,
        transport=transport,
        core=CORES[name],
    )
    server.name = name
    return server


def bare_on(workload: Workload, calls: int, *cores: int) -> list[BareCost]:
    """The model alone, on each of these cores at the same time."""
    with ThreadPoolExecutor(len(cores)) as pool:
        return list(pool.map(lambda core: measure_bare(workload.model_file, workload.frames, calls, core), cores))


def order_for(server: Server, callers: int, workload: Workload, plan: Plan) -> LoadOrder:
    """A closed loop against one server. It sleeps where nothing has come: spinning would take the server's core."""
    return LoadOrder(
        port=server.grpc_port,
        frames=str(workload.frames),
        callers=callers,
        duration_s=plan.duration_s,
        warmup_s=plan.warmup_s,
        core=LOAD_CORE,
        spin_us=0,
        engine=Engine.NATIVE,
    )


def report_of(options: Options, runs: list[CoresRun]) -> Report:
    """Tables, plots and judgements from the raw results. Pure but for the machine's description."""
    return Report(
        name="cores",
        about="one server on one core and on two, in a closed loop; the generator is on the second core",
        seed=options.seed,
        judgements=[judgement for each in runs for judgement in judgements_of(each)],
        tables=[table_of(each) for each in runs],
        figures=[plot_of(each) for each in runs],
        data=runs,
        notes=[note for each in runs for note in notes_of(each)],
    )


def plot_of(measured: CoresRun) -> str:
    """Requests a second of both servers."""
    met = [(server, callers) for callers in measured.callers for server in (ONE, TWO)]
    rates = {f"{server}, {callers} callers": measured.middle(rate, server, callers) for server, callers in met}
    return bar_plot(f"Requests a second, {measured.model}", rates, "requests/s")


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
