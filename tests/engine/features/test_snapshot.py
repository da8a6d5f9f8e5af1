"""Snapshots: complete or not there, the newest that can be used, damage set aside, drafts of the killed forgotten."""

from __future__ import annotations

import fcntl
import logging
import os
import random
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest
from fsspec.core import url_to_fs

from engine.errors import ResourceExhausted, SpecError, Unavailable
from engine.features.snapshot import Header, Snapshot, SnapshotFolder

IDENTITY, OTHER = "ab" * 32, "cd" * 32
LATEST = {0: 1 << 40}


def _folder(path: Path, identity: str = IDENTITY, keep: int = 2) -> SnapshotFolder:
    return SnapshotFolder(path, view="v", identity=identity, keep=keep)


def _header(offset: int, identity: str = IDENTITY, shard: str = "all") -> Header:
    return Header("v", identity, shard, {0: offset}, written_us=1, covered=3, table="t", version=4, table_rows=5)


def _parts(offset: int) -> list[tuple[str, pa.RecordBatch]]:
    numbers = pa.record_batch({"n": pa.array(range(offset, offset + 10_000), pa.int64())})
    return [("numbers", numbers), ("texts", pa.record_batch({"t": ["a", None, str(offset)]})), ("numbers", numbers[:0])]


def _write(folder: SnapshotFolder, offset: int, identity: str = IDENTITY, shard: str = "all") -> None:
    folder.write(_header(offset, identity, shard), _parts(offset))


def _is_of(snapshot: Snapshot | None, offset: int) -> bool:
    return snapshot is not None and snapshot.header == _header(offset) and _same(snapshot.parts, _parts(offset))


def _same(left: Iterable[tuple[str, pa.RecordBatch]], right: Iterable[tuple[str, pa.RecordBatch]]) -> bool:
    return all(one == other and a.equals(b) for (one, a), (other, b) in zip(left, right, strict=True))


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.snapshot"))


