"""Part `ingest`: events from memory into windows, on one core, beside polars and DuckDB in the same run."""

from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.features.events import Stream, stream_file
from benchmarks.features.part import Part, Setting, kept, run_driver, say, undecided
from benchmarks.features.views import judged_view
from benchmarks.harness import SERVER_CORE
from benchmarks.peers.environments import DUCKDB, POLARS, NotInstalledError, PeerEnvironment, PeerError
from benchmarks.plots import bar_plot
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table

RATE_MIN, TIMES_MIN = 10e6, 50.0
BATCH_ROWS = 1 << 16
LARGE_ROWS = 1 << 20
SMALL_ROWS = (16, 256, 4096)
TILES_S = (5, 300, 3600)
BUSY = 12
"""Events that each card has had: more than an idle one may have."""

NEW = "new cards"
COLUMNS = ["what", "stream", "batch rows", "events", "M events/s", "M events/CPU s", "rounds"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `cpu_s` is of all its threads."""

    who: str
    stream: str
    batch_rows: int
    events: int
    wall_s: float
    cpu_s: float

    @property
    def per_s(self) -> float:
        """Events a second."""
        return self.events / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        """Events a second of CPU: what a whole core would have done."""
        return self.events / self.cpu_s


@dataclass(frozen=True, slots=True)
class Rival:
    """A rival, its script, and its settings."""

    name: str
    environment: PeerEnvironment
    script: str
    batch_rows: int
    merge_every: int = 1


OURS = "vireo"
RIVALS = (
    Rival("polars, tiles merged", POLARS, "polars_tiles.py", BATCH_ROWS),
    Rival("DuckDB, upsert", DUCKDB, "duckdb_upsert.py", BATCH_ROWS),
    Rival("polars, large batches", POLARS, "polars_tiles.py", LARGE_ROWS),
    Rival("DuckDB, large batches", DUCKDB, "duckdb_upsert.py", LARGE_ROWS),
)
"""Judged beside those whose batches are as ours: what is merged once a million events is as old as that."""


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    streams = streams_of(setting)
    found: list[Measured] = []
    missing: list[str] = []
    rounds = 1 if setting.quick else 3
    for number in range(rounds):
        say(f"ingest, round {number + 1} of {rounds}")
        for name, stream in streams.items():
            found.append(measure_ours(setting, name, stream, BATCH_ROWS))
        for rival in RIVALS:
            try:
                found.append(measure_rival(setting, rival, streams[NEW]))
            except (NotInstalledError, PeerError) as error:
                missing.append(f"{rival.name} was not run: {error}")
    for rows in SMALL_ROWS:
        found.append(
            measure_ours(setting, "uniform", streams["uniform"], rows, events=200_000 if rows < 64 else 2_000_000)
        )
    judged = judgements_of(found)
    if setting.quick:
        judged = [undecided(each.promise, f"{each.said}, but a quick run has fewer cards") for each in judged]
    return Part(
        judgements=judged,
        tables=[table_of(found)],
        figures=[bar_plot("Events per CPU second, one core", rates_of(found), "million")],
        notes=[*notes_of(found), *dict.fromkeys(missing)],
        data=found,
    )


def streams_of(setting: Setting) -> dict[str, Stream]:
    """What is fed: a million cards, all of them busy before the clock starts; few cards; and cards that were hardly known."""
    entities, events = (100_000, 1_000_000) if setting.quick else (1_000_000, 4_000_000)
    return {
        "uniform": Stream(entities, events, "uniform", seed=setting.seed, known=BUSY),
        "zipf": Stream(entities, events, "zipf", seed=setting.seed, known=BUSY),
        "10k cards": Stream(10_000, events, "uniform", seed=setting.seed, known=BUSY),
        NEW: Stream(entities, events, "uniform", seed=setting.seed),
    }


def measure_ours(setting: Setting, name: str, stream: Stream, rows: int, events: int | None = None) -> Measured:
    """One run of ours."""
    order = {
        "file": str(stream_file(stream, setting.cache)),
        "view": judged_view(entities_max=2 * stream.entities),
        "rows": rows,
        "prefill": stream.prefill,
        "events": stream.events if events is None else events,
    }
    return measured(OURS, name, rows, run_driver("ingest", order, core=SERVER_CORE))


def measure_rival(setting: Setting, rival: Rival, stream: Stream) -> Measured:
    """One run of a rival, which begins with less than ours. Raises NotInstalledError, PeerError."""
    order = {
        "file": str(stream_file(stream, setting.cache)),
        "rows": min(rival.batch_rows, stream.events),
        "prefill": stream.prefill,
        "seconds": 2.0 if setting.quick else 8.0,
        "tiles_s": TILES_S,
        "merge_every": rival.merge_every,
    }
    found = rival.environment.run(rival.script, order, core=SERVER_CORE)
    return measured(rival.name, NEW, rival.batch_rows, found)


def measured(who: str, stream: str, rows: int, found: dict[str, Any]) -> Measured:
    """What a driver found."""
    return Measured(who, stream, rows, found["events"], found["wall_s"], found["cpu_s"])


def middle(found: list[Measured], who: str, stream: str = "uniform", rows: int = BATCH_ROWS) -> float | None:
    """The median of events per CPU second; None where it was not run."""
    rates = [each.per_cpu_s for each in found if (each.who, each.stream, each.batch_rows) == (who, stream, rows)]
    return median(rates) if rates else None


def judgements_of(found: list[Measured]) -> list[Judgement]:
    """The rate, and the rate beside the faster rival. By CPU time: the machine is shared, and one thread does it all."""
    judged = []
    for stream in ("uniform", "zipf"):
        rate = middle(found, OURS, stream)
        assert rate is not None
        promise = f"ingest, {stream}: at least {RATE_MIN / 1e6:g} M events/s on one core"
        judged.append(kept(promise, rate >= RATE_MIN, f"{rate / 1e6:.1f} M per CPU second"))
    promise = f"ingest: at least {TIMES_MIN:g} x the faster of polars' tile merge and DuckDB's upsert"
    rivals = {rival.name: middle(found, rival.name, NEW) for rival in RIVALS[:2]}
    known = {name: rate for name, rate in rivals.items() if rate is not None}
    ours = middle(found, OURS)
    if len(known) < len(rivals) or ours is None:
        return [*judged, undecided(promise, "not all rivals were run")]
    name = max(known, key=lambda each: known[each])
    times = ours / known[name]
    return [
        *judged,
        kept(promise, times >= TIMES_MIN, f"{times:.0f} x {name} ({known[name] / 1e3:,.0f} k per CPU second)"),
    ]


def keys_of(found: list[Measured]) -> list[tuple[str, str, int]]:
    """Who, which stream, how many rows a batch: in the order first met."""
    return list(dict.fromkeys((each.who, each.stream, each.batch_rows) for each in found))


def table_of(found: list[Measured]) -> Table:
    """A line for each kind of run."""
    rows: list[list[Cell]] = []
    for who, stream, batch_rows in keys_of(found):
        runs = [each for each in found if (each.who, each.stream, each.batch_rows) == (who, stream, batch_rows)]
        wall, cpu = median(each.per_s for each in runs), median(each.per_cpu_s for each in runs)
        rows.append([who, stream, batch_rows, runs[0].events, wall / 1e6, cpu / 1e6, len(runs)])
    about = (
        "Medians. 3 windows x 6 aggregations, distinct, last, decayed; rivals: the same tiles with count, sum, squares, min "
        "and max, nothing else, nothing evicted, and one event of every card before the clock starts; ours has had "
        f"{BUSY} of each, but for '{NEW}'."
    )
    return Table("Ingest from memory, one core", about, COLUMNS, rows)


def rates_of(found: list[Measured]) -> dict[str, float]:
    """Million events per CPU second, by name."""
    rates = {key: middle(found, *key) for key in keys_of(found)}
    return {f"{who}, {stream}, {rows:,}": rate / 1e6 for (who, stream, rows), rate in rates.items() if rate is not None}


def notes_of(found: list[Measured]) -> list[str]:
    """Beside rivals that are let gather a million events before they merge: told, not judged."""
    ours = middle(found, OURS)
    large = {each.name: middle(found, each.name, NEW, LARGE_ROWS) for each in RIVALS[2:]}
    return [
        f"ingest: {ours / rate:.0f} x {name}" for name, rate in large.items() if rate is not None and ours is not None
    ]
