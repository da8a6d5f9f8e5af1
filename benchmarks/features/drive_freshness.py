"""Driver `freshness`: one event is pushed and acknowledged; reads follow until one shows it."""

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.features.engines import engine_over
from benchmarks.features.events import event_batch
from benchmarks.features.states import NAME, warm
from benchmarks.features.views import LOG, kafka_log, local_log
from engine import Engine

CARDS = 10_000
WARMUP = 50
VISIBLE_S_MAX = 30.0
BACKGROUND_ROWS = 1024


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """The order: `view`, `pushes`, `background_per_s` (events that others push meanwhile), `seed`, and where the log is:
    `durability` and `folder`, or `broker` and `topic`.

    Gives took_us (acknowledged to visible, each), pushed_us (push to acknowledged), reads (until visible, on average).
    """
    rng = np.random.default_rng(order["seed"])
    warm(order["view"], event_batch(np.zeros(1, np.int64), np.full(1, now_us()), rng))
    with tempfile.TemporaryDirectory(dir=order["folder"]) as folder:
        local = order.get("broker") is None
        log = (
            local_log(f"{folder}/log", order["durability"])
            if local
            else kafka_log(order["broker"], order["topic"], "arrow")
        )
        with engine_over({NAME: order["view"]}, log, Path(folder)) as engine:
            stop = threading.Event()
            other = threading.Thread(target=background, args=(engine, order["background_per_s"], stop))
            other.start()
            try:
                return watch(engine, order["pushes"], rng)
            finally:
                stop.set()
                other.join()


def now_us() -> int:
    """Of the wall clock."""
    return time.time_ns() // 1000


def watch(engine: Engine, pushes: int, rng: np.random.Generator) -> dict[str, Any]:
    """Push, then read until it shows."""
    view, took, pushed, reads = engine.features.view(NAME), [], [], 0
    for number in range(pushes + WARMUP):
        card, at_us = -1 - number % CARDS, now_us()  # cards below 0 are pushed by nobody else
        batch = event_batch(np.array([card]), np.array([at_us]), rng)
        key = pa.array([card])
        began_ns = time.perf_counter_ns()
        engine.features.push(LOG, batch)
        acknowledged_ns = time.perf_counter_ns()
        seen = 0
        while int(view.lookup(key).event_time_us[0]) != at_us:
            seen += 1
            assert time.perf_counter_ns() - acknowledged_ns < VISIBLE_S_MAX * 1e9, "it is never shown"
            if seen % 50 == 0:
                time.sleep(0.0001)  # whoever asks again and again must let others work
        shown_ns = time.perf_counter_ns()
        if number >= WARMUP:
            took.append((shown_ns - acknowledged_ns) / 1e3)
            pushed.append((acknowledged_ns - began_ns) / 1e3)
            reads += seen + 1
    return {"took_us": took, "pushed_us": pushed, "reads": reads / pushes}


def background(engine: Engine, per_s: float, stop: threading.Event) -> None:
    """Events of other cards at this rate."""
    rng = np.random.default_rng(7)
    while per_s and not stop.wait(BACKGROUND_ROWS / per_s):
        cards = rng.integers(0, CARDS, BACKGROUND_ROWS)
        engine.features.push(LOG, event_batch(cards, np.full(BACKGROUND_ROWS, now_us()), rng))
