"""A bounded queue, the earliest deadline first. Pure: no clock, no lock; its owner guards it."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

from engine.limits import QUEUE_BYTES_MAX, QUEUE_REQUESTS_MAX
from engine.scheduling.job import Job


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """How much may wait at once."""

    requests_max: int = QUEUE_REQUESTS_MAX
    bytes_max: int = QUEUE_BYTES_MAX


class Queue:
    """Jobs ordered by deadline, then by arrival; counts what waits."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Job]] = []
        self._arrivals = 0
        self.rows = 0
        self.bytes_size = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, job: Job) -> None:
        """Takes in a job; bounds are admission's business."""
        self._arrivals += 1
        heapq.heappush(self._heap, (job.deadline_ns, self._arrivals, job))
        self.rows += job.rows
        self.bytes_size += job.bytes_size

    def pop(self) -> Job:
        """The job whose deadline comes first."""
        job = heapq.heappop(self._heap)[2]
        self.rows -= job.rows
        self.bytes_size -= job.bytes_size
        return job

    def head(self) -> Job:
        """The job `pop` would give."""
        return self._heap[0][2]

    def remove(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Takes out every job that is `unwanted`, in no particular order."""
        kept: list[tuple[int, int, Job]] = []
        gone: list[Job] = []
        for entry in self._heap:  # asked once each: the answer may change meanwhile
            if unwanted(entry[2]):
                gone.append(entry[2])
            else:
                kept.append(entry)
        if gone:
            heapq.heapify(kept)
            self._heap = kept
            self.rows -= sum(each.rows for each in gone)
            self.bytes_size -= sum(each.bytes_size for each in gone)
        return gone
