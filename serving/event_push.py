"""Pushes from an event loop into logs: on threads, so that many become durable together; bounded, so that memory is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from engine import InvalidArgument, ResourceExhausted, Unavailable, limits, quoted, token_of
from serving.dispatch import Dispatch

if TYPE_CHECKING:
    import pyarrow as pa

    from engine import Appended, FeatureView

Decode = Callable[["pa.Schema"], "pa.RecordBatch | None"]
"""Reads what came as a batch for a log of this schema; None where there are no rows."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Pushed:
    """Where the events lie, None where there were none; and the views that did not show them in time."""

    appended: Appended | None
    pending: tuple[str, ...] = ()

    @property
    def token(self) -> str:
        """For reads that are to show the events; empty where there were none."""
        return "" if self.appended is None else token_of(self.appended.offsets)


def spans(appended: Appended | None) -> list[dict[str, int]]:
    """Where a batch lies, as callers are told: a span for each partition."""
    if appended is None:
        return []
    parts = (appended, *appended.more)
    return [{"partition": each.partition, "first": each.first, "next": each.next} for each in parts]


class Pushes:
    """Appends for one event loop. Only that loop's thread may call it."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._store = dispatch.engine.features
        self._appending = ThreadPoolExecutor(limits.PUSH_THREADS_MAX, "vireo-push")
        self._waiting = ThreadPoolExecutor(limits.PUSH_THREADS_MAX, "vireo-push-wait")
        self._open = 0

    async def push(self, log: str, decode: Decode, wait_for: Sequence[str] = (), wait_s: float | None = None) -> Pushed:
        """Appends what `decode` reads, all or nothing; returns when it is durable, and shown by the views in `wait_for` or
        `wait_s` have passed.

        Raises NotFound, InvalidArgument, TooLarge, ResourceExhausted, Unavailable; nothing was acknowledged then.
        """
        if self._open >= limits.PUSHES_MAX:
            raise ResourceExhausted(f"{self._open} pushes wait already, at most {limits.PUSHES_MAX} may")
        self._open += 1
        self._dispatch.in_flight += 1
        try:
            return await self._push(log, decode, wait_for, wait_s)
        finally:
            self._open -= 1
            self._dispatch.in_flight -= 1

    async def _push(self, log: str, decode: Decode, wait_for: Sequence[str], wait_s: float | None) -> Pushed:
        schema = self._store.schema(log)
        views = self._views(log, wait_for)
        patience_s = min(limits.PUSH_WAIT_S_DEFAULT if wait_s is None else wait_s, limits.PUSH_WAIT_S_MAX)
        appended = await _run(self._appending, lambda: self._append(log, decode(schema)))
        if appended is None or not views:
            return Pushed(appended)
        pending = await _run(self._waiting, lambda: _pending(views, appended, patience_s))
        return Pushed(appended, pending)

    def _views(self, log: str, names: Sequence[str]) -> dict[str, FeatureView | None]:
        """By name; None for one that does not answer yet."""
        views: dict[str, FeatureView | None] = {}
        for name in dict.fromkeys(names):
            try:
                views[name] = view = self._store.view(name)
            except Unavailable:
                views[name] = None
                continue
            if view.view.source != log:
                source = quoted(view.view.source)
                raise InvalidArgument(
                    f"view {quoted(name)} is folded from log {source}, and never shows what {quoted(log)} gets"
                )
        return views

    def _append(self, log: str, batch: pa.RecordBatch | None) -> Appended | None:
        return None if batch is None or batch.num_rows == 0 else self._store.push(log, batch)

    def close(self) -> None:
        """Takes no more; what is being appended still is."""
        self._appending.shutdown(wait=False, cancel_futures=True)
        self._waiting.shutdown(wait=False, cancel_futures=True)


def _pending(views: dict[str, FeatureView | None], appended: Appended, patience_s: float) -> tuple[str, ...]:
    end = time.monotonic() + patience_s
    return tuple(
        name
        for name, view in views.items()
        if view is None or not view.wait(appended, max(0.0, end - time.monotonic()))
    )


async def _run(pool: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
    try:
        return await asyncio.get_running_loop().run_in_executor(pool, work)
    except RuntimeError as error:
        if "shutdown" not in str(error):
            raise
        raise Unavailable("the server is shutting down") from error
