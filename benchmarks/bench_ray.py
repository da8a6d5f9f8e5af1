"""What the Ray host costs: over the embedded host for a graph in one replica, and for a hop to another deployment.

Measured: closed loops over gRPC against the same graph of one function that returns its input, 512 bytes: `vireo serve`; on Ray
with everything in the ingress replica; on Ray with the function in a deployment of its own. Beside them, on the same cluster, a
plain Ray Serve application that echoes the same bytes through a lean grpc.aio door, alone and by a handle to a second
deployment. A hop is the difference that it makes to the same door in the same round. The cluster's settings are those of the
throughput-optimised mode; afterwards the plain application runs with Ray's default ones too, which is told and not judged.
CPU is of all processes: the whole cluster with its control, and the command. Servers on core 0, the generator on core 1.
At last, on a cluster of its own, replicas of a collection in shards are killed under load.

    python -m benchmarks ray [--quick]
"""

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.command import run_command
from benchmarks.graphs.empty import GRAPH, NODE, Declared, function, graph
from benchmarks.graphs.running import infer_message, serve, write_frames
from benchmarks.harness import (
    LOAD_CORE,
    SERVER_CORE,
    Measurable,
    Measured,
    ServerProcess,
    free_port,
    measure,
    python_module,
)
from benchmarks.load.order import LoadOrder
from benchmarks.machine import ROOT
from benchmarks.options import Options
from benchmarks.peers.environments import NotInstalledError
from benchmarks.peers.stack import Parts
from benchmarks.report import Judgement, Report
from benchmarks.shards_killed import Killed, killed_table, measure_killed
from benchmarks.table import Cell, Table, number_cell
from benchmarks.turns import Figure, Rounds, Turn, cpu, median_of, one_round, p50, p99, rate
from serving.ray_host.command import SETTINGS

EMBEDDED, COLOCATED, HOP = "Vireo, embedded", "Vireo on Ray, in one replica", "Vireo on Ray, one hop"
ECHO, ECHO_HOP = "plain echo on Ray", "plain echo on Ray, one hop"
DEFAULTS = " (Ray's defaults)"
CALLERS = (1, 16, 64)
COLOCATED_MOST, HOP_MOST = 1.1, 1.2
FAILED_MOST = 0.001
ALL_FOUR = "with all four applications"
JUDGED: tuple[tuple[str, Figure, int], ...] = (("p50", p50, 1), ("p50", p50, 16), ("CPU", cpu, 16))
COLUMNS = 128
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token", "PYTHONPATH": str(ROOT)}
"""Of the clusters, and of who joins them: by the token that Ray makes where there is none."""

START_S_MAX = 180.0
IDLE_S = 2.0


@dataclass(frozen=True, slots=True)
class Contender:
    """What is loaded."""

    name: str
    port: int
    process: Measurable


@dataclass(frozen=True, slots=True)
class RayData(Rounds):
    """The raw results, and what the clusters spend while nobody calls, as shares of a core."""

    turns: list[Turn]
    idle: dict[str, float]
    killed: Killed | None = None

    def hop(self, figure: Figure, hop: str, alone: str, callers: int) -> float:
        """The median over the rounds of what a hop adds."""
        pairs = zip(self.of(hop, callers), self.of(alone, callers), strict=True)
        return median_of([figure(one) - figure(other) for one, other in pairs])

    def without_idle(self, callers: int) -> float:
        """CPU of a request in one replica over embedded's, less what the cluster spends while nobody calls; NaN if not known."""
        spent = self.idle.get(ALL_FOUR, math.nan)
        pairs = zip(self.of(COLOCATED, callers), self.of(EMBEDDED, callers), strict=True)
        return median_of([(cpu(one) - 1e6 * spent / rate(one)) / cpu(other) for one, other in pairs])

    def hops(self, figure: Figure, callers: int) -> float:
        """What a hop of ours adds over what a plain one does, NaN where that is nothing."""
        plain = self.hop(figure, ECHO_HOP, ECHO, callers)
        return self.hop(figure, HOP, COLOCATED, callers) / plain if plain > 0 else math.nan


