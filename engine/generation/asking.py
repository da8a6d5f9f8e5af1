"""Language models that hold nothing but names, and their requests to servables of the same engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from engine.errors import Internal
from engine.generation.call import GenerationCall
from engine.generation.language_model import ModelCard
from engine.request import Request, Response
from engine.scheduling.job import Job
from engine.servables.servable import Tensors


class Submit(Protocol):
    """`Engine.submit`, for a request behind which no other follows."""

    def __call__(
        self,
        request: Request,
        done: Callable[[Job], None],
        part: Callable[[Response], None] | None = None,
        *,
        at_once: bool,
    ) -> Job:
        """See there."""


class AskingModel:
    """What a `LanguageModel` has that holds nothing: what it calls is looked up with each call. For one event loop."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._created_s = int(time.time())

    def cards(self) -> Sequence[ModelCard]:
        """Its name."""
        return [ModelCard(self._name, self._created_s)]

    def problem(self) -> str | None:
        """None: what it calls may fail, but that is told by each call."""
        return None

    async def aclose(self) -> None:
        """It holds nothing."""


def request_of(call: GenerationCall, servable: str, inputs: Tensors, outputs: tuple[str, ...] = ()) -> Request:
    """What `servable` is asked for `call`: within its deadline, of its class, in its trace."""
    return Request(
        servable, inputs, id=call.id, outputs=outputs, deadline=call.deadline, priority=call.priority, trace=call.trace
    )


async def asked(submit: Submit, request: Request) -> Response:
    """The response. Cancelling drops the request. Raises what the servable does."""
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
        error, job.error = job.error, None  # raised, it holds this frame, which holds the job
        raise error
    if job.response is None:
        raise Internal(f"model {request.model}: it ended without an answer")
    return job.response


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():  # else nobody waits any more
        ended.set_result(None)
