"""A whole collection copied to another folder: what `Directory.snapshot` writes and `restore` reads.

A snapshot has the layout of engine/vectors/directory.py, without the lock. It is a draft until all of it is on the disk.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from engine.errors import DataLoss, FailedPrecondition, quoted
from engine.log.disk import DRAFT_SUFFIX, Disk
from engine.log.folder import make_folder
from engine.vectors.declaration import CollectionSpec
from engine.vectors.manifest import (
    ALIVE,
    CODEBOOKS,
    MANIFEST,
    SEGMENTS,
    Manifest,
    check_reads_as,
    encode_manifest,
    read_manifest,
    segment_name,
)
from engine.vectors.segment import DESCRIPTION, Description
from engine.vectors.segment_file import DraftFile, copy_file, map_checked, read_framed, translated

_NO_LINKS: Final = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES}


def check_free(target: Path) -> None:
    """Raises FailedPrecondition where there is something."""
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FailedPrecondition(f"{quoted(str(target))}: is there already, and not empty")


def restore(
    source: Path, target: Path, *, spec: CollectionSpec | None = None, replay_from: int = 0, disk: Disk | None = None
) -> Manifest:
    """Makes a collection's folder of a snapshot; `target` is then whole, or not there. Nobody may write to either meanwhile.

    `replay_from`: from where the new collection's log is to be read. Raises DataLoss where the snapshot is torn or damaged,
    FailedPrecondition where it is foreign, newer, or can't be read as `spec`, or where `target` is not free.
    """
    check_free(target)
    with translated(source, "restore"):
        found = read_manifest(source)
        if spec is not None:
            try:
                check_reads_as(found.spec, spec, empty=not found.segments)
            except FailedPrecondition as error:
                raise FailedPrecondition(f"snapshot {quoted(str(source))}: {error.message}") from error
        new = replace(found, spec=spec or found.spec, replay_from=replay_from)
        folders = {each.number: source / SEGMENTS / segment_name(each.number) for each in found.segments}
        write_whole(target, new, folders, small_files(source, found), disk or Disk(), link=False)
    return new


def small_files(folder: Path, manifest: Manifest) -> dict[str, bytes]:
    """Bitsets and codebooks by their path. Raises DataLoss where one is gone or damaged."""
    named = [(ALIVE, each.bits) for each in manifest.segments] + [
        (CODEBOOKS, each) for each in manifest.codebooks.values()
    ]
    return {f"{part}/{each.file}": bytes(map_checked(folder / part, each)) for part, each in named if each is not None}


def write_whole(
    target: Path, manifest: Manifest, folders: Mapping[int, Path], small: Mapping[str, bytes], disk: Disk, *, link: bool
) -> None:
    """The state in a new folder. `folders`: where its segments lie; they are linked where that works, else copied and checked."""
    draft = target.with_name(target.name + DRAFT_SUFFIX)
    make_folder(target.parent, disk)
    shutil.rmtree(draft, ignore_errors=True)
    try:
        for part in (SEGMENTS, ALIVE, CODEBOOKS):
            make_folder(draft / part, disk)
        for each in manifest.segments:
            _write_segment(
                folders[each.number], draft / SEGMENTS / segment_name(each.number), each.rows, disk, link=link
            )
        for path, content in small.items():
            os.close(disk.create(draft / path, content))
        disk.sync_folder(draft / SEGMENTS)
        os.close(disk.create(draft / MANIFEST, encode_manifest(manifest)))
        draft.rename(target)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    disk.sync_folder(target.parent)


def _write_segment(source: Path, target: Path, rows: int, disk: Disk, *, link: bool) -> None:
    description = read_framed(source / DESCRIPTION, "vireo.segment", Description)
    if description.rows != rows:
        raise DataLoss(f"{quoted(str(source))}: has {description.rows} rows, the manifest says {rows}")
    target.mkdir()
    for each in description.all_files:
        if link and _linked(source / each.file, target / each.file):
            continue
        if not (source / each.file).exists():
            raise DataLoss(f"{quoted(str(source / each.file))}: is gone")
        copy = copy_file(source / each.file, target / each.file, disk)
        if copy != each:
            raise DataLoss(
                f"{quoted(str(source / each.file))}: is damaged: {copy.size_bytes} bytes of CRC-32 {copy.crc32:08x}, "
                f"expected {each.size_bytes} of {each.crc32:08x}"
            )
    file = DraftFile(target / DESCRIPTION, disk)
    try:
        file.write((source / DESCRIPTION).read_bytes())
        file.finish()
    finally:
        file.close()
    disk.sync_folder(target)


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True
