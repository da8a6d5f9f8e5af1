"""The points that crash tests write: all of one follows from its id and its version, but for what was done to its payload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.vectors.declaration import CollectionSpec, FieldSpec, IndexSpec, SparseSpec, VectorSpec

SIZE: Final = 16
FIELDS: Final = ("owner", "tag", "n", "body")

SPEC: Final = CollectionSpec(
    vectors={
        "v": VectorSpec(SIZE, index=IndexSpec("pq")),
        "w": VectorSpec(4, metric="dot", stored="float16", index=IndexSpec("flat")),
    },
    sparse={"s": SparseSpec()},
    fields={
        "owner": FieldSpec("keyword"), "tag": FieldSpec("keyword"), "n": FieldSpec("integer"), "body": FieldSpec("text"),
    },
    growing_rows=64,
)  # fmt: skip
OTHER: Final = replace(
    SPEC,
    vectors={
        "v": VectorSpec(SIZE, index=IndexSpec("hnsw", links=8)),
        "w": replace(SPEC.vectors["w"], stored="float32"),
    },
    fields={**SPEC.fields, "more": FieldSpec("keyword")},
    growing_rows=100,
    durability="os",
)
"""What it is altered to, and back. A killed process loses nothing by it."""


@dataclass(frozen=True, slots=True)
class Point:
    """`version`: of the vectors."""

    version: int
    owner: str | None
    tag: str | None
    n: int | None
    body: str | None

    def changed(self, values: Mapping[str, Any]) -> Point:
        """With another payload."""
        return replace(self, **values)


Points = dict[int, Point]
Row = tuple[Any, ...]
"""Of a point, all that comes back exactly: its payload, its sparse vector, `w`."""


def point(id_: int, version: int) -> Point:
    """As it is upserted."""
    body = f"w{id_ % 13} v{version % 7} p{id_}x{version}"
    return Point(version, f"t{id_ % 3}", f"g{version % 5}", version, body)


def numbers(ids: Sequence[int], versions: Sequence[int], count: int) -> npt.NDArray[np.uint64]:
    """uint64 [ids, count], well mixed (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014)."""
    keys: npt.NDArray[np.uint64] = np.asarray(ids, np.uint64) << np.uint64(32) | np.asarray(versions, np.uint64)
    mixed: npt.NDArray[np.uint64] = keys[:, None] << np.uint64(6) | np.arange(1, count + 1, dtype=np.uint64)
    mixed = mixed * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ mixed >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ mixed >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def directions(ids: Sequence[int], versions: Sequence[int]) -> np.ndarray:
    """`v`: float32 [ids, SIZE], of length 1."""
    found = (numbers(ids, versions, SIZE) >> np.uint64(40)).astype(np.float32) / 2**24 - 0.5
    unit: np.ndarray = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def steps(ids: Sequence[int], versions: Sequence[int]) -> np.ndarray:
    """`w`: float32 [ids, 4], of values that float16 keeps."""
    found: np.ndarray = ((numbers(ids, versions, 4) & np.uint64(63)).astype(np.float32) - 31) / 8
    return found


def indices_of(id_: int, version: int) -> list[int]:
    """Of `s`, whose values are 1.0 and 0.5."""
    return [id_ % 40, 40 + version % 40]


def batch(ids: Sequence[int], version: int) -> pa.RecordBatch:
    """These points, new."""
    versions, points = [version] * len(ids), [point(each, version) for each in ids]
    columns: dict[str, pa.Array] = {
        "id": pa.array(ids, pa.uint64()),
        "vector.v": pa.FixedSizeListArray.from_arrays(pa.array(directions(ids, versions).ravel()), SIZE),
        "vector.w": pa.FixedSizeListArray.from_arrays(pa.array(steps(ids, versions).ravel()), 4),
        "sparse.s.indices": pa.array([indices_of(each, version) for each in ids], pa.list_(pa.uint32())),
        "sparse.s.values": pa.array([[1.0, 0.5]] * len(ids), pa.list_(pa.float32())),
    }
    for name in FIELDS:
        columns[f"field.{name}"] = pa.array([getattr(each, name) for each in points])
    return pa.RecordBatch.from_pydict(columns)


def rows_of(points: Mapping[int, Point]) -> dict[int, Row]:
    """How each of them is read."""
    ids = list(points)
    all_steps = steps(ids, [each.version for each in points.values()])
    return {
        id_: (each.owner, each.tag, each.n, each.body, tuple(indices_of(id_, each.version)), tuple(some.tolist()))
        for (id_, each), some in zip(points.items(), all_steps, strict=True)
    }


def rows_read(taken: Iterable[pa.RecordBatch]) -> tuple[dict[int, Row], dict[int, np.ndarray]]:
    """Of batches of points, each of which is there once: what `rows_of` says, and `v`."""
    rows: dict[int, Row] = {}
    vectors: dict[int, np.ndarray] = {}
    for each in taken:
        ids = each.column("id").to_pylist()
        kept = [each.column(f"field.{name}").to_pylist() for name in FIELDS]
        sparse = [tuple(one) for one in each.column("sparse.s.indices").to_pylist()]
        assert each.column("sparse.s.values").to_pylist() == [[1.0, 0.5]] * len(ids)
        small = [tuple(one) for one in each.column("vector.w").to_pylist()]
        large = each.column("vector.v").flatten().to_numpy().reshape(-1, SIZE)
        assert not set(ids) & rows.keys(), f"in two places: {sorted(set(ids) & rows.keys())}"
        assert len(set(ids)) == len(ids), "one part has an id twice"
        rows.update(zip(ids, zip(*kept, sparse, small, strict=True), strict=True))
        vectors.update(zip(ids, large, strict=True))
    return rows, vectors
