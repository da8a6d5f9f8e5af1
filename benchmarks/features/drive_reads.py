"""Driver `reads`: lookups one after another on one core, at four depths: kernel, state, view, servable."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.features.engines import engine_over, push_all
from benchmarks.features.events import batches, newest_us, read_stream
from benchmarks.features.kernel_clock import kernel_times_us
from benchmarks.features.states import NAME, chunks_of, state_of
from benchmarks.features.views import local_log
from engine import DATATYPES, FeatureLookup, Tensor

WARMUP = 500
PUSHED_ROWS = 1 << 16
INT64 = DATATYPES["INT64"]


def drive(order: dict[str, Any]) -> list[dict[str, Any]]:
    """The order: `file`, `view`, `entities` (cards are 0 to that), `count` of a read, `calls`, `rounds`, `seed`.

    Gives for each depth and round {"depth", "took_us": list}.
    """
    table = read_stream(Path(order["file"]))
    view, count, calls = order["view"], order["count"], order["calls"]
    as_of_us = newest_us(table) + 1
    cards = np.random.default_rng(order["seed"]).integers(0, order["entities"], (calls + WARMUP, count))
    found = kernel_and_state(view, table, cards, as_of_us, order["rounds"])
    with tempfile.TemporaryDirectory() as folder:
        log = local_log(f"{folder}/log", "os")
        with engine_over({NAME: view}, log, Path(folder)) as engine:
            push_all(engine, batches(table, PUSHED_ROWS), NAME)
            served = engine.features.view(NAME)
            servable = FeatureLookup(served)
            keys = [pa.array(each) for each in cards]
            instants = np.full(count, as_of_us)
            asked = [{"card": Tensor(INT64, each), "as_of": Tensor(INT64, instants)} for each in cards]
            depths: dict[str, Callable[[int], Any]] = {
                "view": lambda call: served.lookup(keys[call], as_of_us=as_of_us),
                "servable": lambda call: servable.execute(asked[call], ()),
            }
            for depth, read in depths.items():
                assert not any(read(call).status.any() for call in range(3)) if depth == "view" else True
                found += timed(depth, read, calls, order["rounds"])
    return found


def kernel_and_state(
    view: Any,  # noqa: ANN401
    table: pa.Table,
    cards: npt.NDArray[np.int64],
    as_of_us: int,
    rounds: int,
) -> list[dict[str, Any]]:
    """Without an engine: compiled code timed from compiled code, and the state's method from Python."""
    state = state_of(view)
    for chunk in chunks_of(batches(table, PUSHED_ROWS)):
        state.ingest(chunk)
    keys = [pa.array(each) for each in cards]
    calls, count = len(cards) - WARMUP, cards.shape[1]
    assert not state.lookup(keys[0], as_of_us).status.any()
    kernel = [
        {
            "depth": "kernel",
            "took_us": kernel_times_us(state, cards.ravel(), as_of_us, count=count, calls=calls).tolist(),
        }
        for _ in range(rounds)
    ]
    return [*kernel, *timed("state", lambda call: state.lookup(keys[call], as_of_us), calls, rounds)]


def timed(depth: str, read: Callable[[int], Any], calls: int, rounds: int) -> list[dict[str, Any]]:
    """Microseconds of each call, round after round, the first calls left out."""
    found = []
    for _ in range(rounds):
        took = np.empty(calls + WARMUP, np.int64)
        for call in range(calls + WARMUP):
            began = time.perf_counter_ns()
            read(call)
            took[call] = time.perf_counter_ns() - began
        found.append({"depth": depth, "took_us": (took[WARMUP:] / 1e3).tolist()})
    return found
