"""The folder of a collection: commits are whole or not there, leftovers go, segments stay as long as somebody holds them."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import DataLoss, FailedPrecondition, Unavailable
from engine.vectors.declaration import CollectionSpec, FieldSpec, VectorSpec
from engine.vectors.directory import Directory
from engine.vectors.manifest import MANIFEST
from engine.vectors.snapshot import restore
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.test_segment import SPEC as WIDE
from tests.engine.vectors.test_segment import points, vectors_of

SPEC = CollectionSpec(vectors={"v": VectorSpec(4)}, fields={"lang": FieldSpec("keyword")})


def made(directory: Directory, rows: int, *, first: int = 0) -> int:
    """The number of a new segment, not committed."""
    number, writer = directory.new_segment()
    with writer:
        writer.add(points(rows, first=first, seed=first, spec=SPEC))
        writer.finish_rows()
        directory.add(number, writer.seal(first, first + rows))
    return number


def merged(directory: Directory, *numbers: int) -> int:
    """The number of a new segment of their living rows, not committed."""
    new, writer = directory.new_segment()
    sources = [directory.hold(each) for each in numbers]
    try:
        with writer:
            for number, segment in zip(numbers, sources, strict=True):
                alive = directory.alive(number)
                keep = (
                    np.ones(segment.rows)
                    if alive is None
                    else np.unpackbits(alive, count=segment.rows, bitorder="little")
                )
                writer.gather(segment, np.flatnonzero(keep))
            writer.finish_rows()
            directory.add(new, writer.seal(sources[0].description.first, sources[-1].description.next))
    finally:
        for each in numbers:
            directory.release(each)
    return new


def bits(rows: int, *dead: int) -> np.ndarray:
    """All alive but those."""
    alive = np.ones(rows, bool)
    alive[list(dead)] = False
    return np.packbits(alive, bitorder="little")


def living(directory: Directory) -> dict[int, list[int]]:
    """The ids that are alive, by segment."""
    found = {}
    for entry in directory.manifest.segments:
        segment, alive = directory.hold(entry.number), directory.alive(entry.number)
        ids = np.asarray(segment.ids)
        keep = slice(None) if alive is None else np.unpackbits(alive, count=segment.rows, bitorder="little") > 0
        found[entry.number] = ids[keep].tolist()
        directory.release(entry.number)
    return found


def names(folder: Path) -> set[str]:
    """Every path below it but the lock."""
    return {each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.name != "lock"}


def test_what_was_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    one, two = made(directory, 10), made(directory, 5, first=10)
    codebook = directory.new_codebook(b"centroids")
    directory.commit({one: bits(10, 2, 9), two: None}, replay_from=15, codebooks={"v": codebook})
    directory.close()
    again = Directory(tmp_path / "c")
    assert again.manifest == directory.manifest
    assert again.manifest.spec == SPEC
    assert again.manifest.replay_from == 15
    assert again.codebook("v") == b"centroids"
    assert living(again) == {one: [0, 1, 3, 4, 5, 6, 7, 8], two: [10, 11, 12, 13, 14]}


def test_a_folder_is_open_once(tmp_path: Path) -> None:
    first = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    with pytest.raises(Unavailable, match=r"collection '.*c': is open already"):
        Directory(tmp_path / "c", SPEC)
    first.close()
    first.close()
    Directory(tmp_path / "c", SPEC).close()


def test_a_spec_may_be_changed_by_a_commit_and_is_checked_on_opening(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    one = made(directory, 3)
    newer = replace(SPEC, fields={**SPEC.fields, "year": FieldSpec("integer")})
    directory.commit({one: None}, replay_from=3, spec=newer)
    directory.close()
    again = Directory(tmp_path / "c", disk=QuickDisk())
    assert again.manifest.spec == newer
    again.close()
    with pytest.raises(FailedPrecondition, match=r"collection '.*c': vector 'v': size is stored as 4, the spec says 5"):
        Directory(tmp_path / "c", replace(SPEC, vectors={"v": VectorSpec(5)}))
    Directory(tmp_path / "c", SPEC).close()


def test_a_lost_manifest_is_no_new_collection(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    directory.commit({made(directory, 3): None}, replay_from=3)
    directory.close()
    (tmp_path / "c" / MANIFEST).unlink()
    with pytest.raises(DataLoss, match=r"has segments, and manifest.json is gone"):
        Directory(tmp_path / "c", SPEC)
    with pytest.raises(DataLoss, match=r"manifest.json is not there"):
        Directory(tmp_path / "other")


def test_leftovers_of_a_crash_go_with_one_line_and_what_is_not_ours_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    directory.commit({made(directory, 3): bits(3, 0)}, replay_from=3)
    directory.close()
    kept = names(tmp_path / "c")
    for each in ("segments/0000000009", "segments/0000000010.draft"):
        (tmp_path / "c" / each).mkdir()
        (tmp_path / "c" / each / "vector-0.float32").touch()
    for each in ("alive/0000000001-0000000009.bits", "alive/0000000001-0000000009.bits.draft", "manifest.json.draft"):
        (tmp_path / "c" / each).touch()
    (tmp_path / "c" / "codebooks" / "0000000003.codebook").touch()
    (tmp_path / "c" / "segments" / "notes.txt").touch()
    with caplog.at_level(logging.INFO, "vireo.vectors"):
        Directory(tmp_path / "c", disk=QuickDisk()).close()
    assert names(tmp_path / "c") == kept | {"segments/notes.txt"}
    (line,) = caplog.messages
    assert "segments/0000000009, segments/0000000010.draft" in line
    assert "manifest.json.draft" in line


def test_a_segment_that_somebody_holds_is_deleted_when_the_last_lets_go(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    one = made(directory, 3)
    directory.commit({one: None}, replay_from=3)
    segment = directory.hold(one)
    assert directory.hold(one) is segment
    directory.commit({}, replay_from=3)
    directory.commit({}, replay_from=3)
    directory.release(one)
    assert segment.folder.exists()
    directory.release(one)
    assert not segment.folder.exists()
    assert segment.ids.tolist() == [0, 1, 2]
    directory.close()


def test_what_is_not_committed_yet_survives_the_commits_of_others(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    one = made(directory, 3)
    two, writer = directory.new_segment()
    writer.add(points(2, first=3, spec=SPEC))
    codebook = directory.new_codebook(b"centroids")
    directory.commit({}, replay_from=0)
    with writer:
        writer.finish_rows()
        writer.seal(3, 5)
    directory.commit({one: None, two: bits(2, 0)}, replay_from=5, codebooks={"v": codebook})
    assert living(directory) == {one: [0, 1, 2], two: [4]}
    directory.close()


def test_what_is_discarded_is_deleted_and_its_number_not_used_again(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    one = made(directory, 3)
    directory.discard(one)
    assert not directory.segment_folder(one).exists()
    assert made(directory, 3) != one
    directory.close()


def test_a_bitset_that_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    one, two = made(directory, 9), made(directory, 9, first=9)
    before = directory.commit({one: bits(9, 1), two: bits(9, 2)}, replay_from=0)
    after = directory.commit({one: bits(9, 1), two: bits(9, 2, 3)}, replay_from=1)
    assert after.segments[0] is before.segments[0]
    assert after.segments[1].alive == 7
    assert len(list((tmp_path / "c" / "alive").iterdir())) == 2
    assert directory.commit({one: bits(9), two: None}, replay_from=1).segments[0].bits is None
    assert not list((tmp_path / "c" / "alive").iterdir())
    directory.close()


def test_a_committed_bitset_is_not_the_callers_any_more(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    one, mine = made(directory, 9), bits(9, 1)
    directory.commit({one: mine}, replay_from=0)
    mine[:] = 0
    alive = directory.alive(one)
    assert alive is not None
    assert alive.tolist() == bits(9, 1).tolist()
    assert not alive.flags.writeable
    directory.close()


class _LateDisk(QuickDisk):
    """Fails at a manifest: before it is renamed ("write") or after ("sync")."""

    fails: str | None = None

    def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
        """Disk."""
        if self.fails == "write" and b"vireo.collection" in bytes(memoryview(buffers[0])):
            raise OSError(errno.EIO, "early")
        super().write(file, buffers, position)

    def sync_folder(self, folder: Path) -> None:
        """Disk."""
        if self.fails == "sync" and folder.name == "c":
            raise OSError(errno.EIO, "late")


def test_two_commits_that_failed_do_not_share_a_file(tmp_path: Path) -> None:
    disk = _LateDisk()
    directory = Directory(tmp_path / "c", SPEC, disk=disk)
    one = made(directory, 9)
    directory.commit({one: None}, replay_from=9)
    for dead, disk.fails in ((1, "sync"), (2, "write")):
        with pytest.raises(Unavailable, match=r"cannot commit"):
            directory.commit({one: bits(9, dead)}, replay_from=9)
    directory.close()
    again = Directory(tmp_path / "c", disk=QuickDisk())
    assert living(again) == {one: [0, 2, 3, 4, 5, 6, 7, 8]}
    again.close()


def test_a_commit_that_failed_late_may_count_and_so_loses_nothing(tmp_path: Path) -> None:
    disk = _LateDisk()
    directory = Directory(tmp_path / "c", SPEC, disk=disk)
    one, two = made(directory, 9), made(directory, 5, first=9)
    directory.commit({one: None}, replay_from=9)
    disk.fails = "sync"
    with pytest.raises(Unavailable, match=r"cannot commit"):
        directory.commit({two: bits(5, 1)}, replay_from=14)
    directory.discard(two)
    assert living(directory) == {one: list(range(9))}
    shutil.copytree(tmp_path / "c", tmp_path / "died here")
    died = Directory(tmp_path / "died here", disk=QuickDisk())
    assert living(died) == {two: [9, 11, 12, 13]}
    died.close()
    disk.fails = None
    directory.commit({one: bits(9, 0)}, replay_from=9)
    assert not directory.segment_folder(two).exists()
    directory.close()
    again = Directory(tmp_path / "c", disk=QuickDisk())
    assert living(again) == {one: list(range(1, 9))}
    again.close()


def test_a_snapshot_stays_as_it_was_and_is_restored_elsewhere(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    one, codebook = made(directory, 9), directory.new_codebook(b"centroids")
    directory.commit({one: bits(9, 1)}, replay_from=9, codebooks={"v": codebook})
    expected = living(directory)
    directory.snapshot(tmp_path / "deep" / "snapshot")
    directory.commit({}, replay_from=9, codebooks={})
    directory.close()
    source = tmp_path / "deep" / "snapshot"
    (tmp_path / "new").mkdir()
    manifest = restore(source, tmp_path / "new", spec=SPEC, replay_from=4, disk=QuickDisk())
    shutil.rmtree(source)
    again = Directory(tmp_path / "new", SPEC)
    assert again.manifest == manifest
    assert manifest.replay_from == 4
    assert living(again) == expected
    assert again.codebook("v") == b"centroids"
    again.close()


def test_a_snapshot_is_copied_where_links_are_not_possible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", no_link)
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    directory.commit({made(directory, 9): None}, replay_from=9)
    directory.snapshot(tmp_path / "snapshot")
    again = Directory(tmp_path / "snapshot")
    assert living(again) == living(directory)
    again.close()
    with pytest.raises(FailedPrecondition, match=r"snapshot': is there already, and not empty"):
        directory.snapshot(tmp_path / "snapshot")
    directory.close()


def test_a_torn_foreign_or_unfit_snapshot_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    directory.commit({made(directory, 9): bits(9, 1)}, replay_from=9)
    directory.snapshot(tmp_path / "good")
    directory.close()
    for path in sorted(each for each in (tmp_path / "good").rglob("*") if each.is_file()):
        for content in (None, path.read_bytes()[:-1], path.read_bytes()[:-1] + b"?"):
            torn = tmp_path / "torn"
            shutil.copytree(tmp_path / "good", torn)
            (torn / path.relative_to(tmp_path / "good")).unlink()
            if content is not None:
                (torn / path.relative_to(tmp_path / "good")).write_bytes(content)
            with pytest.raises(DataLoss, match=path.name):
                restore(torn, tmp_path / "new", disk=QuickDisk())
            shutil.rmtree(torn)
    with pytest.raises(FailedPrecondition, match=r"snapshot '.*good': vector 'v': metric is stored as cosine"):
        restore(tmp_path / "good", tmp_path / "new", spec=CollectionSpec(vectors={"v": VectorSpec(4, "l2")}))
    assert {each.name for each in tmp_path.iterdir()} == {"c", "good"}
    with pytest.raises(FailedPrecondition, match=r"c': is there already, and not empty"):
        restore(tmp_path / "good", tmp_path / "c")


def test_snapshots_beside_commits_are_each_one_state(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "c", SPEC, disk=QuickDisk())
    states = [directory.manifest]
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            new = made(directory, 3, first=len(states) * 3)
            states.append(directory.commit({new: bits(3, len(states) % 3)}, replay_from=len(states)))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        taken = [directory.snapshot(tmp_path / str(each)) for each in range(20)]
    finally:
        stop.set()
        writer.join()
    for at, manifest in enumerate(taken):
        assert manifest in states
        copy = Directory(tmp_path / str(at), disk=QuickDisk())
        assert copy.manifest == manifest
        copy.close()
    assert [each.name for each in (tmp_path / "c" / "segments").iterdir()] == [f"{states[-1].segments[0].number:010d}"]
    directory.close()


def test_what_format_version_1_wrote_is_read(tmp_path: Path) -> None:
    """Two segments, of `points(12, seed=1)` and `points(5, first=12, seed=13)`, written when the format was new."""
    shutil.copytree(Path(__file__).parent / "samples" / "format-1", tmp_path / "c")
    directory = Directory(tmp_path / "c", WIDE, disk=QuickDisk())
    assert living(directory) == {1: [1, 2, 4, 5, 7, 8, 10, 11], 2: [12, 13, 14, 15, 16]}
    assert directory.manifest.replay_from == 17
    assert directory.codebook("plain") == b"centroids"
    for number, rows, first in ((1, 12, 0), (2, 5, 12)):
        segment, given = directory.hold(number), points(rows, first=first, seed=first + 1)
        found = segment.points(WIDE, np.arange(rows))
        exact = [
            name
            for name in given.schema.names
            if name not in ("vector.half", "vector.byte", "vector.sign", "vector.late")
        ]
        assert found.select(exact).equals(given.select(exact))
        assert np.array_equal(vectors_of(found, "sign") > 0, vectors_of(given, "sign") >= 0)
        assert np.allclose(vectors_of(found, "half"), vectors_of(given, "half"), atol=0.01)
        assert np.allclose(vectors_of(found, "byte"), vectors_of(given, "byte"), atol=0.02)
        assert segment.multi("late")[1][-1] == len(given.column("vector.late").flatten())
        assert segment.file("index.faiss").read_bytes() == b"index"
    directory.close()
