"""From an asyncio front into the engine and back. The one place where event loop and worker threads meet.

Every request that becomes ready in one turn of the loop is submitted before the engine is flushed once at its end, so
requests that arrive together are computed together, and short batches run right there without a thread hop.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator

from engine import Cancelled, DeadlineExceeded, Engine, Job, Request, Response, limits

_Landed = tuple["asyncio.Future[Job]", Job]


class Dispatch:
    """Submits requests for one event loop. Only that loop's thread may call it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.in_flight = 0
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._flush_due = False
        self._landed: deque[_Landed] = deque()
        self._landing_due = False

    async def infer(self, request: Request, *, enforce_deadline: bool = False) -> Response:
        """The response to `request`. Raises what it fails with.

        If the task is cancelled, the work is dropped. `enforce_deadline`: answer DeadlineExceeded at the deadline even
        while the model still runs, for transports that have no deadline of their own.
        """
        future: asyncio.Future[Job] = self._loop.create_future()
        job = self._submit(request, future)
        timer = self._timer(request, future) if enforce_deadline else None
        self.in_flight += 1
        try:
            await future
        except asyncio.CancelledError:
            job.cancel()
            raise
        except DeadlineExceeded:
            job.cancel()
            raise
        finally:
            self.in_flight -= 1
            if timer is not None:
                timer.cancel()
        if job.response is None:
            raise job.error or Cancelled("the request ended without an answer")
        return job.response

    def _submit(self, request: Request, future: asyncio.Future[Job]) -> Job:
        def done(job: Job) -> None:
            if threading.get_ident() == self._thread:
                _settle(future, job)
            else:
                self._land(future, job)

        job = self.engine.submit(request, done)
        self._flush_soon()
        return job

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        self.engine.flush()

    def _land(self, future: asyncio.Future[Job], job: Job) -> None:
        """Called on a worker's thread: one wake-up of the loop serves all that lands meanwhile."""
        self._landed.append((future, job))
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
            _settle(*self._landed.popleft())

    def _timer(self, request: Request, future: asyncio.Future[Job]) -> asyncio.TimerHandle | None:
        remaining_s = request.deadline.remaining_s(self.engine.clock())
        if remaining_s == float("inf"):
            return None
        return self._loop.call_later(remaining_s, _expire, future, request.model)

    async def stream(self, request: Request) -> AsyncIterator[Response]:
        """The responses of a servable that may give many; one for any other. Closing the iterator drops the work."""
        parts: asyncio.Queue[Response | Job] = asyncio.Queue()
        room = threading.BoundedSemaphore(limits.STREAM_PARTS_MAX)

        def part(response: Response) -> None:
            while not room.acquire(timeout=0.1):
                if job.cancelled:
                    return
            self._soon(parts.put_nowait, response)

        job = self.engine.submit(request, lambda ended: self._soon(parts.put_nowait, ended), part)
        self._flush_soon()
        self.in_flight += 1
        try:
            while not isinstance(item := await parts.get(), Job):
                room.release()
                yield item
        finally:
            self.in_flight -= 1
            job.cancel()
        if item.error is not None:
            raise item.error
        if item.response is not None and item.response.outputs:
            yield item.response

    async def drained(self, within_s: float) -> bool:
        """Waits until no request is in flight, at most `within_s`; whether that came."""
        end = self._loop.time() + within_s
        while self.in_flight:
            if self._loop.time() >= end:
                return False
            await asyncio.sleep(0.01)
        return True


def _settle(future: asyncio.Future[Job], job: Job) -> None:
    if not future.done():
        future.set_result(job)


def _expire(future: asyncio.Future[Job], model: str) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded(f"model '{model}': deadline passed while the request was being served"))
