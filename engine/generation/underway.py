"""One call that is under way: counted, bounded in time, and ended exactly once, whoever ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from engine.clock import Clock, Deadline
from engine.errors import Cancelled, DeadlineExceeded, quoted
from engine.generation.call import Chunks, GenerationAnswer
from engine.generation.statistics import GenerationStatistics


class Underway:
    """For the event loop's thread. `release` is called at its end."""

    __slots__ = ("_clock", "_counted", "_deadline", "_first_ns", "_model", "_over", "_received_ns", "_release")

    def __init__(
        self, model: str, deadline: Deadline, clock: Clock, counted: GenerationStatistics, release: Callable[[], None]
    ) -> None:
        self._model, self._deadline, self._clock, self._counted, self._release = (
            model,
            deadline,
            clock,
            counted,
            release,
        )
        self._received_ns = clock()
        self._first_ns = 0
        self._over = False
        counted.under_way += 1

    def timeout(self) -> asyncio.Timeout:
        """Ends, with TimeoutError, at the deadline."""
        remaining_s = self._deadline.remaining_s(self._clock())
        return asyncio.timeout(None if remaining_s == float("inf") else remaining_s)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """What is raised within it ends the call. TimeoutError becomes DeadlineExceeded."""
        try:
            yield
        except StopAsyncIteration:
            raise
        except TimeoutError as error:
            self.end("DeadlineExceeded")
            raise DeadlineExceeded(
                f"language model {quoted(self._model)}: deadline passed while the call was being served"
            ) from error
        except BaseException as error:
            gone = isinstance(error, asyncio.CancelledError | Cancelled)
            self.end("cancelled" if gone else type(error).__name__)
            raise

    def begun(self) -> None:
        """The first bytes of the answer are there."""
        self._first_ns = self._first_ns or self._clock()

    def end(self, outcome: str) -> None:
        """It is over; what comes after its end says nothing."""
        if self._over:
            return
        self._over = True
        counted = self._counted
        counted.under_way -= 1
        counted.outcomes[outcome] += 1
        if outcome == "ok":
            now_ns = self._clock()
            counted.first.observe((self._first_ns or now_ns) - self._received_ns)
            counted.total.observe(now_ns - self._received_ns)
        self._release()


class BoundedChunks(AsyncIterator[bytes]):
    """The chunks of an answer, until they end, the deadline passes, or it is closed; each of these ends the call."""

    def __init__(self, chunks: Chunks, call: Underway) -> None:
        self._chunks, self._call = chunks, call

    async def __anext__(self) -> bytes:
        """Raises DeadlineExceeded, and what the model raises."""
        try:
            with self._call.ending():
                async with self._call.timeout():
                    chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._call.end("ok")
            raise
        except BaseException:
            await self._chunks.aclose()
            raise
        self._call.begun()
        return chunk

    async def aclose(self) -> None:
        """See `Chunks`."""
        try:
            await self._chunks.aclose()
        finally:
            self._call.end("cancelled")


def bounded(answer: GenerationAnswer, call: Underway) -> GenerationAnswer:
    """`answer`, which ends `call` with its own end."""
    if isinstance(answer.body, bytes):
        call.begun()
        call.end("ok" if answer.status < 400 else "refused")
        return answer
    return replace(answer, body=BoundedChunks(answer.body, call))
