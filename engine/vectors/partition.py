"""One partition of a collection's topic, folded: segments and an indexer of its own, its place in the log in its manifest."""

from __future__ import annotations

import logging
import shutil
import tarfile
from pathlib import Path
from typing import Final

from engine.clock import Clock
from engine.errors import DataLoss, FailedPrecondition, Unavailable, VireoError, quoted
from engine.log.log import Chunk, Offsets
from engine.log.snapshot_store import SnapshotStore
from engine.vectors.declaration import CollectionSpec
from engine.vectors.directory import Directory
from engine.vectors.entries import sound
from engine.vectors.indexer import Indexer
from engine.vectors.manifest import MANIFEST, read_manifest
from engine.vectors.relations import check_alter, remembered
from engine.vectors.restored import restored_fold
from engine.vectors.snapshot import restore
from engine.vectors.writer import FULL_MAX

log = logging.getLogger("vireo.vectors")

PARTITIONS_MAX: Final = 1 << 11
"""Of a collection's topic: a part's key has 31 bits."""
_KEY_BITS: Final = 20
"""For the parts of one partition, those that come and go in the life of a process."""
_SNAPSHOT: Final = "{prefix}-p{number}-{offset:020d}.tar"


class _Broker:
    """Keeps what the topic is declared to keep, whatever a fold needs no more."""

    def sync(self) -> None:
        """What was read from it is safe there."""

    def truncate(self, before: Offsets) -> None:
        """Others may still need it."""


