"""The folder of all collections of one store, and the steps that a crash may come between.

| path | what |
|---|---|
| `lock` | held while it is open |
| `collections/NAME/` | engine/vectors/directory.py; all that is here counts |
| `followed/NAME/partition-NUMBER/` | likewise, of a topic's partition: where a start begins |
| `aliases.json` | alias to name; replaced whole |
| `snapshots/COLLECTION/SNAPSHOT/` | engine/vectors/snapshot.py |
| `drafts/NUMBER/` | being made; counts for nothing |
| `restored/NAME/` | whole, and counts instead of the collection of that name |
| `dropped/NUMBER/` | being deleted |

A collection comes, goes and is replaced by one rename, which a file system with a journal makes whole or not at all; the next
opening finishes what a crash left undone.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from engine.clock import wall_us
from engine.errors import FailedPrecondition, NotFound, ResourceExhausted, VireoError, nearest, quoted
from engine.limits import COLLECTION_SNAPSHOTS_MAX
from engine.log.disk import DRAFT_SUFFIX, Disk
from engine.log.folder import lock_folder, make_folder
from engine.vectors.any_collection import AnyCollection
from engine.vectors.declaration import CollectionSpec
from engine.vectors.directory import Directory
from engine.vectors.manifest import MANIFEST, read_manifest
from engine.vectors.relations import check_alter, check_name, name_problem
from engine.vectors.segment_file import framed, read_framed, translated
from engine.vectors.snapshot import restore

log = logging.getLogger("vireo.vectors")

_COLLECTIONS: Final = "collections"
_FOLLOWED: Final = "followed"
_SNAPSHOTS: Final = "snapshots"
_DRAFTS: Final = "drafts"
_RESTORED: Final = "restored"
_DROPPED: Final = "dropped"
_ALIASES: Final = "aliases.json"


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One snapshot. `created_us`: microseconds since the Unix epoch; `bytes`: of its files, of which some may be shared with the
    collection; `points`; `offset`: of the log it was taken from; `problem`: why it can't be restored, as far as that is seen."""

    collection: str
    name: str
    created_us: int
    bytes: int
    points: int = 0
    offset: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class _Aliases:
    aliases: Mapping[str, str]


