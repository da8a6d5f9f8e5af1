"""Makes what is loaded what is wanted: a thread that asks `rollout` for one action at a time, does it, and publishes.

It knows how to scan, load, warm and close only through what it is given.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from engine.clock import Clock
from engine.control.book import Book, IndexEntry, Record
from engine.control.lifecycle import State
from engine.control.model_config import ModelConfig
from engine.control.registry import Handle, Registry
from engine.control.repository import FoundModel, Repository, beside_old, configured
from engine.control.rollout import (
    KIND_WORDS,
    Action,
    Artifact,
    declared_kind,
    declared_names,
    next_action,
    selected_at_start,
    wanted_artifacts,
    with_steps,
)
from engine.errors import FailedPrecondition, ModelLoadError, NotFound, Unavailable, VireoError, quoted
from engine.spec import Spec

log = logging.getLogger("vireo.control")

_END_S, _END_LOADING_S = 5.0, 0.5
"""How long `stop` waits for the thread to end; less where it is loading a model, which nothing can cut short."""

RENEW_S_MAX = 30.0
"""So long who asks for it waits until something is loaded anew."""

Hosted = TypeVar("Hosted")


class Host(Protocol[Hosted]):
    """Loads what the reconciler wants. Calls come from one thread."""

    def load(self, artifact: Artifact) -> Hosted:
        """The artifact, loaded. Raises ModelLoadError."""

    def warm(self, hosted: Hosted, before: Hosted | None) -> None:
        """Runs it until it is as fast as it will be; `before` is what it is to take the place of, unseen. Raises where it cannot
        compute at all."""

    def close(self, hosted: Hosted) -> None:
        """Gives it back; nobody uses it."""

    def stale(self, hosted: Hosted) -> bool:
        """Whether it would be another if it were loaded now. Any thread; returns at once."""


class Reconciler(Generic[Hosted]):
    """Owns the book and the wish. Public methods may be called from any thread."""

    def __init__(self, host: Host[Hosted], registry: Registry[Hosted], clock: Clock) -> None:
        self._host = host
        self._registry = registry
        self._clock = clock
        self._spec = Spec()
        self._repository: Repository | None = None
        self._found: dict[str, FoundModel] = {}
        self._selected: set[str] = set()
        self._stale: set[str] = set()
        """Keys of records that may have to be loaded anew though nothing else is wanted."""
        self._book: Book[Hosted] = Book()
        self._changed = threading.Condition(threading.RLock())
        self._dirty = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="vireo-reconciler", daemon=True)

    # The wish.

    def apply(self, spec: Spec, repository: Repository | None) -> None:
        """Wants what `spec` says from now on, and returns when that is reached or has failed."""
        found = repository.scan() if repository else {}
        selected = selected_at_start(spec, found)
        with self._changed:
            self._spec, self._repository, self._found, self._selected = spec, repository, found, selected
            self._publish()
        self._settle()

    def rescan(self) -> None:
        """Reads the repository folder again and follows it."""
        repository = self._repository
        if repository is None:
            return
        found = repository.scan()
        with self._changed:
            if repository is not self._repository or self._spec.repository is None:  # another came, or the stop
                return
            found = {name: beside_old(each, self._found.get(name)) for name, each in found.items()}
            if found == self._found:
                return
            self._found, self._selected = found, set(found)
            self._wake()

    def load(self, name: str, config: ModelConfig | None = None, config_fingerprint: str = "") -> None:
        """Loads a model, or what is new of it; a version that failed is tried again. Raises ModelLoadError, NotFound."""
        if self._repository is None:
            raise NotFound(f"model {quoted(name)}: there is no model repository")
        found = self._repository.find(name)
        if config is not None:
            found = configured(found, config, config_fingerprint)
        if found.problem:
            raise ModelLoadError(f"model {quoted(name)}: {found.problem}")
        with self._changed:
            self._found[name] = found
            self._selected |= with_steps([name], self._found)
            for record in self._book:
                if record.artifact.name == name and record.state is State.FAILED:
                    self._forget(record)
        self._settle()
        if found.graph is not None:
            if (reason := self._registry.snapshot.unserved.get(name)) is not None:
                raise ModelLoadError(f"model {quoted(name)}: {reason}")
            return
        records = self._wanted_records(name)
        if not records:
            have = ", ".join(map(str, sorted(found.versions)))
            raise ModelLoadError(f"model {quoted(name)}: its version policy chooses none of the versions there: {have}")
        failures = [each for each in records if each.state is State.FAILED]
        if failures:
            raise ModelLoadError(f"model {quoted(name)} version {failures[0].artifact.version}: {failures[0].reason}")

    def renew(self, names: Collection[str]) -> None:
        """Tries again what could not be loaded of `names`, and loads anew what is stale: beside the old, which serves until all
        of it can take its place in one snapshot. Returns when that is so or has failed, or after RENEW_S_MAX."""
        with self._changed:
            records = [each for each in self._book if each.artifact.name in names]
            failed = [each for each in records if each.state is State.FAILED]
            for record in failed:
                self._forget(record)
            asked = {each.artifact.key for each in records if each not in failed}  # each is looked at once it is loaded
            self._stale |= asked
            self._wake()
            if self._thread is not threading.current_thread():
                self._changed.wait_for(
                    lambda: self._stopping or not (asked & self._stale or (failed and self._dirty)), RENEW_S_MAX
                )

    def unload(self, name: str) -> None:
        """Wants a model no more. Returns when no request can reach it; those in flight finish."""
        with self._changed:
            if name in declared_names(self._spec):
                kind = KIND_WORDS[declared_kind(self._spec, name)]
                raise FailedPrecondition(f"model {quoted(name)} is a {kind} of the spec; it cannot be unloaded")
            if name not in self._selected:
                raise NotFound(f"model {quoted(name)} is not loaded")
            self._selected.discard(name)
        self._settle()

    # What is.

    def problems(self) -> dict[str, str]:
        """Why each wanted model that answers nothing does not, by name."""
        with self._changed:
            wanted = self._selected | declared_names(self._spec)
            return {name: reason for name, reason in self._registry.snapshot.unserved.items() if name in wanted}

    def index(self) -> list[IndexEntry]:
        """Every version known, and every model folder of which none is."""
        with self._changed:
            return self._book.index(self._found)

    def records(self) -> list[Record[Hosted]]:
        """The book as it stands, for reports."""
        with self._changed:
            return list(self._book)

    # The work.

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, drain_s: float) -> bool:
        """Retires everything, waits up to `drain_s` for users to leave, closes all, ends the thread.

        False where the thread lives on because it is in the middle of a load, which then ends as a daemon.
        """
        with self._changed:
            self._spec = Spec(server=self._spec.server)
            self._found, self._selected = {}, set()
            for record in [each for each in self._book if each.state is State.READY]:
                self._retire(record)
            self._wake()
            self._changed.wait_for(self._nothing_to_wait_for, timeout=drain_s)
            self._stopping = True
            self._wake()
            end_s = _END_LOADING_S if self._book.loading() else _END_S
        if self._thread.is_alive():
            self._thread.join(end_s)
        while self._book:
            record = self._book.take()
            if record.handle is not None:
                self._close(record.handle.hosted)
        return not self._thread.is_alive()

    def _nothing_to_wait_for(self) -> bool:
        """Whether all is closed; or the thread is busy with a load, so closes nothing, and nobody uses a model."""
        return not self._book or (self._book.loading() and not self._book.used())

    def _wake(self) -> None:
        with self._changed:
            self._dirty = True
            self._changed.notify_all()

    def _settle(self) -> None:
        """Waits until there is nothing left to load or retire."""
        with self._changed:
            self._wake()
            self._changed.wait_for(lambda: self._stopping or not self._dirty)
            if self._stopping:
                raise Unavailable("the engine is shutting down")

    def _run(self) -> None:
        try:
            self._loop()
        finally:  # of a fault too: nobody is to wait for a thread that is gone
            with self._changed:
                self._stopping = True
                self._changed.notify_all()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._dirty or self._stopping, timeout=self._pause_s())
                if self._stopping:
                    return
                stale = self._next_stale()
                wanted = self._wanted()
                action = None if stale else next_action(wanted, self._book.facts(self._clock()))
                if action is None and not stale:
                    self._publish()
                    self._dirty = False
                    self._changed.notify_all()
            if stale:
                self._replace(stale)
            elif action is None:
                self._poll()
            elif action.kind == "load":
                self._load(next(each for each in wanted if each.key == action.key))
            else:
                self._end(action)

    def _pause_s(self) -> float | None:
        """How long to sleep unwoken: until the next poll, or the end of a drain."""
        if self._book.draining():
            return 0.1
        repository = self._spec.repository
        return repository.poll_s if repository and repository.control == "poll" else None

    def _poll(self) -> None:
        repository = self._spec.repository
        if repository and repository.control == "poll":
            try:
                self.rescan()
            except (VireoError, OSError):
                log.exception("the repository could not be read; what is loaded stays")

    def _wanted(self) -> list[Artifact]:
        return wanted_artifacts(self._spec, self._found, self._selected)

    def _wanted_records(self, name: str) -> list[Record[Hosted]]:
        with self._changed:
            return self._book.of([each.key for each in self._wanted() if each.name == name])

    def _end(self, action: Action) -> None:
        with self._changed:
            record = self._book[action.key]
            if action.kind == "retire" and record.state is State.READY:  # `stop` may have been first
                self._retire(record)
            elif action.kind == "forget":
                self._forget(record)
        if action.kind == "unload":
            self._unload(record)

    def _load(self, artifact: Artifact) -> None:
        with self._changed:
            record = self._book.enter(artifact)
            record.move(State.LOADING)
            self._publish()
        try:
            hosted = self._load_warm(record)
        except Exception as error:
            self._load_failed(record, error)
            return
        with self._changed:
            late = self._stopping
            if not late:
                record.handle = Handle(artifact.name, artifact.version, hosted, self._wake)
                record.move(State.READY)
                self._publish()
        if late:
            self._close(hosted)
        else:
            log.info("model %s version %d is ready", artifact.name, artifact.version)

    def _next_stale(self) -> list[Record[Hosted]]:
        """Those to be loaded anew; what failed since it was asked for is tried again."""
        found = []
        for record in self._book.of(sorted(self._stale)):
            if record.state is State.FAILED:
                self._forget(record)
            elif record.state is State.READY and record.handle is not None and self._host.stale(record.handle.hosted):
                found.append(record)
        self._stale = {each.artifact.key for each in found}
        self._changed.notify_all()
        return found

    def _replace(self, records: Collection[Record[Hosted]]) -> None:
        """Loads them anew and publishes that in their place, at once; what served before drains. What fails is retired."""
        made = [(each, self._loaded_anew(each)) for each in records]
        late, before = [], []
        with self._changed:
            for record, hosted in made:
                if self._stopping or record.state is not State.READY:
                    late.append(hosted)
                elif hosted is None:
                    before.append(record)  # and is tried again, so that it is known why it fails
                else:
                    artifact = record.artifact
                    handle = Handle(artifact.name, artifact.version, hosted, self._wake)
                    before.append(self._book.replace(record, handle))
            self._retire(*before)
        for each in late:
            if each is not None:
                self._close(each)

    def _loaded_anew(self, record: Record[Hosted]) -> Hosted | None:
        try:
            before = None if record.handle is None else record.handle.hosted
            return self._load_warm(Record(record.key, record.artifact, record.order, State.LOADING), before)
        except Exception as error:
            log.warning("model %s could not be loaded anew: %s", record.artifact.name, error)
            return None

    def _load_warm(self, record: Record[Hosted], before: Hosted | None = None) -> Hosted:
        hosted = self._host.load(record.artifact)
        record.move(State.WARMING)
        try:
            self._host.warm(hosted, before)
        except BaseException:
            self._close(hosted)
            raise
        return hosted

    def _close(self, hosted: Hosted) -> None:
        try:
            self._host.close(hosted)
        except Exception:  # nothing can be done about it, and the thread must live
            log.exception("a model could not be closed")

    def _load_failed(self, record: Record[Hosted], error: Exception) -> None:
        known = error if isinstance(error, VireoError) else VireoError(f"{type(error).__name__}: {error}")
        text = known.message
        with self._changed:
            record.move(State.FAILED)
            record.reason = text
            self._publish()
        log.error("model %s version %d failed to load: %s", record.artifact.name, record.artifact.version, text)

    def _retire(self, *records: Record[Hosted]) -> None:
        for each in records:
            each.move(State.DRAINING)
            each.drain_until_ns = self._clock() + int(self._spec.server.drain_s * 1e9)
        self._publish()
        for each in records:
            assert each.handle is not None
            each.handle.retire()

    def _unload(self, record: Record[Hosted]) -> None:
        assert record.handle is not None
        self._close(record.handle.hosted)
        with self._changed:
            self._forget(record)
            self._wake()  # the same may be wanted again by now
        log.info("model %s version %d is unloaded", record.artifact.name, record.artifact.version)

    def _forget(self, record: Record[Hosted]) -> None:
        self._book.forget(record)
        self._publish()
        self._changed.notify_all()

    def _publish(self) -> None:
        declared = declared_names(self._spec)
        ensembles = {
            name: model.graph
            for name, model in self._found.items()
            if model.graph is not None and name in self._selected and name not in declared
        }
        self._registry.publish(replace(self._book.snapshot(declared, self._found), ensembles=ensembles))
