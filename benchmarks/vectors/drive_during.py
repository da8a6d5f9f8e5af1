"""Driver `during`: searches that arrive at random while points arrive and segments are merged, beside searches while nothing is.

The order: `vectors`, `queries` (.npy), `share` touched before, `k`, `searches_per_s` (Poisson), `per_s` upserts of one point,
`writers`, `seconds` of each phase, `rounds`, `seed`, `folder`. Everything is one process; a search is timed from when it was due.

Merges follow each other without a pause: all sealed segments are rewritten as one again and again, by the step the background
work would take, at its priority; so a merge runs all the time.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.vectors.collections import Floats, batch_of, filled, search_of
from benchmarks.vectors.touched import touched
from engine import Collection

NICE = 10


def drive(order: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each round and phase {"phase", "took_us", "upserts", "merges"}."""
    vectors, queries = np.load(order["vectors"], mmap_mode="r"), np.load(order["queries"])
    points = touched(vectors, order["share"], order["seed"])
    found = []
    with filled(Path(order["folder"]), points, {}, order["seed"]) as collection:
        asked = _Asked(collection, queries, order)
        asked.for_seconds(1.0)
        for _ in range(order["rounds"]):
            found.append({"phase": "quiet", **asked.for_seconds(order["seconds"])})
            with _writing(collection, points.final, order) as written:
                found.append({"phase": "upserts", **asked.for_seconds(order["seconds"])})
            found[-1]["upserts"] = written[0]
            with _merging(collection) as merged, _writing(collection, points.final, order) as written:
                found.append({"phase": "upserts and a merge", **asked.for_seconds(order["seconds"])})
            found[-1].update(upserts=written[0], merges=merged[0])
            collection.wait_indexed(60.0)
    return found


class _Asked:
    def __init__(self, collection: Collection, queries: Floats, order: dict[str, Any]) -> None:
        self._search = search_of(collection, queries, order["k"], None)
        self._queries = len(queries)
        self._mean_ns = 1e9 / order["searches_per_s"]
        self._random = np.random.default_rng(order["seed"])

    def for_seconds(self, seconds: float) -> dict[str, Any]:
        """One after another where they come too close; how long each took since it was due."""
        took: list[float] = []
        clock = time.perf_counter_ns
        gaps = self._random.exponential(self._mean_ns, int(2 * seconds * 1e9 / self._mean_ns)).astype(np.int64)
        begin = clock()
        for due in (begin + np.cumsum(gaps)).tolist():
            if due - begin > seconds * 1e9:
                break
            if (early := due - clock()) > 0:
                time.sleep(early / 1e9)
            self._search(len(took) % self._queries)
            took.append((clock() - due) / 1e3)
        return {"took_us": took, "upserts": 0, "merges": 0}


@contextmanager
def _writing(collection: Collection, vectors: Floats, order: dict[str, Any]) -> Iterator[list[int]]:
    """One point a call, evenly spread over time and `writers`; how many were acknowledged."""
    stop, done, counting = threading.Event(), [0], threading.Lock()
    ids = np.random.default_rng(order["seed"]).permutation(len(vectors))
    points = [batch_of(ids[at : at + 1], vectors[at : at + 1], {}) for at in range(4_096)]
    began_s = time.monotonic()

    def write(number: int) -> None:
        at = number
        while not stop.wait(max(0.0, began_s + at / order["per_s"] - time.monotonic())):
            collection.upsert(points[at % len(points)])
            at += order["writers"]
            with counting:
                done[0] += 1

    with _threads([threading.Thread(target=write, args=(each,)) for each in range(order["writers"])], stop):
        yield done


@contextmanager
def _merging(collection: Collection) -> Iterator[list[int]]:
    stop, done = threading.Event(), [0]

    def merge() -> None:
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        indexer = collection.indexer
        while not stop.is_set():
            with indexer.lock:
                indexer._merge(list(indexer.fold.sealed))
            done[0] += 1

    with _threads([threading.Thread(target=merge)], stop):
        yield done


@contextmanager
def _threads(threads: list[threading.Thread], stop: threading.Event) -> Iterator[None]:
    for each in threads:
        each.start()
    try:
        yield
    finally:
        stop.set()
        for each in threads:
            each.join()


if __name__ == "__main__":
    print(msgspec.json.encode(drive(json.load(sys.stdin))).decode(), flush=True)
