"""What answering over gRPC costs beside a real Triton: requests a second, latency and CPU of the same two models.

Measured: a closed loop of 1, 8, 32 and 64 callers over gRPC against `vireo serve` and against Triton with the model in
its Python backend, with dynamic batching and, at 1 and 32 callers, without; each pinned to core 0 (the backend's child
process too), the generator on core 1; and, where it is installed, against the bare front of a compiled gRPC library,
which is to be matched at one caller. The fraud model is judged beside the batched Triton, the ranker beside the plain
one, as promised. The servers run side by side and are loaded in turn, round after round, odd rounds the other way
round; figures are medians over the rounds, ratios are medians of each round's ratio. Data: the fraud model, one row a
request, 1,024 different ones in rotation; and a ranker, 100 candidates of 128 features a request, 256 different ones.
Before anything is timed, all servers must say the same of 16 requests. CPU counts all processes of a server.

    python -m benchmarks.peers.triton install                     # once; without it this benchmark is skipped
    python -m benchmarks.peers.native_front install               # once; without it the bare front is left out
    python -m benchmarks.bench_wire --out .cache/bench            # some seven minutes
    python -m benchmarks.bench_wire --out .cache/bench --quick    # about one
    python -m benchmarks.bench_wire --transports native,grpcio    # Vireo with each transport; the first is judged
    python -m benchmarks.bench_wire --triton HOST:PORT            # another Triton, say a container with the ONNX backend

That other Triton must serve `fraud` (version 2) and `ranker` (--rows-max 800); `python -m benchmarks.peers.triton
repository` writes what it needs. Its CPU is not known, and promises about the Python backend are not judged beside it.
"""

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.bare_model import array_of, measure_bare
from benchmarks.command import SkippedError, run_command
from benchmarks.fraud_inputs import MODEL as FRAUD
from benchmarks.fraud_inputs import fraud_inputs
from benchmarks.harness import LOAD_CORE, Measured, ServerError, ServerProcess, measure
from benchmarks.load.frames import message_of, read_frames
from benchmarks.load.order import LoadOrder
from benchmarks.load.process import run_load
from benchmarks.options import Options
from benchmarks.peers.native_front import NAME as FRONT
from benchmarks.peers.native_front import FrontEnvironment, start_native_front
from benchmarks.peers.triton import BATCHED, UNBATCHED, start_triton, triton_ready
from benchmarks.peers.triton_package import INSTALL, PACKAGE, PACKAGE_VERSION, TritonPackage
from benchmarks.plots import bar_plot
from benchmarks.report import Report
from benchmarks.servers import ROWS_MAX, Server, start_vireo
from benchmarks.turns import cpu, one_round, rate
from benchmarks.wire_report import JUDGED_CALLERS, Bars, ModelRun, Names, judgements_of, notes_of, table_of
from benchmarks.workloads.ranker.inputs import ranker_inputs
from benchmarks.workloads.ranker.network import MODEL as RANKER
from benchmarks.workloads.ranker.requests import BATCH_REQUESTS_MAX, CANDIDATES

CHECKED = 16
ANSWER_S_MAX = 10.0
FRAUD_VERSION = 2
"""The newest, which is what Vireo serves unless told otherwise."""

PLAIN_CALLERS = (1, JUDGED_CALLERS)
"""Under how many callers the Triton without batching is measured: where it is judged by, and alone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long to look."""

    rounds: int
    callers: tuple[int, ...]
    duration_s: float
    warmup_s: float


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, its requests, and what is promised for it. `models` is its repository, `model_file` the version served."""

    model: str
    models: Path
    model_file: Path
    frames: Path
    rows_max: int
    bare_calls: int
    bars: Bars


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to measure; `process` is None where it is not ours and its CPU cannot be read."""

    name: str
    host: str
    port: int
    process: ServerProcess | None

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class WireData:
    """The raw results."""

    names: Names
    runs: list[ModelRun]


Start = Callable[[Workload, Path], Server]
Answer = dict[str, Any]


