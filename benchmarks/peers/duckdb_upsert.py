"""Windowed features by DuckDB: tiles of each entity, upserted batch by batch. Runs in the environment `duckdb`.

The order: `file` (Arrow IPC), `rows` of a batch, `prefill` (rows that are inserted before the clock starts), `seconds`,
`tiles_s`. Count, sum, sum of squares, min and max of `amount` a tile; no distinct counts, no decay, nothing is evicted:
less than what it is compared with.
"""

import json
import sys
import time

import duckdb
import pyarrow as pa

TABLE = """
create table tiles_{tile_s} (card bigint, tile bigint, n bigint, total double, squares double, least double,
greatest double, primary key (card, tile))
"""
UPSERT = """
insert into tiles_{tile_s}
select card, epoch_us("at") // ({tile_s}::bigint * 1000000) as tile, count(*), sum(amount), sum(amount * amount),
min(amount), max(amount)
from batch group by card, tile
on conflict (card, tile) do update set n = n + excluded.n, total = total + excluded.total,
squares = squares + excluded.squares, least = least(least, excluded.least),
greatest = greatest(greatest, excluded.greatest)
"""


def main() -> None:
    """Fold batches until the time is over; tell how many events that were."""
    order = json.load(sys.stdin)
    table = pa.ipc.open_file(pa.memory_map(order["file"])).read_all().combine_chunks()
    database = duckdb.connect(config={"threads": 1})
    rows, at, events = order["rows"], order["prefill"], 0
    for tile_s in order["tiles_s"]:
        database.execute(TABLE.format(tile_s=tile_s))

    def upsert(batch: pa.Table) -> None:
        database.register("batch", batch)
        for tile_s in order["tiles_s"]:
            database.execute(UPSERT.format(tile_s=tile_s))

    upsert(table.slice(0, at))
    began_s, cpu_s = time.perf_counter(), time.process_time()
    while time.perf_counter() - began_s < order["seconds"] and at + rows <= table.num_rows:
        upsert(table.slice(at, rows))
        at, events = at + rows, events + rows
    found = {"events": events, "wall_s": time.perf_counter() - began_s, "cpu_s": time.process_time() - cpu_s}
    counts = [database.sql(f"select count(*) from tiles_{tile_s}").fetchall()[0] for tile_s in order["tiles_s"]]
    print(json.dumps({**found, "kept": sum(count for (count,) in counts), "version": duckdb.__version__}))


if __name__ == "__main__":
    main()
