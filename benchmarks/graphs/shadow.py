"""Part `shadow`: what a caller feels of a traffic split, and of a shadow that gets a copy of every request.

The fraud model's version 2 answers, version 1 is the challenger. The same server is asked four ways in turns: the model itself; a
split of one variant; a split of two, 90 to 10; one variant with the other version as shadow of all requests. Loads: a closed
loop of one caller, and Poisson arrivals at 30% and 50% of what the split of one variant can do.
"""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tritonclient.grpc import service_pb2

from benchmarks.features.part import Part, Setting, kept, say
from benchmarks.fraud_inputs import MODEL, FraudInputs, fraud_inputs
from benchmarks.graphs.running import Declared, serve, write_frames
from benchmarks.harness import LOAD_CORE, ServerProcess, measure
from benchmarks.load.frames import message_of, read_frames
from benchmarks.load.order import LoadOrder
from benchmarks.report import Judgement
from benchmarks.servers import ROWS_MAX, Server
from benchmarks.table import Table, number_cell
from benchmarks.turns import Rounds, Turn, cpu, p50, p99, rate

PLAIN, SPLIT, SHADOWED = "plain", "split", "shadowed"
WAYS = (MODEL, PLAIN, SPLIT, SHADOWED)
TOLD = {
    MODEL: "the model itself",
    PLAIN: "a split of one variant",
    SPLIT: "a split of two, 90 to 10",
    SHADOWED: "one variant, all shadowed",
}
CHAMPION, CHALLENGER = 2, 1
SHARES = (0.3, 0.5)
ONE_CALLER = "one caller"
FULL_CALLERS = 32
P50_RATIO_MAX = 1.05


@dataclass(frozen=True, slots=True)
class Loaded(Rounds):
    """All turns under one load; the "server" of a turn is which way was asked."""

    turns: list[Turn]


@dataclass(frozen=True, slots=True)
class ShadowRun:
    """By load. `peak_per_s` is of a split of one variant, by callers enough to fill the core."""

    peak_per_s: float
    loads: dict[str, Loaded]


def traffic_spec(inputs: FraudInputs) -> Declared:
    """The model and its three splits."""
    champion = {"call": MODEL, "version": CHAMPION, "weight": 90}
    challenger = {"call": MODEL, "version": CHALLENGER}
    shadows = {"challenger": {**challenger, "share": 1.0}}
    return {
        "repository": {"path": str(inputs.models.resolve())},
        "models": {MODEL: {"batching": {"rows_max": ROWS_MAX}, "versions": {"latest": 2}}},
        "traffic": {
            PLAIN: {"variants": {"champion": champion}},
            SPLIT: {"variants": {"champion": champion, "challenger": {**challenger, "weight": 10}}},
            SHADOWED: {"variants": {"champion": champion}, "shadows": shadows},
        },
    }


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    say("splits and shadows")
    inputs = fraud_inputs(setting.inputs)
    out = setting.out / "graphs-shadow"
    with ExitStack() as stack:
        server = stack.enter_context(serve(traffic_spec(inputs), out, SHADOWED))
        write_requests(inputs, out)
        found = measured(server, out, setting)
    return Part(judgements_of(found), [table_of(found)], data=found)


def write_requests(inputs: FraudInputs, out: Path) -> None:
    """The workload's requests, to each way of asking."""
    asked = [service_pb2.ModelInferRequest.FromString(message_of(each)) for each in read_frames(inputs.frames)]
    for way in WAYS:
        for each in asked:
            each.model_name = way
        write_frames(frames_file(out, way), [each.SerializeToString(deterministic=True) for each in asked])


def frames_file(out: Path, way: str) -> Path:
    """Requests to one of WAYS."""
    return out / f"{way}.frames"


def measured(server: Server, out: Path, setting: Setting) -> ShadowRun:
    """Every way under every load in turns, round after round."""
    rounds, duration_s = (1, 0.5) if setting.quick else (7, 2.0)
    order = LoadOrder(
        port=server.grpc_port, frames=str(frames_file(out, PLAIN)), callers=FULL_CALLERS, duration_s=duration_s,
        warmup_s=0.3, core=LOAD_CORE,
    )  # fmt: skip
    peak_per_s = measure(order, server.process).load.throughput_per_s
    loads: dict[str, LoadOrder] = {ONE_CALLER: replace(order, callers=1)}
    for share in SHARES:
        loads[f"{share:.0%} of {peak_per_s:,.0f}/s"] = replace(order, callers=None, rate_per_s=share * peak_per_s)
    found = ShadowRun(peak_per_s, {name: Loaded([]) for name in loads})
    for number in range(rounds):
        for name, load in loads.items():
            for way in WAYS[:: 1 if number % 2 == 0 else -1]:
                found.loads[name].turns.append(
                    turn(number, way, replace(load, frames=str(frames_file(out, way))), server.process)
                )
    return found


def turn(number: int, way: str, order: LoadOrder, process: ServerProcess) -> Turn:
    """One of them, with a schedule of the round's own."""
    return Turn(number, way, order.callers or 0, measure(replace(order, seed=order.seed + number), process))


def callers_of(load: str) -> int:
    """As turns of this load count them."""
    return 1 if load == ONE_CALLER else 0


def judgements_of(found: ShadowRun) -> list[Judgement]:
    """Callers' p50 with the shadow over that without; and that nothing failed."""
    judged = []
    for load, each in found.loads.items():
        ratio = each.ratio(p50, SHADOWED, PLAIN, callers_of(load))
        promise = f"shadowing all requests adds less than 5% to a caller's p50, {load}"
        judged.append(kept(promise, ratio < P50_RATIO_MAX, f"{ratio:.3f}"))
    failed = sum(turn.failed for each in found.loads.values() for turn in each.turns)
    return [*judged, kept("splits and shadows: no request fails", failed == 0, f"{failed} failed")]


def table_of(found: ShadowRun) -> Table:
    """Every way under every load."""
    columns = [
        "load",
        "asked",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "CPU µs/request",
        "p50 ratio to one variant",
        "errors",
    ]
    rows = [
        [
            load,
            TOLD[way],
            *(number_cell(each.middle(figure, way, callers_of(load))) for figure in (rate, p50, p99, cpu)),
            number_cell(each.ratio(p50, way, PLAIN, callers_of(load))),
            sum(turn.failed for turn in each.of(way, callers_of(load))),
        ]
        for load, each in found.loads.items()
        for way in WAYS
    ]
    about = "The fraud model, batch 1; CPU of the server includes its shadows. Medians over rounds, ratios within one."
    return Table("Splits and shadows", about, columns, [*map(list, rows)])
