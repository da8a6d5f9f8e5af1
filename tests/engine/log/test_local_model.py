"""The local log beside a plain list: whatever is done in whatever order, both say the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from engine.errors import InvalidArgument, OffsetDeleted
from engine.log import tail
from engine.log.local import LocalLog
from engine.log.log import LogReader
from tests.engine.log.contract import Collector, ids, rows
from tests.engine.log.disks import QuickDisk
from tests.engine.log.test_local import opened, segments

STEPS = 150


class Model:
    """A log, its readers with the offset each is at, and the list it must equal (row n has id n)."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._segment_bytes = self._chance.choice([1, 2000, 20_000])
        self._log = self._open()
        self._readers: list[tuple[LogReader, int]] = []
        self._rows = 0
        self._earliest = 0

    def _open(self) -> LocalLog:
        return opened(self._folder, segment_bytes=self._segment_bytes, disk=QuickDisk())

    def step(self) -> None:
        """One thing at random, and what must always hold."""
        self._chance.choice(
            [self._append, self._append, self._read, self._read, self._reader, self._truncate, self._reopen]
        )()
        assert self._log.latest() == {0: self._rows}
        assert self._log.earliest() == {0: self._earliest}

    def _append(self) -> None:
        count = self._chance.choice([0, 1, 2, 7, 100])
        appended = self._log.append(rows(self._rows, count))
        assert (appended.first, appended.next) == (self._rows, self._rows + count)
        self._rows += count

    def _reader(self) -> None:
        place = self._chance.randint(self._earliest - 3, self._rows + 3)
        reader = self._log.reader(Collector({0: place}))
        if self._earliest <= place <= self._rows:
            self._readers.append((reader, place))
            return
        with pytest.raises(OffsetDeleted if place < self._earliest else InvalidArgument, match=f"offset {place}"):
            reader.read(1, 0)
        reader.close()

    def _read(self) -> None:
        for index, (reader, place) in enumerate(self._readers):
            if place < self._earliest:
                with pytest.raises(OffsetDeleted):
                    reader.read(1, 0)
                continue
            rows_max = self._chance.choice([1, 5, 64, 1000])
            chunks = reader.read(rows_max, 0)
            got = ids(chunks)
            assert got == list(range(place, min(place + rows_max, self._rows)))
            assert [number for each in chunks for number in range(each.first, each.next)] == got
            self._readers[index] = (reader, place + len(got))

    def _truncate(self) -> None:
        before = self._chance.randint(0, self._rows)
        self._log.truncate({0: before})
        firsts = [int(each.stem) for each in segments(self._folder)]
        self._earliest = max([each for each in firsts if each <= before], default=self._earliest)
        assert firsts[0] == self._earliest, "no segment that lies below as a whole is kept"

    def _reopen(self) -> None:
        self.close()
        self._log = self._open()

    def close(self) -> None:
        """Ends the readers and the log."""
        for reader, _ in self._readers:
            reader.close()
        self._readers = []
        self._log.close()


@pytest.mark.parametrize("seed", range(12))
def test_random_steps_agree_with_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    if seed % 2:
        monkeypatch.setattr(tail.Tail.__init__, "__defaults__", (3000,))
    model = Model(tmp_path / "log", seed)
    for _ in range(STEPS):
        model.step()
    model.close()
