"""A fold over a log shows what a dictionary would, at every moment, whatever parts its points are in."""

from __future__ import annotations

import random
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.vectors.fold import Fold
from engine.vectors.growing import GrowingSegment
from engine.vectors.locations import ABSENT
from engine.vectors.places import ROW_MASK, SHIFT
from engine.vectors.rows import DELETE, UPSERT, log_schema
from engine.vectors.sealed import SealedPart
from engine.vectors.view import View
from tests.engine.vectors.core import OWNED, SPEC, Core, answers, opened, points, shown, some_ids


def entries(op: int, batch: pa.RecordBatch) -> pa.RecordBatch:
    """As the log has them."""
    ops = pa.array(np.full(batch.num_rows, op, np.int8))
    return pa.RecordBatch.from_arrays([ops, *batch.columns], schema=log_schema(SPEC))


def together(*batches: pa.RecordBatch) -> pa.RecordBatch:
    """One chunk of a log that several wrote to."""
    return pa.concat_batches(batches)


def new_fold() -> Fold:
    """Of nothing."""
    return Fold(SPEC, [], 0, 1)


def change(core: Core, truth: dict[int, int], source: random.Random, step: int) -> None:
    """Some upserts or deletes."""
    if source.random() < 0.7:
        ids = some_ids(source, 9)
        core.writer.upsert(points(ids, step))
        truth |= dict.fromkeys(ids, step)
    else:
        for each in (ids := some_ids(source, 6)):
            truth.pop(each, None)
        core.writer.delete(ids)


