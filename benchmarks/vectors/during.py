"""Part `during`: how long searches take while 500 points a second arrive and a merge runs, beside quiet."""

import tempfile
from dataclasses import dataclass
from statistics import median

from benchmarks.features.latency import Latency, latency_of
from benchmarks.features.part import DRIVER_S_MAX, Part, Setting, kept, say, undecided
from benchmarks.graphs.running import run_driver
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from benchmarks.report import Judgement
from benchmarks.table import Table
from benchmarks.vectors.inprocess import SHARE
from benchmarks.vectors.inputs import K, gloss_vectors, prepared

DRIVER = "benchmarks.vectors.drive_during"
BOTH = (SERVER_CORE, LOAD_CORE)
PER_S, WRITERS = 500, 8
SEARCHES_PER_S = 1_000
RATIO = 1.5
QUIET, BUSY = "quiet", "upserts and a merge"
PHASES = (QUIET, "upserts", BUSY)
COLUMNS = ["phase", "p50 µs", "p99 µs", "p99.9 µs", "p99 x quiet", "searches/s", "upserts/s", "merges"]


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of one round."""

    phase: str
    latency: Latency
    upserts_per_s: float
    merges: int


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    setting.out.mkdir(parents=True, exist_ok=True)
    inputs = prepared(setting, "glosses", gloss_vectors, share=SHARE)
    seconds = 2.0 if setting.quick else 10.0
    say("during: quiet, upserts, upserts and a merge")
    with tempfile.TemporaryDirectory(dir=setting.out) as folder:
        order = {
            "vectors": str(inputs.vectors),
            "queries": str(inputs.queries),
            "share": SHARE,
            "k": K,
            "searches_per_s": SEARCHES_PER_S,
            "per_s": PER_S,
            "writers": WRITERS,
            "seconds": seconds,
            "rounds": 2 if setting.quick else 5,
            "seed": setting.seed,
            "folder": f"{folder}/collection",
        }
        told = run_driver(DRIVER, order, core=BOTH, timeout_s=DRIVER_S_MAX)
    found = [
        Phase(each["phase"], latency_of(each["took_us"]), each["upserts"] / seconds, each["merges"]) for each in told
    ]
    return Part(judgements(setting, found), [table_of(found, seconds)], data=found)


def ratios(found: list[Phase], phase: str) -> list[float]:
    """p99 beside that of the same round's quiet phase."""
    quiet = [each.latency.p99_us for each in found if each.phase == QUIET]
    return [each.latency.p99_us / base for each, base in zip(of(found, phase), quiet, strict=True)]


def of(found: list[Phase], phase: str) -> list[Phase]:
    """Its rounds."""
    return [each for each in found if each.phase == phase]


def judgements(setting: Setting, found: list[Phase]) -> list[Judgement]:
    """The median of rounds."""
    promise = f"search p99 while a merge runs and {PER_S} upserts/s arrive: at most {RATIO:g} x quiet"
    ratio = median(ratios(found, BUSY))
    arrived = median(each.upserts_per_s for each in of(found, BUSY))
    said = f"{ratio:.2f} x, {arrived:.0f} upserts/s"
    if setting.quick or arrived < 0.95 * PER_S:
        return [undecided(promise, f"{said}, but a run that decides is longer and has {PER_S} upserts/s")]
    return [kept(promise, ratio <= RATIO, said)]


def table_of(found: list[Phase], seconds: float) -> Table:
    """Medians of rounds."""
    rows = []
    for phase in PHASES:
        rounds = of(found, phase)
        figures = [median(getattr(each.latency, name) for each in rounds) for name in ("p50_us", "p99_us", "p999_us")]
        rows.append([
            phase, *figures, median(ratios(found, phase)), median(each.latency.calls for each in rounds) / seconds,
            median(each.upserts_per_s for each in rounds), sum(each.merges for each in rounds),
        ])  # fmt: skip
    about = (
        f"{SEARCHES_PER_S:,} searches a second at random, {WRITERS} writers of single durable points, one process, two cores. "
        "Merges rewrite all sealed segments as one, one after another. Medians of rounds."
    )
    return Table("Searches while points arrive", about, COLUMNS, rows)
