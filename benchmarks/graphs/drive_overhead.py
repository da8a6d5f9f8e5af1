"""CPU of one request through each of the empty graphs, in this process. `python -m benchmarks.graphs.drive_overhead`.

The order, on standard input: `calls` of each in a round, `rounds`, `together` (how many requests wait before one flush). Ways:
`at once`, as a transport does with a request behind which there is no other, and `together`, as it does with many that came
in one turn of its event loop. CPU is the whole process's, in microseconds a request.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.graphs.empty import CHAIN, FAN, GRAPH, NODE, empty_spec
from engine import Deadline, Engine, Job, Request, Tensor, datatype_named, parse_spec

FP32 = datatype_named("FP32", of="benchmarks")
NAMES = (NODE, GRAPH, CHAIN, FAN)
WARMUP = 2_000
DEADLINE_S = 100.0
Send = Callable[[str, int], None]


def requests_of(engine: Engine, name: str, count: int) -> list[Request]:
    """`count` requests of one row with a deadline."""
    deadline = Deadline.after(DEADLINE_S, engine.clock())
    return [Request(name, {"x": Tensor(FP32, np.ones(1, np.float32))}, deadline=deadline) for _ in range(count)]


class Ended:
    """What a transport would do with an answer, but for the bytes."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, job: Job) -> None:
        assert job.response is not None, job.error
        self.count += 1


def cpu_us(engine: Engine, name: str, calls: int, together: int) -> float:
    """CPU microseconds a request; `together` 1 sends each at once."""
    ended = Ended()
    requests = requests_of(engine, name, calls)
    began_ns = time.process_time_ns()
    if together == 1:
        for request in requests:
            engine.submit(request, ended, at_once=True)
    else:
        for first in range(0, calls, together):
            for request in requests[first : first + together]:
                engine.submit(request, ended)
            engine.flush()
    took_ns = time.process_time_ns() - began_ns
    assert ended.count == calls, f"{name}: {ended.count} of {calls} ended at once"
    return took_ns / 1e3 / calls


def measured(engine: Engine, order: dict[str, Any]) -> list[dict[str, Any]]:
    """Every graph both ways, round after round; what is measured next to each other changes."""
    found = []
    for number in range(order["rounds"]):
        for way, together in (("at once", 1), ("together", order["together"])):
            for name in NAMES[:: 1 if number % 2 == 0 else -1]:
                took = cpu_us(engine, name, order["calls"], together)
                found.append({"round": number, "way": way, "graph": name, "cpu_us": took})
    return found


def main() -> None:
    """Warm up, measure, print."""
    order = json.load(sys.stdin)
    engine = Engine(parse_spec(yaml.safe_dump(empty_spec(), sort_keys=False), folder=Path()))
    engine.start()
    try:
        for name in NAMES:
            for together in (1, order["together"]):
                cpu_us(engine, name, min(WARMUP, order["calls"]), together)
        print(json.dumps(measured(engine, order)))
    finally:
        engine.close()


if __name__ == "__main__":
    main()
