"""Driver `inprocess`: a collection and bare FAISS in one process, by turns.

The order: `vectors`, `queries`, `truth` (.npy; truth are rows of the points that are left), `share` touched, `k`, `candidates`,
`rounds`, `seed`, `folder`, `rivals` (names of RIVALS), `lists` and `probed` (each a curve of its own) for the one that has some;
`efforts`, each a curve of ours.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.vectors.bare_faiss import ivf_refine, pq_refine, refined_search
from benchmarks.vectors.collections import Floats, filled, known_rows, parts_of, search_of
from benchmarks.vectors.touched import Touched, touched
from benchmarks.vectors.turns import Side, by_turns
from engine import Collection

OURS = "Vireo"
IVF = "FAISS IVF,PQfs,RFlat"
RIVALS: dict[str, Callable[[Floats, dict[str, Any]], Any]] = {
    "FAISS PQfs, refine f32": lambda vectors, order: pq_refine(vectors, refine="f32"),
    "FAISS PQfs, refine SQ8": lambda vectors, order: pq_refine(vectors, refine="sq8"),
    IVF: lambda vectors, order: ivf_refine(vectors, order["lists"]),
}


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """Curves, ours first, and our parts."""
    vectors, queries = np.load(order["vectors"], mmap_mode="r"), np.load(order["queries"])
    points = touched(vectors, order["share"], order["seed"])
    clock = _Clock()
    with filled(Path(order["folder"]), points, {}, order["seed"]) as collection:
        notes = clock.passed()
        sides = {
            OURS if effort == 1 else f"{OURS}, effort {effort:g}": _ours(
                collection, points, queries, order["k"], effort, notes
            )
            for effort in order["efforts"]
        }
        for name in order["rivals"]:
            clock = _Clock()
            index = RIVALS[name](points.final, order)
            sides.update(_faiss(name, index, queries, order, clock.passed()))
        curves = by_turns(sides, order["candidates"], np.load(order["truth"]), order["rounds"])
        return {"curves": curves, "parts": parts_of(collection)}


class _Clock:
    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def passed(self) -> dict[str, float]:
        return {"build_s": time.perf_counter() - self._began[0], "build_cpu_s": time.process_time() - self._began[1]}


def _ours(
    collection: Collection, points: Touched, queries: Floats, k: int, effort: float, notes: dict[str, float]
) -> Side:
    alive = points.alive
    return Side(
        lambda candidates: search_of(collection, queries, k, candidates, effort),
        lambda found: known_rows(found, alive, k),
        notes,
    )


def _faiss(
    name: str,
    index: Any,  # noqa: ANN401
    queries: Floats,
    order: dict[str, Any],
    notes: dict[str, float],
) -> dict[str, Side]:
    singles = [each[None] for each in queries]

    def side(probed: int | None) -> Side:
        def prepare(candidates: int) -> Callable[[int], Any]:
            search = refined_search(index, candidates, order["k"], probed)
            return lambda at: search(singles[at])

        return Side(prepare, lambda rows: rows[0].tolist(), notes)

    if name != IVF:
        return {name: side(None)}
    return {f"{name}, {probed} lists": side(probed) for probed in order["probed"]}


if __name__ == "__main__":
    print(msgspec.json.encode(drive(json.load(sys.stdin))).decode(), flush=True)
