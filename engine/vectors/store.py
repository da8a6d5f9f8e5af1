"""The vector collections of one engine, by name. Nothing of Arrow or FAISS is loaded before a spec declares a store.

What names mean is one immutable value, replaced by reference: a search asks it without a lock, and sees a collection that is
restored or an alias that is moved before or after, never between. Who holds a collection that is dropped still searches it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Collection as Several
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import FailedPrecondition, Unavailable, VireoError, quoted
from engine.log.declaration import ShardSpec
from engine.vectors.declaration import CollectionSpec, VectorStoreSpec
from engine.vectors.description import CollectionDescription
from engine.vectors.names import Names
from engine.vectors.relations import check_clients, check_collection, check_name

if TYPE_CHECKING:
    from engine.spec import Spec
    from engine.vectors.any_collection import AnyCollection
    from engine.vectors.collection import Collection
    from engine.vectors.recall import RecallCount, RecallMeter
    from engine.vectors.sharded import ShardedCollection
    from engine.vectors.store_folder import SnapshotInfo, StoreFolder

log = logging.getLogger("vireo.vectors")

Elsewhere = Callable[["Spec"], Mapping[str, "ShardedCollection | VireoError"]]
"""The collections of a spec where they are in shards, in other processes, or why one can't be had."""
_NONE = Names()
"""Of a store that is not open."""


