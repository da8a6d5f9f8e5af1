"""A snapshot while others write: a point that is there all the time is in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from engine.vectors.collection import Collection
from engine.vectors.snapshot import restore
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.crash.points import SPEC, batch
from tests.engine.vectors.crash.rounds import read


class _Meanwhile(QuickDisk):
    """Does something once, when a segment is first written."""

    def __init__(self) -> None:
        self.do: Callable[[], object] | None = None

    def write(self, file: int, buffers: Sequence[bytes | pa.Buffer], position: int) -> None:
        """Disk."""
        if self.do is not None and "/segments/" in os.readlink(f"/proc/self/fd/{file}"):
            do, self.do = self.do, None
            do()
        super().write(file, buffers, position)


def test_a_snapshot_has_what_was_there_when_it_began_though_all_of_a_segment_is_replaced_meanwhile(
    tmp_path: Path,
) -> None:
    disk = _Meanwhile()
    with Collection("c", tmp_path / "c", SPEC, disk=disk, background=False) as collection:
        collection.upsert(batch(range(64), 1))
        collection.upsert(batch(range(64, 128), 1))
        collection.upsert(batch(range(128, 140), 1))
        disk.do = lambda: collection.upsert(batch(range(64, 140), 2))
        collection.snapshot(tmp_path / "snapshot")
        assert collection.count() == 140
    restore(tmp_path / "snapshot", tmp_path / "restored", disk=QuickDisk())
    with Collection("c", tmp_path / "restored", disk=QuickDisk(), background=False) as collection:
        assert {id_: row[2] for id_, row in read(collection)[0].items()} == dict.fromkeys(range(140), 1)
    with Collection("c", tmp_path / "c", disk=QuickDisk(), background=False) as collection:
        assert {id_: row[2] for id_, row in read(collection)[0].items()} == {
            each: 1 + (each >= 64) for each in range(140)
        }
