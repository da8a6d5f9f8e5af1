"""A short life of a collection, stopped at every single call to the disk: what is left opens, as the state before or after."""

from __future__ import annotations

import errno
import itertools
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest

from engine.errors import DataLoss, Unavailable, VireoError
from engine.vectors.directory import Directory
from engine.vectors.manifest import MANIFEST, SEGMENTS, read_manifest
from engine.vectors.segment import SealedSegment
from engine.vectors.snapshot import restore
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.crash_disk import CrashDisk
from tests.engine.vectors.test_directory import SPEC, bits, living, made, merged, names

State = tuple[dict[int, list[int]], int, tuple[str, ...]]
"""Living ids by segment, from where the log is replayed, vectors with a codebook."""


def state(directory: Directory) -> State:
    """What counts; read from the files."""
    codebooks = tuple(name for name in directory.manifest.codebooks if directory.codebook(name) == b"centroids")
    return living(directory), directory.manifest.replay_from, codebooks


def life(directory: Directory) -> Iterator[None]:
    """Seals and commits, overwrites and commits, merges and commits, drops; yields after each commit."""
    one = made(directory, 9)
    directory.commit({one: None}, replay_from=9)
    yield
    two, codebook = made(directory, 3, first=9), directory.new_codebook(b"centroids")
    directory.commit({one: bits(9, 0, 8), two: None}, replay_from=12, codebooks={"v": codebook})
    yield
    directory.commit({one: bits(9, 0, 1, 8), two: bits(3, 1)}, replay_from=14)
    yield
    three = merged(directory, one, two)
    directory.commit({three: None}, replay_from=14)
    yield
    directory.commit({}, replay_from=15, codebooks={})
    yield


def lived(folder: Path, disk: CrashDisk) -> list[State]:
    """The states that were committed, the last one first opened; less than all where the disk stops."""
    states = []
    try:
        directory = Directory(folder, SPEC, disk=disk)
        try:
            states.append(state(directory))
            for _ in life(directory):
                states.append(state(directory))
        finally:
            directory.close()
    except VireoError:
        pass
    finally:
        disk.close()
    return states


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[State], int]:
    """All states of an undisturbed life, and how many calls it takes."""
    folder = tmp_path_factory.mktemp("whole")
    disk = CrashDisk(folder / "c", folder / "left", None)
    states = lived(folder / "c", disk)
    assert len(states) == 6
    return states, disk.calls


def opened(left: Path) -> State:
    """What a new start makes of it, which then has nothing else in its folder and can go on."""
    directory = Directory(left, SPEC, disk=QuickDisk())
    found = state(directory)
    manifest = directory.manifest
    kept = {f"segments/{each.number:010d}" for each in manifest.segments} | {"segments", "alive", "codebooks", MANIFEST}
    kept |= {f"alive/{each.bits.file}" for each in manifest.segments if each.bits is not None}
    kept |= {f"codebooks/{each.file}" for each in manifest.codebooks.values()}
    assert {each for each in names(left) if not each.startswith("segments/") or each.count("/") == 1} == kept
    new = made(directory, 2, first=50)
    directory.commit({**{each: directory.alive(each) for each in found[0]}, new: bits(2, 0)}, replay_from=99)
    directory.close()
    again = Directory(left, disk=QuickDisk())
    assert living(again) == {**found[0], new: [51]}
    again.close()
    return found


@pytest.mark.parametrize(
    ("torn", "seed"), [(False, None), (True, None), (False, 1), (True, 2), (True, 3)],
    ids=["killed", "killed in a write", "power cut 1", "power cut 2", "power cut 3"],
)  # fmt: skip
def test_stopped_at_any_call_it_opens_as_before_or_after(
    torn: bool, seed: int | None, whole: tuple[list[State], int], tmp_path: Path
) -> None:
    states, calls = whole
    found = set()
    for stop in range(calls):
        root, left = tmp_path / "c", tmp_path / "left"
        disk = CrashDisk(root, left, stop, torn=torn, seed=None if seed is None else seed * 1000 + stop)
        before = lived(root, disk)
        assert disk.calls > stop
        at = len(before)
        if left.exists() or at:
            after = opened(left)
            assert after in states[max(0, at - 1) : at + 1], f"stopped at call {stop} of {calls}, after state {at - 1}"
            found.add(states.index(after))
        shutil.rmtree(root, ignore_errors=True)
        shutil.rmtree(left, ignore_errors=True)
    assert found >= set(range(5))


@pytest.mark.parametrize("seed", [None, 5, 6])
def test_a_snapshot_or_a_restore_stopped_at_any_call_leaves_all_or_nothing(seed: int | None, tmp_path: Path) -> None:
    root, snapshot = tmp_path / "c", tmp_path / "snapshot"
    directory = Directory(root, SPEC, disk=QuickDisk())
    for _ in itertools.islice(life(directory), 3):
        pass
    expected = state(directory)
    directory.snapshot(snapshot)
    directory.close()
    for restores in (False, True):
        for stop in itertools.count():
            place, left = tmp_path / "place", tmp_path / "left"
            place.mkdir()
            disk = CrashDisk(place, left, stop, seed=None if seed is None else seed * 1000 + stop)
            disk.trust(root)
            try:
                _copy(root, snapshot, place / "copy", disk, restores=restores)
            except VireoError:
                assert not (place / "copy").exists() or (place / "copy" / MANIFEST).exists()
            finally:
                disk.close()
            if (left / "copy").exists():
                again = Directory(left / "copy", disk=QuickDisk())
                assert state(again) == expected
                again.close()
            shutil.rmtree(place)
            shutil.rmtree(left, ignore_errors=True)
            if disk.calls <= stop:
                break
        assert stop > 10


