"""The streams that everything is fed with: seeded, in time, and as skewed as they say."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.features.drive_memory import hot_times_us, idle_times_us
from benchmarks.features.events import (
    KNOWN_S,
    LATE_US_MAX,
    SCHEMA,
    SECOND_US,
    START_US,
    Stream,
    batches,
    blocks,
    read_stream,
    stream_file,
)
from benchmarks.features.views import TILES


def table_of(stream: Stream) -> pa.Table:
    return pa.Table.from_batches(list(blocks(stream)), SCHEMA)


def times_of(table: pa.Table) -> np.ndarray:
    times: np.ndarray = table["at"].cast(pa.int64()).to_numpy()
    return times


def test_every_card_is_known_before_the_events_come() -> None:
    stream = Stream(entities=100, events=50, known=3)
    table = table_of(stream)
    assert table.num_rows == 350
    assert stream.prefill == 300
    cards = table["card"].to_numpy()
    for number in range(3):
        assert sorted(cards[100 * number : 100 * (number + 1)]) == list(range(100))
    times = times_of(table)
    assert set(np.diff(np.unique(times[:300]))) == {KNOWN_S * SECOND_US}
    assert times[:300].max() < START_US <= times[300:].min()


def test_events_are_spread_over_their_span_and_few_are_late() -> None:
    times = times_of(table_of(Stream(entities=10, events=20_000, span_s=600, known=0)))
    assert times.max() <= START_US + 600 * SECOND_US
    behind = np.maximum.accumulate(times) - times
    assert behind.max() <= LATE_US_MAX
    assert 0.01 < (behind > 100_000).mean() < 0.06


def test_a_zipf_stream_has_busy_cards_and_a_uniform_one_has_none() -> None:
    shares = {}
    for skew in ("uniform", "zipf"):
        cards = table_of(Stream(entities=1000, events=20_000, skew=skew, known=0))["card"].to_numpy()
        shares[skew] = np.bincount(cards).max() / len(cards)
    assert shares["uniform"] < 0.005
    assert shares["zipf"] > 0.05


def test_the_same_stream_is_made_once_and_another_is_another_file(tmp_path: Path) -> None:
    stream = Stream(entities=10, events=100)
    file = stream_file(stream, tmp_path)
    written = file.stat().st_mtime_ns
    assert stream_file(stream, tmp_path) == file
    assert file.stat().st_mtime_ns == written
    others = {Stream(10, 101).name, Stream(10, 100, seed=2).name, Stream(10, 100, "zipf").name, stream.name}
    assert len(others) == 4
    assert read_stream(file).equals(table_of(stream).combine_chunks())


@pytest.mark.parametrize("rows", [7, 100, 1000])
def test_batches_are_all_rows_in_order_and_share_nothing(rows: int) -> None:
    table = table_of(Stream(entities=10, events=100))
    made = batches(table, rows, 5, 90)
    assert pa.Table.from_batches(made).equals(table.slice(5, 85).combine_chunks())
    assert all(column.offset == 0 for batch in made for column in batch.columns)
    assert batches(table, rows, 110) == []


def test_hot_times_leave_no_tile_of_any_window_empty() -> None:
    times = np.array(hot_times_us())
    assert (np.diff(times) > 0).all()
    seconds = {"5s": 5, "5m": 300, "1h": 3600}
    counts = {"1m": 12, "1h": 12, "24h": 24}
    for window, tile in TILES.items():
        tiles = times // (seconds[tile] * SECOND_US)
        last = np.arange(tiles.max() - counts[window] + 1, tiles.max() + 1)
        assert set(last) <= set(tiles), window
    assert len(idle_times_us(3)) == 3
