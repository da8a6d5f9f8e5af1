"""Rows of features for many keys by redis-py into one float32 array. Runs in the environment `feast`, which has redis-py.

The order: `port`, `entities`, `shapes` (keys, numbers), `calls`, `warmup`, `seed`. Gives for each shape and each way of keeping a
row {"how", "count", "width", "took_us"}.
"""

# mypy: disable-error-code="import-not-found"

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import redis

WRITTEN = 1_000


def fill(store: Any, entities: int, width: int, rng: Any) -> None:  # noqa: ANN401
    """Each row twice: packed, and as a hash of texts, as stores of features keep it."""
    for begin in range(0, entities, WRITTEN):
        pipe = store.pipeline(transaction=False)
        for entity in range(begin, min(entities, begin + WRITTEN)):
            row = rng.random(width).astype(np.float32)
            pipe.set(f"p{width}:{entity}", row.tobytes())
            pipe.hset(f"h{width}:{entity}", mapping={f"f{at}": float(value) for at, value in enumerate(row)})
        pipe.execute()


def packed(store: Any, width: int, keys: list[int]) -> Any:  # noqa: ANN401
    """One MGET."""
    rows = store.mget([f"p{width}:{each}" for each in keys])
    return np.frombuffer(b"".join(rows), np.float32).reshape(len(keys), width)


def hashes(store: Any, width: int, keys: list[int]) -> Any:  # noqa: ANN401
    """One HMGET a key, in one round trip."""
    names = [f"f{at}" for at in range(width)]
    pipe = store.pipeline(transaction=False)
    for each in keys:
        pipe.hmget(f"h{width}:{each}", names)
    return np.array(pipe.execute(), np.float32)


WAYS: dict[str, Callable[[Any, int, list[int]], Any]] = {
    "a packed row a key, MGET": packed, "a hash a key, HMGET pipelined": hashes,
}  # fmt: skip


def main() -> None:
    """Read the order, fill, measure, print."""
    order = json.loads(sys.stdin.read())
    store, rng, found = redis.Redis(port=order["port"]), np.random.default_rng(order["seed"]), []
    for count, width in order["shapes"]:
        fill(store, order["entities"], width, rng)
        for how, gather in WAYS.items():
            took = []
            for _ in range(order["calls"] + order["warmup"]):
                keys = rng.integers(0, order["entities"], count).tolist()
                began = time.perf_counter_ns()
                rows = gather(store, width, keys)
                took.append((time.perf_counter_ns() - began) / 1e3)
                assert rows.shape == (count, width)
            found.append({"how": how, "count": count, "width": width, "took_us": took[order["warmup"] :]})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