def _copy(root: Path, snapshot: Path, target: Path, disk: CrashDisk, *, restores: bool) -> None:
    if restores:
        restore(snapshot, target, replay_from=14, disk=disk)
        return
    directory = Directory(root, disk=QuickDisk())
    try:
        directory.disk = disk
        directory.snapshot(target)
    finally:
        directory.close()


def test_every_flipped_byte_of_what_counts_is_found(tmp_path: Path) -> None:
    root = tmp_path / "c"
    directory = Directory(root, SPEC, disk=QuickDisk())
    for _ in itertools.islice(life(directory), 3):
        pass
    directory.close()
    files = [each for each in root.rglob("*") if each.is_file() and each.name != "lock"]
    for path in sorted(each for each in files if each.parent.name != "0000000002"):
        content = path.read_bytes()
        flipped = ((at, bytes([content[at] ^ 1 << at % 8])) for at in range(len(content)))
        wrong = [content[:at] + byte + content[at + 1 :] for at, byte in flipped]
        for each in [*wrong, content[:-1], content[: len(content) // 2], b"", content + b"\0"]:
            path.write_bytes(each)
            with pytest.raises(DataLoss, match=path.name):
                _read(path, root)
        path.unlink()
        with pytest.raises(DataLoss, match=path.name):
            Directory(root, disk=QuickDisk())
        path.write_bytes(content)
    again = Directory(root)
    assert state(again) == state(directory)
    again.close()


def _read(path: Path, root: Path) -> None:
    """As opening the collection does, but nothing besides."""
    if path.parent.parent.name == SEGMENTS:
        SealedSegment.open(path.parent)
    elif path.name == MANIFEST:
        read_manifest(root)
    else:
        Directory(root, disk=QuickDisk())


class _Walk:
    """Random calls on a disk that now and then fails and works again; what is left is opened again and again."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.disk = _MoodyDisk(self.chance)
        self.folder = folder
        self.directory = Directory(folder, SPEC, disk=self.disk)
        self.committed: dict[int, list[int]] = {}
        self.tried: dict[int, list[int]] | None = None
        """What a commit that failed may have left on the disk."""
        self.ready: dict[int, int] = {}
        self.held: list[tuple[int, SealedSegment]] = []

    def step(self, at: int) -> None:
        act = self.chance.choice(
            [self.make, self.make, self.commit, self.commit, self.hold, self.release, self.discard]
        )
        self.disk.until = self.chance.randrange(60) if self.chance.random() < 0.3 else None
        with suppress(Unavailable):
            act(at)
        self.disk.until = None
        self.check_left()
        assert living(self.directory) == self.committed
        for number, segment in self.held:
            assert self.directory.segment_folder(number).exists()
            assert segment.rows == 4

    def make(self, at: int) -> None:
        self.ready[made(self.directory, 4, first=4 * at)] = 4 * at

    def commit(self, _: int) -> None:
        rows = {number: ids[0] // 4 * 4 for number, ids in self.committed.items() if ids} | self.ready
        kept = sorted(each for each in rows if self.chance.random() < 0.7)
        dead = {each: self.chance.sample(range(4), self.chance.randrange(4)) for each in kept}
        new = {each: [rows[each] + at for at in range(4) if at not in dead[each]] for each in kept}
        self.tried = new
        self.directory.commit({each: bits(4, *dead[each]) for each in kept}, replay_from=0)
        self.committed, self.tried = new, None
        for each in kept:
            self.ready.pop(each, None)

    def hold(self, _: int) -> None:
        for number in list(self.committed)[:1]:
            self.held.append((number, self.directory.hold(number)))

    def release(self, _: int) -> None:
        if self.held:
            self.directory.release(self.held.pop(self.chance.randrange(len(self.held)))[0])

    def discard(self, _: int) -> None:
        for number in list(self.ready)[:1]:
            del self.ready[number]
            self.directory.discard(number)

    def check_left(self) -> None:
        copy = self.folder.with_name("copy")
        shutil.copytree(self.folder, copy)
        again = Directory(copy, disk=QuickDisk())
        assert living(again) in (self.committed, self.tried)
        again.close()
        shutil.rmtree(copy)


class _MoodyDisk(QuickDisk):
    """Fails the call that `until` counts down to, before or after it is done."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self.until: int | None = None

    def _count(self) -> None:
        if self.until is not None:
            self.until -= 1
            if self.until < 0:
                raise OSError(errno.EIO, "moody")

    def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
        """Disk."""
        if self._chance.random() < 0.5:
            self._count()
            super().write(file, buffers, position)
        else:
            super().write(file, buffers, position)
            self._count()

    def sync(self, file: int) -> None:
        """Disk."""
        self._count()

    def sync_folder(self, folder: Path) -> None:
        """Disk."""
        self._count()


@pytest.mark.parametrize("seed", range(6))
def test_a_process_that_lives_on_after_failures_keeps_what_was_committed(seed: int, tmp_path: Path) -> None:
    walk = _Walk(tmp_path / "c", seed)
    for at in range(150):
        walk.step(at)
    walk.directory.close()
    walk.check_left()
