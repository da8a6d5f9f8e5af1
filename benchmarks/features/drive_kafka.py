"""Driver `kafka`: a topic that is full already, folded from its first message to its last."""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.features.engines import engine_over
from benchmarks.features.events import START_US, event_batch
from benchmarks.features.states import NAME, warm
from benchmarks.features.views import kafka_log

WAIT_S_MAX = 300.0


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """The order: `view`, `broker`, `topic`, `empty` (a topic with one message), `format`, `events` in the topic.

    Starting with an almost empty topic is measured too and taken off: it is no part of folding. Gives events, wall_s, cpu_s,
    start_s, dead.
    """
    warm(order["view"], event_batch(np.zeros(1, np.int64), np.full(1, START_US), np.random.default_rng(1)))
    run(order, order["empty"], 1)  # whatever the first time takes
    empty_s, empty_cpu_s, _ = run(order, order["empty"], 1)
    wall_s, cpu_s, dead = run(order, order["topic"], order["events"])
    found = {"events": order["events"], "wall_s": wall_s - empty_s, "cpu_s": cpu_s - empty_cpu_s}
    return {**found, "start_s": empty_s, "dead": dead}


def run(order: dict[str, Any], topic: str, events: int) -> tuple[float, float, int]:
    """Seconds and CPU seconds until the view has folded all of a topic, and its dead letters."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        log = kafka_log(order["broker"], topic, order["format"])
        with engine_over({NAME: order["view"]}, log, Path(folder)) as engine:
            view = engine.features.view(NAME)
            while True:
                counts = view.statistics()
                if counts.applied + counts.dead >= events:
                    return time.perf_counter() - began_s, time.process_time() - cpu_s, counts.dead
                assert time.perf_counter() - began_s < WAIT_S_MAX, f"{counts.applied} of {events} are folded"
                time.sleep(0.005)
