"""Part `contention`: reads while events are folded at half of the peak, and ten million reads of one hot key, none torn."""

from dataclasses import dataclass
from statistics import median

from benchmarks.features.events import Stream, stream_file
from benchmarks.features.latency import Latency, latency_of
from benchmarks.features.part import Part, Setting, kept, run_driver, say
from benchmarks.features.views import narrow_view, paired_view
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from benchmarks.report import Judgement
from benchmarks.table import Table

SHARE, P99_TIMES_MAX = 0.5, 2.0
READS = 10_000_000
TOGETHER = 100
BOTH = (SERVER_CORE, LOAD_CORE)
COLUMNS = ["reads", "p50 µs", "p99 µs", "p99.9 µs", "events/s folded meanwhile"]


@dataclass(frozen=True, slots=True)
class Round:
    """Reads with nothing beside, then reads while events are folded."""

    quiet: Latency
    busy: Latency
    written_per_s: float


@dataclass(frozen=True, slots=True)
class Torn:
    """`torn` of `reads` of one hot key, `changed` of which saw another state than the one before."""

    reads: int
    torn: int
    applied: int
    changed: int


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    say("reads beside a writer")
    peak_per_s, rounds = measure(setting)
    say("reads of one hot key")
    torn = Torn(**run_driver("contention", torn_order(setting), core=BOTH))
    return Part(
        judgements_of(rounds, torn),
        [table_of(rounds)],
        notes=[f"contention: folding alone, {peak_per_s / 1e6:.1f} M events/s"],
        data={"peak_per_s": peak_per_s, "rounds": rounds, "torn": torn},
    )


def measure(setting: Setting) -> tuple[float, list[Round]]:
    """Events a second at the peak, and the rounds."""
    entities, events = (50_000, 4_000_000) if setting.quick else (1_000_000, 16_000_000)
    stream = Stream(entities, events, seed=setting.seed, known=1)
    order = {
        "what": "latencies",
        "file": str(stream_file(stream, setting.cache)),
        "view": narrow_view(entities_max=2 * entities),
        "prefill": stream.prefill,
        "rows": 1 << 14,
        "share": SHARE,
        "calls": 5_000 if setting.quick else 20_000,
        "entities": entities,
        "rounds": 3 if setting.quick else 5,
        "seed": setting.seed,
    }
    found = run_driver("contention", order, core=BOTH)
    rounds = [
        Round(latency_of(each["quiet_us"]), latency_of(each["busy_us"]), each["written_per_s"])
        for each in found["rounds"]
    ]
    return found["peak_per_s"], rounds


def torn_order(setting: Setting) -> dict[str, object]:
    """Ten million reads, fewer in a quick run."""
    reads = READS // 20 if setting.quick else READS
    return {"what": "torn", "view": paired_view(entities_max=1024), "reads": reads, "together": TOGETHER}


def judgements_of(rounds: list[Round], torn: Torn) -> list[Judgement]:
    """p99 beside the quiet p99 of the same round; and no torn read."""
    times = median(each.busy.p99_us / each.quiet.p99_us for each in rounds)
    busy = torn.applied > 0 and torn.changed > 0
    said = f"{torn.torn} of {torn.reads:,} reads, {torn.changed:,} of them of a state that had just changed"
    return [
        kept(
            f"reads while ingesting at {SHARE:.0%} of peak: p99 at most {P99_TIMES_MAX:g} x quiet",
            times <= P99_TIMES_MAX,
            f"{times:.2f} x",
        ),
        kept("no torn read of one hot key", torn.torn == 0 and busy, said),
    ]


def table_of(rounds: list[Round]) -> Table:
    """Quiet and busy."""
    quiet, busy = ([getattr(each, name) for each in rounds] for name in ("quiet", "busy"))
    written = median(each.written_per_s for each in rounds)
    rows = [
        [name, *(median(getattr(each, figure) for each in some) for figure in ("p50_us", "p99_us", "p999_us")), beside]
        for name, some, beside in (("quiet", quiet, 0.0), ("while folding", busy, written))
    ]
    about = "1 entity x 20 features by the state's lookup; reader and writer are threads of one process on two cores."
    return Table("Reads beside a writer", about, COLUMNS, [list(row) for row in rows])
