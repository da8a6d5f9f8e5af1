"""Work on vector collections that would hold the event loop: searches that take long, writes that wait for the disk."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from engine import AnyCollection, Deadline, DeadlineExceeded, Query, ResourceExhausted, ShardedCollection, limits
from serving.dispatch import Dispatch

T = TypeVar("T")

_READERS: Final = 4
"""Long searches at once: they compute, and there are no more cores for them."""
_RETRY_S: Final = 0.05


class VectorsWork:
    """For one event loop, whose thread alone may call it."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._clock = dispatch.engine.clock
        self._reading = ThreadPoolExecutor(_READERS, "vireo-search")
        self._writing = ThreadPoolExecutor(limits.VECTOR_WRITE_THREADS_MAX, "vireo-upsert")
        self._waiting = 0

    async def read(self, deadline: Deadline, work: Callable[[], T]) -> T:
        """Off the loop. Raises DeadlineExceeded at the deadline, when what was not begun is never done; ResourceExhausted where
        too many wait."""
        waits = self._dispatch.engine.vectors.is_elsewhere  # it computes nothing, and waits for shards
        return await self._run(self._writing if waits else self._reading, deadline, work)

    async def wait(self, deadline: Deadline, work: Callable[[], T]) -> T:
        """Likewise, for a read that waits: for a write to be shown."""
        return await self._run(self._writing, deadline, work)

    async def write(self, deadline: Deadline, work: Callable[[], T]) -> T:
        """Likewise; several that wait for the disk share one sync. A write that has begun is finished, whoever waits for it."""
        return await self._run(self._writing, deadline, work)

    async def _run(self, pool: ThreadPoolExecutor, deadline: Deadline, work: Callable[[], T]) -> T:
        if self._waiting >= limits.VECTOR_CALLS_MAX:
            raise ResourceExhausted(
                f"{self._waiting} calls wait already, at most {limits.VECTOR_CALLS_MAX} may", retry_after_s=_RETRY_S
            )
        self._waiting += 1
        self._dispatch.in_flight += 1
        try:
            async with asyncio.timeout(self.patience_s(deadline)):
                return await asyncio.get_running_loop().run_in_executor(pool, self.in_time, deadline, work)
        except TimeoutError as error:
            raise DeadlineExceeded("the deadline passed while the call was being served") from error
        finally:
            self._waiting -= 1
            self._dispatch.in_flight -= 1

    def patience_s(self, deadline: Deadline) -> float | None:
        """How long the call may still take; None where nothing says."""
        remaining_s = deadline.remaining_s(self._clock())
        return None if remaining_s == math.inf else remaining_s

    def in_time(self, deadline: Deadline, work: Callable[[], T]) -> T:
        """Done here and now, by any thread. Raises DeadlineExceeded where it is too late."""
        if deadline.expired(self._clock()):
            raise DeadlineExceeded("the deadline passed before the call was begun")
        return work()

    def close(self) -> None:
        """Waits for what was begun."""
        self._reading.shutdown()
        self._writing.shutdown()


def is_short(collection: AnyCollection, query: Query) -> bool:
    """Whether a search takes some 0.2 ms, so that handing it to a thread would cost more than it holds the loop."""
    return (
        not isinstance(collection, ShardedCollection)
        and len(query.legs) <= 2
        and query.k + query.offset <= limits.SEARCH_INLINE_HITS_MAX
        and query.group_by is None
        and query.rerank is None
        and query.diversity is None
        and not query.params.exact
        and collection.view.count <= limits.SEARCH_INLINE_POINTS_MAX
    )
