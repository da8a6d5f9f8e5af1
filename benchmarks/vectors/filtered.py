"""Part `filtered`: filters that let 0.1 to 90% of the points through, that know nothing of the query, ask for its own places, or
for those far away from it."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.features.part import DRIVER_S_MAX, Part, Setting, kept, say, undecided
from benchmarks.graphs.running import run_driver
from benchmarks.harness import SERVER_CORE
from benchmarks.report import Judgement
from benchmarks.table import Cell, Table
from benchmarks.vectors.curve import Curve, Point
from benchmarks.vectors.inprocess import SHARE, rounds_of
from benchmarks.vectors.inputs import Inputs, K, gloss_vectors, prepared
from benchmarks.vectors.places import PLACES, Case, cases, places, truths_of
from benchmarks.vectors.rivals import curves_of, those_there
from benchmarks.vectors.touched import touched

DRIVER = "benchmarks.vectors.drive_filtered"
OURS = "Vireo"
DATABASES = ("zvec", "qdrant")
EFFORTS = (64, 256)
FAISS_CANDIDATES = 160
QUERIES = 1_000
RECALL, QPS = 0.99, 2_000
COLUMNS = [
    "filter",
    "passing",
    "who",
    "recall@10",
    "exactly k",
    "queries/CPU s",
    "first pass, CPU µs",
    "p50 µs",
    "p99 µs",
]


@dataclass(frozen=True, slots=True)
class Filtered:
    """One contender in one case. `first_us`: CPU of a query while its filter is new; None where it is not known."""

    who: str
    kind: str
    share: float
    point: Point
    first_us: float | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """Files: `queries`; `columns` of all points and `final` ones of those that are left; `bounds` and `truths` of each case."""

    queries: Path
    columns: dict[str, Path]
    final: dict[str, Path]
    cases: list[Case]
    bounds: list[Path]
    truths: list[Path]


def run(setting: Setting) -> Part:
    """Measure and conclude."""
    inputs = prepared(setting, "glosses", gloss_vectors, share=SHARE)
    with tempfile.TemporaryDirectory() as folder:
        say("filtered: what must be found")
        asked = asked_of(setting, inputs, Path(folder))
        say("filtered: Vireo and FAISS by turns")
        told = ours_and_faiss(setting, inputs, asked, Path(folder))
        found = msgspec.convert(told["found"], list[Filtered])
        curves, missing = those_there(DATABASES, lambda who: rival(who, setting, inputs, asked))
    for curve in curves:
        found += best_of(curve, asked.cases)
    notes = [f"Vireo's parts: {told['parts']}", *missing]
    return Part(judgements(setting, found), [table_of(found)], notes=notes, data=found)


def asked_of(setting: Setting, inputs: Inputs, folder: Path) -> Asked:
    """The columns, the filters, and by brute force what is to be found."""
    vectors, queries = np.load(inputs.vectors), np.load(inputs.queries)[:QUERIES]
    alive = touched(vectors, SHARE, setting.seed).alive
    place, of_queries = places(vectors, queries, setting.seed)
    chance = np.random.default_rng(setting.seed).permutation(len(vectors)) % PLACES
    columns = {"chance": chance, "place": place}
    final = {name: column[alive] for name, column in columns.items()}
    every = cases(of_queries, setting.seed)
    truths = truths_of(np.load(inputs.final), queries, final, every, K)
    return Asked(
        kept_as(folder / "asked.npy", queries),
        {name: kept_as(folder / f"{name}.npy", each) for name, each in columns.items()},
        {name: kept_as(folder / f"{name}-final.npy", each) for name, each in final.items()},
        every,
        [kept_as(folder / f"bounds-{at}.npy", each.bounds) for at, each in enumerate(every)],
        [kept_as(folder / f"truth-{at}.npy", each) for at, each in enumerate(truths)],
    )


def kept_as(path: Path, array: Any) -> Path:  # noqa: ANN401
    """The file of an array."""
    np.save(path, array)
    return path


def ours_and_faiss(setting: Setting, inputs: Inputs, asked: Asked, folder: Path) -> Any:  # noqa: ANN401 - the driver's JSON
    """Every case on one core."""
    told = [
        {"kind": case.kind, "share": case.share, "column": case.column, "bounds": str(bounds), "truth": str(truth)}
        for case, bounds, truth in zip(asked.cases, asked.bounds, asked.truths, strict=True)
    ]
    order = {
        "vectors": str(inputs.vectors),
        "queries": str(asked.queries),
        "share": SHARE,
        "columns": {name: str(path) for name, path in asked.columns.items()},
        "cases": told,
        "k": K,
        "candidates": FAISS_CANDIDATES,
        "rounds": rounds_of(setting),
        "seed": setting.seed,
        "folder": f"{folder}/collection",
    }
    return run_driver(DRIVER, order, core=SERVER_CORE, timeout_s=DRIVER_S_MAX)


def rival(who: str, setting: Setting, inputs: Inputs, asked: Asked) -> Curve:
    """Every case at every effort, case by case. Raises NotInstalledError, PeerError."""
    runs, truths = [], []
    for case, bounds, truth in zip(asked.cases, asked.bounds, asked.truths, strict=True):
        for effort in EFFORTS:
            runs.append({"setting": effort, "filter": {"column": case.column, "bounds": str(bounds)}})
            truths.append(np.load(truth))
    files = {"vectors": inputs.final, "queries": asked.queries}
    rounds = 1 if setting.quick else 2
    return curves_of(who, files, runs, truths, k=K, rounds=rounds, core=SERVER_CORE, columns=asked.final)


def best_of(curve: Curve, asked: list[Case]) -> list[Filtered]:
    """Of each case the quickest of enough recall, else the one of most."""
    found = []
    for at, case in enumerate(asked):
        some = Curve(curve.who, curve.points[at * len(EFFORTS) : (at + 1) * len(EFFORTS)])
        point = some.best(RECALL) or max(some.points, key=lambda each: each.recall)
        found.append(Filtered(f"{curve.who}, ef {point.setting}", case.kind, case.share, point))
    return found


def judgements(setting: Setting, found: list[Filtered]) -> list[Judgement]:
    """Of ours, in each case."""
    judged = []
    for each in (one for one in found if one.who == OURS):
        point = each.point
        promise = f"{each.share:.1%} pass, {each.kind}: recall@10 at least {RECALL}, exactly k, {QPS:,} queries/CPU s"
        said = f"{point.recall:.4f}, k in {point.exactly_k:.1%}, {point.qps:,.0f}"
        held = point.recall >= RECALL and point.exactly_k == 1.0 and point.qps >= QPS
        judged.append(undecided(promise, f"{said}, but a quick run has few points") if setting.quick
                      else kept(promise, held, said))  # fmt: skip
    return judged


def table_of(found: list[Filtered]) -> Table:
    """Case by case."""
    rows: list[list[Cell]] = []
    for each in sorted(found, key=lambda one: (one.kind != "uncorrelated", one.kind, one.share)):
        point = each.point
        rows.append([
            each.kind, f"{each.share:.1%}", each.who, f"{point.recall:.4f}", f"{point.exactly_k:.1%}", point.qps,
            each.first_us, point.middle("p50_us"), point.middle("p99_us"),
        ])  # fmt: skip
    about = (
        "One query a call on one core. FAISS: one inverted list of PQfs with a bitmap and 160 candidates scored exactly, or the "
        "rows that pass gathered up to 1%; its filters were evaluated beforehand. Ours and the databases evaluate theirs; those "
        "met again may be known, except in the first pass."
    )
    return Table("Filtered search", about, COLUMNS, rows)
