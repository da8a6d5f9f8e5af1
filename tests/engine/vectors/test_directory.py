"""The folder of a collection: commits are whole or not there, leftovers go, segments stay as long as somebody holds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engine.vectors.declaration import CollectionSpec, FieldSpec, VectorSpec
from engine.vectors.directory import Directory
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.test_segment import points

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
