"""Passages for a question, found by a servable of the same engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.errors import Internal
from engine.generation.call import GenerationCall
from engine.generation.grounding.passage import Passage, PassageTensors, passages_of
from engine.request import Request, Response
from engine.scheduling.job import Job
from engine.tensor import BYTES, Tensor


class Submit(Protocol):
    """`Engine.submit`, for a request behind which no other follows."""

    def __call__(self, request: Request, done: Callable[[Job], None], *, at_once: bool) -> Job:
        """See there."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one request found, and the version of what found it."""

    passages: list[Passage]
    version: int


class Retrieval:
    """Asks `name`, whose input `question` is BYTES [1]. For one event loop."""

    def __init__(self, submit: Submit, name: str, question: str, tensors: PassageTensors) -> None:
        self.name = name
        self._submit, self._question, self._tensors = submit, question, tensors

    async def find(self, question: str, call: GenerationCall) -> Found:
        """Within the call's deadline and class. Cancelling drops the request. Raises what the servable does."""
        text = np.empty(1, object)
        text[0] = question.encode()
        request = Request(
            self.name, {self._question: Tensor(BYTES, text)}, id=call.id, outputs=self._tensors.names,
            deadline=call.deadline, priority=call.priority, trace=call.trace,
        )  # fmt: skip
        response = await self._asked(request)
        return Found(passages_of(response.outputs, self._tensors), response.version)

    async def _asked(self, request: Request) -> Response:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def done(_: Job) -> None:
            loop.call_soon_threadsafe(_settle, ended)

        job = self._submit(request, done, at_once=True)
        try:
            await ended
        except asyncio.CancelledError:
            job.cancel()
            raise
        if job.error is not None:
            raise job.error
        if job.response is None:
            raise Internal(f"retrieval {self.name}: it ended without an answer")
        return job.response


def _settle(ended: asyncio.Future[None]) -> None:
    if not ended.done():  # else nobody waits any more
        ended.set_result(None)