def run(options: Options) -> Report:
    """Measure and report. Raises ServerError where a cluster does not come up."""
    rounds, duration_s = (2, 1.0) if options.quick else (5, 2.0)
    out = options.out / "ray"
    out.mkdir(parents=True, exist_ok=True)
    body = infer_message(GRAPH, {"x": np.ones((1, COLUMNS), np.float32)})
    frames = write_frames(out / "one.frames", [body])

    def measured(contender: Contender, callers: int) -> Measured:
        order = LoadOrder(
            port=contender.port, frames=str(frames), callers=callers, duration_s=duration_s, warmup_s=0.5,
            core=LOAD_CORE,
        )  # fmt: skip
        return measure(order, contender.process)

    turns: list[Turn] = []
    idle: dict[str, float] = {}
    with ExitStack() as stack:
        contenders = ours(stack, out)
        idle[ALL_FOUR] = idle_share(contenders[-1].process)
        for number in range(rounds):
            turns += one_round(number, contenders, CALLERS, measured)
    with plain(out / "defaults", {}) as (_, contenders):
        named = [Contender(each.name + DEFAULTS, each.port, each.process) for each in contenders]
        idle["with the plain ones, by default"] = idle_share(named[-1].process)
        for number in range(max(1, rounds // 2)):
            turns += one_round(number, named, CALLERS, measured)
    return report_of(options, RayData(turns, idle, killed(out, kills=2 if options.quick else 6, seed=options.seed)))


def killed(out: Path, *, kills: int, seed: int) -> Killed | None:
    """None where no broker is installed. Raises ServerError."""
    folder = out / "killed"
    with plain(folder, SETTINGS) as (address, _):
        try:
            environment = {**ENVIRONMENT, **SETTINGS, "RAY_ADDRESS": address}
            return measure_killed(folder, environment, kills, seed, START_S_MAX)
        except NotInstalledError:
            return None


def ours(stack: ExitStack, out: Path) -> list[Contender]:
    """All that is compared within a round: ours and the plain application, on one cluster."""
    address, echoes = stack.enter_context(plain(out / "plain", SETTINGS))
    embedded = stack.enter_context(serve(spec(apart=False), out / "embedded", GRAPH))
    cluster = echoes[0].process
    assert isinstance(cluster, ServerProcess)
    made = [Contender(EMBEDDED, embedded.grpc_port, embedded.process)]
    for name, apart in ((COLOCATED, False), (HOP, True)):
        folder = out / ("apart" if apart else "together")
        server = stack.enter_context(
            serve(
                {**spec(apart=apart), "server": {"name": folder.name}}, folder, GRAPH, words=("--host", "ray"),
                environment={**ENVIRONMENT, **SETTINGS, "RAY_ADDRESS": address}, patience_s=START_S_MAX,
            )
        )  # fmt: skip
        made.append(Contender(name, server.grpc_port, Parts({"cluster": cluster, "command": server.process})))
    return [*made, *echoes]


@contextmanager
def plain(out: Path, settings: Mapping[str, str]) -> Iterator[tuple[str, list[Contender]]]:
    """A cluster with the plain application: its address, and both ports. Raises ServerError."""
    address, alone, calling = out / "address", free_port(), free_port()
    out.mkdir(parents=True, exist_ok=True)
    address.unlink(missing_ok=True)
    command = python_module(
        "benchmarks.peers.ray_echo", "--alone", str(alone), "--calling", str(calling), "--address", str(address)
    )
    environment = {**ENVIRONMENT, **settings}
    with ServerProcess(command, log=out / "ray.log", core=SERVER_CORE, environment=environment) as process:
        process.wait_ready(address.exists, patience_s=START_S_MAX)
        yield address.read_text(), [Contender(ECHO, alone, process), Contender(ECHO_HOP, calling, process)]


def spec(*, apart: bool) -> Declared:
    """The graph of one function; `apart`: in a deployment of its own."""
    rows = {"datatype": "FP32", "shape": [-1, COLUMNS]}
    same = {**function("same", ("x",)), "inputs": {"x": rows}, "outputs": {"y": rows}}
    one = {**graph({"only": {"call": NODE, "inputs": {"x": "x"}}}, "only.y"), "inputs": {"x": rows}}
    placement: Declared = {"ingress": {"cpus": 0.5}}
    if apart:
        placement["worker"] = {"serves": [NODE], "cpus": 0.5}
    return {"functions": {NODE: same}, "graphs": {GRAPH: one}, "placement": placement}


def idle_share(process: Measurable) -> float:
    """CPU of a cluster that nobody calls, as a share of one core."""
    before_s = process.cpu_s()
    time.sleep(IDLE_S)
    return (process.cpu_s() - before_s) / IDLE_S


def report_of(options: Options, data: RayData) -> Report:
    """Tables and judgements. Pure but for the machine's description."""
    return Report(
        name="ray",
        about="The Ray host beside the embedded one, and its hop beside a plain one of Ray Serve",
        seed=options.seed,
        judgements=judgements_of(data),
        tables=[ways_table(data), hops_table(data), *([killed_table(data.killed)] if data.killed else [])],
        figures=[],
        data=data,
        notes=notes_of(data),
    )


def notes_of(data: RayData) -> list[str]:
    """What is told beside."""
    idle = [f"a cluster that nobody calls, {name}: {share:.1%} of a core" for name, share in data.idle.items()]
    less = f"{data.without_idle(16):.2f}"
    return [
        *idle,
        f"in one replica, 16 callers: CPU over embedded's, less what the cluster spends when nobody calls: {less}",
    ]


def judgements_of(data: RayData) -> list[Judgement]:
    """The bars."""
    failed = sum(turn.failed for turn in data.turns)
    judged = [Judgement("no request fails", failed == 0, f"{failed} failed")]
    for told, figure, callers in JUDGED:
        found = data.ratio(figure, COLOCATED, EMBEDDED, callers)
        judged.append(at_most(COLOCATED_MOST, found, f"in one replica, {callers} callers: {told} over embedded's"))
    for told, figure, callers in JUDGED:
        found = data.hops(figure, callers)
        judged.append(at_most(HOP_MOST, found, f"a hop, {callers} callers: {told} added over a plain hop's"))
    if (killed := data.killed) is not None:
        told = f"{len(killed.failures)} of {killed.calls}"
        judged.append(
            Judgement("shards' replicas killed: a thousandth fails at most", killed.failed_share <= FAILED_MOST, told)
        )
        told = f"{killed.lost} of {killed.acknowledged}"
        judged.append(Judgement("shards' replicas killed: no acknowledged write is lost", killed.lost == 0, told))
    return judged


def at_most(most: float, found: float, told: str) -> Judgement:
    """Not decided where it could not be taken."""
    return Judgement(f"{told} at most {most}", None if math.isnan(found) else found <= most, f"{found:.2f}")


def ways_table(data: RayData) -> Table:
    """Everything that was loaded."""
    names = list(dict.fromkeys(turn.server for turn in data.turns))
    rows: list[list[Cell]] = [
        [
            name, callers, *(number_cell(data.middle(figure, name, callers)) for figure in (rate, p50, p99, cpu)),
            sum(each.failed for each in data.of(name, callers)),
        ]
        for callers in CALLERS
        for name in names
    ]  # fmt: skip
    columns = ["server", "callers", "requests/s", "p50 ms", "p99 ms", "CPU µs", "failed"]
    about = "Closed loops; CPU of the whole cluster, what it spends idle among it; medians over rounds."
    return Table("Ways to the same 512 bytes", about, columns, rows)


def hops_table(data: RayData) -> Table:
    """What hops add."""
    kinds = (
        ("Vireo", HOP, COLOCATED), ("plain", ECHO_HOP, ECHO), ("plain" + DEFAULTS, ECHO_HOP + DEFAULTS, ECHO + DEFAULTS)
    )  # fmt: skip
    rows: list[list[Cell]] = [
        [name, callers, *(number_cell(data.hop(figure, hop, alone, callers)) for figure in (p50, cpu))]
        for callers in CALLERS
        for name, hop, alone in kinds
    ]
    return Table("What a hop adds", "Medians over rounds of differences.", ["hop", "callers", "p50 ms", "CPU µs"], rows)


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
