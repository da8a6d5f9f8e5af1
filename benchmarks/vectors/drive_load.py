"""Driver `load`: points in, durable, until all is indexed; then single ones, each looked for by the next search.

The order: `vectors` (.npy), `singles` of them written one by one at the end, `folder`.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.vectors.collections import VECTOR, batch_of, load, parts_of, settle, spec_of
from engine import Collection, DenseLeg, Query


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """Seconds until durable and until indexed, CPU seconds; microseconds of each single upsert, and how many were seen."""
    vectors = np.load(order["vectors"], mmap_mode="r")
    bulk = len(vectors) - order["singles"]
    with Collection("bench", Path(order["folder"]), spec_of(vectors.shape[1], {})) as collection:
        began_s, cpu_s = time.perf_counter(), time.process_time()
        load(collection, vectors[:bulk], {})
        durable_s = time.perf_counter() - began_s
        settle(collection)
        ready_s, ready_cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        parts = parts_of(collection)
        took_us, seen = singles(collection, vectors, bulk)
    told = {"durable_s": durable_s, "ready_s": ready_s, "ready_cpu_s": ready_cpu_s, "points": bulk}
    return {**told, "took_us": took_us, "seen": seen, "parts": parts}


def singles(collection: Collection, vectors: Any, first: int) -> tuple[list[float], int]:  # noqa: ANN401 - an array
    """One after another."""
    took, seen = [], 0
    for row in range(first, len(vectors)):
        point = batch_of(np.array([row]), vectors[row : row + 1], {})
        began = time.perf_counter_ns()
        collection.upsert(point)
        took.append((time.perf_counter_ns() - began) / 1e3)
        found = collection.search(Query((DenseLeg(VECTOR, np.array(vectors[row])),), 10))
        seen += row in found.ids  # some glosses are the same text
    return took, seen


if __name__ == "__main__":
    print(msgspec.json.encode(drive(json.load(sys.stdin))).decode(), flush=True)