class VectorStore:
    """See the module. Methods may be called from any thread, `apply` and `close` by one at a time.

    Where no spec declared a store every call raises FailedPrecondition. Calls about a collection that could not be opened raise
    what it could not be opened for. Changes are on the disk when they return; two about one name wait for each other.
    """

    def __init__(self, elsewhere: Elsewhere = lambda _: {}) -> None:
        self._elsewhere = elsewhere
        self._changed = threading.Condition(threading.RLock())
        self._busy: set[str] = set()
        self._shown = _NONE
        self._folder: StoreFolder | None = None
        self._recall: RecallMeter | None = None
        self._spec = VectorStoreSpec("")
        self._behind: dict[str, str] = {}
        """Why declared collections are not as declared."""
        self._closing = False
        self.on_change: Callable[[Several[str]], None] = lambda _: None
        """Is told of names, of collections or aliases, that have come to mean something else, by the thread that made them so."""
        self.before_aliases: Callable[[Mapping[str, CollectionSpec]], None] = lambda _: None
        """Is asked before aliases are pointed, all at once, at collections of these specs. Raises what that is refused with."""

    # Questions.

    def collection(self, name: str) -> AnyCollection:
        """The collection of that name or alias. Raises NotFound; what it could not be opened for."""
        shown = self._shown
        found = shown.find(name)
        if found is None:
            raise self._unopened() if shown is _NONE else shown.absent(name)
        return found

    def _unopened(self) -> VireoError:
        if self._closing:
            return Unavailable("the engine is shutting down")
        if self._shown is not _NONE:
            return FailedPrecondition("the collections are in shards, and are what the spec says")
        return FailedPrecondition("there are no vector collections: the spec has no 'vectors'")

    @property
    def is_elsewhere(self) -> bool:
        """Whether its collections are in shards, in other processes: who asks them waits."""
        return self._folder is None and self._shown is not _NONE

    def names(self) -> tuple[str, ...]:
        """Of all collections, sorted, those that could not be opened too."""
        return tuple(sorted(self._shown.all))

    def aliases(self) -> Mapping[str, str]:
        """Alias to collection."""
        return dict(self._shown.aliases)

    def describe(self, name: str) -> CollectionDescription:
        """The collection of a name or alias. Raises NotFound."""
        shown = self._shown
        target = shown.target(name)
        aliases = shown.aliases_of(target)
        declared = target in self._spec.collections
        if (failed := shown.failed.get(target)) is not None:
            return CollectionDescription(target, aliases, declared, None, None, failed.message)
        found = self.collection(target)
        return CollectionDescription(target, aliases, declared, found.spec, found.info(), self._behind.get(target))

    def state(self, name: str) -> tuple[str, int] | None:
        """The collection that a name or alias means, and the offset of its log up to which it shows everything; None where it is
        not there."""
        return self._shown.state(name)

    def problem(self, name: str) -> str | None:
        """See `Names.problem`."""
        return self._shown.problem(name)

    def problems(self) -> dict[str, str]:
        """Why collections are not served, or not as declared, by "collection NAME"."""
        return {f"collection {name}": each for name, each in sorted((self._behind | self._shown.problems()).items())}

    def recall(self) -> dict[str, Mapping[str, RecallCount]]:
        """What the sampled searches of each collection found, by selectivity bucket; see engine/vectors/recall.py."""
        return {} if self._recall is None else self._recall.read()

    # Collections come, change and go.

    def create(self, name: str, spec: CollectionSpec) -> Collection:
        """A new collection, without points. Raises InvalidArgument; FailedPrecondition where the name is taken or the store is
        fixed; ResourceExhausted past COLLECTIONS_MAX."""
        check_name(name)
        check_collection(spec)
        check_clients(spec)
        with self._alone(name) as folder:
            self._check_changeable(name)
            made = self._create(folder, name, spec)
        self.on_change((name,))
        return made

    def _create(self, folder: StoreFolder, name: str, spec: CollectionSpec) -> Collection:
        self._shown.check_new(name)
        folder.make(name, spec)
        found = self._opened(folder, name)
        if isinstance(found, VireoError):
            folder.erase(folder.bury(name))
            raise found
        self._show(name, found)
        return found

    def alter(self, name: str, spec: CollectionSpec) -> None:
        """The collection is read and kept as `spec` says from now on. Raises FailedPrecondition where what it has can't be read
        so, or where it is declared in the spec; NotFound, InvalidArgument."""
        name = self._shown.target(name)
        with self._alone(name):
            self._check_changeable(name)
            found = self.collection(name)
            check_clients(spec)
            found.alter(spec)
            self._watch(found)
        self.on_change((name, *self._shown.aliases_of(name)))

    def drop(self, name: str) -> None:
        """The collection and its aliases are gone; its snapshots stay. Raises NotFound; FailedPrecondition where it is declared
        in the spec, or `name` is an alias."""
        with self._alone(name) as folder:
            shown = self._shown
            shown.check_no_alias(name)
            self._check_changeable(name)
            if name not in shown.all:
                raise shown.absent(name)
            self._show(name, None)
            if name in shown.open:
                shown.open[name].close()
            try:
                grave = folder.bury(name)
            except VireoError:
                self._show(name, self._opened(folder, name))
                raise
            self._forget_aliases(folder, name)
            if self._recall is not None:
                self._recall.forget(name)
            folder.erase(grave)
        log.info("collection %s is dropped", name)

    def _forget_aliases(self, folder: StoreFolder, name: str) -> None:
        """Where the disk fails the next opening forgets them: they point nowhere."""
        with self._changed:
            before, self._shown = self._shown, self._shown.without_aliases_of(name)
            if self._shown.aliases == before.aliases:
                return
            try:
                folder.write_aliases(self._shown.aliases)
            except VireoError as error:
                log.warning("aliases of collection %s, which is dropped: %s", name, error.message)

    def _check_changeable(self, name: str) -> None:
        if name in self._spec.collections:
            raise FailedPrecondition(f"collection {quoted(name)} is declared in the spec, and changes with it alone")
        self._check_not_fixed()

    def _check_not_fixed(self) -> None:
        if self._spec.fixed:
            raise FailedPrecondition("the collections are fixed: the spec says 'vectors.fixed: true'")

    # Aliases.

    def set_alias(self, alias: str, name: str) -> None:
        """It points there from now on, wherever it pointed before. See `change_aliases`."""
        self.change_aliases({alias: name})

    def drop_alias(self, alias: str) -> None:
        """It points nowhere any more. See `change_aliases`."""
        self.change_aliases({alias: None})

    def change_aliases(self, changes: Mapping[str, str | None]) -> None:
        """Several aliases at once, seen all together; None drops one.

        Raises NotFound where a collection, or an alias to drop, is not there; InvalidArgument for what can be no alias;
        FailedPrecondition where a collection has that name, the store is fixed, or a graph that searches by the alias would not
        fit the collection; ResourceExhausted.
        """
        for alias in changes:
            check_name(alias, "alias")
        with self._alone(*changes, *(each for each in changes.values() if each is not None)) as folder, self._changed:
            self._check_not_fixed()
            new = self._shown.renamed(changes)
            meant = {alias: new.find(name) for alias, name in changes.items() if name is not None}
            self.before_aliases({alias: each.spec for alias, each in meant.items() if each is not None})
            folder.write_aliases(new.aliases)
            self._shown = new
        self.on_change([alias for alias, name in changes.items() if name is not None])

    # Snapshots.

    def snapshot(self, name: str) -> SnapshotInfo:
        """A new snapshot of a collection, whole when this returns. Raises NotFound, Unavailable, ResourceExhausted."""
        name = self._shown.target(name)
        with self._alone(name) as folder:
            return folder.take(self.collection(name))

    def snapshots(self, name: str) -> tuple[SnapshotInfo, ...]:
        """Of a collection that is there or was, oldest first."""
        return self._opened_folder().snapshots(self._shown.target(name))

    def drop_snapshot(self, name: str, snapshot: str) -> None:
        """Raises NotFound."""
        name = self._shown.target(name)
        with self._alone(name) as folder:
            folder.drop_snapshot(name, snapshot)

    def restore(self, name: str, snapshot: str, *, source: str | None = None) -> Collection:
        """Collection `name` becomes what a snapshot has, of itself or of `source`: a new one, or one in the place of the old.

        Searches go on meanwhile, on the old one, and so do writes until the snapshot is read; those are lost with it. It has
        its own spec, or the one declared. Raises NotFound; DataLoss where the snapshot is torn or damaged;
        FailedPrecondition where it is foreign or can't be read so, where `name` is an alias or may not be made;
        ResourceExhausted.
        """
        check_name(name)
        with self._alone(name, name if source is None else source) as folder:
            self._check_restorable(name)
            path = folder.snapshot_path(name if source is None else source, snapshot)
            declared = self._spec.collections.get(name)
            draft = folder.ready(path, declared)
            try:
                found = self._replaced(folder, name, draft)
            except BaseException:
                folder.erase(draft)
                raise
        log.info("collection %s is restored from %s", name, snapshot)
        self.on_change((name, *self._shown.aliases_of(name)))
        return found

    def _check_restorable(self, name: str) -> None:
        shown = self._shown
        shown.check_no_alias(name)
        if name in self._shown.followed:
            raise FailedPrecondition(f"collection {quoted(name)} follows a topic of Kafka, and is what that says")
        if name not in shown.all:
            self._check_not_fixed()
            shown.check_room()

    def _replaced(self, folder: StoreFolder, name: str, draft: Path) -> Collection:
        old = self._shown.open.get(name)
        if old is not None:
            old.close()  # it refuses writes, and is searched until the other is there
        try:
            folder.replace(name, draft)
        except VireoError as error:
            if folder.restoring(name):
                self._show(name, Unavailable(f"was restored, which the next start finishes: {error.message}"))
            elif old is not None:
                self._show(name, self._opened(folder, name))
            raise
        found = self._opened(folder, name)
        if not isinstance(found, VireoError):
            self._alter_to_declared(found)
        self._show(name, found)
        if isinstance(found, VireoError):
            raise found
        return found

    # The wish.

    def apply(self, spec: Spec) -> None:
        """Opens the store that `spec` declares, with all that is in it, and makes and alters what it declares.

        What can't be opened or altered is in `problems`, and is tried again by the next call. Raises what the store itself
        can't be opened for; then all stays as it was.
        """
        wanted = spec.vectors
        if wanted is None:
            self._let_go()
            return
        if self._folder is None and wanted == self._spec and not self._shown.failed:
            return  # in shards, and the ways to them are for the life of a process
        if self._folder is None and (elsewhere := self._elsewhere(spec)):
            self._let_go()
            self._spec, self._shown = wanted, Names.of(elsewhere)
            self.on_change(elsewhere.keys())
            return
        path = spec.path(wanted.path).resolve()
        if self._folder is None or path not in (self._folder.folder, self._folder.folder.parent):
            self._open(path, wanted.shard)
        assert self._folder is not None
        for name in self._spec.on_topics - wanted.on_topics:
            self._let_go_of(name)
        self._spec, self._behind, before = wanted, {}, self._shown.open
        for name in self._folder.names():
            if name not in self._shown.open:
                self._show(name, self._opened(self._folder, name))
        for name, declared in wanted.collections.items():
            self._follow(self._folder, name, declared)
        for name, problem in self.problems().items():
            log.error("%s: %s", name, problem)
        new = self._shown.open.keys() - before.keys()
        self.on_change(new | {alias for alias, name in self._shown.aliases.items() if name in new})

    def _open(self, path: Path, shard: ShardSpec | None) -> None:
        from engine.vectors.opening import opened_folder
        from engine.vectors.recall import RecallMeter
        from engine.vectors.warming import warm_kernels

        warm_kernels()
        new = opened_folder(path, shard)
        self._let_go()
        self._recall = RecallMeter()
        self._recall.start()
        self._folder, self._shown = new, Names(aliases=new.aliases)

    def _opened(self, folder: StoreFolder, name: str) -> Collection | VireoError:
        from engine.vectors.opening import opened

        found = opened(folder, name)
        self._watch(found)
        return found

    def _watch(self, collection: AnyCollection | VireoError) -> None:
        from engine.vectors.readable import Readable

        if not isinstance(collection, Readable):
            return
        assert self._recall is not None
        collection.watcher = self._recall.watcher(collection.name, collection.spec.recall_sample)

    def _follow(self, folder: StoreFolder, name: str, declared: CollectionSpec) -> None:
        """Makes a collection what it is declared to be, or says why it is not."""
        try:
            with self._alone(name):
                found = self._shown.open.get(name)
                if declared.kafka is not None:
                    self._follow_topic(folder, name, declared)
                elif found is None and name not in self._shown.failed:
                    self._create(folder, name, declared)
                elif found is not None:
                    self._alter_to_declared(found)
        except VireoError as error:
            self._behind[name] = error.message

    def _follow_topic(self, folder: StoreFolder, name: str, declared: CollectionSpec) -> None:
        """As `_follow`, of one whose log is a topic. One declared anew is opened anew, and what can't be read so is told."""
        from engine.vectors.opening import opened_on_topic

        if (before := self._shown.followed.get(name)) is not None:
            if before.declared == declared:
                return
            self._let_go_of(name)
            self._show(name, Unavailable("it is opened as it is declared now", retry_after_s=1.0))
        found = opened_on_topic(folder, name, declared, self._spec.shard)
        self._watch(found)
        self._show(name, found)

    def _let_go_of(self, name: str) -> None:
        found = self._shown.open.get(name)
        self._show(name, None)
        if found is not None:
            found.close()

    def _alter_to_declared(self, found: AnyCollection) -> None:
        declared = self._spec.collections.get(found.name, found.spec)
        self._behind.pop(found.name, None)
        if found.spec == declared:
            return
        try:
            found.alter(declared)
            self._watch(found)
        except VireoError as error:
            self._behind[found.name] = error.message

    # What is shared.

    @contextmanager
    def _alone(self, *names: str) -> Iterator[StoreFolder]:
        """Nobody else changes any of `names` meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy.isdisjoint(names))
            folder = self._opened_folder()
            self._busy.update(names)
        try:
            yield folder
        finally:
            with self._changed:
                self._busy.difference_update(names)
                self._changed.notify_all()

    def _opened_folder(self) -> StoreFolder:
        if self._closing or self._folder is None:
            raise self._unopened()
        return self._folder

    def _show(self, name: str, found: AnyCollection | VireoError | None) -> None:
        with self._changed:
            self._shown = self._shown.having(name, found)

    def close(self) -> None:
        """Waits for changes under way, then closes every collection."""
        self._closing = True
        self._let_go()

    def _let_go(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
            shown, self._shown = self._shown, _NONE
            folder, self._folder = self._folder, None
            recall, self._recall = self._recall, None
            self._spec, self._behind = VectorStoreSpec(""), {}
        if recall is not None:
            recall.close()
        for each in shown.open.values():
            try:
                each.close()
            except (VireoError, OSError):
                log.exception("collection %s could not be closed", each.name)
        if folder is not None:
            folder.close()
