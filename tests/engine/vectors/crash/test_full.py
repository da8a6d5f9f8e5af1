"""A disk that is full or fails, call by call: what is refused changes nothing, what was acknowledged stays, and it goes on."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from engine.errors import ResourceExhausted, Unavailable
from engine.vectors.collection import Collection
from engine.vectors.writer import FULL_MAX
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.crash.life import LIFE, Living
from tests.engine.vectors.crash.operations import Kind, Operation
from tests.engine.vectors.crash.points import SPEC, batch, rows_of
from tests.engine.vectors.crash.rounds import check_answers, read

EVERY = int(os.environ.get("VIREO_CRASH_ROUNDS", "0")) >= 200


class ScarceDisk(QuickDisk):
    """Fails the call that `until` counts down to, and all later ones, until it is None again. A write has then written a part."""

    def __init__(self, error: int, *, syncs: bool) -> None:
        self.until: int | None = None
        self._error = error
        self._syncs = syncs

    def _count(self) -> None:
        if self.until is not None:
            self.until -= 1
            if self.until < 0:
                raise OSError(self._error, os.strerror(self._error))

    def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
        """Disk."""
        try:
            self._count()
        except OSError:
            whole = b"".join(memoryview(each) for each in buffers)
            os.pwrite(file, whole[: len(whole) // 2], position)
            raise
        super().write(file, buffers, position)

    def sync(self, file: int) -> None:
        """Disk."""
        if self._syncs:
            self._count()

    def sync_folder(self, folder: Path) -> None:
        """Disk."""
        if self._syncs:
            self._count()

    def truncate(self, file: int, size: int) -> None:
        """Disk."""
        if self._syncs:
            self._count()
        super().truncate(file, size)


def restarted(living: Living, *, refused: bool) -> None:
    """What a process that is killed now leaves."""
    copy = living.folder.with_name("copy")
    shutil.copytree(living.folder / "c", copy)
    with Collection("copy", copy, disk=QuickDisk(), background=False) as collection:
        living.check(collection, refused=refused)
    shutil.rmtree(copy)


def another(collection: Collection, number: int) -> Operation:
    """A write beside the steps, which waits for nothing."""
    kind: Kind = "upsert" if len(collection.indexer.fold.full) < FULL_MAX - 1 else "delete"
    return Operation(1, number, kind, [1 + 3 * (number % 5)])


@pytest.mark.parametrize(
    ("error", "kind", "syncs"),
    [(errno.ENOSPC, ResourceExhausted, False), (errno.EIO, Unavailable, True)],
    ids=["full", "failing in syncs too"],
)
def test_on_a_bad_disk_a_step_is_refused_and_done_once_the_disk_is_good(
    error: int, kind: type[Exception], syncs: bool, tmp_path: Path
) -> None:
    source, refusals, written = random.Random(5), 0, 0
    (tmp_path / "r").mkdir()
    disk = ScarceDisk(error, syncs=syncs)
    living = Living(tmp_path / "r", disk)
    with living.open() as collection:
        for at, step in enumerate(LIFE):
            calls, altering = 0, isinstance(step, Operation) and step.kind == "alter"
            while True:
                disk.until = calls
                try:
                    living.do(collection, step)
                    break
                except kind:
                    refusals += 1
                finally:
                    disk.until = None
                assert living.check(collection, refused=True) is living.before, f"step {at}, call {calls}"
                if source.random() < 0.1:
                    # after a failed sync a write that was refused may be there
                    restarted(living, refused=not syncs)
                living.pending = None
                living.do(collection, another(collection, written))
                written += 1
                if source.random() < (0.3 if altering else 0.1):
                    restarted(living, refused=True)
                calls += 1 if EVERY else source.randrange(1, 8 if altering else 40)
            assert living.check(collection) is living.before
        check_answers(collection, living.before, source)
    assert refusals > 20
    with living.open() as collection:
        assert read(collection)[0] == rows_of(living.before)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_an_opening_that_fails_at_any_call_spoils_nothing(error: int, tmp_path: Path) -> None:
    living = Living(tmp_path / "r", QuickDisk())
    living.folder.mkdir()
    with living.open() as collection:
        for step in LIFE[:12]:
            living.do(collection, step)
        shutil.copytree(living.folder, tmp_path / "killed")
    _spoil(next((tmp_path / "killed" / "c").glob("log-*/*.segment")))
    disk = ScarceDisk(error, syncs=True)
    left = Living(tmp_path / "killed", disk, living.before)
    for calls in range(50):
        disk.until = calls
        try:
            collection = left.open()
            break
        except (ResourceExhausted, Unavailable):
            pass
        finally:
            disk.until = None
        if calls % 2:
            restarted(left, refused=True)
    assert calls > 1
    with collection:
        assert left.check(collection, refused=True) is living.before


def _spoil(log: Path) -> None:
    """As a torn write does."""
    with log.open("ab") as file:
        file.write(b"torn" * 20)


def test_background_work_waits_for_room_and_tells_so(tmp_path: Path) -> None:
    class FullOfSegments(QuickDisk):
        """Has room for the log alone."""

        full = True

        def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
            if self.full and "/segments/" in os.readlink(f"/proc/self/fd/{file}"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            super().write(file, buffers, position)

    disk = FullOfSegments()
    with Collection("full", tmp_path / "c", SPEC, disk=disk) as collection:
        for number in range(FULL_MAX):
            collection.upsert(batch(range(64 * number, 64 * number + 64), 1))
        with pytest.raises(ResourceExhausted, match=r"4 full segments wait to be sealed: .*No space left") as refused:
            collection.upsert(batch([1_000], 1), deadline_s=0.5)
        assert refused.value.retry_after_s
        assert "No space left" in str(collection.info().problem)
        assert collection.count() == 64 * FULL_MAX
        collection.delete([3])
        assert {each.suffix for each in (tmp_path / "c" / "segments").iterdir()} <= {".draft"}, "of the try under way"
        disk.full = False
        collection.upsert(batch(range(1_000, 1_006), 20))
        assert collection.wait_indexed(30)
        assert collection.info().problem is None
        assert len(read(collection)[0]) == 64 * FULL_MAX + 5
        points = read(collection)[0]
        assert len(list((tmp_path / "c" / "segments").iterdir())) == 1
    with Collection("full", tmp_path / "c", disk=QuickDisk(), background=False) as collection:
        assert read(collection)[0] == points
        assert len(collection.info().parts) == 1
