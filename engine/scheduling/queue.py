"""A bounded queue of two classes, in each the earliest deadline first. Pure: no clock, no lock; its owner guards it.

Interactive jobs go first, but while both classes wait, batch jobs get a reserved share of the rows that are taken: for every
interactive row the batch class is owed its share of it, and its next job goes as soon as it is paid for, as in deficit round
robin (Shreedhar & Varghese, 1995). So neither class starves, whatever comes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from engine.limits import BATCH_CLASS_SHARE, QUEUE_BYTES_MAX, QUEUE_REQUESTS_MAX
from engine.request import INTERACTIVE
from engine.scheduling.job import Job

_Entries = list[tuple[int, int, Job]]

_ROW: Final = 1_000_000
"""Shares are reckoned in millionths of a row: whole numbers, so that what is owed is exact however long a queue lives."""


@dataclass(frozen=True, slots=True)
class QueueBounds:
    """How much may wait at once, and the share of batch jobs in the rows taken while interactive ones wait too, 0 to 1."""

    requests_max: int = QUEUE_REQUESTS_MAX
    bytes_max: int = QUEUE_BYTES_MAX
    batch_share: float = BATCH_CLASS_SHARE


class Queue:
    """Jobs by class, then by deadline, then by arrival; counts what waits: all of it, and of the batch class."""

    def __init__(self, batch_share: float = BATCH_CLASS_SHARE) -> None:
        self._interactive: _Entries = []
        self._batch: _Entries = []
        self._share = round(batch_share * _ROW)
        self._owed = 0
        self._arrivals = 0
        self.requests = self.rows = self.bytes_size = 0
        self.batch_rows = self.batch_bytes_size = 0

    def __len__(self) -> int:
        return self.requests

    @property
    def batch_requests(self) -> int:
        """How many jobs of the batch class wait."""
        return len(self._batch)

    @property
    def has_interactive(self) -> bool:
        """Whether a job waits that somebody waits for."""
        return bool(self._interactive)

    def push(self, job: Job) -> None:
        """Takes in a job; bounds are admission's business."""
        self._arrivals += 1
        if job.request.priority == INTERACTIVE:
            heapq.heappush(self._interactive, (job.deadline_ns, self._arrivals, job))
        else:
            heapq.heappush(self._batch, (job.deadline_ns, self._arrivals, job))
            self.batch_rows += job.rows
            self.batch_bytes_size += job.bytes_size
        self.requests += 1
        self.rows += job.rows
        self.bytes_size += job.bytes_size

    def pop(self) -> Job:
        """The job whose turn it is: of the class whose turn it is, the one whose deadline comes first."""
        job = heapq.heappop(self._interactive)[2] if not self._batch else self._pop_of_either()
        self.requests -= 1
        self.rows -= job.rows
        self.bytes_size -= job.bytes_size
        return job

    def head(self) -> Job:
        """The job `pop` would give."""
        return self._turn()[0][2] if self._batch else self._interactive[0][2]

    def _turn(self) -> _Entries:
        """The class whose turn it is; batch jobs wait."""
        paid = self._owed >= (_ROW - self._share) * self._batch[0][2].rows
        return self._batch if paid or not self._interactive else self._interactive

    def _pop_of_either(self) -> Job:
        both, turn = bool(self._interactive), self._turn()
        job = heapq.heappop(turn)[2]
        if turn is self._interactive:
            self._owed += self._share * job.rows
            return job
        if both:
            self._owed -= (_ROW - self._share) * job.rows
        self._batch_left([job])
        return job

    def _batch_left(self, gone: list[Job]) -> None:
        self.batch_rows -= sum([each.rows for each in gone])
        self.batch_bytes_size -= sum([each.bytes_size for each in gone])
        if not self._batch:
            self._owed = 0  # a class that has nothing to do saves nothing up

    def ahead(self, priority: int) -> tuple[int, int]:
        """(requests, rows) that go before a job of the class that comes now, taken for the last of its class.

        All of its class, and of the other what goes beside them by the share of the batch class.
        """
        share, batch, hurried = self._share, self.batch_rows, self.rows - self.batch_rows
        if priority == INTERACTIVE:
            if not batch or share == _ROW:
                return self.requests, self.rows
            beside = min(batch, (hurried * share + self._owed) // (_ROW - share))
            return len(self._interactive) + len(self._batch) * beside // batch, hurried + beside
        if not hurried or not share:
            return self.requests, self.rows
        beside = min(hurried, -(-((batch + 1) * (_ROW - share) - self._owed) // share))
        return len(self._batch) + len(self._interactive) * beside // hurried, batch + beside

    def expire(self, at_ns: int) -> list[Job]:
        """Takes out the jobs whose deadline is not after `at_ns`; they are charged to nobody's share."""
        gone: list[Job] = []
        if not self._batch and (not self._interactive or self._interactive[0][0] > at_ns):
            return gone
        for entries in (self._interactive, self._batch):
            while entries and entries[0][0] <= at_ns:
                gone.append(heapq.heappop(entries)[2])
        if gone:
            self._batch_left([each for each in gone if each.request.priority != INTERACTIVE])
            self._left(gone)
        return gone

    def remove(self, unwanted: Callable[[Job], bool]) -> list[Job]:
        """Takes out every job that is `unwanted`, in no particular order."""
        self._interactive, gone = _parted(self._interactive, unwanted)
        self._batch, gone_batch = _parted(self._batch, unwanted)
        self._batch_left(gone_batch)
        gone += gone_batch
        self._left(gone)
        return gone

    def _left(self, gone: list[Job]) -> None:
        self.requests -= len(gone)
        self.rows -= sum([each.rows for each in gone])
        self.bytes_size -= sum([each.bytes_size for each in gone])


def _parted(entries: _Entries, unwanted: Callable[[Job], bool]) -> tuple[_Entries, list[Job]]:
    """(what stays, who goes) of a heap; each is asked once: the answer may change meanwhile."""
    kept: _Entries = []
    gone: list[Job] = []
    for entry in entries:
        if unwanted(entry[2]):
            gone.append(entry[2])
        else:
            kept.append(entry)
    if gone:
        heapq.heapify(kept)
    return kept, gone
