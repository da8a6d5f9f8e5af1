"""Driver `ingest`: events from memory into one state, on one core."""

import time
from pathlib import Path
from typing import Any

from benchmarks.features.events import batches, read_stream
from benchmarks.features.states import chunks_of, state_of, warm


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """The order: `file`, `view`, `rows` of a batch, `prefill` rows that come before the clock starts, `events` at most.

    Gives events, wall_s, cpu_s, compile_s, dead (events not applied), entities.
    """
    table = read_stream(Path(order["file"]))
    prefill, rows = order["prefill"], order["rows"]
    end = min(table.num_rows, prefill + order["events"])
    compile_s = warm(order["view"], table.slice(0, 1).combine_chunks().to_batches()[0])
    state = state_of(order["view"])
    dead = sum(len(state.ingest(chunk)) for chunk in chunks_of(batches(table, 1 << 16, 0, prefill)))
    chunks = chunks_of(batches(table, rows, prefill, end), prefill)
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for chunk in chunks:
        dead += len(state.ingest(chunk))
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    found = {"events": end - prefill, "wall_s": wall_s, "cpu_s": cpu_s}
    return {**found, "compile_s": compile_s, "dead": dead, "entities": state.entities}
