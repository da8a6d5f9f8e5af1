"""Torn tails are cut, damage is told: whatever bytes a local log's files have, nobody reads what was not appended."""

from __future__ import annotations

import random
import shutil
import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from engine.errors import DataLoss, FailedPrecondition, Unavailable
from engine.log.group import Pending
from engine.log.log import Log
from engine.log.schema import arrow_schema
from tests.engine.log.contract import Collector, ids, rows
from tests.engine.log.disks import FailingDisk, PowerCutDisk, QuickDisk
from tests.engine.log.test_local import everything, opened, segments

SMALL = arrow_schema({"id": "int64"})
"""Few bytes a frame, so that each of them can be tried."""


def numbers(first: int, count: int) -> pa.RecordBatch:
    """Rows whose id is first, first + 1, ..."""
    return pa.record_batch({"id": pa.array(range(first, first + count), pa.int64())})


def killed(folder: Path, log: Log, copy: Path) -> Path:
    """The segment file as it was while the log was open: what kill -9 leaves."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    return segments(copy)[-1]


def test_a_tail_torn_at_any_byte_is_cut_and_told_and_the_log_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = opened(tmp_path / "log", schema=SMALL, disk=QuickDisk())
    log.append(numbers(0, 3))
    kept = segments(tmp_path / "log")[0].stat().st_size
    log.append(numbers(3, 2))
    whole = killed(tmp_path / "log", log, tmp_path / "killed").read_bytes()
    log.close()
    copy = segments(tmp_path / "killed")[0]
    for size in range(kept, len(whole)):
        for garbage in (b"", b"\0" * (len(whole) - size)) if size % 5 == 0 else (b"",):
            caplog.clear()
            copy.write_bytes(whole[:size] + garbage)
            torn = opened(tmp_path / "killed", schema=SMALL, disk=QuickDisk())
            if whole[:size] + garbage == whole:
                assert everything(torn) == [0, 1, 2, 3, 4], "the last bytes are zeros: not torn at all"
            else:
                assert ("torn" in caplog.text) == (size > kept or bool(garbage))
                assert torn.append(numbers(3, 1)).first == 3
                assert everything(torn) == [0, 1, 2, 3]
            torn.close()


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "killed"])
def test_a_wrong_bit_anywhere_is_damage_or_a_torn_last_write_and_never_a_wrong_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, closed: bool
) -> None:
    log = opened(tmp_path / "log", schema=SMALL, disk=QuickDisk())
    for first in range(0, 9, 3):
        log.append(numbers(first, 3))
    killed(tmp_path / "log", log, tmp_path / "killed")
    log.close()
    source = tmp_path / ("log" if closed else "killed")
    whole = segments(source)[0].read_bytes()
    seed = random.Random(7)
    found: list[list[int] | str] = []
    for byte in range(len(whole)):
        caplog.clear()
        spoiled = bytearray(whole)
        spoiled[byte] ^= 1 << seed.randrange(8)
        segments(source)[0].write_bytes(spoiled)
        try:
            log = opened(source, schema=SMALL, disk=QuickDisk())
        except (DataLoss, FailedPrecondition) as error:
            found.append("damaged" if segments(source)[0].name in str(error) else str(error))
        else:
            found.append(everything(log))
            assert "torn" in caplog.text
            log.close()
    assert "damaged" in found
    rest = [each for each in found if each != "damaged"]
    assert all(each == list(range(9 if closed else 6)) for each in rest), "only the mark, or the last write, is cut"


def test_a_wrong_bit_in_a_sealed_segment_is_data_loss_with_file_and_offset_and_what_is_before_is_read(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "log"
    log = opened(folder, segment_bytes=4096, disk=QuickDisk())
    for first in range(0, 300, 10):
        log.append(rows(first, 10))
    log.close()
    sealed = segments(folder)[1]
    first, whole = int(sealed.stem), sealed.read_bytes()
    spoiled = bytearray(whole)
    spoiled[len(whole) // 2] ^= 4
    sealed.write_bytes(spoiled)
    log = opened(folder, disk=QuickDisk())
    with pytest.raises(DataLoss, match=rf"{sealed.name}.*damaged at byte \d+: offset (\d+)"):
        everything(log)
    assert everything(log, int(segments(folder)[2].stem))[-1] == 299
    reader = log.reader(Collector())
    before = ids(reader.read(1 << 16, 0))
    assert before == list(range(len(before)))
    assert first <= len(before) < int(segments(folder)[2].stem)
    for _ in range(2):
        with pytest.raises(DataLoss, match=f"offset {len(before)} of the log can't be read"):
            reader.read(1 << 16, 0)
    reader.close()
    sealed.write_bytes(whole[:-100])
    log.close()
    with pytest.raises(DataLoss, match=sealed.name):
        opened(folder, disk=QuickDisk())
    sealed.write_bytes(whole)
    log = opened(folder, disk=QuickDisk())
    assert everything(log, first)[0] == first
    log.close()


def test_a_bad_frame_before_an_acknowledged_good_one_is_never_skipped_nor_cut(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", schema=SMALL, disk=QuickDisk())
    log.append(numbers(0, 3))
    begin = segments(tmp_path / "log")[0].stat().st_size
    log.append(numbers(3, 3))
    log.append(numbers(6, 3))
    path = killed(tmp_path / "log", log, tmp_path / "killed")
    log.close()
    spoiled = bytearray(path.read_bytes())
    spoiled[begin + 60] ^= 1
    path.write_bytes(spoiled)
    for _ in range(2):
        with pytest.raises(DataLoss, match=f"damaged at byte {begin}: offset 3 of the log can't be read"):
            opened(tmp_path / "killed", schema=SMALL, disk=QuickDisk())
    assert path.read_bytes() == spoiled
    path.write_bytes(spoiled[:begin])
    log = opened(tmp_path / "killed", schema=SMALL, disk=QuickDisk())
    assert everything(log) == [0, 1, 2], "whoever can do without the rest cuts the file there"
    log.close()


def test_of_a_torn_group_all_is_cut_even_where_its_later_frames_are_whole(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", schema=SMALL, disk=QuickDisk())
    log.append(numbers(0, 3))
    begin = segments(tmp_path / "log")[0].stat().st_size
    payloads = [numbers(first, 2).serialize() for first in (3, 5)]
    log._commit([Pending(each, 2, zlib.crc32(each)) for each in payloads])
    path = killed(tmp_path / "log", log, tmp_path / "killed")
    assert everything(log) == list(range(7))
    log.close()
    spoiled = bytearray(path.read_bytes())
    spoiled[begin + 60] ^= 1
    path.write_bytes(spoiled)
    log = opened(tmp_path / "killed", schema=SMALL, disk=QuickDisk())
    assert everything(log) == [0, 1, 2], "one sync made both safe: where one is torn, nobody was told of the other"
    log.close()


def test_what_a_killed_process_wrote_is_made_safe_before_anybody_builds_on_it(tmp_path: Path) -> None:
    log = opened(tmp_path / "log", durability="os")
    log.append(rows(0, 3))
    killed(tmp_path / "log", log, tmp_path / "killed")
    log.close()
    disk = FailingDisk()
    log = opened(tmp_path / "killed", disk=disk)
    assert disk.synced == 1
    assert everything(log) == [0, 1, 2]
    log.close()


def test_a_log_kept_inside_a_column_is_not_mistaken_for_frames(tmp_path: Path) -> None:
    inner = opened(tmp_path / "inner", schema=SMALL, disk=QuickDisk())
    for first in range(0, 9, 3):
        inner.append(numbers(first, 3))
    inner.close()
    schema = arrow_schema({"file": "binary"})
    log = opened(tmp_path / "log", schema=schema, disk=QuickDisk())
    log.append(pa.record_batch({"file": pa.array([segments(tmp_path / "inner")[0].read_bytes()])}))
    path = killed(tmp_path / "log", log, tmp_path / "killed")
    log.close()
    path.write_bytes(path.read_bytes()[:-8])
    log = opened(tmp_path / "killed", schema=schema, disk=QuickDisk())
    assert log.latest() == {0: 0}
    log.close()


def test_random_bytes_for_a_segment_are_data_loss(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    opened(folder, disk=QuickDisk()).close()
    seed = random.Random(3)
    for size in (0, 1, 39, 40, 4000):
        segments(folder)[0].write_bytes(seed.randbytes(size))
        with pytest.raises(DataLoss, match=segments(folder)[0].name):
            opened(folder, disk=QuickDisk())


@pytest.mark.parametrize("seed", range(150))
def test_a_power_cut_at_any_call_loses_nothing_that_was_acknowledged(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    folder, tail = tmp_path / "0", (0, 0)
    for start in range(3):
        disk = PowerCutDisk(folder, chance.randrange(1 << 30), chance.randrange(1, 40))
        try:
            log = opened(folder, segment_bytes=2048, disk=disk)
        except Unavailable:
            pass
        else:
            check_tail(log, *tail)
            tail = append_until_it_fails(log, chance)
            log.close()
        disk.left(folder, tmp_path / str(start + 1))
        folder = tmp_path / str(start + 1)
    log = opened(folder, disk=QuickDisk())
    check_tail(log, *tail)
    log.close()


def check_tail(log: Log, acknowledged: int, appended: int) -> None:
    """The rows are there in order, all that were acknowledged and none that was not appended."""
    assert acknowledged <= log.latest()[0] <= appended
    assert everything(log) == list(range(log.latest()[0]))


def append_until_it_fails(log: Log, chance: random.Random) -> tuple[int, int]:
    """How many rows are acknowledged, and how many were appended."""
    first = log.latest()[0]
    while True:
        count = chance.randrange(1, 40)
        try:
            log.append(rows(first, count))
        except Unavailable:
            return first, first + count
        first += count
