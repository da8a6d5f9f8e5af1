"""What every log promises. A kind of log passes by subclassing and giving `place`."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
import pytest

from engine import InvalidArgument
from engine.errors import FailedPrecondition, OffsetDeleted
from engine.log.declaration import ColumnSpec
from engine.log.log import Appended, Chunk, Log, LogReader, Offsets
from engine.log.schema import arrow_schema

COLUMNS: Mapping[str, ColumnSpec | str] = {
    "id": ColumnSpec("int64", nullable=False),
    "card": "string",
    "amount": "float64",
    "at": ColumnSpec("timestamp", nullable=False),
}
SCHEMA = arrow_schema(COLUMNS)
WAIT_S = 20.0
"""Longest any read of the suite waits for what must come."""


@dataclass
class Collector:
    """An owner that starts where it is told and remembers what it was told."""

    start: Offsets = field(default_factory=dict)
    owned: set[int] = field(default_factory=set)
    revocations: list[set[int]] = field(default_factory=list)

    def assigned(self, partitions: Collection[int]) -> Offsets:
        """Owner."""
        self.owned |= set(partitions)
        return {each: self.start[each] for each in partitions if each in self.start}

    def revoked(self, partitions: Collection[int]) -> None:
        """Owner."""
        self.owned -= set(partitions)
        self.revocations.append(set(partitions))


class Place(Protocol):
    """Where one log lives: it can be opened more than once, the last one having been closed."""

    rows_are_offsets: bool
    """Whether an offset is a row (local); else it is a message of one or more rows (Kafka)."""
    truncates: bool
    """Whether `truncate` can be asked for here."""
    checks_evolution: bool
    """Whether what is stored is known when the log is opened."""

    def open(self, schema: pa.Schema = SCHEMA) -> Log:
        """The log, with this schema."""


def rows(first: int, count: int) -> pa.RecordBatch:
    """Rows whose `id` is first, first + 1, ...; the other columns follow from it."""
    ids = np.arange(first, first + count)
    return pa.record_batch(
        [
            pa.array(ids, pa.int64()),
            pa.array([f"card-{each % 7}" if each % 5 else None for each in ids.tolist()], pa.string()),
            pa.array(ids * 0.5, pa.float64()),
            pa.array(1_700_000_000_000_000 + ids * 1_000_003, pa.timestamp("us", "UTC")),
        ],
        schema=SCHEMA,
    )


def read_rows(reader: LogReader, count: int, rows_max: int = 1 << 16) -> list[Chunk]:
    """Chunks of `count` rows in all (more where the last chunk brings them)."""
    chunks: list[Chunk] = []
    while sum(each.batch.num_rows for each in chunks) < count:
        got = reader.read(rows_max, WAIT_S)
        assert got, f"{count} rows expected, {sum(each.batch.num_rows for each in chunks)} came in {WAIT_S} s"
        chunks += got
    return chunks


def ids(chunks: list[Chunk]) -> list[int]:
    """The `id` of every row."""
    return [each for chunk in chunks for each in chunk.batch.column("id").to_pylist()]


def table(chunks: list[Chunk]) -> pa.Table:
    """All their rows."""
    return pa.Table.from_batches([each.batch for each in chunks])


class LogContract:
    """Subclasses give the fixture `place`."""

    @pytest.fixture
    def place(self) -> Place:
        """A place without entries, of one partition."""
        raise NotImplementedError

    @pytest.fixture
    def log(self, place: Place) -> Iterator[Log]:
        """An empty log."""
        log = place.open()
        yield log
        log.close()

    @pytest.fixture
    def reader(self, log: Log) -> Iterator[LogReader]:
        """From the beginning."""
        reader = log.reader(Collector())
        yield reader
        reader.close()

    def test_an_empty_log_begins_where_it_ends_and_reads_nothing(self, log: Log, reader: LogReader) -> None:
        assert log.schema.equals(SCHEMA)
        assert log.earliest() == log.latest()
        assert list(log.latest()) == [0]
        assert reader.read(100, 0.0) == []

    def test_what_is_appended_is_read_back_in_order_and_is_the_same(self, log: Log, reader: LogReader) -> None:
        batches = [rows(0, 3), rows(3, 1), rows(4, 500)]
        appended = [log.append(each) for each in batches]
        assert [each.partition for each in appended] == [0, 0, 0]
        assert all(one.next == other.first for one, other in itertools.pairwise(appended))
        assert log.latest() == {0: appended[-1].next}
        chunks = read_rows(reader, 504)
        assert table(chunks).equals(pa.Table.from_batches(batches))
        assert all(each.batch.schema.equals(SCHEMA) for each in chunks)
        assert reader.read(100, 0.0) == []

    def test_offsets_ascend_by_rows_or_by_messages(self, place: Place, log: Log) -> None:
        one, other = log.append(rows(0, 5)), log.append(rows(5, 2))
        assert other.first == one.next
        if place.rows_are_offsets:
            assert (one, other) == (Appended(0, 0, 5), Appended(0, 5, 7))

    def test_chunks_follow_one_another_without_gap_and_each_row_has_its_arrival(
        self, log: Log, reader: LogReader
    ) -> None:
        for first in range(0, 100, 10):
            log.append(rows(first, 10))
        chunks = read_rows(reader, 100, rows_max=15)
        assert chunks[0].first == log.earliest()[0]
        assert all(one.next == other.first for one, other in itertools.pairwise(chunks))
        assert chunks[-1].next == log.latest()[0]
        for chunk in chunks:
            assert chunk.appended_us.dtype == np.int64
            assert chunk.appended_us.shape == (chunk.batch.num_rows,)
            assert not chunk.dead

    def test_a_read_gives_few_more_rows_than_asked_for(self, place: Place, log: Log, reader: LogReader) -> None:
        log.append(rows(0, 1000))
        chunks = reader.read(100, WAIT_S)
        assert chunks
        if place.rows_are_offsets:
            assert sum(each.batch.num_rows for each in chunks) <= 100
        rest = read_rows(reader, 1000 - sum(each.batch.num_rows for each in chunks), rows_max=100)
        assert ids(chunks + rest) == list(range(1000))

    def test_arrival_read_again_is_the_same(self, log: Log) -> None:
        log.append(rows(0, 10))
        log.append(rows(10, 10))
        once, again = (np.concatenate([each.appended_us for each in self._all(log, 20)]) for _ in range(2))
        assert once.tolist() == again.tolist()
        assert (once > 1_000_000_000_000_000).all(), "microseconds since the Unix epoch"

    def _all(self, log: Log, count: int, start: Offsets | None = None) -> list[Chunk]:
        reader = log.reader(Collector(start or {}))
        try:
            return read_rows(reader, count)
        finally:
            reader.close()

    def test_a_reader_begins_at_any_offset_its_owner_asks_for(self, place: Place, log: Log) -> None:
        firsts = [log.append(rows(first, 4)).first for first in range(0, 40, 4)]
        for position, offset in enumerate(firsts):
            assert ids(self._all(log, 40 - 4 * position, {0: offset})) == list(range(4 * position, 40))
        if place.rows_are_offsets:
            for offset in range(40):
                assert ids(self._all(log, 40 - offset, {0: offset})) == list(range(offset, 40))

    def test_a_reader_at_the_end_sees_only_what_comes(self, log: Log) -> None:
        log.append(rows(0, 10))
        reader = log.reader(Collector(dict(log.latest())))
        assert reader.read(100, 0.0) == []
        log.append(rows(10, 3))
        assert ids(read_rows(reader, 3)) == [10, 11, 12]
        reader.close()

    def test_every_chunk_tells_an_offset_from_which_to_go_on(self, log: Log) -> None:
        for first in range(0, 30, 3):
            log.append(rows(first, 3))
        seen: list[int] = []
        start: Offsets = {}
        while len(seen) < 30:
            reader = log.reader(Collector(start))
            chunk = reader.read(4, WAIT_S)[0]
            reader.close()
            seen += ids([chunk])
            start = {0: chunk.next}
        assert seen == list(range(30))

    def test_an_offset_past_the_end_is_refused(self, log: Log) -> None:
        log.append(rows(0, 2))
        reader = log.reader(Collector({0: log.latest()[0] + 1}))
        with pytest.raises(InvalidArgument, match="offset"):
            read_rows(reader, 1)
        reader.close()

    def test_two_readers_have_two_places(self, log: Log) -> None:
        log.append(rows(0, 6))
        assert ids(self._all(log, 6)) == ids(self._all(log, 6)) == list(range(6))

    def test_a_waiting_reader_wakes_when_something_is_appended(self, log: Log, reader: LogReader) -> None:
        assert reader.read(10, 0.0) == []
        got: list[Chunk] = []
        thread = threading.Thread(target=lambda: got.extend(read_rows(reader, 2)))
        thread.start()
        log.append(rows(0, 2))
        thread.join(WAIT_S)
        assert ids(got) == [0, 1]

    def test_owners_are_told_what_is_theirs_and_when_it_is_no_more(self, log: Log) -> None:
        log.append(rows(0, 1))
        owner = Collector()
        reader = log.reader(owner)
        read_rows(reader, 1)
        assert owner.owned == {0}
        reader.close()
        assert owner.owned == set()
        assert owner.revocations == [{0}]
        reader.close()
        assert owner.revocations == [{0}], "closed twice is closed once"

    def test_a_closed_reader_reads_nothing_and_a_waiting_one_returns(self, log: Log) -> None:
        reader = log.reader(Collector())
        got: list[list[Chunk]] = []
        thread = threading.Thread(target=lambda: got.append(reader.read(10, WAIT_S)))
        thread.start()
        reader.close()
        thread.join(WAIT_S)
        assert not thread.is_alive()
        assert got == [[]]
        assert reader.read(10, WAIT_S) == []

    def test_missing_nullable_columns_come_back_as_nulls_and_order_does_not_matter(
        self, log: Log, reader: LogReader
    ) -> None:
        log.append(rows(0, 3).select(["at", "id"]))
        got = table(read_rows(reader, 3))
        assert got.schema.equals(SCHEMA)
        assert got.column("id").to_pylist() == [0, 1, 2]
        assert got.column("card").null_count == got.column("amount").null_count == 3

    def test_other_types_that_lose_nothing_are_taken(self, log: Log, reader: LogReader) -> None:
        log.append(
            pa.record_batch(
                {
                    "id": pa.array([1, 2], pa.int32()),
                    "card": pa.array(["a", None], pa.large_string()).dictionary_encode(),
                    "amount": pa.array([0.5, 2.0], pa.float32()),
                    "at": pa.array([1_000, 2_000], pa.timestamp("ms", "Europe/Berlin")),
                }
            )
        )
        got = table(read_rows(reader, 2))
        assert got.schema.equals(SCHEMA)
        assert got.column("card").to_pylist() == ["a", None]
        assert got.column("amount").to_pylist() == [0.5, 2.0]
        assert got.column("at").cast(pa.int64()).to_pylist() == [1_000_000, 2_000_000]

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda batch: batch.append_column("amuont", batch.column("amount")), "'amuont'.*nearest: 'amount'"),
            (lambda batch: batch.drop_columns(["id"]), "'id'.*not nullable"),
            (lambda batch: batch.set_column(2, "amount", pa.array(["1", "2"])), "'amount'.*float64.*string"),
            (lambda batch: batch.set_column(0, "id", pa.array([1, None], pa.int64())), "'id'.*1 of 2"),
            (lambda batch: batch.set_column(0, "id", pa.array([1, 2], pa.uint64())), "'id'.*int64.*uint64"),
            (lambda batch: batch.set_column(3, "at", pa.array([1, 2], pa.timestamp("ns"))), "'at'.*lose data"),
            (lambda batch: batch.set_column(1, "card", bad_text()), "corrupt"),
        ],
        ids=["unknown", "missing", "another type", "null", "narrowing", "time that is cut", "not UTF-8"],
    )
    def test_a_batch_that_does_not_fit_is_refused_by_column_and_leaves_nothing(
        self, log: Log, spoil: Callable[[pa.RecordBatch], pa.RecordBatch], message: str
    ) -> None:
        with pytest.raises(InvalidArgument, match=message):
            log.append(spoil(rows(0, 2)))
        log.append(rows(7, 1))
        assert ids(self._all(log, 1)) == [7]

    def test_no_rows_are_no_entry(self, log: Log) -> None:
        appended = log.append(rows(0, 0))
        assert appended.first == appended.next == log.latest()[0]
        log.append(rows(0, 1))
        assert ids(self._all(log, 1)) == [0]

    def test_a_slice_is_appended_as_the_rows_it_shows(self, log: Log, reader: LogReader) -> None:
        log.append(rows(0, 100).slice(37, 11))
        assert table(read_rows(reader, 11)).equals(pa.Table.from_batches([rows(37, 11)]))

    def test_memory_that_its_owner_writes_again_does_not_change_what_was_appended(self, log: Log) -> None:
        values = np.arange(4)
        batch = rows(0, 4).set_column(0, SCHEMA.field("id"), pa.array(values))
        log.append(batch)
        values[:] = 99
        assert ids(self._all(log, 4)) == [0, 1, 2, 3]

    def test_many_threads_append_at_once_and_every_row_is_there_once_in_its_thread_s_order(self, log: Log) -> None:
        threads_count, appends, size = 8, 25, 4
        places: dict[int, list[Appended]] = {each: [] for each in range(threads_count)}

        def work(thread: int) -> None:
            for turn in range(appends):
                places[thread].append(log.append(rows((thread * appends + turn) * size, size)))

        threads = [threading.Thread(target=work, args=(each,)) for each in range(threads_count)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        total = threads_count * appends * size
        seen = ids(self._all(log, total))
        assert sorted(seen) == list(range(total))
        per_thread = appends * size
        for thread in range(threads_count):
            mine = [each for each in seen if each // per_thread == thread]
            assert mine == sorted(mine)
        spans = sorted((each.first, each.next) for one in places.values() for each in one)
        assert all(one[1] == other[0] for one, other in itertools.pairwise(spans))

    def test_entries_outlive_the_log_that_wrote_them(self, place: Place) -> None:
        log = place.open()
        latest = {0: log.append(rows(0, 10)).next}
        log.close()
        log = place.open()
        try:
            assert log.latest() == latest
            assert ids(self._all(log, 10)) == list(range(10))
            assert log.append(rows(10, 1)).first == latest[0]
        finally:
            log.close()

    def test_a_closed_log_takes_nothing_and_closes_again(self, place: Place) -> None:
        log = place.open()
        log.close()
        log.close()
        with pytest.raises(Exception, match="closed"):
            log.append(rows(0, 1))

    def test_older_entries_have_nulls_in_an_added_column(self, place: Place) -> None:
        self._write(place, rows(0, 3))
        wider = arrow_schema({**COLUMNS, "country": "string"})
        log = place.open(wider)
        try:
            log.append(rows(3, 1).append_column("country", pa.array(["DE"])))
            got = table(self._all(log, 4))
            assert got.schema.equals(wider)
            assert got.column("country").to_pylist() == [None, None, None, "DE"]
            assert got.column("id").to_pylist() == [0, 1, 2, 3]
        finally:
            log.close()

    def test_a_changed_schema_that_loses_something_is_refused_by_column(self, place: Place) -> None:
        if not place.checks_evolution:
            pytest.skip("what is stored isn't known here")
        self._write(place, rows(0, 3))
        removed = {name: each for name, each in COLUMNS.items() if name != "amount"}
        changes: list[tuple[Mapping[str, ColumnSpec | str], str]] = [
            ({**COLUMNS, "amount": "float32"}, "'amount'.*float64.*float32"),
            (removed, "'amount'.*removed"),
            ({**COLUMNS, "country": ColumnSpec("string", nullable=False)}, "'country'.*nullable"),
            ({**COLUMNS, "card": ColumnSpec("string", nullable=False)}, "'card'.*null"),
        ]
        for changed, message in changes:
            with pytest.raises(FailedPrecondition, match=message):
                place.open(arrow_schema(changed)).close()

    def _write(self, place: Place, batch: pa.RecordBatch) -> None:
        log = place.open()
        log.append(batch)
        log.close()

    def test_truncate_keeps_what_is_at_or_above_and_the_rest_is_said_to_be_deleted(
        self, place: Place, log: Log
    ) -> None:
        if not place.truncates:
            pytest.skip("the broker doesn't offer it")
        firsts = [log.append(rows(first, 50)).first for first in range(0, 2000, 50)]
        log.truncate({0: firsts[30]})
        earliest = log.earliest()[0]
        assert firsts[0] < earliest <= firsts[30]
        kept = self._all(log, 500, {0: firsts[30]})
        assert ids(kept)[:500] == list(range(1500, 2000))
        assert log.latest()[0] == kept[-1].next
        reader = log.reader(Collector({0: firsts[0]}))
        with pytest.raises(OffsetDeleted, match="offset"):
            read_rows(reader, 1)
        reader.close()
        assert ids(self._all(log, 500))[-1] == 1999, "one that asks for no offset begins with what is kept"


def bad_text() -> pa.Array:
    """Two strings, the second of which is no UTF-8."""
    good = pa.array(["a", "bc"])
    return pa.Array.from_buffers(pa.string(), 2, [None, good.buffers()[1], pa.py_buffer(b"a\xff\xfe")])
