"""What Vireo costs in front of a Triton: the same requests sent to Triton directly and through Vireo, in turns.

Measured: an open loop of 1,000 Poisson arrivals a second, and a closed loop of 1, 8 and 32 callers, over gRPC against a real
Triton with the fraud model in its Python backend with dynamic batching, and against `vireo serve` whose `triton_models` name
that Triton; both servers on core 0, the generator on core 1. Added CPU is the CPU of Vireo's own process a request; added
latency is the difference of the medians of one caller in the same round. Its requests reach Triton half as often through
Vireo, and a process that rests between them answers later: what is added at the same rate is what the open loop tells.
Data: the fraud model, one row a request, 1,024 different ones in rotation. Before anything is timed both must say the same.
Then the whole fraud and recommendation graphs (`benchmarks.graphs.on_triton`), each with its models in the process and on Triton.

    python -m benchmarks.peers.triton install             # once; without it this benchmark is skipped
    python -m benchmarks triton [--quick]
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.bench_recommendation import BUILT, QUICK_SIZE
from benchmarks.bench_wire import FRAUD_VERSION, Contender, differences_from
from benchmarks.command import SkippedError, run_command
from benchmarks.fraud_inputs import MODEL, FraudInputs, fraud_inputs
from benchmarks.graphs.on_triton import Compared, fraud_compared, judgements, recommendation_compared, table
from benchmarks.graphs.running import serve
from benchmarks.harness import LOAD_CORE, Measured, measure
from benchmarks.load.order import LoadOrder
from benchmarks.options import Options
from benchmarks.peers.triton import start_triton
from benchmarks.peers.triton_package import INSTALL, TritonPackage
from benchmarks.recommendation.inputs import NotBuiltError, prepared
from benchmarks.report import Judgement, Report
from benchmarks.servers import Server
from benchmarks.table import Cell, Table
from benchmarks.turns import Rounds, Turn, cpu, one_round, p50, p99, rate
from benchmarks.workloads.fraud.application import decision_application

DIRECT, FRONTED = "Triton directly", "through Vireo"
ALONE, JUDGED_CALLERS = 1, 32
PACED, PACED_PER_S = 0, 1_000.0
"""No callers: an open loop at that rate."""

CPU_US_MAX, P50_MS_MAX = 60.0, 0.15
GRAPH_REQUESTS, QUICK_GRAPH_REQUESTS = 400, 200


@dataclass(frozen=True, slots=True)
class TritonData(Rounds):
    """The raw results."""

    turns: list[Turn]
    difference: float
    graphs: list[Compared]
    missing: list[str]

    def added_p50_ms(self, callers: int) -> float:
        """The median over the rounds of what Vireo adds to the median latency."""
        pairs = zip(self.of(FRONTED, callers), self.of(DIRECT, callers), strict=True)
        return median([one.p50_ms - other.p50_ms for one, other in pairs])


def run(options: Options) -> Report:
    """Measure and report. Raises SkippedError where there is no Triton."""
    if not TritonPackage().installed:
        raise SkippedError(f"triton is skipped: no Triton is installed here; '{INSTALL}' does that")
    rounds, duration_s = (2, 1.0) if options.quick else (5, 2.0)
    inputs, out = fraud_inputs(options.inputs), options.out / "triton"
    turns: list[Turn] = []
    with ExitStack() as stack:
        triton = stack.enter_context(start_triton(model_file=inputs.model_file(FRAUD_VERSION), out=out, model=MODEL))
        vireo = stack.enter_context(serve(fronting(triton), out / "vireo", MODEL))
        contenders = [
            Contender(name, "127.0.0.1", server.grpc_port, server.process)
            for name, server in ((DIRECT, triton), (FRONTED, vireo))
        ]
        difference = differences_from(DIRECT, contenders, inputs.frames)[FRONTED]

        def measured(contender: Contender, callers: int) -> Measured:
            assert contender.process is not None
            order = LoadOrder(
                host=contender.host, port=contender.port, frames=str(inputs.frames), callers=callers or None,
                rate_per_s=PACED_PER_S if callers == PACED else None, duration_s=duration_s, warmup_s=0.4, core=LOAD_CORE,
            )  # fmt: skip
            return measure(order, contender.process)

        for number in range(rounds):
            turns += one_round(number, contenders, (PACED, ALONE, 8, JUDGED_CALLERS), measured)
    graphs, missing = compared_graphs(inputs, out, options)
    return report_of(options, TritonData(turns, difference, graphs, missing))


def compared_graphs(inputs: FraudInputs, out: Path, options: Options) -> tuple[list[Compared], list[str]]:
    """Both graphs, and why one is missing."""
    count = QUICK_GRAPH_REQUESTS if options.quick else GRAPH_REQUESTS
    found = [fraud_compared(decision_application(inputs.frames.parent), out, count)]
    try:
        shop = prepared(BUILT, options.out / "recommendation", items=QUICK_SIZE, users=QUICK_SIZE, seed=options.seed)
    except NotBuiltError as error:
        return found, [f"the recommendation graph was not compared: {error}"]
    return [*found, recommendation_compared(shop, out, count)], []


def fronting(triton: Server) -> dict[str, object]:
    """The spec of a server in front of that Triton."""
    return {"triton_models": {MODEL: {"servers": [f"127.0.0.1:{triton.grpc_port}"]}}}


def report_of(options: Options, data: TritonData) -> Report:
    """Table and judgements. Pure but for the machine's description."""
    spent, added = data.middle(cpu, FRONTED, JUDGED_CALLERS), data.added_p50_ms(ALONE)
    judged = [
        Judgement(
            f"Vireo's own CPU at {JUDGED_CALLERS} callers at most {CPU_US_MAX:.0f} µs a request", spent <= CPU_US_MAX,
            f"{spent:.0f} µs",
        ),
        Judgement(f"p50 of one caller at most {P50_MS_MAX} ms more", added <= P50_MS_MAX, f"{added:.3f} ms more"),
        Judgement("both say the same to 1e-6", data.difference <= 1e-6, f"differ by at most {data.difference:.1e}"),
        *judgements(data.graphs),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            name, callers or f"{PACED_PER_S:,.0f}/s", round(data.middle(rate, name, callers)),
            round(data.middle(p50, name, callers), 3), round(data.middle(p99, name, callers), 3),
            round(data.middle(cpu, name, callers), 1),
            sum(each.failed for each in data.of(name, callers)),
        ]
        for callers in (PACED, ALONE, 8, JUDGED_CALLERS)
        for name in (DIRECT, FRONTED)
    ]  # fmt: skip
    columns = ["server", "callers", "requests/s", "p50 ms", "p99 ms", "its own CPU µs", "failed"]
    about = "one row a request; Vireo and Triton share a core"
    return Report(
        name="triton",
        about="Vireo in front of a real Triton, beside that Triton asked directly",
        seed=options.seed,
        judgements=judged,
        tables=[Table("fraud", about, columns, rows), table(data.graphs)],
        figures=[],
        data=data,
        notes=[
            "Vireo and Triton share core 0, so that rates through Vireo are not those of a machine of its own",
            f"at the same {PACED_PER_S:,.0f}/s (an open loop) {data.added_p50_ms(PACED):.3f} ms are added to p50",
            *data.missing,
        ],
    )


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
