"""A local log is read beside the one that writes it: what is there is a prefix, whole, and nothing is changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from engine import NotFound
from engine.errors import DataLoss
from engine.log.declaration import LocalLogSpec
from engine.log.local import LocalLog
from engine.log.local_past import LocalPast
from engine.log.past import read_log

SCHEMA = pa.schema({"n": pa.int64(), "text": pa.string()})


def _batch(first: int, rows: int) -> pa.RecordBatch:
    numbers = range(first, first + rows)
    return pa.RecordBatch.from_pydict({"n": list(numbers), "text": [f"t{n}" * 20 for n in numbers]}, schema=SCHEMA)


def _numbers(folder: Path) -> tuple[list[int], int]:
    """What is read, and the first offset."""
    past = LocalPast(folder, SCHEMA)
    first = past.earliest()[0]
    numbers = read_log(past).column("n").to_pylist()
    assert past.latest() == {0: first + len(numbers)}
    past.close()
    return numbers, first


def test_what_is_read_while_others_append_is_whole_and_has_what_was_acknowledged(tmp_path: Path) -> None:
    log = LocalLog(LocalLogSpec("log", "os", segment_bytes=20_000), SCHEMA, tmp_path / "log")
    done, stop, may = [0], threading.Event(), threading.Semaphore(0)

    def append() -> None:
        for number in range(100_000):
            may.acquire()  # so that the log does not outgrow its reader where appends take no time
            if stop.is_set():
                return
            done[0] = log.append(_batch(done[0], 1 + number % 30)).next

    log.append(_batch(0, 0))
    thread = threading.Thread(target=append)
    thread.start()
    try:
        for looked in range(600):
            acknowledged = done[0]
            may.release(20)
            numbers, _ = _numbers(tmp_path / "log")
            assert numbers == list(range(len(numbers)))
            assert len(numbers) >= acknowledged
            if looked >= 60 and len(list((tmp_path / "log").glob("*.segment"))) > 3:
                break
    finally:
        stop.set()
        may.release()
        thread.join()
    assert len(list((tmp_path / "log").glob("*.segment"))) > 3
    log.truncate({0: done[0] // 2})
    numbers, first = _numbers(tmp_path / "log")
    assert 0 < first <= done[0] // 2
    assert numbers == list(range(first, done[0]))
    log.close()
    assert _numbers(tmp_path / "log") == (numbers, first)


def test_segment_that_the_directory_did_not_show_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = LocalLog(LocalLogSpec("log", "os", segment_bytes=1), SCHEMA, tmp_path / "log")
    for first in range(0, 40, 10):
        log.append(_batch(first, 10))
    log.close()
    hidden = sorted((tmp_path / "log").glob("*.segment"))[2]
    read = Path.iterdir
    looks = [0]

    def without_one(folder: Path) -> Iterator[Path]:
        looks[0] += 1
        return (each for each in read(folder) if looks[0] > 1 or each != hidden)

    monkeypatch.setattr(Path, "iterdir", without_one)
    assert _numbers(tmp_path / "log") == (list(range(40)), 0)
    hidden.unlink()  # for good
    with pytest.raises(DataLoss, match="20"):
        LocalPast(tmp_path / "log", SCHEMA)


def test_a_torn_tail_is_left_as_it_is_and_not_read(tmp_path: Path) -> None:
    log = LocalLog(LocalLogSpec("log", "os"), SCHEMA, tmp_path / "log")
    log.append(_batch(0, 10))
    log.append(_batch(10, 10))
    (segment,) = (tmp_path / "log").glob("*.segment")
    torn = segment.read_bytes()[:-7]
    log.close()
    segment.write_bytes(torn)
    assert _numbers(tmp_path / "log") == (list(range(10)), 0)
    assert segment.read_bytes() == torn


def test_where_there_is_no_log_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="is not there"):
        LocalPast(tmp_path / "log", SCHEMA)
    assert not (tmp_path / "log").exists()
    with pytest.raises(NotFound, match="is not there"):
        LocalPast(tmp_path, SCHEMA)
