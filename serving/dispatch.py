"""From an asyncio front into the engine and back. The one place where event loop and worker threads meet.

A request that arrives alone is computed at once. Those that arrive right behind it, in the same turn of the loop, are
submitted one after the other and computed together at the turn's end. Short batches run right there, on the loop's
thread; nothing waits for a timer.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Final

from engine import Cancelled, DeadlineExceeded, Engine, Job, Request, Response, streamed

Part = Callable[[Response], None]

_SAME_TURN_NS: Final = 50_000
"""Two submissions closer than this come from one turn of the loop: a client's round trip takes longer."""


class _Answer:
    """Hears of one request's end, and keeps no job: the job holds it. Only the loop's thread touches it, except to call it."""

    __slots__ = ("_dispatch", "ended", "future")

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self.ended = False
        self.future: asyncio.Future[None] | None = None

    def __call__(self, job: Job) -> None:
        """The engine's `done`: on whichever thread ended the job."""
        if threading.get_ident() == self._dispatch.thread:
            self.settle(job)
        else:
            self._dispatch.land(self.settle, job)

    def settle(self, job: Job) -> None:
        self.ended = True
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class Begun:
    """A request that no task waits for: what becomes of it is told to `settle`. Only the loop's thread touches it, except
    to call it.
    """

    __slots__ = ("_dispatch", "_over", "job")

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._over = False
        self.job: Job | None = None

    def __call__(self, job: Job) -> None:
        """The engine's `done`: on whichever thread ended the job."""
        dispatch = self._dispatch
        if threading.get_ident() != dispatch.thread:
            dispatch.land(self, job)
        elif not self._over:
            self._over = True
            self.job = None  # no cycle may keep the request's tensors until the garbage collector comes
            dispatch.in_flight -= 1
            self.settle(job)

    def follow(self, job: Job) -> None:
        """Remembers the job to cancel, unless it has ended."""
        if not self._over:
            self.job = job

    def settle(self, job: Job) -> None:
        """Called once, on the loop's thread, with the ended job, unless nobody waits any more."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Nobody waits any more: the work is dropped, and `settle` not called."""
        if not self._over:
            self._over = True
            self._dispatch.in_flight -= 1
            job, self.job = self.job, None
            if job is not None:
                job.cancel()


class Dispatch:
    """Submits requests for one event loop. Only that loop's thread may call it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.in_flight = 0
        self.thread = threading.get_ident()
        self._loop = asyncio.get_running_loop()
        self._flush_due = False
        self._flushed_ns = 0
        self._landed: deque[tuple[Callable[[Job], None], Job]] = deque()
        self._landing_due = False

    async def infer(
        self, request: Request, *, enforce_deadline: bool = False, gone: Callable[[], Awaitable[None]] | None = None
    ) -> Response:
        """The response to `request`. Raises what it fails with.

        If the task is cancelled, the work is dropped. For transports that have no deadline of their own and cancel no
        task: `enforce_deadline` answers DeadlineExceeded at the deadline even while the model still runs; `gone` returns
        when the caller has left, and is only called where the answer is not there at once.
        """
        answer = _Answer(self)
        job = self._submit(request, answer)
        if not answer.ended:
            await self._wait(answer, job, enforce_deadline, gone)
        if job.response is None:
            raise job.taken_error()
        return job.response

    def _submit(self, request: Request, done: Callable[[Job], None], part: Part | None = None) -> Job:
        if self._flush_due:
            return self.engine.submit(request, done, part)
        if self.engine.clock() - self._flushed_ns > _SAME_TURN_NS:
            job = self.engine.submit(request, done, part, at_once=True)
            self._flushed_ns = self.engine.clock()
            return job
        job = self.engine.submit(request, done, part)
        self._flush_due = True
        self._loop.call_soon(self._flush)
        return job

    def _flush(self) -> None:
        self._flush_due = False
        self.engine.flush()
        self._flushed_ns = self.engine.clock()

    async def _wait(
        self, answer: _Answer, job: Job, enforce_deadline: bool, gone: Callable[[], Awaitable[None]] | None
    ) -> None:
        answer.future = self._loop.create_future()
        timer = self._timer(job, answer.future) if enforce_deadline else None
        watcher = None if gone is None else self._loop.create_task(_watch(gone, answer.future, job.request.model))
        self.in_flight += 1
        try:
            await answer.future
        except (asyncio.CancelledError, Cancelled, DeadlineExceeded):
            job.cancel()
            raise
        finally:
            self.in_flight -= 1
            if timer is not None:
                timer.cancel()
            if watcher is not None:
                watcher.cancel()
            answer.future = watcher = None  # both hold the error that is raised here, which holds this frame

    def _timer(self, job: Job, future: asyncio.Future[None]) -> asyncio.TimerHandle | None:
        remaining_s = job.request.deadline.remaining_s(self.engine.clock())
        if remaining_s == float("inf"):
            return None
        return self._loop.call_later(remaining_s, _expire, future, job.request.model)

    def land(self, settle: Callable[[Job], None], job: Job) -> None:
        """Called on a worker's thread: one wake-up of the loop serves all that lands meanwhile."""
        self._landed.append((settle, job))
        if not self._landing_due:
            self._landing_due = True
            self._soon(self._deliver)

    def _soon(self, callback: object, *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)  # type: ignore[arg-type]
        except RuntimeError:  # the loop is closed: the front is gone, nobody waits
            self._landed.clear()

    def _deliver(self) -> None:
        self._landing_due = False
        while self._landed:
            settle, job = self._landed.popleft()
            settle(job)

    def begin(self, request: Request, begun: Begun, *, alone: bool, declared: str | None = None) -> None:
        """Submits `request`, whose end `begun` is told, perhaps before this returns.

        Unless it is `alone`, nothing is computed before `flush`. Raises what the request is refused with.
        `declared`: see `Engine.submit`.
        """
        self.in_flight += 1
        try:
            job = self.engine.submit(request, begun, at_once=alone, declared=declared)
        except BaseException:
            self.in_flight -= 1
            raise
        begun.follow(job)

    def flush(self) -> None:
        """Computes what `begin` has submitted: short batches here and now, the rest on the workers' threads."""
        self.engine.flush()

    async def stream(self, request: Request) -> AsyncIterator[Response]:
        """The responses of a servable that may give many; one for any other. Closing the iterator drops the work."""
        self.in_flight += 1
        try:
            async with aclosing(streamed(self._submit, request)) as responses:
                async for response in responses:
                    yield response
        finally:
            self.in_flight -= 1

    async def drained(self, within_s: float) -> bool:
        """Waits until no request is in flight, at most `within_s`; whether that came."""
        end = self._loop.time() + within_s
        while self.in_flight:
            if self._loop.time() >= end:
                return False
            await asyncio.sleep(0.01)
        return True


async def _watch(gone: Callable[[], Awaitable[None]], future: asyncio.Future[None], model: str) -> None:
    await gone()
    if not future.done():
        future.set_exception(Cancelled(f"model '{model}': the caller is gone"))


def _expire(future: asyncio.Future[None], model: str) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded(f"model '{model}': deadline passed while the request was being served"))