@pytest.mark.parametrize("seed", range(4))
def test_a_fold_shows_what_a_dictionary_would_and_earlier_views_stay_as_they_were(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    core, truth = opened(tmp_path), dict[int, int]()
    kept: list[tuple[View, list[object]]] = []
    for step in range(120):
        change(core, truth, source, step)
        assert shown(core.view) == truth, f"seed {seed}, step {step}"
        assert core.view.count == len(truth)
        if step % 8 == 0:
            kept.append((core.view, answers(core.view)))
        for _ in range(source.choice([0, 0, 1, 3])):
            core.indexer.step(idle=source.random() < 0.5)
            assert shown(core.view) == truth, f"seed {seed}, step {step}"
    for view, said in kept:
        assert answers(view) == said, f"seed {seed}"
    assert core.directory.manifest.segments
    core.close()
    core = opened(tmp_path)
    assert shown(core.view) == truth
    core.close()
    assert [answers(view) for view, _ in kept[-2:]] == [said for _, said in kept[-2:]], "closed, and still mapped"


def test_of_entries_in_one_chunk_the_last_of_an_id_counts() -> None:
    fold = new_fold()
    fold.apply(
        together(
            entries(UPSERT, points([1, 2, 3], 1)), entries(DELETE, points([2, 9])), entries(UPSERT, points([3, 2], 2)),
            entries(DELETE, points([1])), entries(UPSERT, points([4], 3)), entries(DELETE, points([4])),
        ), 0,
    )  # fmt: skip
    assert shown(fold.view) == {3: 2, 2: 2}
    assert (fold.view.offset, fold.view.count) == (10, 2)


def test_vectors_beside_deletes_that_have_none_are_kept() -> None:
    fold, schema = new_fold(), log_schema(SPEC)
    deletes = pa.RecordBatch.from_arrays(
        [pa.array([1], each.type) if each.name in ("op", "id") else pa.nulls(1, each.type) for each in schema],
        schema=schema,
    )
    chunk = together(entries(UPSERT, points([1, 2], 1)), deletes, entries(UPSERT, points([3], 2)))
    fold.apply(chunk, 0)
    assert shown(fold.view) == {2: 1, 3: 2}
    kept = fold.view.parts[0].part.points(np.array([0, 1, 2]))
    assert kept.equals(together(points([1, 2], 1), points([3], 2)))


def test_a_chunk_that_kills_all_it_brings_leaves_nothing() -> None:
    fold = new_fold()
    fold.apply(together(entries(UPSERT, points([1, 2])), entries(DELETE, points([1, 2]))), 0)
    assert (shown(fold.view), fold.view.count, fold.view.offset) == ({}, 0, 4)


def test_deletes_alone_make_no_part() -> None:
    fold = new_fold()
    fold.apply(entries(DELETE, points([1, 2])), 0)
    assert (fold.view.parts, fold.view.offset, fold.replay_from) == ((), 2, 0)


def test_entries_folded_twice_change_nothing(tmp_path: Path) -> None:
    """As after a restart, when the bitsets know more than the manifest's place in the log says."""
    source = random.Random(5)
    chunks = []
    for step in range(60):
        op, some = (UPSERT, 9) if source.random() < 0.7 else (DELETE, 5)
        chunks.append(entries(op, points(some_ids(source, some), step)))
    fold, begin = new_fold(), 0
    for each in chunks:
        fold.apply(each, begin)
        begin += each.num_rows
    again = new_fold()
    again.apply(together(*chunks, *chunks), 0)
    assert shown(again.view) == shown(fold.view)


def test_an_entry_out_of_order_is_our_mistake() -> None:
    fold = new_fold()
    fold.apply(entries(UPSERT, points([1])), 0)
    with pytest.raises(AssertionError, match="offset 0, expected 1"):
        fold.apply(entries(UPSERT, points([1])), 0)


def test_points_are_where_the_view_says(tmp_path: Path) -> None:
    core, source, truth = opened(tmp_path), random.Random(1), dict[int, int]()
    for step in range(60):
        change(core, truth, source, step)
        core.indexer.step(idle=True)
        view, found = core.fold.locate(list(range(60)))
        assert [each for each in range(60) if found[each] != ABSENT] == sorted(truth)
        for id_ in truth:
            living = view.part(int(found[id_]) >> SHIFT)
            assert living is not None
            row = int(found[id_]) & ROW_MASK
            assert living.part.points(np.array([row])).column("id").to_pylist() == [id_]
            assert living.alive is None or living.alive[row >> 3] >> (row & 7) & 1
    core.close()


def test_bitsets_are_exact_and_nobody_can_write_to_them(tmp_path: Path) -> None:
    core, source, truth = opened(tmp_path), random.Random(2), dict[int, int]()
    for step in range(80):
        change(core, truth, source, step)
        core.indexer.step()
        for each in core.view.parts:
            assert each.alive is None or (
                not each.alive.flags.writeable and len(each.alive) == (each.part.rows + 7) // 8
            )
            bits = (
                np.unpackbits(each.alive, bitorder="little") if each.alive is not None else np.ones(each.part.rows, int)
            )
            assert bits[: each.part.rows].sum() == each.count
            assert not bits[each.part.rows :].any()
    core.close()


def test_a_segment_grows_until_it_is_full_and_the_next_begins_where_it_ends() -> None:
    fold = new_fold()
    assert (fold.full, fold.replay_from) == ([], 0)
    fold.apply(entries(UPSERT, points(range(10))), 0)
    assert (fold.full, fold.growing.rows) == ([], 10)
    fold.apply(entries(UPSERT, points(range(10, 40))), 10)
    full = fold.full
    assert [(each.first, each.rows) for each in full] == [(0, 40)]
    assert (fold.growing.first, fold.growing.rows, fold.replay_from) == (40, 0, 0)
    assert fold.next_first(full[0]) == 40
    assert len(fold.view.parts) == 1


def test_turning_ends_what_grows_and_tells_who_is_alive() -> None:
    fold = new_fold()
    fold.apply(together(entries(UPSERT, points([1, 2, 3])), entries(DELETE, points([2]))), 0)
    key = fold.growing.key
    alive, offset = fold.turn()
    assert offset == 4
    assert alive[key] is not None
    assert alive[key].tolist() == [0b101]  # type: ignore[union-attr]
    assert [each.key for each in fold.full] == [key]
    assert (fold.growing.rows, fold.growing.first) == (0, 4)
    alive, _ = fold.turn()
    assert list(alive) == [key], "what has no rows is not kept"


def test_keys_are_never_given_twice(tmp_path: Path) -> None:
    core, seen = opened(tmp_path), set[int]()
    for step in range(12):
        core.writer.upsert(points(range(step, step + 9), step))
        core.work(idle=True)
        key = core.fold.new_key()
        assert key not in seen
        seen.add(key)
    core.close()
    core = opened(tmp_path)
    keys = [each.part.key for each in core.view.parts] + [core.fold.growing.key]
    assert len(set(keys)) == len(keys)
    core.close()


def test_a_merge_knows_who_died_while_it_was_made(tmp_path: Path) -> None:
    core = opened(tmp_path)
    for step in range(3):
        core.writer.upsert(points(range(step * 20, step * 20 + 20), step))
        core.indexer.step()
    begun = {each.part.key: np.arange(20) for each in core.view.parts}
    core.writer.delete([3, 45])
    core.writer.upsert(points([21, 22], 7))
    number, writer = core.directory.new_segment(SPEC)
    for each in core.fold.sealed:
        writer.gather(each.part.segment, np.arange(20))  # type: ignore[attr-defined]
    writer.finish_rows()
    segment = writer.seal(0, 60)
    core.directory.add(number, segment)
    part = SealedPart(core.fold.new_key(), number, segment, SPEC)
    core.fold.merge(begun, part)
    expected = {id_: id_ // 20 for id_ in range(60)} | {21: 7, 22: 7}
    del expected[3], expected[45]
    assert shown(core.view) == expected
    core.writer.delete([4, 22])  # before it is settled: where the old parts' rows went is looked up
    core.writer.upsert(points([5, 70], 8))
    del expected[4], expected[22]
    expected |= {5: 8, 70: 8}
    assert shown(core.view) == expected
    core.fold.settle(part)
    assert shown(core.view) == expected
    core.writer.delete([6, 70])
    del expected[6], expected[70]
    assert shown(core.view) == expected
    core.close()


def test_a_reader_sees_a_write_whole_or_not_at_all_while_parts_are_sealed_and_merged(tmp_path: Path) -> None:
    core = opened(tmp_path)
    core.indexer.start()
    core.writer.upsert(points(range(12), 0))
    ended, wrong, seen = threading.Event(), list[str](), set[int]()

    def read() -> None:
        before = -1
        while not ended.is_set():
            view = core.view
            found = shown(view)
            if set(found) - set(range(100, 130)) != set(range(12)) or len({found[each] for each in range(12)}) != 1:
                wrong.append(str(found))
                return
            if found[0] < before:
                wrong.append(f"{found[0]} after {before}")
            before = found[0]
            seen.add(before)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for each in readers:
        each.start()
    source = random.Random(3)
    for step in range(1, 90):
        core.writer.upsert(points(range(12), step))
        if step % 5 == 0:
            core.writer.delete([source.randrange(100, 130) for _ in range(5)])
            core.writer.upsert(points([source.randrange(100, 130)], step))
    ended.set()
    for each in readers:
        each.join()
    assert not wrong, wrong[0]
    assert len(seen) > 3
    assert core.indexer.settle(30)
    assert core.indexer.problem is None
    core.close()


def test_two_threads_fold_for_each_other_and_lose_nothing(tmp_path: Path) -> None:
    core = opened(tmp_path)
    core.indexer.start()
    offsets: list[tuple[int, int, int]] = []

    def write(base: int) -> None:
        for step in range(60):
            ids = [base + step % 25, base + 50 + step]
            written = core.writer.upsert(points(ids, step))
            view = core.view
            offsets.append((written.offset, view.offset, written.count))
            assert written.offset <= view.offset

    writers = [threading.Thread(target=write, args=(1000 * at,)) for at in range(3)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert len({offset for offset, _, _ in offsets}) == 180
    found = shown(core.view)
    for base in (0, 1000, 2000):
        assert {each: found[base + each] for each in range(25)} == {
            each: 50 + each if each < 10 else 25 + each for each in range(25)
        }
        assert all(found[base + 50 + step] == step for step in range(60))
    core.close()
    core = opened(tmp_path)
    assert shown(core.view) == found
    core.close()


def test_the_same_id_of_two_tenants_is_two_points(tmp_path: Path) -> None:
    core = opened(tmp_path, OWNED)
    for step, tenant in enumerate(["one", "two", "one"]):
        core.writer.upsert(points(range(20), step, OWNED), tenant=tenant)
        core.work(idle=True)
    core.writer.delete([1, 2], tenant="two")
    assert core.view.count == 38
    _, one = core.fold.locate([1, 2, 3], "one")
    _, two = core.fold.locate([1, 2, 3], "two")
    assert (one != ABSENT).all()
    assert (two != ABSENT).tolist() == [False, False, True]
    assert not set(one.tolist()) & set(two.tolist())
    core.close()


def test_a_new_segment_is_of_no_rows() -> None:
    assert GrowingSegment(1, SPEC, 0).frozen().points(np.empty(0, np.int64)).num_rows == 0