def test_what_was_written_is_read_back_the_newest_first(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    assert folder.newest("all", LATEST) is None
    for offset in (7, 90, 100):
        _write(folder, offset)
    assert _is_of(folder.newest("all", LATEST), 100)
    assert _is_of(_folder(tmp_path).newest("all", LATEST), 100)


def test_only_the_newest_few_are_kept(tmp_path: Path) -> None:
    folder = _folder(tmp_path, keep=3)
    for offset in range(1, 8):
        _write(folder, offset)
    assert [int(path.stem[-20:]) for path in _files(tmp_path)] == [5, 6, 7]


def test_shards_are_kept_apart(tmp_path: Path) -> None:
    folder = _folder(tmp_path, keep=1)
    for shard in ("p0", "p1", "p10"):
        for offset in (1, 2):
            _write(folder, offset, shard=shard)
    assert len(_files(tmp_path)) == 3
    found = folder.newest("p1", LATEST)
    assert found is not None
    assert found.header.shard == "p1"
    assert folder.newest("p2", LATEST) is None


@pytest.mark.parametrize("seed", range(20))
def test_a_file_damaged_anywhere_is_set_aside_and_the_one_before_is_used(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _folder(tmp_path)
    _write(folder, 1)
    _write(folder, 2)
    newest = _files(tmp_path)[-1]
    data, draw = bytearray(newest.read_bytes()), random.Random(seed)
    if draw.random() < 0.5:
        used = [0, len(data) - 1, draw.randrange(len(data) - 400, len(data)), 8192 + draw.randrange(8192)]
        data[draw.choice(used)] ^= 1 << draw.randrange(8)
        newest.write_bytes(data)
    else:
        newest.write_bytes(data[: draw.randrange(len(data))])
    with caplog.at_level(logging.WARNING):
        assert _is_of(folder.newest("all", LATEST), 1)
    assert "older snapshot" in caplog.text
    assert newest.with_suffix(".refused").exists()
    assert folder.holds_useless("all") is not None


def test_a_snapshot_ahead_of_its_log_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log lost its tail: what comes next would get offsets that the state has already seen."""
    folder = _folder(tmp_path)
    _write(folder, 10)
    _write(folder, 20)
    assert _is_of(folder.newest("all", {0: 15}), 10)
    assert "the log ends at 15" in caplog.text


def test_a_snapshot_of_another_view_is_not_used_but_one_stays_as_a_way_back(tmp_path: Path) -> None:
    old, new = _folder(tmp_path, OTHER), _folder(tmp_path)
    for offset in (1, 2):
        _write(old, offset, OTHER)
    assert new.newest("all", LATEST) is None
    assert "declared otherwise" in str(new.holds_useless("all"))
    for offset in (1, 2, 3):
        _write(new, offset)
    assert _is_of(new.newest("all", LATEST), 3)
    back = old.newest("all", LATEST)
    assert back is not None
    assert back.header.offsets == {0: 2}
    assert len(_files(tmp_path)) == 3


def test_an_empty_folder_holds_nothing_useless(tmp_path: Path) -> None:
    assert _folder(tmp_path).holds_useless("all") is None


def test_drafts_of_the_killed_are_forgotten_and_those_of_the_living_stay(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    draft = folder.draft(_header(3), _parts(3))
    dead = tmp_path / f".{'ab' * 8}-all-{9:020d}.snapshot.1.1.draft"
    dead.write_bytes(b"half")
    _folder(tmp_path)
    assert not dead.exists()
    folder.finish(draft)
    assert _is_of(folder.newest("all", LATEST), 3)


def test_a_draft_is_locked_while_it_is_written(tmp_path: Path) -> None:
    draft = _folder(tmp_path).draft(_header(3), _parts(3))
    other = os.open(draft.path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(other)


def test_a_disk_that_cannot_be_written_is_told_and_what_was_there_stays(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "s")
    _write(folder, 1)
    for each in (tmp_path / "s").iterdir():
        each.rename(tmp_path / each.name)
    (tmp_path / "s").rmdir()
    (tmp_path / "s").write_text("no folder")
    with pytest.raises(ResourceExhausted, match="snapshots of 'v'"):
        _write(folder, 2)


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty one."""
    return f"file://{tmp_path}/store" if request.param == "file" else f"memory://{tmp_path.name}/store"


def _machine(path: Path, store: str, identity: str = IDENTITY) -> SnapshotFolder:
    return SnapshotFolder(path, view="v", identity=identity, keep=2, store=store)


def test_what_one_machine_published_another_restores_and_the_pointer_never_goes_back(
    tmp_path: Path, store: str
) -> None:
    one, two = _machine(tmp_path / "one", store), _machine(tmp_path / "two", store)
    assert two.newest("all", LATEST) is None
    for offset in (7, 90, 100):
        _write(one, offset)
    assert _is_of(two.newest("all", LATEST), 100)
    _write(two, 95)  # a replica that is behind
    assert _is_of(_machine(tmp_path / "three", store).newest("all", LATEST), 100)
    _write(two, 120)
    assert _is_of(one.newest("all", LATEST), 120)
    assert one.newest("p3", LATEST) is None


def test_an_upload_that_others_overtake_does_not_set_the_pointer_back(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = _machine(tmp_path / "slow", store), _machine(tmp_path / "quick", store)
    files, _ = url_to_fs(store)
    upload = files.put_file

    def overtaken(path: str, place: str) -> None:
        monkeypatch.undo()
        upload(path, place)
        for offset in (100, 110):
            _write(quick, offset)

    monkeypatch.setattr(files, "put_file", overtaken)
    _write(slow, 90)
    assert _is_of(_machine(tmp_path / "third", store).newest("all", LATEST), 110)


def test_a_store_holds_what_is_of_the_view_as_it_was_declared_before(tmp_path: Path, store: str) -> None:
    _write(_machine(tmp_path / "one", store), 7)
    changed = _machine(tmp_path / "two", store, OTHER)
    assert changed.newest("all", LATEST) is None
    assert "declared otherwise" in (changed.holds_useless("all") or "")


def test_an_upload_that_fails_leaves_what_others_find(tmp_path: Path) -> None:
    store = tmp_path / "store"
    one = _machine(tmp_path / "one", f"file://{store}")
    _write(one, 7)
    (store / "blocked").touch()
    blocked = _machine(tmp_path / "two", f"file://{store}/blocked")
    for offset in (90, 91, 92):
        with pytest.raises(Unavailable, match="snapshots at "):
            _write(blocked, offset)
    assert [int(path.stem[-20:]) for path in _files(tmp_path / "two")] == [91, 92]
    assert _is_of(_machine(tmp_path / "three", f"file://{store}").newest("all", LATEST), 7)
    with pytest.raises(SpecError, match=r"^snapshot.store: 'nowhere://x' cannot be used"):
        _machine(tmp_path / "four", "nowhere://x")
