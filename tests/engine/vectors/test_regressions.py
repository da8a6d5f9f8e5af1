"""What a review of the vector collections found: each was wrong once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import Unavailable
from engine.vectors.collection import Collection
from engine.vectors.declaration import CollectionSpec, FieldSpec, VectorSpec
from tests.engine.log.disks import QuickDisk

PLAIN = CollectionSpec(
    vectors={"v": VectorSpec(4)}, fields={"n": FieldSpec("integer"), "body": FieldSpec("text")}, growing_rows=64
)


def opened(folder: Path, spec: CollectionSpec | None = PLAIN) -> Collection:
    """Nothing goes on in the background."""
    return Collection("c", folder, spec, disk=QuickDisk(), background=False)


def batch(ids: Iterable[int], size: int = 4, n: int = 0) -> pa.RecordBatch:
    """Of vectors that follow from the ids."""
    rows = list(ids)
    vectors = np.concatenate([np.random.default_rng(each).standard_normal(size) for each in rows]).astype(np.float32)
    return pa.RecordBatch.from_pydict(
        {
            "id": pa.array(rows, pa.uint64()),
            "vector.v": pa.FixedSizeListArray.from_arrays(pa.array(vectors), size),
            "field.n": pa.array([n] * len(rows), pa.int64()),
        }
    )


def test_a_collection_that_is_closed_leaves_its_folder_to_whoever_opens_it_next(tmp_path: Path) -> None:
    closed = opened(tmp_path / "c")
    closed.upsert(batch(range(5)))
    closed.close()
    with opened(tmp_path / "c") as collection:
        collection.upsert(batch(range(5, 100)))
        with pytest.raises(Unavailable, match="is closed"):
            closed.alter(CollectionSpec(vectors={"v": VectorSpec(4)}))
        with pytest.raises(Unavailable, match="is closed"):
            closed.snapshot(tmp_path / "copy")
        assert not closed.indexer.step(idle=True, long=True)
    with opened(tmp_path / "c", None) as collection:
        assert collection.count() == 100
        assert collection.spec == PLAIN
