"""The local log: the contract, and what only it promises."""

from __future__ import annotations

import errno
import gc
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest

from engine import InvalidArgument
from engine.errors import DataLoss, FailedPrecondition, OffsetDeleted, ResourceExhausted, TooLarge, Unavailable
from engine.log import local, tail
from engine.log.declaration import LocalLogSpec
from engine.log.disk import Disk
from engine.log.local import LocalLog
from engine.log.log import Log
from engine.log.schema import arrow_schema
from tests.engine.log.contract import (
    COLUMNS,
    SCHEMA,
    WAIT_S,
    Collector,
    LogContract,
    ids,
    read_rows,
    rows,
    table,
)
from tests.engine.log.disks import FailingDisk, QuickDisk

SAMPLES = Path(__file__).parent / "samples"


@dataclass
class LocalPlace:
    """A folder; segments are small, so that there are many."""

    folder: Path
    rows_are_offsets = True
    truncates = True
    checks_evolution = True

    def open(self, schema: pa.Schema = SCHEMA) -> Log:
        """Place."""
        return opened(self.folder, schema=schema, segment_bytes=16 << 10)


class TestLocalLog(LogContract):
    """The contract."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> LocalPlace:
        """A fresh folder."""
        return LocalPlace(tmp_path / "log")


def opened(
    folder: Path,
    *,
    schema: pa.Schema = SCHEMA,
    segment_bytes: int = 1 << 20,
    durability: Literal["fsync", "os"] = "fsync",
    disk: Disk | None = None,
) -> LocalLog:
    """A local log in `folder`."""
    spec = LocalLogSpec(str(folder), durability=durability, segment_bytes=segment_bytes)
    return LocalLog(spec, schema, folder, disk=disk)


def everything(log: Log, start: int | None = None) -> list[int]:
    """The `id` of every row kept, or from `start` on."""
    reader = log.reader(Collector({} if start is None else {0: start}))
    begin = log.earliest()[0] if start is None else start
    try:
        return ids(read_rows(reader, log.latest()[0] - begin)) if log.latest()[0] > begin else []
    finally:
        reader.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a log may live."""
    return tmp_path / "log"


@pytest.fixture
def disk() -> FailingDisk:
    """Works until it is told to fail."""
    return FailingDisk()


@pytest.fixture
def log(folder: Path, disk: FailingDisk) -> Iterator[LocalLog]:
    """On the failing disk."""
    log = opened(folder, disk=disk)
    yield log
    log.close()


def fill(log: Log) -> None:
    """Appends until something is raised."""
    for first in range(log.latest()[0], 1 << 20, 500):
        log.append(rows(first, 500))


def segments(folder: Path) -> list[Path]:
    """Its segment files in order."""
    return sorted(folder.glob("*.segment"))


# What is kept, and where.


