"""The logs and feature views of one engine. Nothing of Arrow is loaded before a spec declares one.

Logs are opened when a spec is applied; views are opened and closed one at a time by whoever decides what is served, so that a
changed view catches up beside its predecessor. A log that a view still reads stays open until that view is closed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.clock import Clock, monotonic, wall_us
from engine.errors import FailedPrecondition, ModelLoadError, NotFound, Unavailable, VireoError, nearest, quoted
from engine.features.declaration import FeatureViewSpec
from engine.features.lookup import FeatureView, ViewStatistics
from engine.limits import FEATURE_RESTORE_S_MAX, FEATURE_SWAP_S_MAX
from engine.log.declaration import LogSpec
from engine.log.log import Appended, Log

if TYPE_CHECKING:
    import pyarrow as pa

    from engine.features.sharded_view import Ask, ShardedView
    from engine.spec import Spec

__all__ = ["FeatureStore", "FeatureView", "ViewStatistics"]

log = logging.getLogger("vireo.features")

_WAIT_S = 0.1
"""How often a wait for a view looks whether the engine is being closed."""


@dataclass(slots=True)
class OpenLog:
    """A log that is open. `views`: how many read it; `wanted`: whether the spec still names it."""

    name: str
    spec: LogSpec
    place: str
    log: Log
    views: int = 0
    wanted: bool = True

    def current(self) -> Log:
        """The log, another one after it was opened anew."""
        return self.log


class FeatureStore:
    """See the module. Methods may be called from any thread; `apply` and `close` by one at a time."""

    def __init__(
        self, *, clock: Clock = monotonic, wall_us: Callable[[], int] = wall_us, ask: Ask | None = None
    ) -> None:
        """`ask`: answers lookups of views whose state is in shards; without it there are none."""
        self._clock, self._wall_us, self._ask = clock, wall_us, ask
        self._lock = threading.RLock()
        self._logs: dict[str, OpenLog] = {}
        self._left: list[OpenLog] = []
        self._declared: tuple[str, ...] = ()
        self._open: list[FeatureView] = []
        self._views: dict[str, FeatureView] = {}
        """The newest of each name that is open."""
        self._sharded_open: list[ShardedView] = []
        self._sharded: dict[str, ShardedView] = {}
        """As `_views`."""
        self._failed: dict[str, str] = {}
        self._path: Callable[[str], Path] = Path
        self._closing = False

    # Questions.

    @property
    def logs(self) -> tuple[str, ...]:
        """Names of the logs, as declared."""
        return tuple(self._logs)

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the feature views, as declared."""
        return self._declared

    def schema(self, log: str) -> pa.Schema:
        """Of every batch that the log takes. Raises NotFound."""
        return self._named(log).log.schema

    def shown(self, name: str) -> FeatureView | ShardedView:
        """The view that answers lookups here, wherever its state is. Raises as `view`."""
        return self._sharded.get(name) or self.view(name)

    def view(self, name: str) -> FeatureView:
        """The view that answers, with its state. Raises NotFound, Unavailable while it is still restoring, or why it cannot be
        restored; FailedPrecondition where its state is in shards elsewhere."""
        if name in self._sharded:
            raise FailedPrecondition(
                f"feature view {quoted(name)} is in shards, whose replicas are not equally far; give a push's token to the read"
            )
        found = self._views.get(name)
        if found is None:
            if name in self._declared:
                if name in self._failed:
                    raise FailedPrecondition(self._failed[name])
                raise Unavailable(f"feature view {quoted(name)} is not there yet, or not served", retry_after_s=1.0)
            raise NotFound(f"no feature view {quoted(name)}{nearest(name, self._declared)}")
        found.check_ready()
        return found

    def opened(self, name: str) -> FeatureView | None:
        """The view of that name, ready or not."""
        return self._views.get(name)

    def problem(self, name: str) -> str | None:
        """Why a view that is open does not answer; None where it does, or is not there."""
        found = self._views.get(name)
        return None if found is None else found.problem

    def warmed(self, name: str) -> None:
        """What the view `name` has answered so far, if it is one, was made up to warm it: nobody was served."""
        found = self._views.get(name)
        if found is not None:
            found.forget_sampled()

    def problems(self) -> dict[str, str]:
        """`problem` of every view that is open and does not answer."""
        return {name: problem for name in self._declared if (problem := self.problem(name))}

    # Events.

    def push(self, log: str, batch: pa.RecordBatch) -> Appended:
        """Appends a batch, and returns when it is as safe as the log's durability says. See `Log.append` for what it raises."""
        if self._closing:
            raise Unavailable("the engine is shutting down")
        return self.record(log, batch)

    def record(self, log: str, batch: pa.RecordBatch) -> Appended:
        """As `push`, and also while the engine is shutting down: for what requests leave that were admitted before."""
        while True:
            opened = self._named(log)
            current = opened.log
            try:
                return current.append(batch)
            except Unavailable:
                if self._named(log).log is current:
                    raise  # else it was opened anew meanwhile, and took nothing

    def _named(self, name: str) -> OpenLog:
        found = self._logs.get(name)
        if found is None:
            raise NotFound(f"no log {quoted(name)}{nearest(name, self._logs)}")
        return found

    # The wish.

    def apply(self, spec: Spec) -> None:
        """Opens the logs that `spec` declares and lets go of others once nothing reads them. Where one cannot be opened
        everything stays as it was, and what it failed with is raised."""
        with self._lock:
            opened: dict[str, OpenLog] = {}
            try:
                for name, declared in spec.logs.items():
                    opened[name] = self._opened(name, declared, spec)
            except BaseException:
                self._close_logs([each for each in opened.values() if each not in self._logs.values()])
                raise
            gone = [each for each in self._logs.values() if each not in opened.values()]
            self._logs, self._declared, self._path = opened, tuple(spec.feature_views), spec.path
            for each in gone:
                each.wanted = False
            self._left += gone
            self._close_unread()

    def _opened(self, name: str, spec: LogSpec, whole: Spec) -> OpenLog:
        from engine.features.opening import open_log, place_of

        known, place = self._logs.get(name), place_of(spec, whole)
        if known is None or known.place != place:
            return OpenLog(name, spec, place, open_log(name, spec, whole))
        if known.spec != spec:
            self._open_anew(known, spec, whole)
        return known

    def _open_anew(self, known: OpenLog, spec: LogSpec, whole: Spec) -> None:
        """The same place, declared otherwise: it can be open once only. Views go on with the new one where they were."""
        from engine.features.opening import open_log

        known.log.close()
        try:
            known.log = open_log(known.name, spec, whole)
        except BaseException:
            known.log = open_log(known.name, known.spec, whole)
            raise
        known.spec = spec

    def _close_unread(self) -> None:
        with self._lock:
            closing = [each for each in self._left if not each.views]
            self._left = [each for each in self._left if each.views]
        self._close_logs(closing)

    def _close_logs(self, logs: list[OpenLog]) -> None:
        for each in logs:
            try:
                each.log.close()
            except (VireoError, OSError):
                log.exception("log %s could not be closed", each.name)

    # Views, one at a time.

    def open_view(self, name: str, spec: FeatureViewSpec) -> FeatureView:
        """Begins to restore and follow a view, and returns when it has caught up.

        A new view is returned after FEATURE_RESTORE_S_MAX whether it has or not; it answers as unavailable until then. One that
        takes another's place is waited for longer and then given up, and its predecessor stays. Raises ModelLoadError.
        """
        try:
            view = self._begun(name, spec)
            replaces = name in self._views and self._views[name].ready
            self._await(view, FEATURE_SWAP_S_MAX if replaces else FEATURE_RESTORE_S_MAX, replaces)
        except VireoError as error:
            self._failed[name] = error.message
            raise ModelLoadError(error.message) from error
        with self._lock:
            self._failed.pop(name, None)
            self._show([*self._open, view])
        return view

    def _begun(self, name: str, spec: FeatureViewSpec) -> FeatureView:
        from engine.features.opening import open_view

        with self._lock:
            source = self._named(spec.source)
            source.views += 1
        try:
            return open_view(
                name, spec, source, self._path, clock=self._clock, wall_us=self._wall_us,
                closed=lambda closed: self._forget(closed, source),
            )  # fmt: skip
        except BaseException:
            self._read_no_more(source)
            raise

    def _show(self, views: list[FeatureView]) -> None:
        self._open, self._views = views, {each.name: each for each in views}

    def _await(self, view: FeatureView, timeout_s: float, replaces: bool) -> None:
        until_ns = self._clock() + int(timeout_s * 1e9)
        while not view.await_ready(_WAIT_S):
            if view.failure is not None or self._closing or (replaces and self._clock() >= until_ns):
                why = view.failure.message if view.failure else view.problem
                view.close()
                stays = "; the one that serves stays" if replaces else ""
                raise FailedPrecondition(f"{why}{stays}")
            if self._clock() >= until_ns:
                log.warning("%s; it is served once it has caught up", view.problem)
                return

    def _forget(self, view: FeatureView, source: OpenLog) -> None:
        with self._lock:
            self._show([each for each in self._open if each is not view])
        self._read_no_more(source)

    def _read_no_more(self, source: OpenLog) -> None:
        with self._lock:
            source.views -= 1
        self._close_unread()

    # Views whose state is in shards elsewhere.

    def show_sharded(self, name: str, spec: FeatureViewSpec) -> tuple[ShardedView, int]:
        """The view `name`, which from now on answers under its name, and how many partitions its log has. Raises what its log
        does, FailedPrecondition where its entities cannot be a tensor."""
        from engine.features.compilation import compile_view
        from engine.features.sharded_view import ShardedView

        assert self._ask is not None
        log = self._named(spec.source).log
        view = compile_view(name, spec, log.schema)
        shown = ShardedView(view, log.schema.field(view.entity).type, self._ask)
        partitions = len(log.latest())
        with self._lock:
            self._show_of_shards([*self._sharded_open, shown])
        return shown, partitions

    def show_no_more(self, view: ShardedView) -> None:
        """Lets go of it; one that it was to replace, and that is still there, answers again."""
        with self._lock:
            self._show_of_shards([each for each in self._sharded_open if each is not view])

    def _show_of_shards(self, views: list[ShardedView]) -> None:
        self._sharded_open, self._sharded = views, {each.name: each for each in views}

    # The end.

    def stop_waiting(self) -> None:
        """Ends waits for views that are restoring, and takes no more events."""
        self._closing = True

    def close(self) -> None:
        """Closes what views are left, and every log."""
        self._closing = True
        for view in self._open:
            view.close()
        with self._lock:
            logs, self._logs, self._left = [*self._logs.values(), *self._left], {}, []
        self._close_logs(logs)