def run(options: Options) -> Report:
    """Measure and report. Raises SkippedError where there is no Triton."""
    if options.triton is None and not TritonPackage().installed:
        raise SkippedError(f"wire is skipped: no Triton is installed here; '{INSTALL}' does that")
    plan = (
        Plan(rounds=2, callers=(1, JUDGED_CALLERS), duration_s=1.0, warmup_s=0.3)
        if options.quick
        else Plan(rounds=5, callers=(1, 8, JUDGED_CALLERS, 64), duration_s=2.0, warmup_s=0.4)
    )
    names = names_of(options)
    return report_of(options, WireData(names, [run_model(each, names, plan, options) for each in workloads(options)]))


def workloads(options: Options) -> list[Workload]:
    """Both models, made now where they are missing."""
    fraud, ranker = fraud_inputs(options.inputs), ranker_inputs()
    return [
        Workload(
            model=FRAUD,
            models=fraud.models,
            model_file=fraud.model_file(FRAUD_VERSION),
            frames=fraud.frames,
            rows_max=ROWS_MAX,
            bare_calls=10_000,
            bars=Bars(cpu_us_max=44.0, p99=True),
        ),
        Workload(
            model=RANKER,
            models=ranker.models,
            model_file=ranker.model_file,
            frames=ranker.frames,
            rows_max=BATCH_REQUESTS_MAX * CANDIDATES,
            bare_calls=2_000,
            bars=Bars(cpu_of_bare_max=1.5, beside_plain=True),
        ),
    ]


def starts(options: Options) -> list[Start]:
    """How each server is started here: ours first, then its rivals."""
    return [*(vireo_start(transport) for transport in options.transports or (None,)), *rivals(options)]


def rivals(options: Options) -> list[Start]:
    """Those of the rivals that are here. One more is one more line, and its name in `names_of` if promises name it."""
    ours = options.triton is None
    known = {triton_start: ours, plain_triton_start: ours, front_start: FrontEnvironment().installed}
    return [start for start, here in known.items() if here]


def vireo_start(transport: str | None) -> Start:
    """Starts `vireo serve` with this transport; None leaves the choice to it."""
    return lambda workload, out: start_vireo(
        models=workload.models, out=out, model=workload.model, rows_max=workload.rows_max, transport=transport
    )


def triton_start(workload: Workload, out: Path) -> Server:
    """Starts Triton with the same model and the same bound on a batch."""
    return start_triton(model_file=workload.model_file, out=out, model=workload.model, rows_max=workload.rows_max)


def plain_triton_start(workload: Workload, out: Path) -> Server:
    """Starts Triton with the same model, every request run alone."""
    return start_triton(
        model_file=workload.model_file,
        out=out,
        dynamic_batching=False,
        model=workload.model,
        rows_max=workload.rows_max,
    )


def front_start(workload: Workload, out: Path) -> Server:
    """Starts the bare front of a compiled library with the same model; it runs every request alone."""
    return start_native_front(model_file=workload.model_file, out=out, model=workload.model)


def names_of(options: Options) -> Names:
    """Who is judged beside whom."""
    ours = f"vireo {options.transports[0]}" if options.transports else "vireo"
    front = FRONT if FrontEnvironment().installed else None
    if options.triton is not None:
        return Names(ours, f"Triton at {options.triton}", None, front, rival_is_promised=False)
    return Names(ours, BATCHED, UNBATCHED, front)


def run_model(workload: Workload, names: Names, plan: Plan, options: Options) -> ModelRun:
    """All rounds with one model, on servers started for it."""
    out = options.out / "wire" / workload.model
    bare, turns = [], []
    with ExitStack() as stack:
        servers = [stack.enter_context(start(workload, out)) for start in starts(options)]
        contenders = [Contender(each.name, "127.0.0.1", each.grpc_port, each.process) for each in servers]
        if options.triton is not None:
            contenders.append(triton_elsewhere(options.triton, names.rival, workload.model))
        differences = differences_from(names.rival, contenders, workload.frames)

        def measured(contender: Contender, callers: int) -> Measured | None:
            if not is_met(contender.name, callers):
                return None
            return measure_one(contender, order_for(contender, callers, workload, plan))

        for number in range(plan.rounds):
            bare.append(measure_bare(workload.model_file, workload.frames, workload.bare_calls))
            turns += one_round(number, contenders, plan.callers, measured)
    return ModelRun(workload.model, workload.bars, bare, differences, turns)


