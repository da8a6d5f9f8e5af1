"""Part `log`: events through the local log, fsync before every acknowledgement, until a view shows them."""

from dataclasses import dataclass
from statistics import median

from benchmarks.features.events import Stream, stream_file
from benchmarks.features.part import Part, Setting, kept, run_driver, say
from benchmarks.features.views import judged_view
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from benchmarks.table import Cell, Table

RATE_MIN = 1e6
JUDGED = (1 << 16, "fsync", 1)
SHAPES = (JUDGED, (4096, "fsync", 1), (256, "fsync", 1), (256, "fsync", 8), (1 << 16, "os", 1), (256, "os", 1))
"""Rows of a batch, durability, threads that push."""

COLUMNS = ["batch rows", "durability", "threads", "events", "M events/s", "acknowledged, M/s", "M events/CPU s"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `pushed_s`: until the last acknowledgement; `wall_s`: until the view shows it."""

    rows: int
    durability: str
    pushers: int
    events: int
    wall_s: float
    pushed_s: float
    cpu_s: float


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    say("events through the local log")
    rounds = 1 if setting.quick else 3
    found = [measure(setting, *shape) for shape in SHAPES for _ in range(rounds)]
    rates = [each.events / each.wall_s for each in found if (each.rows, each.durability, each.pushers) == JUDGED]
    rate = median(rates)
    promise = f"through the local log with fsync: at least {RATE_MIN / 1e6:g} M events/s in batches of {JUDGED[0]:,}"
    return Part([kept(promise, rate >= RATE_MIN, f"{rate / 1e6:.2f} M events/s")], [table_of(found)], data=found)


def measure(setting: Setting, rows: int, durability: str, pushers: int) -> Measured:
    """One run; the log lies in the folder of the reports, on its disk."""
    entities, most = (20_000, 400_000) if setting.quick else (200_000, 4_000_000)
    stream = Stream(entities, most, seed=setting.seed)
    setting.out.mkdir(parents=True, exist_ok=True)
    order = {
        "file": str(stream_file(stream, setting.cache)),
        "view": judged_view(entities_max=2 * entities),
        "prefill": stream.prefill,
        "rows": rows,
        "events": min(most, rows * (200 if setting.quick else 1000)),
        "durability": durability,
        "pushers": pushers,
        "folder": str(setting.out),
    }
    found = run_driver("log", order, core=(SERVER_CORE, LOAD_CORE))
    return Measured(rows, durability, pushers, **found)


def table_of(found: list[Measured]) -> Table:
    """A line for each shape."""
    rows: list[list[Cell]] = []
    for shape in dict.fromkeys((each.rows, each.durability, each.pushers) for each in found):
        runs = [each for each in found if (each.rows, each.durability, each.pushers) == shape]
        rates = [
            median(each.events / getattr(each, figure) for each in runs) / 1e6
            for figure in ("wall_s", "pushed_s", "cpu_s")
        ]
        rows.append([*shape, runs[0].events, *rates])
    about = (
        "From the first push until the view shows the last event; log, view and pushers in one process on both cores."
    )
    return Table("Through the local log", about, COLUMNS, rows)
