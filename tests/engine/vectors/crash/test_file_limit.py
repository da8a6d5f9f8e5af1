"""The system itself refuses to let files grow: what FAISS, Arrow and we write fails at any byte, and no harm is done."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import ResourceExhausted
from engine.vectors.collection import Collection
from engine.vectors.warming import warm_kernels
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.crash.life import SPEC
from tests.engine.vectors.crash.points import batch
from tests.engine.vectors.crash.rounds import read


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """For this process; a write past it fails with EFBIG, as Python ignores the signal."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_in_any_file_of_a_segment_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    warm_kernels()  # numba writes files too
    with Collection("c", tmp_path / "c", SPEC, disk=QuickDisk(), background=False) as collection:
        collection.upsert(batch(range(400), 1))
        before, refused = read(collection)[0], 0
        for size in [*range(0, 2_000, 331), *range(2_000, 40_000, 2_999)]:
            with files_of_at_most(size):
                try:
                    worked = collection.indexer.step()
                except ResourceExhausted:
                    refused += 1
                    worked = False
            if worked:
                break
            assert not list((tmp_path / "c" / "segments").iterdir())
            assert read(collection)[0] == before
        assert worked
        assert refused > 8
        (part,) = collection.info().parts
        assert part.indexes["v"] == "pq"
    with Collection("c", tmp_path / "c", disk=QuickDisk(), background=False) as collection:
        assert read(collection)[0] == before


@pytest.mark.parametrize("size", [0, 300, 5_000])
def test_a_log_without_room_refuses_and_takes_more_later(size: int, tmp_path: Path) -> None:
    with Collection("c", tmp_path / "c", SPEC, disk=QuickDisk(), background=False) as collection:
        collection.upsert(batch([1], 1))
        with files_of_at_most(size), pytest.raises(ResourceExhausted):
            collection.upsert(batch(range(100), 2))
        assert collection.count() == 1
        collection.upsert(batch([2], 2))
        before = read(collection)[0]
        assert len(before) == 2
    with Collection("c", tmp_path / "c", disk=QuickDisk(), background=False) as collection:
        assert read(collection)[0] == before
