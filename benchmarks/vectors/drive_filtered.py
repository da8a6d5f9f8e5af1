"""Driver `filtered`: a collection and bare FAISS, each with the same filters, one process, by turns.

The order: `vectors`, `queries` (.npy); `share` touched, `columns` (name: .npy, of all vectors), `cases` ({"kind", "share",
"column", "bounds": .npy, "truth": .npy}), `k`, `candidates` of FAISS, `rounds`, `seed`, `folder`.

FAISS gets its filters as bitmaps, or as rows where few pass, made beforehand; ours evaluates them, and knows those again that it
has met: `first_us` is what a query costs in the first pass, in which most windows of few places are new.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.vectors.bare_faiss import bitmap_of, exact_among, filtered_search, pq_filtered
from benchmarks.vectors.collections import (
    Floats,
    Rows,
    filled,
    filtered_search_of,
    known_rows,
    parts_of,
)
from benchmarks.vectors.places import PLACES
from benchmarks.vectors.touched import touched
from benchmarks.vectors.turns import Side, by_turns
from engine import Collection, Filter, Range

OURS = "Vireo"
EXACT_PLACES_MAX = PLACES // 100
"""Up to so many places, 1% of the points, FAISS gathers and scores what passes."""


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """{"found": [{"who", "kind", "share", "point", "first_us"}], "parts"}."""
    vectors, queries = np.load(order["vectors"], mmap_mode="r"), np.load(order["queries"])
    columns = {name: np.load(path) for name, path in order["columns"].items()}
    points = touched(vectors, order["share"], order["seed"])
    final, alive = points.final, points.alive
    index, k = pq_filtered(final), order["k"]
    found = []
    with filled(Path(order["folder"]), points, columns, order["seed"]) as collection:
        for case in order["cases"]:
            bounds = np.load(case["bounds"])
            ours = _ours(collection, queries, case["column"], bounds, alive, k)
            passing = {name: column[alive] for name, column in columns.items()}[case["column"]]
            theirs = _faiss(index, final, queries, passing, bounds, order)
            first_us = {OURS: _first_us(ours, len(queries))}
            for curve in by_turns({OURS: ours, "FAISS": theirs}, [0], np.load(case["truth"]), order["rounds"]):
                shape = {"kind": case["kind"], "share": case["share"], "first_us": first_us.get(curve.who)}
                found.append({"who": curve.who, "point": curve.points[0], **shape})
        return {"found": found, "parts": parts_of(collection)}


def _ours(collection: Collection, queries: Floats, column: str, bounds: Rows, alive: Rows, k: int) -> Side:
    spec = collection.spec
    filters = [Filter.of(Range(column, gte=low, lt=high), spec) for low, high in bounds.tolist()]
    search = filtered_search_of(collection, queries, k, filters, None)
    return Side(lambda _: search, lambda found: known_rows(found, alive, k))


def _first_us(side: Side, calls: int) -> float:
    search, cpu_s = side.prepare(0), time.process_time()
    for call in range(calls):
        search(call)
    return (time.process_time() - cpu_s) * 1e6 / calls


def _faiss(
    index: Any,  # noqa: ANN401
    final: Floats,
    queries: Floats,
    passing: npt.NDArray[np.int64],
    bounds: Rows,
    order: dict[str, Any],
) -> Side:
    k, windows = order["k"], {tuple(each) for each in bounds.tolist()}
    masks = {each: (passing >= each[0]) & (passing < each[1]) for each in windows}
    few = bounds[0, 1] - bounds[0, 0] <= EXACT_PLACES_MAX
    chosen = {each: np.flatnonzero(mask) if few else bitmap_of(mask) for each, mask in masks.items()}
    filters, singles = [chosen[tuple(each)] for each in bounds.tolist()], [each[None] for each in queries]
    search = filtered_search(index, final, order["candidates"], k)

    def by_bitmap(at: int) -> list[int]:
        return search(singles[at], filters[at])

    def by_rows(at: int) -> list[int]:
        return exact_among(final, singles[at], filters[at], k)

    return Side(lambda _: by_rows if few else by_bitmap, lambda rows: (rows + [-1] * k)[:k])


if __name__ == "__main__":
    print(msgspec.json.encode(drive(json.load(sys.stdin))).decode(), flush=True)