def triton_elsewhere(address: str, name: str, model: str) -> Contender:
    """The Triton at HOST:PORT. Raises ServerError when it is not ready with `model`."""
    if not triton_ready(address, model)():
        raise ServerError(f"no Triton at {address} is ready with a model '{model}'")
    host, _, port = address.rpartition(":")
    return Contender(name, host, int(port), None)


def is_met(server: str, callers: int) -> bool:
    """Whether a server is measured under so many callers: the Triton without batching only where it matters."""
    return server != UNBATCHED or callers in PLAIN_CALLERS


def order_for(contender: Contender, callers: int, workload: Workload, plan: Plan) -> LoadOrder:
    """A closed loop against one server."""
    return LoadOrder(
        host=contender.host,
        port=contender.port,
        frames=str(workload.frames),
        callers=callers,
        duration_s=plan.duration_s,
        warmup_s=plan.warmup_s,
        core=LOAD_CORE,
    )


def measure_one(contender: Contender, order: LoadOrder) -> Measured:
    """The load, and the server's CPU where it runs here."""
    if contender.process is None:
        return Measured(run_load(order), None, math.nan)
    return measure(order, contender.process)


def differences_from(name: str, contenders: Sequence[Contender], frames: Path) -> dict[str, float]:
    """How far the answers of each server are from those of the one called `name`, at most, over CHECKED requests."""
    messages = [message_of(frame) for frame in read_frames(frames)[:CHECKED]]
    said = {each.name: [answer_of(each.address, message) for message in messages] for each in contenders}
    return {
        other: max(difference(one, rival) for one, rival in zip(answers, said[name], strict=True))
        for other, answers in said.items()
        if other != name
    }


def answer_of(address: str, message: bytes) -> Answer:
    """What the server at HOST:PORT says: its outputs by name."""
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        reply = stub.ModelInfer(service_pb2.ModelInferRequest.FromString(message), timeout=ANSWER_S_MAX)
    return {each.name: array_of(each, raw) for each, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)}


def difference(one: Answer, other: Answer) -> float:
    """The largest difference of two answers; infinite where they are not of the same form."""
    if {name: array.shape for name, array in one.items()} != {name: array.shape for name, array in other.items()}:
        return math.inf
    return max(float(np.abs(array - other[name]).max()) for name, array in one.items())


def report_of(options: Options, data: WireData) -> Report:
    """Tables, plots and judgements from the raw results. Pure but for the machine's description."""
    elsewhere = f"{data.names.rival}, whose CPU is not known,"
    rival = f"Triton ({PACKAGE} {PACKAGE_VERSION})" if options.triton is None else elsewhere
    return Report(
        name="wire",
        about=f"gRPC serving beside {rival} in a closed loop, servers on one core, generator on another",
        seed=options.seed,
        judgements=[judgement for each in data.runs for judgement in judgements_of(each, data.names)],
        tables=[table_of(each, data.names) for each in data.runs],
        figures=[figure for each in data.runs for figure in plots_of(each)],
        data=data,
        notes=[note for each in data.runs for note in notes_of(each, data.names)],
    )


def plots_of(measured: ModelRun) -> list[str]:
    """Requests a second and CPU a request under JUDGED_CALLERS."""
    servers = list(dict.fromkeys(turn.server for turn in measured.turns))
    where = f"{measured.model}, {JUDGED_CALLERS} callers"
    rates = {name: measured.middle(rate, name, JUDGED_CALLERS) for name in servers}
    spent = {"bare session.run": measured.bare_us}
    spent |= {name: each for name in servers if not math.isnan(each := measured.middle(cpu, name, JUDGED_CALLERS))}
    return [
        bar_plot(f"Requests a second, {where}", rates, "requests/s"),
        bar_plot(f"CPU per request, {where}", spent, "µs"),
    ]


if __name__ == "__main__":
    sys.exit(run_command(run, __doc__))
