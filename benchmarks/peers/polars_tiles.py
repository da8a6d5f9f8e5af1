"""Windowed features by polars: tiles of each entity merged with each batch's. Runs in the environment `polars`.

The order: `file` (Arrow IPC), `rows` of a batch, `prefill` (batches that are merged before the clock starts, at once),
`seconds`, `tiles_s`, `merge_every`. Count, sum, sum of squares, min and max of `amount` a tile; no distinct counts, no
decay, nothing is evicted: less than what it is compared with.
"""

import json
import sys
import time

import polars as pl
import pyarrow as pa

MEASURES = [
    pl.len().cast(pl.Int64).alias("n"),
    pl.col("amount").sum().alias("total"),
    (pl.col("amount") ** 2).sum().alias("squares"),
    pl.col("amount").min().alias("least"),
    pl.col("amount").max().alias("greatest"),
]
MERGED = [pl.sum("n", "total", "squares"), pl.min("least"), pl.max("greatest")]


def frame_of(table: pa.Table, first: int, rows: int) -> pl.DataFrame:
    """These rows."""
    frame = pl.from_arrow(table.slice(first, rows))
    assert isinstance(frame, pl.DataFrame)
    return frame


def tiles_of(frame: pl.DataFrame, tile_s: int) -> pl.DataFrame:
    """One batch, or several, by entity and tile."""
    keyed = frame.with_columns(tile=pl.col("at").cast(pl.Int64) // (tile_s * 1_000_000))
    return keyed.group_by("card", "tile").agg(MEASURES)


def merged(state: pl.DataFrame | None, more: pl.DataFrame) -> pl.DataFrame:
    """Both, by entity and tile."""
    return more if state is None else pl.concat([state, more]).group_by("card", "tile").agg(MERGED)


def main() -> None:
    """Fold batches until the time is over; tell how many events that were."""
    order = json.load(sys.stdin)
    table = pa.ipc.open_file(pa.memory_map(order["file"])).read_all().combine_chunks()
    rows, prefill, every = order["rows"], order["prefill"], order["merge_every"]
    state = {tile_s: tiles_of(frame_of(table, 0, prefill), tile_s) for tile_s in order["tiles_s"]}
    step, at, events = rows * every, prefill, 0
    began_s, cpu_s = time.perf_counter(), time.process_time()
    while time.perf_counter() - began_s < order["seconds"] and at + step <= table.num_rows:
        frame = frame_of(table, at, step)
        for tile_s in order["tiles_s"]:
            state[tile_s] = merged(state[tile_s], tiles_of(frame, tile_s))
        at, events = at + step, events + step
    found = {"events": events, "wall_s": time.perf_counter() - began_s, "cpu_s": time.process_time() - cpu_s}
    print(json.dumps({**found, "kept": sum(map(len, state.values())), "version": pl.__version__}))


if __name__ == "__main__":
    main()
