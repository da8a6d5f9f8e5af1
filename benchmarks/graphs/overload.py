"""Part `overload`: up to twice the rate that a graph sustains, with a deadline; and one class of requests beside the other.

Every request carries its deadline. What is accepted must be answered in time, what cannot be must be refused rather than computed
in vain: an answer after its deadline is work wasted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tritonclient.grpc import service_pb2

from benchmarks.features.part import Part, Setting, kept, say, undecided
from benchmarks.fraud_inputs import fraud_inputs
from benchmarks.graphs.contenders import Contender, like_contender
from benchmarks.graphs.exposition import Counters, grown, read_counters
from benchmarks.graphs.running import write_frames
from benchmarks.harness import LOAD_CORE, Measured
from benchmarks.load.frames import message_of, read_frames
from benchmarks.load.order import LoadOrder
from benchmarks.load.process import LoadProcess
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table, number_cell, percent_cell
from benchmarks.turns import median_of, number_or_nan

DEADLINE_MS = 100
FACTORS = (0.8, 1.0, 1.5, 2.0)
OVERLOADED = FACTORS[-1]
GOODPUT_SHARE_MIN, WASTED_SHARE_MAX = 0.9, 0.01
FULL_CALLERS = 64
LATE, COMPUTED = "vireo_requests_late_total", "vireo_requests_success_total"
BATCH_PRIORITY = 2
INTERACTIVE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Point:
    """One rate: `late` of the `computed` calls of servables ended after their deadline; None where nobody counts them."""

    factor: float
    measured: Measured
    late: float | None
    computed: float | None

    @property
    def late_answers(self) -> int:
        """Answers that were good but for the time."""
        load = self.measured.load
        return load.ok - round(load.goodput_share * load.requests)

    @property
    def wasted_share(self) -> float:
        """Of what was computed, how much was too late: as the server counts, or as the caller does, whichever is more."""
        answered = self.late_answers / max(self.measured.load.ok, 1)
        counted = 0.0 if self.late is None else self.late / max(self.computed or 0.0, 1.0)
        return max(answered, counted)


@dataclass(frozen=True, slots=True)
class Classes:
    """Interactive requests alone, and while others fill the server: of the batch class, or of their own."""

    alone: Measured
    beside_batch: Measured
    beside_own: Measured
    batch_per_s: float


@dataclass(frozen=True, slots=True)
class OverloadRun:
    """`sustained_per_s` is what FACTORS multiply; `peak_per_s` the best goodput seen at any rate."""

    name: str
    sustained_per_s: float
    peak_per_s: float
    points: list[Point]
    classes: Classes | None


def run(setting: Setting) -> Part:
    """Measure and conclude, on the graph that is like the stack."""
    say("overload")
    out = setting.out / "graphs-overload"
    with like_contender(fraud_inputs(setting.inputs), out, setting.seed) as contender:
        sustained_per_s = full_rate(contender, 0.5 if setting.quick else 3.0)
        return overload(contender, sustained_per_s, 0.0, out, quick=setting.quick)


def full_rate(contender: Contender, duration_s: float) -> float:
    """What a closed loop of many callers gets."""
    order = LoadOrder(
        port=contender.port, frames=str(contender.frames), callers=FULL_CALLERS, duration_s=duration_s, warmup_s=0.5,
        core=LOAD_CORE,
    )  # fmt: skip
    return contender.measure(order).load.throughput_per_s


def overload(contender: Contender, sustained_per_s: float, peak_per_s: float, out: Path, *, quick: bool) -> Part:
    """The part for any contender whose sustained rate is known; `peak_per_s`: the best goodput seen so far."""
    order = LoadOrder(
        port=contender.port, frames=str(contender.frames), rate_per_s=sustained_per_s, duration_s=0.5 if quick else 5.0,
        warmup_s=0.5 if quick else 2.0, core=LOAD_CORE, deadline_ms=DEADLINE_MS, timeout_ms=DEADLINE_MS,
    )  # fmt: skip
    points = [point(contender, replace(order, rate_per_s=sustained_per_s * factor), factor) for factor in FACTORS]
    peak_per_s = max(peak_per_s, *(each.measured.load.goodput_per_s for each in points))
    found = OverloadRun(contender.name, sustained_per_s, peak_per_s, points, classes(contender, order, peak_per_s, out))
    return Part(judgements_of(found), [points_table(found), *classes_tables(found)], data=found)


def point(contender: Contender, order: LoadOrder, factor: float) -> Point:
    """One rate, and what the server says of it."""
    before = counters(contender)
    measured = contender.measure(order)
    after = counters(contender)
    if before is None or after is None:
        return Point(factor, measured, None, None)
    return Point(factor, measured, grown(before, after, LATE), grown(before, after, COMPUTED))


def counters(contender: Contender) -> Counters | None:
    """None of a rival."""
    return None if contender.metrics_port is None else read_counters(contender.metrics_port)


def classes(contender: Contender, order: LoadOrder, peak_per_s: float, out: Path) -> Classes:
    """A few interactive requests, alone and beside as many others as the server takes."""
    interactive = replace(order, rate_per_s=INTERACTIVE_SHARE * peak_per_s, spin_us=0)
    batch = batch_frames(contender.frames, out)
    alone = contender.measure(interactive)
    beside_batch, batch_per_s = beside(contender, interactive, str(batch))
    beside_own, _ = beside(contender, interactive, str(contender.frames))
    return Classes(alone, beside_batch, beside_own, batch_per_s)


def beside(contender: Contender, interactive: LoadOrder, frames: str) -> tuple[Measured, float]:
    """The interactive load while a closed loop fills the server; also what that loop gets a second."""
    filling = LoadOrder(
        port=contender.port, frames=frames, callers=FULL_CALLERS, core=LOAD_CORE, spin_us=0,
        duration_s=interactive.duration_s + interactive.warmup_s + 1.0, warmup_s=0.3,
    )  # fmt: skip
    with LoadProcess(filling) as load:
        measured = contender.measure(interactive)
        return measured, load.finish().throughput_per_s


def batch_frames(frames: Path, out: Path) -> Path:
    """The same requests, of the batch class."""
    asked = [service_pb2.ModelInferRequest.FromString(message_of(each)) for each in read_frames(frames)]
    for each in asked:
        each.parameters["priority"].int64_param = BATCH_PRIORITY
    return write_frames(out / "batch.frames", [each.SerializeToString(deterministic=True) for each in asked])


def judgements_of(found: OverloadRun) -> list[Judgement]:
    """The bars at the highest rate."""
    (worst,) = [each for each in found.points if each.factor == OVERLOADED]
    load = worst.measured.load
    p99_ms, share = load.latency_ms.p99, load.goodput_per_s / found.peak_per_s if found.peak_per_s else 0.0
    at = f"{found.name} at {OVERLOADED:g} x the sustained rate"
    judged = []
    if p99_ms is None:
        judged.append(undecided(f"{at}: p99 of what is accepted within {DEADLINE_MS} ms", "too few answers"))
    else:
        told = f"{p99_ms:.1f} ms"
        judged.append(kept(f"{at}: p99 of what is accepted within {DEADLINE_MS} ms", p99_ms <= DEADLINE_MS, told))
    told = f"{share:.0%} of {found.peak_per_s:,.0f}/s"
    judged.append(kept(f"{at}: goodput at least {GOODPUT_SHARE_MIN:.0%} of the peak", share >= GOODPUT_SHARE_MIN, told))
    promise = f"{at}: less than {WASTED_SHARE_MAX:.0%} of what is computed is too late"
    judged.append(kept(promise, worst.wasted_share < WASTED_SHARE_MAX, f"{worst.wasted_share:.2%}"))
    return judged


def points_table(found: OverloadRun) -> Table:
    """Every rate."""
    columns = [
        "offered",
        "offered/s",
        "goodput/s",
        "goodput of peak",
        "p50 ms",
        "p99 ms",
        "refused",
        "too late",
        "computed in vain",
    ]
    return Table(
        f"Overload, {found.name}",
        f"Every request has a deadline of {DEADLINE_MS} ms; latency of what was answered. Sustained: "
        f"{found.sustained_per_s:,.0f}/s.",
        columns,
        [point_row(each, found.peak_per_s) for each in found.points],
    )


def point_row(each: Point, peak_per_s: float) -> list[Cell]:
    """One line."""
    load = each.measured.load
    return [
        f"{each.factor:g} x", load.offered_per_s, load.goodput_per_s,
        percent_cell(load.goodput_per_s / peak_per_s) if peak_per_s else None,
        load.latency_ms.p50, load.latency_ms.p99, told_errors(load.errors), each.late_answers,
        f"{each.wasted_share:.2%}",
    ]  # fmt: skip


def told_errors(errors: dict[str, int]) -> str:
    """Such as "RESOURCE_EXHAUSTED 120"."""
    return ", ".join(f"{name} {count:,}" for name, count in errors.items()) or "0"


def classes_tables(found: OverloadRun) -> Sequence[Table]:
    """Interactive requests beside others."""
    if found.classes is None:
        return []
    each = found.classes
    about = (
        f"Interactive requests at {INTERACTIVE_SHARE:.0%} of the peak while {FULL_CALLERS} callers in a closed loop fill the "
        f"server; as batch class they got {each.batch_per_s:,.0f}/s."
    )
    rows = [
        class_row("alone", each.alone),
        class_row("beside the batch class", each.beside_batch),
        class_row("beside as many of its own class", each.beside_own),
    ]
    columns = ["interactive", "offered/s", "goodput", "p50 ms", "p99 ms", "p99 to alone", "errors"]
    alone = number_or_nan(each.alone.load.latency_ms.p99)
    for row, measured in zip(rows, (each.alone, each.beside_batch, each.beside_own), strict=True):
        row[5] = number_cell(median_of([number_or_nan(measured.load.latency_ms.p99) / alone]))
    return [Table(f"Priority classes, {found.name}", about, columns, rows)]


def class_row(name: str, measured: Measured) -> list[Cell]:
    """One line, its ratio left open."""
    load = measured.load
    share = f"{load.goodput_share:.2%}"
    return [name, load.offered_per_s, share, load.latency_ms.p50, load.latency_ms.p99, None, told_errors(load.errors)]
