"""Part `wire`: a lookup over gRPC beside an empty call to the same server, and beside it both through the v2 protocol.

`vireo serve` on core 0, the generator on core 1, closed loops of one caller and of 32, in turns, round after round.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import yaml
from tritonclient.grpc import service_pb2

from benchmarks.features.events import Stream, batches, newest_us, read_stream, stream_file
from benchmarks.features.part import Part, Setting, kept, say
from benchmarks.features.states import NAME
from benchmarks.features.views import LOG, local_log, narrow_view, spec_of, wide_view
from benchmarks.harness import LOAD_CORE, SERVER_CORE, ServerProcess, free_port, grpc_ready, measure, python_module
from benchmarks.load.frames import join_frames
from benchmarks.load.order import INFER_PATH, LoadOrder
from benchmarks.report import Judgement
from benchmarks.table import Table, number_cell
from benchmarks.turns import Rounds, Turn, cpu, p50, p99, rate
from protos.vireo.v1 import features_pb2, features_pb2_grpc

EMPTY = "empty call (ServerLive)"
ONE, MANY = "Get, 1 x 20", "Get, 100 x 50"
INFER = "ModelInfer, 1 x 20"
PATHS = {
    EMPTY: "/inference.GRPCInferenceService/ServerLive",
    ONE: "/vireo.v1.Features/Get",
    MANY: "/vireo.v1.Features/Get",
    INFER: INFER_PATH,
}
P50_RATIO_MAX = 1.2
DIFFERENT = 1024
WIDE = "wide"
PUSHED_ROWS = 1 << 15
WAIT_MS = 60_000
COLUMNS = ["call", "callers", "requests/s", "p50 ms", "p99 ms", "CPU µs/request", "p50 ratio to empty", "errors"]


@dataclass(frozen=True, slots=True)
class WireRun(Rounds):
    """All turns; the "server" of a turn is which call it made."""

    turns: list[Turn]


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    say("lookups over gRPC")
    stream = (
        Stream(20_000, 200_000, seed=setting.seed) if setting.quick else Stream(200_000, 2_000_000, seed=setting.seed)
    )
    rounds, duration_s = (2, 1.0) if setting.quick else (7, 2.0)
    out = setting.out / "features-wire"
    with ExitStack() as stack:
        port, server = started(stream, out)
        stack.callback(server.stop)
        table = read_stream(stream_file(stream, setting.cache))
        push(port, table)
        write_frames(out, stream, as_of_of(table), setting.seed)
        turns = []
        for number in range(rounds):
            for callers in (1, 32):
                for call in list(PATHS)[:: 1 if number % 2 == 0 else -1]:
                    order = LoadOrder(
                        port=port, frames=str(frames_file(out, call)), path=PATHS[call], callers=callers,
                        duration_s=duration_s, warmup_s=0.3, core=LOAD_CORE,
                    )  # fmt: skip
                    turns.append(Turn(number, call, callers, measure(order, server)))
    found = WireRun(turns)
    return Part(judgements_of(found), [table_of(found)], data=found)


def started(stream: Stream, out: Path) -> tuple[int, ServerProcess]:
    """`vireo serve` with both views, ready, on an empty log. Raises ServerError."""
    import shutil

    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    port = free_port()
    views = {NAME: narrow_view(entities_max=2 * stream.entities), WIDE: wide_view(entities_max=stream.entities)}
    spec = spec_of(views, local_log(str(out / "log"), "os"), grpc_port=port, http_port=free_port())
    (out / "app.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    command = python_module("serving.cli", "serve", str(out / "app.yaml"))
    server = ServerProcess(command, log=out / "vireo.log", core=SERVER_CORE)
    server.wait_ready(grpc_ready(port, NAME))
    return port, server


def push(port: int, table: pa.Table) -> None:
    """The events, as a client would, until both views show them."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = features_pb2_grpc.FeaturesStub(channel)  # type: ignore[no-untyped-call]
        pushed = batches(table, PUSHED_ROWS)
        for number, batch in enumerate(pushed):
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, batch.schema) as writer:
                writer.write_batch(batch)
            last = number == len(pushed) - 1
            request = features_pb2.PushRequest(log=LOG, arrow=sink.getvalue().to_pybytes())
            if last:
                request.wait_for.extend([NAME, WIDE])
                request.wait_ms = WAIT_MS
            pending = stub.Push(request, timeout=2 * WAIT_MS / 1e3).pending
            assert not pending, f"{pending} have not caught up"


def as_of_of(table: pa.Table) -> int:
    """Just after the newest event."""
    return newest_us(table) + 1


def write_frames(out: Path, stream: Stream, as_of_us: int, seed: int) -> None:
    """The requests of each kind of call, entities rotating."""
    rng = np.random.default_rng(seed)

    def get(view: str, count: int) -> bytes:
        cards = rng.integers(0, stream.entities, count).tolist()
        request = features_pb2.GetRequest(view=view, int64_entities=cards, as_of_us=[as_of_us])
        return bytes(request.SerializeToString())

    messages = {
        EMPTY: [bytes(service_pb2.ServerLiveRequest().SerializeToString())],
        ONE: [get(NAME, 1) for _ in range(DIFFERENT)],
        MANY: [get(WIDE, 100) for _ in range(DIFFERENT)],
        INFER: [infer_message(int(card), as_of_us) for card in rng.integers(0, stream.entities, DIFFERENT)],
    }
    for call, each in messages.items():
        frames_file(out, call).write_bytes(join_frames(each))


def infer_message(card: int, as_of_us: int) -> bytes:
    """The same lookup as an inference of the view."""
    request = service_pb2.ModelInferRequest(model_name=NAME)
    for name, value in (("card", card), ("as_of", as_of_us)):
        request.inputs.add(name=name, datatype="INT64", shape=[1])
        request.raw_input_contents.append(np.array([value], np.int64).tobytes())
    return bytes(request.SerializeToString())


def frames_file(out: Path, call: str) -> Path:
    """Where the requests of a kind of call lie."""
    return out / f"{list(PATHS).index(call)}.frames"


def judgements_of(found: WireRun) -> list[Judgement]:
    """One caller's p50 beside the empty call's; and that nothing failed."""
    ratio = found.ratio(p50, ONE, EMPTY, 1)
    failed = sum(turn.failed for turn in found.turns)
    return [
        kept(
            f"read 1 x 20 over gRPC: p50 at most {P50_RATIO_MAX:g} x that of an empty call",
            ratio <= P50_RATIO_MAX,
            f"{ratio:.2f} x {found.middle(p50, EMPTY, 1) * 1e3:.0f} µs",
        ),
        kept("reads over gRPC: no request fails", failed == 0, f"{failed} failed"),
    ]


def table_of(found: WireRun) -> Table:
    """Every kind of call under both numbers of callers."""
    rows = [
        [
            call,
            callers,
            *(number_cell(found.middle(figure, call, callers)) for figure in (rate, p50, p99, cpu)),
            number_cell(found.ratio(p50, call, EMPTY, callers)),
            sum(turn.failed for turn in found.of(call, callers)),
        ]
        for callers in (1, 32)
        for call in PATHS
    ]
    about = "Entities x features; `vireo serve` on one core, the generator on another; medians over rounds, ratios within one."
    return Table("Reads over gRPC", about, COLUMNS, [list(row) for row in rows])