class Partition:
    """See the module. `folder` is a state to begin with, or is made; a newer one of `store` takes its place. Used by the thread
    that follows; questions go to `fold`, from any thread. `earliest`: the first entry that is kept; `latest`: the one to come.

    A snapshot that is damaged is passed over where the topic keeps enough. Raises DataLoss where entries that are needed are kept
    no more, FailedPrecondition where what is stored can't be read as `spec` or is of another topic, Unavailable.
    """

    def __init__(
        self, collection: str, number: int, folder: Path, spec: CollectionSpec, *, store: SnapshotStore | None, prefix: str,
        earliest: int, latest: int, clock: Clock,
    ) -> None:  # fmt: skip
        if number >= PARTITIONS_MAX:
            raise FailedPrecondition(
                f"collection {quoted(collection)}: its topic has a partition {number}, at most {PARTITIONS_MAX} may be"
            )
        self.number = number
        self._collection, self._folder, self._store, self._prefix = collection, folder, store, prefix
        self._published = -1
        problem = None if store is None else self._fetch_newer(store, latest)
        self._directory = Directory(folder, None if (folder / MANIFEST).exists() else spec)
        try:
            offset = self._begin(spec, earliest, latest, problem)
            self.fold = restored_fold(self._directory, spec, offset, keys_from=number << _KEY_BITS)
            self.indexer = Indexer(f"{collection}/{number}", self._directory, self.fold, _Broker(), clock)
        except BaseException:
            self._directory.close()
            raise
        self.indexer.start()

    # Where it begins.

    def _fetch_newer(self, store: SnapshotStore, latest: int) -> str | None:
        """Takes up the newest snapshot where it is further than what is here; what keeps it from that, if anything."""
        name = store.newest(self._shard)
        if name is None or _offset_of(name) <= self._place():
            return None
        if _offset_of(name) > latest:
            raise self._past_the_end(f"snapshot {quoted(name)}", _offset_of(name), latest)
        packed, draft, taken = (self._beside(each) for each in ("tar", "fetched", "taken"))
        try:
            draft.mkdir(parents=True)
            store.fetch(name, packed)
            with tarfile.open(packed, "r:") as archive:
                archive.extractall(draft, filter="data")
            restore(draft, taken, replay_from=read_manifest(draft).replay_from)
            shutil.rmtree(self._folder, ignore_errors=True)
            taken.rename(self._folder)
        except (tarfile.TarError, DataLoss) as error:
            return f"its newest snapshot, {quoted(name)}, is damaged: {error}"
        except OSError as error:
            raise Unavailable(f"snapshot {quoted(name)}: cannot be taken up: {error}") from error
        finally:
            packed.unlink(missing_ok=True)
            shutil.rmtree(draft, ignore_errors=True)
        self._published = _offset_of(name)
        log.info("collection %s: partition %d begins with snapshot %s", self._collection, self.number, name)
        return None

    def _beside(self, kind: str) -> Path:
        """For a while beside its folder: nothing, though something may have been left there."""
        found = self._folder.with_name(f"{self._folder.name}.{kind}")
        shutil.rmtree(found, ignore_errors=True)
        return found

    def _past_the_end(self, what: str, offset: int, latest: int) -> FailedPrecondition:
        return FailedPrecondition(
            f"collection {quoted(self._collection)}: {what} is of entry {offset} of partition {self.number}, past the end of its "
            f"topic ({latest}): was that made anew? Give the collection another 'snapshot.store', or none, and an empty folder"
        )

    def _place(self) -> int:
        """Up to where the state in the folder is; -1 where there is none that can be used."""
        try:
            return read_manifest(self._folder).replay_from if (self._folder / MANIFEST).exists() else -1
        except (VireoError, OSError):
            return -1

    @property
    def _shard(self) -> str:
        return f"p{self.number}"

    def _begin(self, spec: CollectionSpec, earliest: int, latest: int, problem: str | None) -> int:
        """Reads what is there as `spec`, from now on; where it goes on. `problem`: what kept it from a newer state."""
        manifest = self._directory.manifest
        is_new = not manifest.generation and not manifest.segments
        if manifest.spec != spec:
            check_alter(manifest.spec, spec, manifest.ever, empty=not manifest.segments)
        offset = earliest if is_new and problem is None else manifest.replay_from
        if offset < earliest:
            why = "" if problem is None else f"; {problem}"
            raise DataLoss(
                f"collection {quoted(self._collection)}: partition {self.number} of its topic keeps entries from {earliest} on "
                f"and is needed from {offset}{why}"
            )
        if offset > latest:
            raise self._past_the_end("its state", offset, latest)
        if problem is not None:
            log.warning(
                "collection %s: partition %d: %s; it goes on from %d", self._collection, self.number, problem, offset
            )
        alive = {each.number: self._directory.alive(each.number) for each in manifest.segments}
        self._directory.commit(alive, replay_from=offset, spec=spec, ever=remembered(manifest.spec, manifest.ever))
        return offset

    # Following.

    def has_room(self, timeout_s: float) -> bool:
        """Whether what is read next may be folded: not too much waits to be sealed."""
        return self.indexer.wait_for_room(FULL_MAX, timeout_s)

    def ingest(self, chunk: Chunk) -> None:
        """Folds what was read. Raises what leaves the fold broken."""
        self.fold.apply(sound(self.fold.spec, chunk.batch, self._refused), chunk.first, chunk.next)
        for each in chunk.dead:
            self._refused(each.reason)
        self.indexer.wrote()

    def _refused(self, why: str) -> None:
        log.warning("collection %s: partition %d: left out: %s", self._collection, self.number, why)

    # Snapshots.

    def publish(self) -> None:
        """Puts the state as it is now where others begin with it, if it has moved. Raises Unavailable, ResourceExhausted."""
        if self._store is None or self.fold.view.offset <= self._published:
            return
        draft = self._beside("published")
        packed = None
        try:
            with self.indexer.lock:
                self.indexer.flush()
                offset = self._directory.snapshot(draft).replay_from
            packed = self._folder.with_name(_SNAPSHOT.format(prefix=self._prefix, number=self.number, offset=offset))
            with tarfile.open(packed, "w") as archive:
                archive.add(draft, ".")
            self._store.publish(packed, self._shard)
            self._published = offset
        except OSError as error:
            raise Unavailable(f"snapshot of partition {self.number}: cannot be written: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            if packed is not None:
                packed.unlink(missing_ok=True)

    @property
    def replay_from(self) -> int:
        """From where a restart reads the log."""
        return self._directory.manifest.replay_from

    def close(self) -> None:
        """Waits for the background step under way, and lets go of the folder."""
        self.indexer.stop()
        with self.indexer.lock:
            self._directory.close()


def _offset_of(name: str) -> int:
    """Of a snapshot, by its name."""
    return int(name.removesuffix(".tar").rpartition("-")[2])
