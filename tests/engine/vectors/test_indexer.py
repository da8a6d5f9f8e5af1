"""Background work, step by step: what is sealed, merged, dropped and indexed when, what counts after each, and what fails."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import ResourceExhausted, VireoError
from engine.vectors.collection import Collection
from engine.vectors.declaration import CollectionSpec, IndexSpec, VectorSpec
from engine.vectors.indexer import HEAD_ROWS, IDLE_S, LONG_IDLE_S
from engine.vectors.merge_policy import FAN_OUT
from engine.vectors.points import points_of
from engine.vectors.query import DenseLeg, Query
from engine.vectors.search import search
from engine.vectors.snapshot import restore
from tests.engine.log.disks import FailingDisk, QuickDisk
from tests.engine.vectors.core import Core, MeddlingDisk, opened, points, shown
from tests.fakes import ManualClock


def names(core: Core) -> list[tuple[str, int]]:
    """Parts, and how many live in each."""
    return [(each.part.name, each.count) for each in core.view.parts]


def fill(core: Core, times: int, n: int = 0) -> None:
    """Full growing segments, each of points of its own."""
    for at in range(times):
        begin = 16 * at
        core.writer.upsert(points(range(begin, begin + 16), n))


def folders(core: Core) -> list[str]:
    """Of segments."""
    return sorted(each.name for each in (core.directory.folder / "segments").iterdir())


def test_with_nothing_to_do_nothing_is_done(tmp_path: Path) -> None:
    core = opened(tmp_path)
    assert not core.indexer.step()
    assert not core.indexer.step(idle=True, long=True)
    core.writer.upsert(points(range(5)))
    generation = core.directory.manifest.generation
    assert not core.indexer.step(idle=True)
    assert core.directory.manifest.generation == generation
    core.close()


def test_a_full_segment_is_sealed_its_points_stay_and_the_log_is_let_go(tmp_path: Path) -> None:
    core = opened(tmp_path)
    fill(core, 1)
    core.writer.delete([3])
    core.writer.upsert(points([5, 100], 1))
    _, before = core.fold.locate([0, 3, 5, 100])
    truth = shown(core.view)
    assert core.indexer.step()
    assert names(core) == [("segment 1", 14), ("growing", 2)]
    assert core.fold.locate([0, 3, 5, 100])[1].tolist() == before.tolist()
    assert shown(core.view) == truth
    assert core.directory.manifest.replay_from == core.fold.replay_from == 16
    assert not core.indexer.step()
    core.close()
    core = opened(tmp_path)
    assert shown(core.view) == truth
    core.close()


def test_full_segments_are_sealed_oldest_first_before_anything_else(tmp_path: Path) -> None:
    core = opened(tmp_path)
    fill(core, 3)
    places = []
    while core.fold.full:
        assert core.indexer.step(idle=True)
        places.append(core.directory.manifest.replay_from)
    assert places == [16, 32, 48]
    core.close()


def test_a_full_segment_of_the_dead_is_dropped_unwritten(tmp_path: Path) -> None:
    core = opened(tmp_path)
    fill(core, 1)
    core.writer.delete(list(range(16)))
    assert core.indexer.step()
    assert (core.view.parts, folders(core)) == ((), [])
    assert core.directory.manifest.replay_from == 16
    core.close()
    core = opened(tmp_path)
    assert shown(core.view) == {}
    core.close()


def test_segments_of_about_one_size_are_merged_and_their_files_go(tmp_path: Path) -> None:
    core = opened(tmp_path)
    for at in range(FAN_OUT):
        core.writer.upsert(points(range(16 * at, 16 * at + 16), at))
        core.indexer.step()
    core.writer.delete([1, 17])
    truth = shown(core.view)
    view = core.view
    assert core.indexer.step()
    assert names(core) == [(f"segment {FAN_OUT + 1}", 16 * FAN_OUT - 2)]
    assert folders(core) == [f"{FAN_OUT + 1:010d}"]
    assert shown(core.view) == shown(view) == truth
    assert not core.indexer.step()
    core.close()
    core = opened(tmp_path)
    assert shown(core.view) == truth
    core.close()


def test_segments_without_a_living_row_are_dropped(tmp_path: Path) -> None:
    core = opened(tmp_path)
    for at in range(2):
        core.writer.upsert(points(range(16 * at, 16 * at + 16), at))
        core.indexer.step()
    core.writer.delete(list(range(16)))
    assert core.indexer.step()
    assert names(core) == [("segment 2", 16)]
    assert folders(core) == ["0000000002"]
    core.close()


def test_a_segment_with_many_dead_is_written_anew(tmp_path: Path) -> None:
    core = opened(tmp_path)
    fill(core, 1)
    core.indexer.step()
    core.writer.delete([0, 1, 2, 3])
    assert not core.indexer.step()
    core.writer.delete([4])
    assert core.indexer.step()
    assert names(core) == [("segment 2", 11)]
    assert core.view.parts[0].part.rows == 11
    core.close()


def test_it_comes_to_rest_whatever_was_written(tmp_path: Path) -> None:
    for seed in range(5):
        source = np.random.default_rng(seed)
        core = opened(tmp_path / f"{seed}")
        for step in range(40):
            core.writer.upsert(points(source.choice(400, source.integers(1, 30), replace=False).tolist(), step))
            core.writer.delete(source.integers(0, 400, 6).tolist())
            while len(core.fold.full) > 2:
                core.indexer.step()
        truth = shown(core.view)
        assert core.indexer.settle(0)
        assert not core.indexer.step(idle=True, long=True)
        assert shown(core.view) == truth
        assert len(core.view.parts) <= 3
        core.close()


def test_a_long_replay_is_cut_though_little_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.vectors.indexer.REPLAY_ROWS_MAX", 50)
    core = opened(tmp_path)
    for step in range(60):
        core.writer.upsert(points([1], step))
        core.writer.delete([1, 2, 3])
        core.indexer.step()
        core.indexer.step()
        assert core.view.offset - core.directory.manifest.replay_from <= 54
    core.writer.upsert(points([1], 7))
    core.close()
    core = opened(tmp_path)
    assert shown(core.view) == {1: 7}
    core.close()


def random_points(rows: int, size: int, begin: int = 0) -> pa.RecordBatch:
    """Of one vector."""
    spec = CollectionSpec(vectors={"v": VectorSpec(size)})
    numbers = np.random.default_rng(begin).standard_normal((rows, size)).astype(np.float32)
    return points_of(spec, [{"id": begin + at, "vector": each} for at, each in enumerate(numbers)])


@pytest.mark.parametrize("stored", ["float32", "int8"])
def test_what_grows_is_indexed_by_the_codebook_of_what_is_sealed(tmp_path: Path, stored: str) -> None:
    spec = CollectionSpec(vectors={"v": VectorSpec(16, stored=stored)}, growing_rows=8_192)  # type: ignore[arg-type]
    core = opened(tmp_path, spec)
    core.writer.upsert(random_points(4_200, 16))
    core.indexer.flush()
    core.writer.upsert(random_points(HEAD_ROWS - 1, 16, 10_000))
    assert not core.indexer.step()
    core.writer.upsert(random_points(300, 16, 20_000))
    before = core.view
    assert core.indexer.step()
    assert not core.indexer.step()
    assert core.view.parts[-1].part.indexed("v")[1] == HEAD_ROWS
    query = Query(
        (DenseLeg("v", core.view.parts[-1].part.points(np.array([5])).column("vector.v")[0].values.to_numpy()),), 3
    )
    assert search(core.view, query).hits[0].score == pytest.approx(search(before, query).hits[0].score, abs=1e-5)
    core.close()


def test_a_head_of_no_rows_is_not_indexed(tmp_path: Path) -> None:
    """A write that is being folded has appended rows that the view does not show yet."""
    core = opened(tmp_path, CollectionSpec(vectors={"v": VectorSpec(16)}, growing_rows=8_192))
    core.writer.upsert(random_points(4_200, 16))
    core.indexer.flush()
    core.writer.upsert(random_points(10, 16, 5_000))
    core.fold.growing.append(random_points(HEAD_ROWS, 16, 10_000))
    assert core.indexer.step()
    assert core.view.parts[-1].part.indexed("v") == (None, 0)
    core.close()


def test_segments_of_different_vectors_do_not_train_the_codebook_for_each_other_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.vectors.codebook.SAMPLE_ROWS", 300)
    spec = CollectionSpec(vectors={"v": VectorSpec(8, "l2", index=IndexSpec(kind="pq"))}, growing_rows=10_000)
    core = opened(tmp_path, spec)
    core.writer.upsert(random_points(1_600, 8))
    core.indexer.flush()
    numbers = np.random.default_rng(1).standard_normal((350, 8)) * np.arange(1, 9) + 50
    core.writer.upsert(points_of(spec, [{"id": 5_000 + at, "vector": each} for at, each in enumerate(numbers)]))
    core.indexer.flush()
    steps = 0
    while core.indexer.step(idle=True):
        steps += 1
        assert steps < 5
    assert [each.count for each in core.view.parts] == [1_600, 350]
    core.close()


# What fails.


def refused(call: Callable[[], object]) -> None:
    """By a full disk."""
    with pytest.raises(ResourceExhausted):
        call()


def test_a_step_that_fails_changes_nothing_and_is_made_up_for(tmp_path: Path) -> None:
    disk = FailingDisk()
    core = opened(tmp_path, disk=disk)
    for at in range(FAN_OUT):
        core.writer.upsert(points(range(16 * at, 16 * at + 16), at))
    truth = shown(core.view)
    for _ in range(FAN_OUT + 1):
        for kind in ("writes", "syncs"):
            setattr(disk, kind, errno.ENOSPC)
            refused(core.indexer.step)
            assert shown(core.view) == truth
            setattr(disk, kind, None)
        assert len(folders(core)) <= FAN_OUT + 1
        core.indexer.step()
        assert shown(core.view) == truth
    core.work()
    assert names(core) == [(core.view.parts[0].part.name, 64)]
    assert len(folders(core)) == 1
    core.close()
    core = opened(tmp_path)
    assert shown(core.view) == truth
    core.close()


class FailingCommits(QuickDisk):
    """Has no room for a manifest."""

    failing = False

    def create(self, path: Path, content: bytes) -> int:
        """Disk."""
        if self.failing and path.name == "manifest.json":
            raise OSError(errno.ENOSPC, "no space")
        return super().create(path, content)


@pytest.mark.parametrize("merged", [False, True])
def test_a_commit_that_fails_is_made_up_for_before_anything_else(tmp_path: Path, *, merged: bool) -> None:
    disk = FailingCommits()
    core = opened(tmp_path, disk=disk)
    for at in range(FAN_OUT if merged else 1):
        core.writer.upsert(points(range(16 * at, 16 * at + 16), at))
        if merged:
            core.indexer.step()
    truth, committed = shown(core.view), core.directory.manifest
    disk.failing = True
    refused(core.indexer.step)
    refused(core.indexer.step)
    assert core.directory.manifest == committed
    assert shown(core.view) == truth
    disk.failing = False
    core.writer.upsert(points(range(200, 216), 9))
    truth |= dict.fromkeys(range(200, 216), 9)
    assert core.indexer.step()
    assert core.directory.manifest != committed
    assert core.fold.full, "the commit alone"
    core.work()
    core.close()
    core = opened(tmp_path)
    assert shown(core.view) == truth
    core.close()


def test_dropped_segments_whose_commit_failed_are_dropped_later(tmp_path: Path) -> None:
    disk = FailingCommits()
    core = opened(tmp_path, disk=disk)
    fill(core, 1)
    core.indexer.step()
    core.writer.delete(list(range(16)))
    disk.failing = True
    refused(core.indexer.step)
    disk.failing = False
    core.work()
    assert (core.view.parts, folders(core)) == ((), [])
    core.close()


# Flushing.


def flushed(core: Core, tmp_path: Path) -> dict[int | str, int]:
    """What a snapshot has."""
    core.indexer.flush()
    core.directory.snapshot(tmp_path / "snapshot")
    restore(tmp_path / "snapshot", tmp_path / "restored", disk=QuickDisk())
    other = opened(tmp_path / "restored")
    found = shown(other.view)
    other.close()
    return found


def test_a_flush_commits_all_that_is_there(tmp_path: Path) -> None:
    core = opened(tmp_path / "core")
    fill(core, 2)
    core.writer.upsert(points(range(90, 95), 3))
    core.writer.delete([2, 20, 91])
    truth = shown(core.view)
    assert flushed(core, tmp_path) == truth
    assert core.directory.manifest.replay_from == core.view.offset
    core.indexer.flush()
    assert shown(core.view) == truth
    core.close()


@pytest.mark.parametrize("late", ["overwritten", "deleted", "added"])
def test_a_flush_commits_exactly_what_was_there_when_it_began(tmp_path: Path, late: str) -> None:
    disk = MeddlingDisk()
    core = opened(tmp_path / "core", disk=disk)
    fill(core, 1)
    core.writer.upsert(points(range(100, 105), 1))
    truth = shown(core.view)

    def meddle() -> None:
        calls: dict[str, Callable[[], object]] = {
            "overwritten": lambda: core.writer.upsert(points([3, *range(100, 105)], 2)),
            "deleted": lambda: core.writer.delete([3, *range(100, 105)]),
            "added": lambda: core.writer.upsert(points(range(200, 240), 2)),
        }
        calls[late]()

    disk.meddle = meddle
    assert flushed(core, tmp_path) == truth
    now = shown(core.view)
    assert now != truth
    core.work()
    assert shown(core.view) == now
    core.close()
    core = opened(tmp_path / "core")
    assert shown(core.view) == now
    core.close()


def test_a_collection_emptied_and_altered_to_other_dimensions_is_indexed_anew(tmp_path: Path) -> None:
    spec = CollectionSpec(vectors={"v": VectorSpec(16, index=IndexSpec(kind="pq"))}, growing_rows=400)
    collection = Collection("c", tmp_path / "c", spec, disk=QuickDisk(), background=False)
    collection.upsert(random_points(400, 16))
    collection.indexer.settle(0)
    collection.delete(list(range(400)))
    collection.indexer.settle(0)
    assert not collection.view.parts
    spec = replace(spec, vectors={"v": VectorSpec(24, index=IndexSpec(kind="pq"))})
    collection.alter(spec)
    collection.upsert(random_points(400, 24))
    collection.indexer.settle(0)
    (part,) = collection.info().parts
    assert part.indexes == {"v": "pq"}
    collection.close()
    with Collection("c", tmp_path / "c", disk=QuickDisk(), background=False) as again:
        assert again.count() == 400


# By itself.


def test_a_collection_is_idle_when_nothing_was_written_for_so_long(tmp_path: Path) -> None:
    clock = ManualClock()
    core = opened(tmp_path, clock=clock)
    core.writer.upsert(points([1]))
    clock.advance(IDLE_S - 0.01)
    assert not core.indexer._idle_for(IDLE_S)
    clock.advance(0.02)
    assert core.indexer._idle_for(IDLE_S)
    assert not core.indexer._idle_for(LONG_IDLE_S)
    core.writer.upsert(points([1]))
    assert not core.indexer._idle_for(IDLE_S)
    core.close()


def test_its_thread_settles_and_lives_through_failures(tmp_path: Path) -> None:
    disk = FailingCommits()
    core = opened(tmp_path, disk=disk)
    core.indexer.start()
    disk.failing = True
    fill(core, 1)
    assert not core.indexer.settle(0.3)
    problem = core.indexer.problem
    assert problem is not None
    assert "no space" in problem
    disk.failing = False
    for at in range(2, 40):
        core.writer.upsert(points(range(at, at + 16), at))
    assert core.indexer.settle(20)
    assert core.indexer.problem is None
    assert not core.fold.full
    core.close()


def test_room_is_made_for_who_waits_for_it(tmp_path: Path) -> None:
    core = opened(tmp_path)
    fill(core, 3)
    assert not core.indexer.wait_for_room(3, 0)
    assert core.indexer.wait_for_room(4, 0)
    core.indexer.start()
    assert core.indexer.wait_for_room(1, 20)
    core.close()
    assert core.indexer.wait_for_room(1, 0)


def test_errors_are_told_as_what_they_are(tmp_path: Path) -> None:
    kinds: Sequence[tuple[Exception, str]] = [(VireoError("a message"), "a message"), (KeyError("k"), "KeyError('k')")]
    core = opened(tmp_path)
    for error, told in kinds:
        core.indexer._tell(error)
        assert core.indexer.problem == told
    core.close()
