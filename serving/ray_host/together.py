"""Requests that came in one call: submitted in one turn, answered when the last has ended. Knows no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from engine import Cancelled, Job, Request, VireoError
from serving.dispatch import Begun, Dispatch
from serving.ray_host.hop import Message, error_message, response_message


class _One(Begun):
    """One request of them."""

    __slots__ = ("_told",)

    def __init__(self, dispatch: Dispatch, told: Callable[[Message], None]) -> None:
        super().__init__(dispatch)
        self._told = told

    def settle(self, job: Job) -> None:
        if job.response is not None:
            self._told(response_message(job.response))
        else:
            self._told(error_message(job.error or Cancelled("the request ended without an answer")))


class Together:
    """One such call. For the loop's thread."""

    def __init__(self, dispatch: Dispatch, declared: str) -> None:
        """`declared`: see `Engine.submit`."""
        self._dispatch, self._declared = dispatch, declared
        self._found: dict[int, Message] = {}
        self._left = 0
        self._over: asyncio.Future[None] | None = None

    async def answers(self, requests: Sequence[Request]) -> tuple[Message, ...]:
        """Of each its response or its error, in their order."""
        self._left = len(requests)
        begun = [_One(self._dispatch, partial(self._end, at)) for at in range(len(requests))]
        for at, request in enumerate(requests):
            try:
                self._dispatch.begin(request, begun[at], alone=len(requests) == 1, declared=self._declared)
            except VireoError as error:
                self._end(at, error_message(error))
        if len(requests) > 1:
            self._dispatch.flush()
        if self._left:
            self._over = asyncio.get_running_loop().create_future()
            try:
                await self._over
            except asyncio.CancelledError:
                for each in begun:
                    each.cancel()
                raise
        return tuple([self._found[at] for at in range(len(requests))])

    def _end(self, at: int, message: Message) -> None:
        self._found[at] = message
        self._left -= 1
        if not self._left and self._over is not None and not self._over.done():
            self._over.set_result(None)
