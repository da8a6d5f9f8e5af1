"""Vector indexes and embedded databases of others, one query a call on one thread. Runs in each one's environment.

The order: `who` (of CONTENDERS); `vectors`, `queries` (.npy, float32, length 1); `columns` (name: .npy of integers, one a
vector); `k`; `runs`: a list of {"setting": how thoroughly to search, "filter": null or {"column", "bounds": .npy int [q, 2], from
and up to but without}}; `rounds`; `folder` for what is stored; `found`: the .npy to write, int64 [runs, q, k], -1
where fewer came.

The points are loaded as they are in the end: nothing is deleted or changed in a rival, which is its best form. This file needs
nothing but numpy, so that our own drivers time by `timed` too.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Columns = dict[str, npt.NDArray[Any]]
Bounds = tuple[int, int]
Answer = Any
Search = Callable[[Floats, Bounds | None, int], Answer]
WARMUP = 50
CONNECTIVITY = 16
"""Links of a node (32 in the lowest layer of hnswlib) and 200 candidates when building: what each one's benchmarks take."""
EF_BUILD = 200
LOADED_AT_ONCE = 1_000


class Contender(Protocol):
    """`search` gives what its own call gives; `ids` makes that a sequence of rows."""

    def build(self, vectors: Floats, columns: Columns, folder: Path) -> None:
        """Ready to be searched when it returns."""

    def prepare(self, setting: int, column: str | None) -> Search:
        """A function of a query, bounds and k."""

    def ids(self, answer: Answer) -> list[int]:
        """The rows in an answer, best first."""


class Hnswlib:
    """hnswlib, inner product."""

    def build(self, vectors: Floats, columns: Columns, folder: Path) -> None:
        hnswlib = import_module("hnswlib")
        self.index = hnswlib.Index("ip", vectors.shape[1])
        self.index.init_index(len(vectors), ef_construction=EF_BUILD, M=CONNECTIVITY)
        self.index.set_num_threads(1)
        self.index.add_items(vectors)

    def prepare(self, setting: int, column: str | None) -> Search:
        assert column is None
        self.index.set_ef(setting)
        return lambda query, bounds, k: self.index.knn_query(query, k, num_threads=1)

    def ids(self, answer: Answer) -> list[int]:
        rows: list[int] = answer[0][0].tolist()
        return rows


class Usearch:
    """usearch, inner product, float32."""

    def build(self, vectors: Floats, columns: Columns, folder: Path) -> None:
        self.index = import_module("usearch.index").Index(
            ndim=vectors.shape[1], metric="ip", dtype="f32", connectivity=CONNECTIVITY, expansion_add=EF_BUILD
        )
        self.index.add(np.arange(len(vectors)), vectors, threads=1)

    def prepare(self, setting: int, column: str | None) -> Search:
        assert column is None
        self.index.expansion_search = setting
        return lambda query, bounds, k: self.index.search(query, k, threads=1)

    def ids(self, answer: Answer) -> list[int]:
        rows: list[int] = answer.keys.tolist()
        return rows


class Zvec:
    """zvec, an embedded database: HNSW by inner product, an inverted index with ranges on each column."""

    def build(self, vectors: Floats, columns: Columns, folder: Path) -> None:
        self.zvec = zvec = import_module("zvec")
        zvec.init(log_dir=str(folder), query_threads=1, optimize_threads=1)
        index = zvec.HnswIndexParam(metric_type=zvec.MetricType.IP, m=CONNECTIVITY, ef_construction=EF_BUILD)
        vector = zvec.VectorSchema("v", zvec.DataType.VECTOR_FP32, vectors.shape[1], index)
        ranges = zvec.InvertIndexParam(enable_range_optimization=True)
        fields = [zvec.FieldSchema(name, zvec.DataType.INT64, False, ranges) for name in columns]
        self.collection = zvec.create_and_open(
            str(folder / "zvec"), zvec.CollectionSchema("points", fields or None, vector)
        )
        for start in range(0, len(vectors), LOADED_AT_ONCE):
            rows = range(start, min(start + LOADED_AT_ONCE, len(vectors)))
            self.collection.insert(
                [
                    zvec.Doc(
                        id=str(row),
                        vectors={"v": vectors[row].tolist()},
                        fields={name: int(column[row]) for name, column in columns.items()},
                    )
                    for row in rows
                ]
            )
        self.collection.optimize(zvec.OptimizeOption(concurrency=1))

    def prepare(self, setting: int, column: str | None) -> Search:
        param, collection, query_of = self.zvec.HnswQueryParam(ef=setting), self.collection, self.zvec.Query

        def search(query: Floats, bounds: Bounds | None, k: int) -> Answer:
            where = None if bounds is None else f"{column} >= {bounds[0]} and {column} < {bounds[1]}"
            asked = query_of(field_name="v", vector=query, param=param)
            return collection.query(asked, topk=k, filter=where, output_fields=[])

        return search

    def ids(self, answer: Answer) -> list[int]:
        return [int(each.id) for each in answer]


