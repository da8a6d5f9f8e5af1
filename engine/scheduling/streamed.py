"""The responses of one request, as they come, for an event loop: who takes them slowly holds the servable back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from engine.limits import STREAM_PARTS_MAX
from engine.request import Request, Response
from engine.scheduling.job import Job

Submit = Callable[[Request, Callable[[Job], None], Callable[[Response], None]], Job]
"""Lets a request wait for its servable: it, what to tell its end, what to give each response but the last."""


class _Landing:
    """Where the servable's threads leave what the loop takes."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._items: asyncio.Queue[Response | Job] = asyncio.Queue()
        self._room = threading.BoundedSemaphore(STREAM_PARTS_MAX)
        self._left = threading.Event()

    def part(self, response: Response) -> None:
        """One of several; waits for room."""
        while not self._room.acquire(timeout=0.1):
            if self._left.is_set():
                return
        self.end(response)

    def end(self, item: Response | Job) -> None:
        """What takes no room."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._put, item)

    def _put(self, item: Response | Job) -> None:
        if not self._left.is_set():
            self._items.put_nowait(item)

    async def taken(self) -> Response | Job:
        """The next."""
        item = await self._items.get()
        if not isinstance(item, Job):
            self._room.release()
        return item

    def leave(self) -> None:
        """Nothing more is taken, and nothing kept: a job holds this, which must not hold the job."""
        self._left.set()
        while not self._items.empty():
            self._items.get_nowait()


async def streamed(submit: Submit, request: Request) -> AsyncGenerator[Response, None]:
    """The responses of a servable that may give many; one of any other. Closing it drops the work. Raises what the request is
    refused with, or fails with."""
    landing = _Landing()
    job = submit(request, landing.end, landing.part)
    try:
        while not isinstance(item := await landing.taken(), Job):
            yield item
    finally:
        landing.leave()
        job.cancel()
    if item.response is None:
        raise item.taken_error()
    if item.response.outputs:
        yield item.response
