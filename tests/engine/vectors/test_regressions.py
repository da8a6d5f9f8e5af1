"""What a review of the vector collections found: each was wrong once."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import FailedPrecondition, ResourceExhausted, Unavailable
from engine.limits import PAYLOAD_BYTES_MAX
from engine.vectors.collection import Collection
from engine.vectors.declaration import CollectionSpec, FieldSpec, IndexSpec, QuotaSpec, Stored, VectorSpec
from engine.vectors.filter import Filter, Match, Range
from engine.vectors.gate import Gate
from engine.vectors.growing import GrowingSegment
from engine.vectors.locations import Ids, Locations
from engine.vectors.query import DenseLeg, GroupBy, Query
from tests.engine.log.disks import QuickDisk

PLAIN = CollectionSpec(
    vectors={"v": VectorSpec(4)}, fields={"n": FieldSpec("integer"), "body": FieldSpec("text")}, growing_rows=64
)


def opened(folder: Path, spec: CollectionSpec | None = PLAIN) -> Collection:
    """Nothing goes on in the background."""
    return Collection("c", folder, spec, disk=QuickDisk(), background=False)


def batch(ids: Iterable[int], size: int = 4, n: int = 0) -> pa.RecordBatch:
    """Of vectors that follow from the ids."""
    rows = list(ids)
    vectors = np.concatenate([np.random.default_rng(each).standard_normal(size) for each in rows]).astype(np.float32)
    return pa.RecordBatch.from_pydict(
        {
            "id": pa.array(rows, pa.uint64()),
            "vector.v": pa.FixedSizeListArray.from_arrays(pa.array(vectors), size),
            "field.n": pa.array([n] * len(rows), pa.int64()),
        }
    )


def test_a_collection_that_is_closed_leaves_its_folder_to_whoever_opens_it_next(tmp_path: Path) -> None:
    closed = opened(tmp_path / "c")
    closed.upsert(batch(range(5)))
    closed.close()
    with opened(tmp_path / "c") as collection:
        collection.upsert(batch(range(5, 100)))
        with pytest.raises(Unavailable, match="is closed"):
            closed.alter(CollectionSpec(vectors={"v": VectorSpec(4)}))
        with pytest.raises(Unavailable, match="is closed"):
            closed.snapshot(tmp_path / "copy")
        assert not closed.indexer.step(idle=True, long=True)
    with opened(tmp_path / "c", None) as collection:
        assert collection.count() == 100
        assert collection.spec == PLAIN


def test_more_points_than_fit_into_one_entry_of_the_log_are_changed_and_deleted(tmp_path: Path) -> None:
    spec = CollectionSpec(
        vectors={"v": VectorSpec(4096, metric="dot")}, fields={"n": FieldSpec("integer")}, growing_rows=1 << 14
    )
    with opened(tmp_path, spec) as collection:
        vectors = np.ones(2_100 * 4096, np.float32)
        for begin in (0, 2_100):
            ids = np.arange(begin, begin + 2_100, dtype=np.uint64)
            columns = {"id": ids, "vector.v": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 4096)}
            collection.upsert(pa.RecordBatch.from_pydict(columns))
        assert collection.set_payload({"n": 2}, ids=range(4_200)).count == 4_200
        assert collection.set_payload({"n": 3}, filter_=Filter.of(Match("n", 2), spec)).count == 4_200
        assert collection.delete_matching(Filter.of(Match("n", 3), spec)).count == 4_200
        assert collection.count() == 0
        assert collection.delete(range(5_000)).count == 0


@pytest.mark.parametrize("stored", ["float32", "float16", "int8"])
def test_signs_that_become_numbers_are_directions_of_length_one(tmp_path: Path, stored: Stored) -> None:
    def spec(stored: Stored) -> CollectionSpec:
        return CollectionSpec({"v": VectorSpec(16, stored=stored)}, fields={"n": FieldSpec("integer")}, growing_rows=64)

    query = Query((DenseLeg("v", np.full(16, 0.25, np.float32)),), 100)
    with opened(tmp_path, spec("binary")) as collection:
        collection.upsert(batch(range(100), 16))
        before = {each.id: each.score for each in collection.search(query).hits}
        collection.alter(spec(stored))
        assert collection.wait_indexed(5)
        after = {each.id: each.score for each in collection.search(query).hits}
        assert after == pytest.approx(before, abs=2e-3)
        (vector,) = (each.vectors["v"] for each in collection.get([7], vectors=["v"]))
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-2)


def test_large_payloads_are_sealed_before_they_are_past_what_a_column_can_hold(tmp_path: Path) -> None:
    spec = CollectionSpec({"v": VectorSpec(4)}, fields={"n": FieldSpec("integer"), "k": FieldSpec("keyword")})
    with opened(tmp_path, spec) as collection:
        large = pa.array(["x" * (PAYLOAD_BYTES_MAX - 8)] * 48)
        for begin in range(0, 7 * 48, 48):
            collection.upsert(batch(range(begin, begin + 48)).append_column("field.k", large))
        assert [each.part.rows for each in collection.view.parts] == [288, 48]


def test_what_could_not_be_shown_is_there_when_it_is_opened_anew_and_nothing_is_half_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(segment: GrowingSegment) -> None:
        raise MemoryError

    with opened(tmp_path) as collection:
        collection.upsert(batch(range(70)))
        while collection.indexer.step():
            pass
        monkeypatch.setattr(GrowingSegment, "frozen", fails)
        with pytest.raises(MemoryError):
            collection.upsert(batch(range(5, 75), n=1))
        monkeypatch.undo()
        offset = collection._log.latest()
        for call in (
            lambda: collection.upsert(batch([1])),
            lambda: collection.delete([1]),
            lambda: collection.get([1]),
            lambda: collection.indexer.step(idle=True, long=True),
            lambda: collection.snapshot(tmp_path / "copy"),
        ):
            with pytest.raises(Unavailable, match="opened anew: MemoryError"):
                call()
        assert collection._log.latest() == offset
        assert (collection.count(), collection.count(Filter.of(Match("n", 1), PLAIN))) == (70, 0)
    with opened(tmp_path) as collection:
        assert (collection.count(), collection.count(Filter.of(Match("n", 1), PLAIN))) == (75, 70)


def test_a_merge_ends_what_the_one_before_left_half_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled: list[int] = []
    settle = Locations.settle

    def fails_once(self: Locations, ids: Ids, tenants: pa.StringArray | None) -> None:
        settled.append(len(ids))
        if len(settled) == 1:
            raise MemoryError
        settle(self, ids, tenants)

    monkeypatch.setattr(Locations, "settle", fails_once)
    with opened(tmp_path) as collection:
        for number in range(12):
            collection.upsert(batch(range(number * 64, number * 64 + 64)))
            collection.delete([number * 64])
            with suppress(MemoryError):
                collection.wait_indexed(5)
        assert len(settled) > 2
        assert len(collection.view.parts) < 4
        assert [each.id for each in collection.get(range(800))] == [each for each in range(768) if each % 64]
        assert collection.delete(range(800)).count == 756
        assert collection.count() == 0


def test_an_interrupt_of_who_waits_to_be_alone_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    gate = Gate()
    with gate.beside():
        monkeypatch.setattr(gate._condition, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gate.alone().__enter__()
    with gate.beside(), gate.beside():
        pass


def test_points_that_are_replaced_meanwhile_take_nobody_s_quota(tmp_path: Path) -> None:
    with opened(tmp_path, replace(PLAIN, quota=QuotaSpec(points_max=60))) as collection:
        collection.upsert(batch(range(50)))
        with collection.writer._room_for(batch(range(50)), None):
            waiting = Thread(target=collection.upsert, args=[batch(range(50, 60))])
            waiting.start()
        waiting.join()
        assert collection.count() == 60
        with pytest.raises(ResourceExhausted, match="points_max is 60, there are 60 points and 1 more would be"):
            collection.upsert(batch([60]))


def test_a_codebook_of_numbers_indexes_neither_signs_nor_multi_vectors_that_grow(tmp_path: Path) -> None:
    spec = CollectionSpec({"v": VectorSpec(16, index=IndexSpec("pq"))}, fields={"n": FieldSpec("integer")})
    with opened(tmp_path, spec) as collection:
        collection.upsert(batch(range(1_100), 16))
        assert collection.wait_indexed(5)
        collection.alter(replace(spec, vectors={"v": VectorSpec(16, stored="binary")}))
        collection.upsert(batch(range(1_100), 16))
        while collection.indexer.step():
            pass
        assert collection.view.parts[-1].part.indexed("v") == (None, 0)
        collection.delete(range(1_100))
        assert collection.wait_indexed(5)
        collection.alter(replace(spec, vectors={"v": VectorSpec(16, multi=True), "w": VectorSpec(16)}))
        ones = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(16 * 1_100, np.float32)), 16)
        columns = {"id": np.arange(1_100), "vector.w": ones, "vector.v": pa.array([[[1.0] * 16]] * 1_100)}
        collection.upsert(pa.RecordBatch.from_pydict(columns))
        assert not collection.indexer.step(), "it would never come to rest"


def test_a_collection_that_is_opened_as_another_spec_says_is_altered_to_it(tmp_path: Path) -> None:
    more = replace(PLAIN, fields={**PLAIN.fields, "more": FieldSpec("keyword")})
    with opened(tmp_path) as collection:
        collection.upsert(batch(range(5)))
    with opened(tmp_path, more) as collection:
        assert collection.count() == 5
    with opened(tmp_path, None) as collection:
        assert (collection.count(), collection.spec) == (5, more)
    with pytest.raises(FailedPrecondition, match="stored points have other owners"):
        opened(tmp_path, replace(more, tenant="more"))
    with opened(tmp_path, PLAIN) as collection:
        assert (collection.count(), collection.spec) == (5, PLAIN)


@pytest.mark.parametrize("k", [3, 7, 9, 30])
def test_groups_are_the_best_ones_though_there_are_fewer_values_than_wanted(tmp_path: Path, k: int) -> None:
    source = np.random.default_rng(k)
    with opened(tmp_path) as collection:
        for begin in range(0, 1_200, 300):
            values = [int(each) if each else None for each in np.minimum(source.geometric(0.5, 300) - 1, 8)]
            points = batch(range(begin, begin + 300)).drop_columns(["field.n"])
            collection.upsert(points.append_column("field.n", pa.array(values, pa.int64())))
            collection.indexer.step()
        leg = DenseLeg("v", np.full(4, 0.5, np.float32))
        for filter_ in (None, Filter.of(Range("n", gte=2), PLAIN)):
            plain: dict[int, list[int]] = {}
            for each in collection.search(Query((leg,), 1_200, filter=filter_, payload=("n",))).hits:
                if (value := each.payload.get("n")) is not None and (value in plain or len(plain) < k):
                    plain.setdefault(value, []).append(int(each.id))
            found = collection.search(Query((leg,), k, filter=filter_, group_by=GroupBy("n", 3))).hits
            assert [each.id for each in found] == [each for group in plain.values() for each in group[:3]]


class ForgetfulDisk(QuickDisk):
    """Fails once to make the names of the next log's folder safe."""

    def __init__(self) -> None:
        self.failing = False

    def sync_folder(self, folder: Path) -> None:
        """Disk."""
        if self.failing and folder.name == "log-0000000002":
            self.failing = False
            raise OSError(errno.ENOSPC, "no space")


