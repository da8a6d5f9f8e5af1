"""Driver `contention`: one thread reads while another folds, in one process on two cores."""

import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.features.events import SECOND_US, START_US, batches, event_batch, newest_us, read_stream
from benchmarks.features.states import chunk_of, chunks_of, state_of, warm
from engine import Chunk, FeatureState

WARMUP = 500
HOT = 7
HOT_ROWS = 4096


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """See `latencies` and `torn`; `what` says which."""
    return torn(order) if order["what"] == "torn" else latencies(order)


class Writer(threading.Thread):
    """Folds chunks at a share of `peak_per_s`, until it is stopped. `applied` counts events."""

    def __init__(self, state: FeatureState, chunks: Iterator[Chunk], per_s: float) -> None:
        super().__init__()
        self._state, self._chunks, self._per_s = state, chunks, per_s
        self._stopped = threading.Event()
        self.applied = 0

    def run(self) -> None:
        """Chunk after chunk, each when it is due."""
        began_s = time.perf_counter()
        for chunk in self._chunks:
            due_s = began_s + self.applied / self._per_s if self._per_s else 0.0
            if self._stopped.wait(max(0.0, due_s - time.perf_counter())):
                return
            self._state.ingest(chunk)
            self.applied += chunk.batch.num_rows

    def stop(self) -> int:
        """Ends it; how many events it folded."""
        self._stopped.set()
        self.join()
        return self.applied


def latencies(order: dict[str, Any]) -> dict[str, Any]:
    """The order: `file`, `view`, `prefill`, `rows` of a chunk, `share` of the peak, `calls`, `entities`, `rounds`, `seed`.

    Gives peak_per_s, and of each round quiet_us, busy_us (each a list) and written_per_s.
    """
    table = read_stream(Path(order["file"]))
    prefill = order["prefill"]
    warm(order["view"], batches(table, 1, 0, 1)[0])
    state = state_of(order["view"])
    for chunk in chunks_of(batches(table, 1 << 16, 0, prefill)):
        state.ingest(chunk)
    rest = chunks_of(batches(table, order["rows"], prefill), prefill)
    tenth = max(1, len(rest) // 10)
    began_s = time.perf_counter()
    for chunk in rest[:tenth]:
        state.ingest(chunk)
    peak_per_s = tenth * order["rows"] / (time.perf_counter() - began_s)
    cards = np.random.default_rng(order["seed"]).integers(0, order["entities"], order["calls"] + WARMUP)
    keys = [pa.array([card]) for card in cards.tolist()]
    as_of_us = newest_us(table) + 1

    def read(call: int) -> None:
        state.lookup(keys[call], as_of_us)

    rounds, following = [], iter(rest[tenth:])
    for _ in range(order["rounds"]):
        quiet = timed(read, order["calls"])
        writer = Writer(state, following, order["share"] * peak_per_s)
        began_s = time.perf_counter()
        writer.start()
        busy = timed(read, order["calls"])
        took_s, alive = time.perf_counter() - began_s, writer.is_alive()
        written = writer.stop()
        assert alive, "the events came to an end before the reads did: give the driver more of them"
        rounds.append({"quiet_us": quiet, "busy_us": busy, "written_per_s": written / took_s})
    return {"peak_per_s": peak_per_s, "rounds": rounds}


def timed(read: Callable[[int], None], calls: int) -> list[float]:
    """Microseconds of each call, the first ones left out."""
    took = np.empty(calls + WARMUP, np.int64)
    for call in range(calls + WARMUP):
        began = time.perf_counter_ns()
        read(call)
        took[call] = time.perf_counter_ns() - began
    return (took[WARMUP:] / 1e3).tolist()  # type: ignore[no-any-return]


def torn(order: dict[str, Any]) -> dict[str, Any]:
    """One card gets every event; each has amount 1 and other 1, so a read in which they differ is torn.

    The order: `view` (the paired one), `reads`, `together` (rows of one lookup), `seed`. Gives reads, torn, applied (events
    folded meanwhile), changed (reads that saw another state than the one before).
    """
    view, together = order["view"], order["together"]
    warm(view, next(hot_chunks()).batch)
    state = state_of(view)
    following = hot_chunks()
    state.ingest(next(following))
    names = [each.name for each in state.view.features]
    key = pa.array(np.full(together, HOT))
    writer = Writer(state, following, 0.0)
    writer.start()
    reads = bad = changed = 0
    try:
        while reads < order["reads"]:
            values = state.lookup(key, 0).values
            reads += together
            bad += int(torn_rows(names, values).sum())
            changed += int((values[1:] != values[:-1]).any(axis=1).sum())
    finally:
        applied = writer.stop()
    return {"reads": reads, "torn": bad, "applied": applied, "changed": changed}


def hot_chunks() -> Iterator[Chunk]:
    """Events of one card without end, a hundred thousand a second of event time."""
    rng, first = np.random.default_rng(0), 0
    cards, ones = np.full(HOT_ROWS, HOT), pa.array(np.ones(HOT_ROWS))
    template = event_batch(cards, np.full(HOT_ROWS, START_US), rng)
    template = template.set_column(2, "amount", ones).set_column(3, "other", ones)
    while True:
        at_us = START_US + (first + np.arange(HOT_ROWS)) * (SECOND_US // 100_000)
        yield chunk_of(
            template.set_column(1, template.schema.field("at"), pa.array(at_us).cast(template.schema.field("at").type)),
            first,
        )
        first += HOT_ROWS


def torn_rows(names: list[str], values: Any) -> Any:  # noqa: ANN401
    """Which rows no state between two events can have given, bool [n]. NaN is wrong everywhere: the card is never idle."""
    columns = dict(zip(names, values.T, strict=True))
    wrong = np.isnan(values).any(axis=1) | (columns["amount_last"] != 1)
    windows = [name.removeprefix("amount_count_") for name in names if name.startswith("amount_count_")]
    for window in windows:
        count = columns[f"amount_count_{window}"]
        wrong |= count != columns[f"other_count_{window}"]
        for column in ("amount", "other"):
            wrong |= columns[f"{column}_sum_{window}"] != count
            wrong |= columns[f"{column}_variance_{window}"] != 0
            for aggregation in ("mean", "min", "max"):
                wrong |= columns[f"{column}_{aggregation}_{window}"] != 1
    for shorter, longer in pairwise(windows):
        wrong |= columns[f"amount_count_{shorter}"] > columns[f"amount_count_{longer}"]
    return wrong