class StoreFolder:
    """See the module. Any thread, but one at a time for each name. Every method raises Unavailable where the disk fails and
    ResourceExhausted where it is full."""

    def __init__(self, folder: Path, *, disk: Disk | None = None) -> None:
        """Raises Unavailable where it is open already, DataLoss where the aliases are damaged."""
        self.folder = folder
        self._disk = disk or Disk()
        self._numbers = itertools.count(1)
        with translated(folder, "open the vector store"):
            make_folder(folder, self._disk)
            self._lock: int | None = lock_folder(folder, f"vector store {quoted(str(folder))}")
            try:
                for each in (_COLLECTIONS, _SNAPSHOTS, _DRAFTS, _RESTORED, _DROPPED):
                    make_folder(folder / each, self._disk)
                self._finish()
                self.aliases: Mapping[str, str] = self._read_aliases()
            except BaseException:
                self.close()
                raise

    def _finish(self) -> None:
        """What a crash left undone."""
        for each in sorted((self.folder / _RESTORED).iterdir()):
            log.info("%s: finishes to restore collection %s", self.folder, each.name)
            self._swap_in(each.name)
        left = [*(self.folder / _DRAFTS).iterdir(), *(self.folder / _DROPPED).iterdir()]
        left += (self.folder / _SNAPSHOTS).glob(f"*/*{DRAFT_SUFFIX}")
        for each in left:
            self.erase(each)

    def _read_aliases(self) -> Mapping[str, str]:
        """Those of collections that are there: a crash may come after a drop, before its aliases go."""
        if not (self.folder / _ALIASES).exists():
            return {}
        found = read_framed(self.folder / _ALIASES, "vireo.aliases", _Aliases).aliases
        names = set(self.names())
        return {alias: name for alias, name in found.items() if name in names and alias not in names}

    # Collections.

    def names(self) -> tuple[str, ...]:
        """Of all collections, sorted."""
        with translated(self.folder, "list the collections"):
            found = (self.folder / _COLLECTIONS).iterdir()
            return tuple(sorted(each.name for each in found if each.is_dir() and name_problem(each.name) is None))

    def path(self, name: str) -> Path:
        """Where a collection is, or would be."""
        return self.folder / _COLLECTIONS / name

    def followed(self, name: str) -> Path:
        """Where a collection that follows a topic keeps what it has folded."""
        return self.folder / _FOLLOWED / name

    def make(self, name: str, spec: CollectionSpec) -> None:
        """A new collection without points; it is there whole or not at all."""
        assert not self.path(name).exists(), name
        with translated(self.folder, f"make collection {quoted(name)}"):
            draft = self._numbered(_DRAFTS)
            try:
                Directory(draft, spec, disk=self._disk).close()
                self._move(draft, self.path(name))
            except BaseException:
                self.erase(draft)
                raise

    def bury(self, name: str) -> Path:
        """Takes a collection away, for good once this returns; what it returns is to be erased."""
        with translated(self.folder, f"drop collection {quoted(name)}"):
            grave = self._numbered(_DROPPED)
            self._move(self.path(name), grave)
            return grave

    def erase(self, path: Path) -> None:
        """Deletes what counts for nothing. What can't be deleted now is deleted by the next opening."""
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s: cannot be removed: %s", path, error)

    def _numbered(self, part: str) -> Path:
        """A path of its own."""
        return next(path for number in self._numbers if not (path := self.folder / part / f"{number:010d}").exists())

    def _move(self, source: Path, target: Path) -> None:
        source.rename(target)
        self._disk.sync_folder(target.parent)
        self._disk.sync_folder(source.parent)

    # Aliases.

    def write_aliases(self, aliases: Mapping[str, str]) -> None:
        """All of them from now on."""
        with translated(self.folder, "write the aliases"):
            content = framed("vireo.aliases", _Aliases(dict(sorted(aliases.items()))))
            os.close(self._disk.create(self.folder / _ALIASES, content))
        self.aliases = dict(aliases)

    # Snapshots.

    def take(self, collection: AnyCollection) -> SnapshotInfo:
        """A snapshot of a collection as it is now. Raises ResourceExhausted where there are as many as may be."""
        folder = self.folder / _SNAPSHOTS / collection.name
        with translated(folder, "list the snapshots"):
            there = {each.name for each in folder.iterdir()} if folder.exists() else set()
        if len(there) >= COLLECTION_SNAPSHOTS_MAX:
            raise ResourceExhausted(
                f"collection {quoted(collection.name)}: has {len(there)} snapshots, as many as are kept; drop one"
            )
        moment = datetime.fromtimestamp(wall_us() / 1e6, UTC).strftime("%Y%m%dT%H%M%SZ")
        name = next(name for number in itertools.count(1) if (name := f"{moment}-{number}") not in there)
        collection.snapshot(folder / name)
        return self._told(collection.name, folder / name)

    def snapshots(self, collection: str) -> tuple[SnapshotInfo, ...]:
        """Of a collection that is there or was, oldest first."""
        check_name(collection)
        folder = self.folder / _SNAPSHOTS / collection
        with translated(folder, "list the snapshots"):
            found = [each for each in folder.iterdir() if self._is_snapshot(each)] if folder.exists() else []
            return tuple(sorted((self._told(collection, each) for each in found), key=lambda each: each.created_us))

    def _is_snapshot(self, path: Path) -> bool:
        return path.is_dir() and not path.name.endswith(DRAFT_SUFFIX) and name_problem(path.name) is None

    def _told(self, collection: str, path: Path) -> SnapshotInfo:
        size = sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
        created_us = int(path.stat().st_mtime * 1e6)
        try:
            found = read_manifest(path)
        except (VireoError, OSError) as error:
            return SnapshotInfo(collection, path.name, created_us, size, problem=str(error))
        written_us = int((path / MANIFEST).stat().st_mtime * 1e6)
        points = sum(each.alive for each in found.segments)
        return SnapshotInfo(collection, path.name, written_us, size, points, found.replay_from)

    def snapshot_path(self, collection: str, snapshot: str) -> Path:
        """Where it is. Raises NotFound, InvalidArgument for what can be no name."""
        check_name(collection)
        check_name(snapshot, "snapshot")
        path = self.folder / _SNAPSHOTS / collection / snapshot
        if not self._is_snapshot(path):
            known = [each.name for each in self.snapshots(collection)]
            raise NotFound(
                f"collection {quoted(collection)} has no snapshot {quoted(snapshot)}{nearest(snapshot, known)}"
            )
        return path

    def drop_snapshot(self, collection: str, snapshot: str) -> None:
        """Deletes it. Raises NotFound."""
        path = self.snapshot_path(collection, snapshot)
        with translated(path, "drop the snapshot"):
            grave = self._numbered(_DROPPED)
            self._move(path, grave)
        self.erase(grave)

    def ready(self, source: Path, spec: CollectionSpec | None) -> Path:
        """A whole collection made of a snapshot, to be given to `replace` or erased. `spec`: what it must be possible to alter it
        to. Raises as engine/vectors/snapshot.py's `restore`."""
        draft = self._numbered(_DRAFTS)
        found = restore(source, draft, disk=self._disk)
        try:
            if spec is not None:
                check_alter(found.spec, spec, found.ever, empty=not found.segments)
        except FailedPrecondition as error:
            self.erase(draft)
            raise FailedPrecondition(f"snapshot {quoted(source.name)}: {error.message}") from error
        return draft

    def replace(self, name: str, draft: Path) -> None:
        """What was readied is collection `name` from now on, instead of one of that name, which must be closed.

        Where this raises, `restoring` says whether the new one counts from the next opening on.
        """
        with translated(self.folder, f"restore collection {quoted(name)}"):
            if self.path(name).exists():
                self._move(draft, self.folder / _RESTORED / name)
                self._swap_in(name)
            else:
                self._move(draft, self.path(name))

    def restoring(self, name: str) -> bool:
        """Whether another collection is ready and could not be put in its place."""
        return (self.folder / _RESTORED / name).exists()

    def _swap_in(self, name: str) -> None:
        grave = None
        if self.path(name).exists():
            grave = self._numbered(_DROPPED)
            self._move(self.path(name), grave)
        self._move(self.folder / _RESTORED / name, self.path(name))
        if grave is not None:
            self.erase(grave)

    def close(self) -> None:
        """Lets go of it."""
        if self._lock is not None:
            file, self._lock = self._lock, None
            os.close(file)
