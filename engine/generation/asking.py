"""A request to a servable of the same engine, from the event loop of language models."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from engine.errors import Internal
from engine.request import Request, Response
from engine.scheduling.job import Job


class Submit(Protocol):
    """`Engine.submit`, for a request behind which no other follows."""

    def __call__(self, request: Request, done: Callable[[Job], None], *, at_once: bool) -> Job:
        """See there."""


async def asked(submit: Submit, request: Request) -> Response:
    """The answer. Cancelling drops the request. Raises what the servable does."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def done(_: Job) -> None:
        loop.call_soon_threadsafe(_settle, ended)

    job = submit(request, done, at_once=True)
    try:
        await ended
    except asyncio.CancelledError:
        job.cancel()
        raise
    if job.error is not None:
        raise job.error
    if job.response is None:
        raise Internal(f"model {request.model}: it ended without an answer")
    return job.response


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():  # else nobody waits any more
        ended.set_result(None)