def test_nobody_else_can_open_a_log_that_is_open_and_anybody_can_afterwards(folder: Path) -> None:
    log = opened(folder)
    with pytest.raises(Unavailable, match="is open already"):
        opened(folder)
    code = f"""
from pathlib import Path
from tests.engine.log.test_local import opened
from engine.errors import Unavailable
try:
    opened(Path({str(folder)!r}))
except Unavailable as error:
    print(error)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "is open already" in told
    log.close()
    opened(folder).close()


def test_a_full_segment_is_sealed_and_the_next_is_named_by_its_first_offset(folder: Path) -> None:
    log = opened(folder, segment_bytes=4096)
    for first in range(0, 300, 30):
        log.append(rows(first, 30))
    log.close()
    files = segments(folder)
    assert len(files) > 2
    assert files[0].name == "00000000000000000000.segment"
    assert all(int(each.stem) % 30 == 0 for each in files)
    log = opened(folder, segment_bytes=4096)
    for first in range(0, 300, 17):
        assert everything(log, first) == list(range(first, 300))
    log.close()


def test_arrival_is_the_injected_clock_s(folder: Path) -> None:
    now = iter(range(5_000_000, 9_000_000, 7))
    log = LocalLog(LocalLogSpec(str(folder)), SCHEMA, folder, clock_us=lambda: next(now))
    log.append(rows(0, 2))
    log.append(rows(2, 1))
    reader = log.reader(Collector())
    arrivals = np.concatenate([each.appended_us for each in read_rows(reader, 3)]).tolist()
    assert arrivals[0] == arrivals[1] == arrivals[2] - 7
    reader.close()
    log.close()


def test_truncate_deletes_whole_sealed_segments_and_nothing_at_or_above(folder: Path) -> None:
    log = opened(folder, segment_bytes=4096)
    for first in range(0, 300, 30):
        log.append(rows(first, 30))
    firsts = [int(each.stem) for each in segments(folder)]
    log.truncate({0: firsts[2] - 1})
    assert [int(each.stem) for each in segments(folder)] == firsts[1:]
    assert log.earliest() == {0: firsts[1]}
    assert everything(log) == list(range(firsts[1], 300))
    log.truncate({0: 300})
    assert [int(each.stem) for each in segments(folder)] == firsts[-1:]
    log.truncate({0: 5})
    log.truncate({})
    for wrong in ({0: 301}, {1: 0}):
        with pytest.raises(InvalidArgument, match=r"past the end|partition 0 alone"):
            log.truncate(wrong)
    log.close()
    log = opened(folder)
    assert log.earliest() == {0: firsts[-1]}
    assert log.latest() == {0: 300}
    log.close()


def test_a_reader_whose_place_is_truncated_away_is_told_and_its_batches_stay_whole(folder: Path) -> None:
    log = opened(folder, segment_bytes=4096)
    for first in range(0, 300, 30):
        log.append(rows(first, 30))
    log.close()
    log = opened(folder, segment_bytes=4096)
    reader = log.reader(Collector())
    chunks = reader.read(10, 0)
    log.truncate({0: 300})
    with pytest.raises(OffsetDeleted, match="offset 10 is no longer kept"):
        reader.read(10, 0)
    reader.close()
    log.close()
    assert table(chunks).equals(pa.Table.from_batches([rows(0, 10)])), "mapped memory outlives its file's name"


def test_a_reader_that_keeps_up_never_opens_a_file(log: LocalLog, folder: Path) -> None:
    reader = log.reader(Collector())
    for each in segments(folder):
        each.rename(each.with_suffix(".hidden"))
    for first in range(0, 50, 5):
        log.append(rows(first, 5))
        assert ids(reader.read(100, WAIT_S)) == list(range(first, first + 5))
    reader.close()


def test_a_reader_that_lags_reads_files_and_goes_on_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail.Tail.__init__, "__defaults__", (8 << 10,))
    log = opened(folder, segment_bytes=64 << 10)
    reader = log.reader(Collector())
    seen: list[int] = []
    for first in range(0, 4000, 40):
        log.append(rows(first, 40))
        if first % 400 == 0:
            seen += ids(reader.read(150, WAIT_S))
    seen += ids(read_rows(reader, 4000 - len(seen), rows_max=333))
    assert seen == list(range(4000))
    reader.close()
    log.close()


def test_large_batches_are_read_without_a_copy_and_small_ones_together(folder: Path) -> None:
    log = opened(folder, segment_bytes=64 << 20)
    log.append(rows(0, 10_000))
    for first in range(10_000, 10_100):
        log.append(rows(first, 1))
    log.append(rows(10_100, 10_000))
    log.close()
    log = opened(folder)
    reader = log.reader(Collector())
    before = pa.total_allocated_bytes()
    chunks = reader.read(1 << 20, WAIT_S)
    assert [each.batch.num_rows for each in chunks] == [10_000, 100, 10_000]
    assert pa.total_allocated_bytes() - before < 100_000
    assert ids(chunks) == list(range(20_100))
    reader.close()
    log.close()


def test_a_batch_past_the_bound_is_refused_and_leaves_nothing(log: LocalLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "LOG_BATCH_BYTES_MAX", 10_000)
    with pytest.raises(TooLarge, match="at most 10000"):
        log.append(rows(0, 1000))
    log.append(rows(0, 10))
    assert everything(log) == list(range(10))


def test_durability_decides_who_waits_for_the_disk(folder: Path) -> None:
    counts = {}
    levels: tuple[Literal["fsync", "os"], ...] = ("fsync", "os")
    for level in levels:
        disk = FailingDisk()
        log = opened(folder / level, durability=level, disk=disk)
        before = disk.synced
        for first in range(5):
            log.append(rows(first, 1))
        counts[level] = disk.synced - before
        log.close()
    assert counts == {"fsync": 5, "os": 0}


def test_whoever_needs_it_has_the_disk_have_what_was_not_synced(folder: Path, disk: FailingDisk) -> None:
    log = opened(folder, durability="os", disk=disk)
    log.append(rows(0, 3))
    before = disk.synced
    log.sync()
    assert disk.synced == before + 1
    disk.syncs = errno.EIO
    with pytest.raises(Unavailable, match="cannot sync"):
        log.sync()
    disk.syncs = None
    log.append(rows(3, 2))
    log.close()
    assert [int(each.stem) for each in segments(folder)] == [0, 3], "a file whose sync failed takes no more"
    log = opened(folder)
    assert everything(log) == list(range(5))
    before = disk.synced
    log.sync()
    assert disk.synced == before, "every append was synced"
    log.close()


def test_appends_of_many_threads_share_syncs(folder: Path) -> None:
    class SlowDisk(FailingDisk):
        """Whose first sync after the start waits until everybody has come."""

        def sync(self, file: int) -> None:
            everybody.wait(WAIT_S)
            super().sync(file)

    everybody = threading.Event()
    everybody.set()
    disk = SlowDisk()
    log = opened(folder, disk=disk)
    before = disk.synced
    everybody.clear()
    threads = [threading.Thread(target=lambda first=first: log.append(rows(first, 1))) for first in range(20)]
    for each in threads:
        each.start()
    while len(log._group._waiting) < 19:
        assert any(each.is_alive() for each in threads)
    everybody.set()
    for each in threads:
        each.join()
    assert disk.synced - before == 2
    assert sorted(everything(log)) == list(range(20))
    log.close()


def test_closing_waits_for_appends_in_flight_and_wakes_readers(folder: Path) -> None:
    log = opened(folder)
    reader = log.reader(Collector())
    told: list[BaseException] = []

    def wait() -> None:
        try:
            while True:
                reader.read(10, WAIT_S)
        except Unavailable as error:
            told.append(error)

    def write() -> None:
        first = 0
        try:
            while True:
                log.append(rows(first, 1))
                acknowledged.append(first)
                first += 1
        except Unavailable:
            pass

    acknowledged: list[int] = []
    threads = [threading.Thread(target=wait), threading.Thread(target=write)]
    for each in threads:
        each.start()
    while len(acknowledged) < 10:
        pass
    log.close()
    for each in threads:
        each.join(WAIT_S)
    assert len(told) == 1
    assert "closed" in str(told[0])
    reader.close()
    log = opened(folder)
    assert everything(log) == acknowledged
    log.close()


def test_everything_opened_is_given_back(folder: Path) -> None:
    def cycle() -> None:
        log = opened(folder, segment_bytes=4096)
        for first in range(0, 300, 30):
            log.append(rows(first, 30))
        everything(log)
        log.close()
        with pytest.raises(FailedPrecondition):
            opened(folder, schema=arrow_schema({"other": "int64"}))
        shutil.rmtree(folder)

    cycle()
    gc.collect()
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        cycle()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == len(before)


# Schemas.


def test_each_segment_keeps_the_schema_it_was_written_under(folder: Path) -> None:
    narrow = arrow_schema({"id": "int32", "ratio": "float32"})
    wide = arrow_schema({"ratio": "float64", "note": "string", "id": "int64"})
    for schema, batch in (
        (narrow, pa.record_batch({"id": pa.array([1, 2], pa.int32()), "ratio": pa.array([0.5, None], pa.float32())})),
        (wide, pa.record_batch({"id": pa.array([1 << 40]), "note": pa.array(["x"])})),
    ):
        log = opened(folder, schema=schema)
        log.append(batch)
        log.close()
    log = opened(folder, schema=wide)
    reader = log.reader(Collector())
    assert table(read_rows(reader, 3)).to_pylist() == [
        {"ratio": 0.5, "note": None, "id": 1},
        {"ratio": None, "note": None, "id": 2},
        {"ratio": None, "note": "x", "id": 1 << 40},
    ]
    assert len(segments(folder)) == 2
    reader.close()
    log.close()
    with pytest.raises(FailedPrecondition, match=r"log '.*log': column 'ratio'.*float64.*float32"):
        opened(folder, schema=narrow)


def test_a_log_without_rows_takes_any_schema(folder: Path) -> None:
    opened(folder, schema=arrow_schema({"id": "int64"})).close()
    log = opened(folder, schema=arrow_schema({"id": "int64", "more": "string"}))
    log.append(pa.record_batch({"id": pa.array([1])}))
    log.close()
    assert [each.name for each in segments(folder)] == ["00000000000000000000.segment"]


def test_the_sample_of_format_version_1_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    shutil.copytree(SAMPLES / "format-1", folder)
    log = opened(folder)
    reader = log.reader(Collector())
    chunks = read_rows(reader, 12)
    assert table(chunks).equals(pa.Table.from_batches([rows(0, 12)]))
    arrivals = np.concatenate([each.appended_us for each in chunks]).tolist()
    assert arrivals == [1_700_000_000_000_001] * 5 + [1_700_000_000_000_002] * 7
    reader.close()
    assert log.append(rows(12, 1)).first == 12
    log.close()


def test_a_newer_format_is_refused_by_name(folder: Path) -> None:
    import zlib

    opened(folder).close()
    path = segments(folder)[0]
    data = bytearray(path.read_bytes())
    data[12] = 2
    start = 40 + int.from_bytes(data[32:36], "little")
    data[8:12] = zlib.crc32(data[12:start]).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(FailedPrecondition, match="format version 2, this program reads 1"):
        opened(folder)


# A disk that fails.


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_refuses_what_does_not_fit_and_takes_it_later(
    log: LocalLog, disk: FailingDisk, folder: Path, number: int
) -> None:
    log.append(rows(0, 3))
    size = segments(folder)[0].stat().st_size
    disk.writes = number
    for _ in range(2):
        with pytest.raises(ResourceExhausted, match="cannot append"):
            log.append(rows(3, 3))
        assert segments(folder)[0].stat().st_size == size, "what was written in part is cut away"
    assert everything(log) == [0, 1, 2]
    disk.writes = None
    assert log.append(rows(3, 3)).first == 3
    log.close()
    log = opened(folder)
    assert everything(log) == list(range(6))
    log.close()


@pytest.mark.parametrize("cut_fails", [False, True])
def test_after_a_failed_sync_the_log_goes_on_in_a_new_segment(
    log: LocalLog, disk: FailingDisk, folder: Path, cut_fails: bool
) -> None:
    log.append(rows(0, 3))
    disk.syncs = errno.EIO
    disk.truncates = errno.EIO if cut_fails else None
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot append: Input/output error"):
            log.append(rows(7, 2))
    assert everything(log) == [0, 1, 2]
    disk.syncs = disk.truncates = None
    assert log.append(rows(3, 3)).first == 3
    log.close()
    assert [int(each.stem) for each in segments(folder)] == [0, 3]
    log = opened(folder)
    assert everything(log) == list(range(6)), "what the failed append left in the first segment is nobody's"
    log.close()


def test_a_failed_sync_before_anything_was_acknowledged_replaces_the_segment(
    log: LocalLog, disk: FailingDisk, folder: Path
) -> None:
    disk.syncs = errno.EIO
    with pytest.raises(Unavailable):
        log.append(rows(9, 1))
    disk.syncs = None
    log.append(rows(0, 2))
    log.close()
    assert [int(each.stem) for each in segments(folder)] == [0]
    log = opened(folder)
    assert everything(log) == [0, 1]
    log.close()


def test_a_segment_that_cannot_be_begun_fails_the_append_and_is_tried_again(folder: Path, disk: FailingDisk) -> None:
    log = opened(folder, segment_bytes=1, disk=disk)
    log.append(rows(0, 1))
    disk.writes = errno.ENOSPC
    for _ in range(2):
        with pytest.raises(ResourceExhausted):
            log.append(rows(1, 1))
    disk.writes = None
    log.append(rows(1, 1))
    log.append(rows(2, 1))
    log.close()
    assert [int(each.stem) for each in segments(folder)] == [0, 1, 2]
    assert not list(folder.glob("*.draft"))
    log = opened(folder)
    assert everything(log) == [0, 1, 2]
    log.close()


def test_one_disk_fault_is_told_to_everybody_in_the_group_and_to_nobody_else(folder: Path, disk: FailingDisk) -> None:
    log = opened(folder, disk=disk)
    disk.writes = errno.ENOSPC
    told: list[BaseException] = []

    def append(first: int) -> None:
        try:
            log.append(rows(first, 1))
        except ResourceExhausted as error:
            told.append(error)

    threads = [threading.Thread(target=append, args=(first,)) for first in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(WAIT_S)
    assert len({id(each) for each in told}) == 8
    disk.writes = None
    log.append(rows(0, 1))
    assert everything(log) == [0]
    log.close()


def test_an_interrupt_within_a_commit_closes_the_log_to_appends_until_it_is_opened_anew(folder: Path) -> None:
    class Interrupted(FailingDisk):
        """Disk."""

        def write(self, file: int, buffers: object, position: int) -> None:
            if interrupt:
                raise KeyboardInterrupt
            super().write(file, buffers, position)  # type: ignore[arg-type]

    interrupt = False
    log = opened(folder, disk=Interrupted())
    log.append(rows(0, 1))
    interrupt = True
    with pytest.raises(KeyboardInterrupt):
        log.append(rows(1, 1))
    interrupt = False
    with pytest.raises(Unavailable, match="must be opened anew: KeyboardInterrupt"):
        log.append(rows(1, 1))
    assert everything(log) == [0]
    log.close()
    log = opened(folder)
    log.append(rows(1, 1))
    assert everything(log) == [0, 1]
    log.close()


def test_a_file_size_limit_is_a_full_disk(folder: Path) -> None:
    log = opened(folder, segment_bytes=64 << 20)
    log.append(rows(0, 10))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        with pytest.raises(ResourceExhausted, match="File too large"):
            log.append(rows(10, 10_000))
        log.append(rows(10, 10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    log.append(rows(20, 10_000))
    assert everything(log) == list(range(10_020))
    log.close()


def test_a_really_full_disk_loses_nothing_and_takes_more_once_there_is_room(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        log = opened(disk / "log", segment_bytes=128 << 10)
        with pytest.raises(ResourceExhausted, match="No space left"):
            fill(log)
        count = log.latest()[0]
        with pytest.raises(ResourceExhausted):
            log.append(rows(count, 5000))
        assert everything(log) == list(range(count))
        log.truncate({0: count // 2})
        log.append(rows(count, 500))
        log.close()
        log = opened(disk / "log")
        assert everything(log) == list(range(log.earliest()[0], count + 500))
        log.close()
    finally:
        gc.collect()
        subprocess.run(["umount", "-l", disk], check=True)


def test_folders_that_are_made_are_made_safe(tmp_path: Path) -> None:
    class Recording(Disk):
        """Disk."""

        def sync_folder(self, folder: Path) -> None:
            synced.append(folder)
            super().sync_folder(folder)

    synced: list[Path] = []
    opened(tmp_path / "a" / "b" / "log", disk=Recording()).close()
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a" / "b" / "log"]


def test_too_many_open_files_are_a_reader_s_fault_that_passes(folder: Path) -> None:
    log = opened(folder)
    log.append(rows(0, 5))
    log.close()
    log = opened(folder)
    reader = log.reader(Collector())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        with pytest.raises(Unavailable, match="cannot read: Too many open files"):
            reader.read(10, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert ids(reader.read(10, 0)) == [0, 1, 2, 3, 4]
    reader.close()
    log.close()


def test_truncating_while_readers_read_shows_them_right_rows_or_says_that_they_are_deleted(folder: Path) -> None:
    log = opened(folder, segment_bytes=1, durability="os", disk=QuickDisk())
    for first in range(0, 600, 3):
        log.append(rows(first, 3))
    log.close()
    log = opened(folder, segment_bytes=1, disk=QuickDisk())
    faults: list[str] = []

    def read() -> None:
        place = 0
        while place < 600:
            reader = log.reader(Collector({0: place}))
            try:
                for chunk in reader.read(2, 0):
                    if ids([chunk]) != list(range(chunk.first, chunk.next)) or chunk.first != place:
                        faults.append(f"{place}: {chunk}")
                    place = chunk.next
            except OffsetDeleted:
                place = max(place + 1, log.earliest()[0])
            reader.close()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for each in threads:
        each.start()
    for before in range(0, 600, 2):
        log.truncate({0: before})
    for each in threads:
        each.join(WAIT_S)
    assert not faults
    log.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot open the log"):
        opened(tmp_path / "file" / "log")


def test_a_segment_that_vanished_is_data_loss_by_name(folder: Path) -> None:
    log = opened(folder, segment_bytes=4096)
    for first in range(0, 300, 30):
        log.append(rows(first, 30))
    log.close()
    files = segments(folder)
    log = opened(folder, segment_bytes=4096)
    files[1].rename(folder / "away")
    with pytest.raises(DataLoss, match=files[1].name):
        everything(log)
    log.close()
    with pytest.raises(DataLoss, match=files[0].name):
        opened(folder)


def test_other_files_in_the_folder_are_let_be_and_drafts_go(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(folder).close()
    (folder / "notes.txt").write_text("mine")
    (folder / "00000000000000000009.segment.draft").write_text("half")
    with caplog.at_level(logging.WARNING):
        opened(folder).close()
    assert not caplog.records
    assert {each.name for each in folder.iterdir()} == {"lock", "notes.txt", "00000000000000000000.segment"}


def test_columns_of_the_suite_are_declared_as_its_rows_are() -> None:
    assert rows(0, 1).schema.equals(arrow_schema(COLUMNS))
