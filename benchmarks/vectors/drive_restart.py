"""Driver `restart`: fills a collection and is killed, or opens it again and asks.

The order: `what`: "build" or "return"; `vectors`, `queries` (.npy), `share` touched before, `k`, `seed`, `folder`. Times are of
the monotonic clock.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.vectors.collections import batch_of, filled, search_of
from benchmarks.vectors.touched import touched
from engine import Collection

TAIL = 5_000
"""Points that are written again at last and so are in the log alone."""


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """Of "return": {"points", "open_ns", "answered_ns", "cpu_s"}, CPU of the whole process so far."""
    return build(order) if order["what"] == "build" else back(order)


def build(order: dict[str, Any]) -> dict[str, Any]:
    """Does not return."""
    vectors = np.load(order["vectors"], mmap_mode="r")
    points = touched(vectors, order["share"], order["seed"])
    collection = filled(Path(order["folder"]), points, {}, order["seed"])
    ids = points.alive[:TAIL]
    collection.upsert(batch_of(ids, vectors[ids], {}))
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def back(order: dict[str, Any]) -> dict[str, Any]:
    """From this process's start the caller knows; from here on what opening takes."""
    began_ns = time.monotonic_ns()
    with Collection("bench", Path(order["folder"])) as collection:
        opened_ns = time.monotonic_ns()
        found = search_of(collection, np.load(order["queries"]), order["k"], None)(0)
        answered_ns, cpu_s = time.monotonic_ns(), time.process_time()
        assert len(found) == order["k"]
        points = collection.view.count
    return {"points": points, "open_ns": opened_ns - began_ns, "answered_ns": answered_ns, "cpu_s": cpu_s}


if __name__ == "__main__":
    print(msgspec.json.encode(drive(json.load(sys.stdin))).decode(), flush=True)
