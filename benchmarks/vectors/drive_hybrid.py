"""Driver `hybrid`: glosses in a collection with their words, searched by vectors, by words, and by both.

The order: `cache` of the retrieval workload, `documents`, `queries`, `seed`.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.peers.vector_indexes import ranked
from benchmarks.vectors.collections import LOADED_AT_ONCE, settle
from benchmarks.workloads.retrieval.vectors import Glosses, glosses
from engine import (
    Collection,
    CollectionSpec,
    DenseLeg,
    FieldSpec,
    Leg,
    Query,
    RankFusion,
    ScoreFusion,
    TextLeg,
    VectorSpec,
)

Rows = npt.NDArray[np.int64]
K = 10
FUSIONS: dict[str, RankFusion | ScoreFusion] = {"RRF, default": RankFusion(), "scores": ScoreFusion()}


def drive(order: dict[str, Any]) -> list[dict[str, Any]]:
    """What `hybrid.Hybrid` says, of each sort of query and each way."""
    data = glosses(Path(order["cache"]))
    labels = range(min(order["queries"], len(data.labels)))
    rows = documents(data, order["documents"], list(labels), order["seed"])
    answers = [data.labels[at].row for at in labels]
    with tempfile.TemporaryDirectory() as folder:
        spec = CollectionSpec({"v": VectorSpec(data.vectors.shape[1])}, fields={"text": FieldSpec("text")})
        with Collection("bench", Path(folder) / "collection", spec) as collection:
            for batch in batches(data, rows):
                collection.upsert(batch)
            settle(collection)
            return [
                {"query": sort, "by": by, **ranked(rows_of(collection, search), answers)}
                for sort, vectors, texts in sorts(data, list(labels))
                for by, search in searches(vectors, texts)
            ]


def documents(data: Glosses, count: int, labels: list[int], seed: int) -> Rows:
    """The rows that are asked for, and others at random; the label's row is the point's id."""
    wanted = np.unique([data.labels[at].row for at in labels])
    others = np.setdiff1d(np.arange(len(data.vectors)), wanted)
    more = np.random.default_rng(seed).choice(others, max(0, count - len(wanted)), replace=False)
    return np.sort(np.concatenate([wanted, more]))


def batches(data: Glosses, rows: Rows) -> Iterator[pa.RecordBatch]:
    """Points with their texts."""
    for start in range(0, len(rows), LOADED_AT_ONCE):
        some = rows[start : start + LOADED_AT_ONCE]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(data.vectors[some].reshape(-1)), data.vectors.shape[1])
        texts = pa.array([data.synsets[row].text for row in some.tolist()])
        yield pa.RecordBatch.from_arrays(
            [pa.array(some.astype(np.uint64)), vectors, texts], names=["id", "vector.v", "field.text"]
        )


def sorts(data: Glosses, labels: list[int]) -> Iterator[tuple[str, npt.NDArray[np.float32], list[str]]]:
    """Sentences, and sentences after the first word of what they show."""
    some = [data.labels[at] for at in labels]
    yield "sentence", np.array(data.sentences[labels]), [each.sentence for each in some]
    yield "lemma + sentence", np.array(data.with_lemmas[labels]), [each.with_lemma for each in some]


def searches(vectors: npt.NDArray[np.float32], texts: list[str]) -> Iterator[tuple[str, Callable[[int], Query]]]:
    """The queries of each way, by number."""

    def dense(at: int) -> Leg:
        return DenseLeg("v", vectors[at])

    def words(at: int) -> Leg:
        return TextLeg("text", texts[at])

    yield "vectors", lambda at: Query((dense(at),), K)
    yield "words", lambda at: Query((words(at),), K)
    for name, fusion in FUSIONS.items():
        yield name, lambda at, fusion=fusion: Query((dense(at), words(at)), K, fusion=fusion)  # type: ignore[misc]


def rows_of(collection: Collection, query: Callable[[int], Query]) -> Callable[[int], list[int]]:
    """The ids that a query finds, by its number."""
    return lambda at: collection.search(query(at)).ids.tolist()


if __name__ == "__main__":
    print(msgspec.json.encode(drive(json.load(sys.stdin))).decode(), flush=True)