class Qdrant:
    """qdrant-edge, the engine of Qdrant as a library: HNSW, an integer index on each column."""

    def build(self, vectors: Floats, columns: Columns, folder: Path) -> None:
        self.q = q = import_module("qdrant_edge")
        path = folder / "qdrant"
        path.mkdir()
        params = q.EdgeVectorParams(size=vectors.shape[1], distance=q.Distance.Dot)
        links = q.HnswIndexConfig(m=CONNECTIVITY, ef_construct=EF_BUILD, full_scan_threshold=1_000)
        self.shard = q.EdgeShard.create(
            str(path), q.EdgeConfig(vectors=params, hnsw_config=links, max_search_threads=1)
        )
        for name in columns:
            self.shard.update(q.UpdateOperation.create_field_index(name, q.PayloadSchemaType.Integer))
        for start in range(0, len(vectors), LOADED_AT_ONCE):
            rows = range(start, min(start + LOADED_AT_ONCE, len(vectors)))
            points = [
                q.Point(row, vectors[row].tolist(), {name: int(column[row]) for name, column in columns.items()})
                for row in rows
            ]
            self.shard.update(q.UpdateOperation.upsert_points(points))
        self.shard.optimize()

    def prepare(self, setting: int, column: str | None) -> Search:
        q, shard, params = self.q, self.shard, self.q.SearchParams(hnsw_ef=setting)

        def search(query: Floats, bounds: Bounds | None, k: int) -> Answer:
            where = None
            if bounds is not None:
                where = q.Filter(must=[q.FieldCondition(key=column, range=q.RangeFloat(gte=bounds[0], lt=bounds[1]))])
            nearest = q.Query.Nearest(query.tolist())
            return shard.search(q.SearchRequest(query=nearest, limit=k, filter=where, params=params))

        return search

    def ids(self, answer: Answer) -> list[int]:
        return [each.id for each in answer]


CONTENDERS: dict[str, type[Contender]] = {"hnswlib": Hnswlib, "usearch": Usearch, "zvec": Zvec, "qdrant": Qdrant}


def timed(search: Callable[[int], object], calls: int) -> dict[str, float]:
    """`calls` calls, one after another: CPU of the process and wall clock a call, median and p99, in microseconds."""
    for call in range(min(WARMUP, calls)):
        search(call)
    took = np.empty(calls, np.int64)
    clock, cpu_s = time.perf_counter_ns, time.process_time()
    for call in range(calls):
        began = clock()
        search(call)
        took[call] = clock() - began
    cpu_us = (time.process_time() - cpu_s) * 1e6 / calls
    p50, p99 = np.percentile(took / 1e3, [50, 99])
    return {"cpu_us": cpu_us, "wall_us": float(took.mean() / 1e3), "p50_us": float(p50), "p99_us": float(p99)}


def ranked(search: Callable[[int], Sequence[int]], answers: Sequence[int]) -> dict[str, float]:
    """Of queries that must find one row each, by their numbers: recall, the mean of 1 / rank (0 where it is not found), times."""
    ranks = []
    for at, answer in enumerate(answers):
        rows = search(at)
        ranks.append(1 / (1 + rows.index(answer)) if answer in rows else 0.0)
    times = timed(search, len(answers))
    told = {"recall": float(np.mean(np.array(ranks) > 0)), "rank": float(np.mean(ranks))}
    return {**told, **{name: times[name] for name in ("cpu_us", "p50_us", "p99_us")}}


def resident_mb() -> float:
    """Memory of this process, files it maps included (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return float(line.split()[1]) / 1e3
    return 0.0


def filled(rows: list[int], k: int) -> list[int]:
    """`k` of them, -1 where there are fewer."""
    return (rows + [-1] * k)[:k]


def run_of(
    contender: Contender, run: dict[str, Any], queries: Floats, k: int, rounds: int
) -> tuple[list[dict[str, float]], list[list[int]]]:
    """Times, round after round, and what was found."""
    where = run["filter"]
    search = contender.prepare(run["setting"], where and where["column"])
    bounds = [None] * len(queries) if where is None else [tuple(each) for each in np.load(where["bounds"]).tolist()]
    found = [filled(contender.ids(search(query, each, k)), k) for query, each in zip(queries, bounds, strict=True)]
    times = [timed(lambda call: search(queries[call], bounds[call], k), len(queries)) for _ in range(rounds)]
    return times, found


def main() -> None:
    """Build, search, tell."""
    order = json.load(sys.stdin)
    vectors, queries = np.load(order["vectors"]), np.load(order["queries"])
    columns = {name: np.load(path) for name, path in order["columns"].items()}
    contender = CONTENDERS[order["who"]]()
    before_mb, began_s, cpu_s = resident_mb(), time.perf_counter(), time.process_time()
    contender.build(vectors, columns, Path(order["folder"]))
    built = {
        "build_s": time.perf_counter() - began_s,
        "build_cpu_s": time.process_time() - cpu_s,
        "more_mb": resident_mb() - before_mb,
    }
    done = [run_of(contender, run, queries, order["k"], order["rounds"]) for run in order["runs"]]
    np.save(order["found"], np.array([found for _, found in done], np.int64))
    print(json.dumps({**built, "runs": [times for times, _ in done]}))


if __name__ == "__main__":
    main()
