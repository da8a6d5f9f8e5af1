"""Random events of the crash test: out of order, late, repeated, null, from the future; and the view over them."""

from __future__ import annotations

import random
import time
from typing import Any

from tests.engine.features.running import LOG, SECOND

SPEC = (
    LOG.replace("durability: os", "durability: fsync, segment_bytes: 65536")
    + """
feature_views:
  spending:
    source: tx
    entity: card
    event_time: at
    event_id: id
    lateness: 20s
    future: 5s
    where: amount > 5
    dead_letters: dead.jsonl
    snapshot: {path: snapshots, every: 1s}
    features:
      n: {aggregation: count, window: 1m}
      total: {aggregation: sum, column: amount, window: 1m}
      least: {aggregation: min, column: amount, window: 10m, kind: sliding}
      shops: {aggregation: approx_distinct, column: shop, window: 10m}
      last_shop: {aggregation: last, column: shop, window: 10m}
      faded: {aggregation: decayed_sum, column: amount, half_life: 1m}
"""
)
CARDS = tuple(f"card{number}" for number in range(40))


def random_rows(draw: random.Random, first: int, count: int) -> list[dict[str, Any]]:
    """`count` events around an instant that moves on with `first`."""
    now_us = time.time_ns() // 1000 - 3600 * SECOND
    rows = []
    for number in range(first, first + count):
        at_us: int | None = now_us + number * 20_000 - int(draw.expovariate(1 / 8) * SECOND)
        if draw.random() < 0.01:
            at_us = draw.choice((None, now_us - 10_000 * SECOND, now_us + 100_000 * SECOND))
        rows.append(
            {
                "card": None if draw.random() < 0.01 else draw.choice(CARDS),
                "at": at_us,
                "id": None
                if draw.random() < 0.01
                else f"e{number - (draw.randrange(50) if draw.random() < 0.1 else 0)}",
                "amount": None if draw.random() < 0.05 else draw.uniform(0, 100),
                "shop": f"shop{draw.randrange(30)}",
            }
        )
    return rows
