"""Part `overhead`: what an empty chain of five nodes and a fan-out of eight cost over one node, in process and over gRPC."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.features.part import Part, Setting, kept, say
from benchmarks.graphs.empty import CHAIN, CHAIN_NODES, FAN, FAN_NODES, GRAPH, NODE, empty_spec
from benchmarks.graphs.running import infer_message, run_driver, serve, write_frames
from benchmarks.harness import LOAD_CORE, SERVER_CORE, measure
from benchmarks.load.order import LoadOrder
from benchmarks.report import Judgement
from benchmarks.table import Table, number_cell
from benchmarks.turns import Rounds, Turn, cpu, p50, p99, rate

NAMES = (NODE, GRAPH, CHAIN, FAN)
TOLD = {
    NODE: "the function alone",
    GRAPH: "a graph of one node",
    CHAIN: f"a chain of {CHAIN_NODES}",
    FAN: f"a fan-out of {FAN_NODES} and join",
}
CHAIN_US_MAX, FAN_US_MAX = 50.0, 80.0
WAYS = ("at once", "together")
TOGETHER = 16
CALLERS = (1, 32)


@dataclass(frozen=True, slots=True)
class InProcess:
    """CPU microseconds a request of one graph, asked for one way in one round."""

    round: int
    way: str
    graph: str
    cpu_us: float


@dataclass(frozen=True, slots=True)
class OverheadRun(Rounds):
    """In process, and over gRPC; there the "server" of a turn is which graph was asked."""

    inside: list[InProcess]
    turns: list[Turn]

    def inside_us(self, way: str, graph: str) -> float:
        """The median in process."""
        return median(each.cpu_us for each in self.inside if (each.way, each.graph) == (way, graph))

    def more_us(self, way: str, graph: str) -> float:
        """The median over the rounds of what a graph costs over one node."""
        nodes = {each.round: each.cpu_us for each in self.inside if (each.way, each.graph) == (way, NODE)}
        taken = [each for each in self.inside if (each.way, each.graph) == (way, graph)]
        return median(each.cpu_us - nodes[each.round] for each in taken)

    def more_over_grpc_us(self, callers: int, graph: str) -> float:
        """The same over gRPC."""
        pairs = zip(self.of(graph, callers), self.of(NODE, callers), strict=True)
        return median(one.cpu_us - node.cpu_us for one, node in pairs)


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    say("empty graphs in process")
    inside = in_process(setting)
    say("empty graphs over gRPC")
    found = OverheadRun(inside, over_grpc(setting))
    return Part(judgements_of(found), [inside_table(found), grpc_table(found)], data=found)


def in_process(setting: Setting) -> list[InProcess]:
    """Both ways."""
    calls, rounds = (1_000, 3) if setting.quick else (10_000, 9)
    order = {"calls": calls, "rounds": rounds, "together": TOGETHER}
    return [InProcess(**each) for each in run_driver("benchmarks.graphs.drive_overhead", order, core=SERVER_CORE)]


def over_grpc(setting: Setting) -> list[Turn]:
    """Every graph in turns, round after round."""
    rounds, duration_s = (1, 0.5) if setting.quick else (7, 1.5)
    out = setting.out / "graphs-overhead"
    turns = []
    with ExitStack() as stack:
        server = stack.enter_context(serve(empty_spec(), out, FAN))
        for name in NAMES:
            write_frames(frames_file(out, name), [infer_message(name, {"x": np.ones(1, np.float32)})])
        for number in range(rounds):
            for callers in CALLERS:
                for name in NAMES[:: 1 if number % 2 == 0 else -1]:
                    order = LoadOrder(
                        port=server.grpc_port, frames=str(frames_file(out, name)), callers=callers,
                        duration_s=duration_s, warmup_s=0.3, core=LOAD_CORE,
                    )  # fmt: skip
                    turns.append(Turn(number, name, callers, measure(order, server.process)))
    return turns


def frames_file(out: Path, name: str) -> Path:
    """The one request to each."""
    return out / f"{name}.frames"


def judgements_of(found: OverheadRun) -> list[Judgement]:
    """The bars in process; and that nothing failed."""
    bars = ((CHAIN, CHAIN_US_MAX), (FAN, FAN_US_MAX))
    failed = sum(turn.failed for turn in found.turns)
    judged = [
        kept(
            f"{TOLD[graph]} costs at most {most:g} µs of CPU over one node, {way}",
            found.more_us(way, graph) <= most,
            f"{found.more_us(way, graph):.1f} µs",
        )
        for graph, most in bars
        for way in WAYS
    ]
    return [*judged, kept("empty graphs over gRPC: no request fails", failed == 0, f"{failed} failed")]


def inside_table(found: OverheadRun) -> Table:
    """In process."""
    rows = [
        [TOLD[graph], way, number_cell(found.inside_us(way, graph)), number_cell(found.more_us(way, graph))]
        for way in WAYS
        for graph in NAMES
    ]
    about = (
        f"CPU of the process a request of one row, functions that return their input. At once: one request, answered before the "
        f"next; together: {TOGETHER} wait before one flush. Medians over rounds."
    )
    return Table("Empty graphs in process", about, ["graph", "asked", "CPU µs", "over one node µs"], [*map(list, rows)])


def grpc_table(found: OverheadRun) -> Table:
    """Over gRPC."""
    columns = ["graph", "callers", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "over one node µs", "errors"]
    rows = [
        [
            TOLD[graph],
            callers,
            *(number_cell(found.middle(figure, graph, callers)) for figure in (rate, p50, p99, cpu)),
            number_cell(found.more_over_grpc_us(callers, graph)),
            sum(turn.failed for turn in found.of(graph, callers)),
        ]
        for callers in CALLERS
        for graph in NAMES
    ]
    about = "Closed loops, `vireo serve` on one core, the generator on another; medians over rounds."
    return Table("Empty graphs over gRPC", about, columns, [*map(list, rows)])