def test_an_alteration_that_failed_does_not_stand_in_the_way_of_another(tmp_path: Path) -> None:
    disk = ForgetfulDisk()
    with Collection("c", tmp_path, PLAIN, disk=disk, background=False) as collection:
        collection.upsert(batch(range(5)))
        disk.failing = True
        with pytest.raises(ResourceExhausted):
            collection.alter(replace(PLAIN, fields={**PLAIN.fields, "more": FieldSpec("keyword")}))
        collection.alter(replace(PLAIN, fields={**PLAIN.fields, "more": FieldSpec("float")}))
        collection.upsert(batch(range(5, 9)))
        assert collection.count() == 9


def test_closing_does_not_wait_for_room_that_nobody_makes(tmp_path: Path) -> None:
    collection = opened(tmp_path, replace(PLAIN, growing_rows=1))
    for each in range(4):
        collection.upsert(batch([each]))
    began = Event()
    room = collection.indexer.wait_for_room

    def waits(full_max: int, timeout_s: float | None) -> bool:
        began.set()
        return room(full_max, None)

    collection.indexer.wait_for_room = waits  # type: ignore[method-assign]
    waiting = Thread(target=collection.upsert, args=[batch([4])])
    waiting.start()
    began.wait()
    collection.close()
    waiting.join()
    with opened(tmp_path, None) as collection:
        assert collection.count() == 5


class FullDisk(QuickDisk):
    """Takes nothing while it is full."""

    def __init__(self) -> None:
        self.is_full = False

    def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
        """Disk."""
        if self.is_full:
            raise OSError(errno.ENOSPC, "no space")
        super().write(file, buffers, position)


def test_segments_that_a_full_disk_does_not_take_leave_no_files_open_or_lying_about(tmp_path: Path) -> None:
    disk = FullDisk()
    spec = replace(PLAIN, vectors={"v": VectorSpec(4), "m": VectorSpec(4, multi=True)})
    with Collection("c", tmp_path, spec, disk=disk, background=False) as collection:
        collection.upsert(batch(range(64)))
        files = len(list(Path("/proc/self/fd").iterdir()))
        disk.is_full = True
        for _ in range(3):
            with pytest.raises(ResourceExhausted):
                collection.indexer.step()
        assert len(list(Path("/proc/self/fd").iterdir())) == files
        assert not list((tmp_path / "segments").iterdir())
        disk.is_full = False
        while collection.indexer.step():
            pass
        assert len(list((tmp_path / "segments").iterdir())) == 1
