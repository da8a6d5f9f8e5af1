"""Our collections as the drivers fill and ask them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.vectors.touched import Touched
from engine import (
    AnyCollection,
    Collection,
    CollectionSpec,
    DenseLeg,
    FieldSpec,
    Filter,
    Query,
    SearchParams,
    VectorSpec,
)

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Ids = npt.NDArray[np.uint64]
Columns = Mapping[str, npt.NDArray[Any]]

VECTOR = "v"
LOADED_AT_ONCE = 2_048
INDEXED_S_MAX = 1_800.0


def spec_of(size: int, columns: Columns, **more: Any) -> CollectionSpec:  # noqa: ANN401
    """One vector by cosine, and integers."""
    return CollectionSpec(
        vectors={VECTOR: VectorSpec(size)}, fields={name: FieldSpec("integer") for name in columns}, **more
    )


def batch_of(ids: Rows, vectors: Floats, columns: Columns) -> pa.RecordBatch:
    """Points as `Collection.upsert` takes them; row i of all is of ids[i]."""
    values = pa.array(np.ascontiguousarray(vectors).reshape(-1))
    arrays = {
        "id": pa.array(ids.astype(np.uint64)),
        f"vector.{VECTOR}": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1]),
        **{f"field.{name}": pa.array(column.astype(np.int64)) for name, column in columns.items()},
    }
    return pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))


def load(collection: AnyCollection, vectors: Floats, columns: Columns) -> None:
    """Ids from 0, batch by batch: durable when it returns."""
    for start in range(0, len(vectors), LOADED_AT_ONCE):
        ids = np.arange(start, min(start + LOADED_AT_ONCE, len(vectors)))
        collection.upsert(batch_of(ids, vectors[ids], {name: each[ids] for name, each in columns.items()}))


def settle(collection: AnyCollection) -> None:
    """Return when nothing is left to be indexed or merged."""
    if not collection.wait_indexed(INDEXED_S_MAX):
        raise TimeoutError(f"indexing did not end within {INDEXED_S_MAX:g} s")


def filled(folder: Path, touched: Touched, columns: Columns, seed: int) -> Collection:
    """A collection that was loaded, indexed, then touched, and has come to rest again."""
    collection = Collection("bench", folder, spec_of(touched.vectors.shape[1], columns))
    try:
        load(collection, touched.loaded(), columns)
        settle(collection)
        for upsert, ids in touched.writes(seed):
            if upsert:
                collection.upsert(
                    batch_of(ids, touched.vectors[ids], {name: each[ids] for name, each in columns.items()})
                )
            else:
                collection.delete(ids.tolist())
        settle(collection)
        assert collection.view.count == len(touched.alive)
    except BaseException:
        collection.close()
        raise
    return collection


def search_of(
    collection: Collection, queries: Floats, k: int, candidates: int | None, effort: float = 1.0
) -> Callable[[int], Ids]:
    """The search for one of the queries, made anew each time as a caller would; gives the ids of the hits, best first."""
    params = SearchParams(candidates, effort=effort)

    def search(at: int) -> Ids:
        return collection.search(Query((DenseLeg(VECTOR, queries[at]),), k, params=params)).ids

    return search


def filtered_search_of(
    collection: Collection, queries: Floats, k: int, filters: list[Filter], candidates: int | None
) -> Callable[[int], Ids]:
    """Likewise, each with its filter."""
    params = SearchParams(candidates)

    def search(at: int) -> Ids:
        return collection.search(Query((DenseLeg(VECTOR, queries[at]),), k, filter=filters[at], params=params)).ids

    return search


def known_rows(found: Ids, alive: Rows, k: int) -> list[int]:
    """The places in `alive`, ascending ids, of k ids; -1 for those that are missing, and for a deleted point that came."""
    ids = np.full(k, -1)
    ids[: len(found)] = found[:k]
    at = np.searchsorted(alive, ids)
    at[at == len(alive)] = 0
    rows: list[int] = np.where(alive[at] == ids, at, -1).tolist()
    return rows


def parts_of(collection: AnyCollection) -> str:
    """Its parts in words."""
    parts = collection.info().parts
    return "; ".join(f"{each.name}: {each.alive:,} of {each.rows:,} alive, {each.indexes[VECTOR]}" for each in parts)
