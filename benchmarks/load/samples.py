"""What happened to each request: when it was due, left, was answered, and how it ended. Instants are monotonic ns."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.load.statuses import OK, UNANSWERED

Instants = NDArray[np.int64]


class Recorder:
    """Lists that a loop fills while it runs, indexed by tag; one thread only."""

    __slots__ = ("done_ns", "due_ns", "sent_ns", "status")

    def __init__(self, due_ns: list[int]) -> None:
        self.due_ns = due_ns
        self.sent_ns = due_ns.copy()
        self.done_ns = [0] * len(due_ns)
        self.status = [UNANSWERED] * len(due_ns)

    def add(self, now_ns: int) -> int:
        """One more request, due and sent now (closed loop); its tag."""
        self.due_ns.append(now_ns)
        self.sent_ns.append(now_ns)
        self.done_ns.append(0)
        self.status.append(UNANSWERED)
        return len(self.due_ns) - 1

    def seal(self, now_ns: int) -> "Samples":
        """The samples; what is still unanswered counts as ended `now_ns`."""
        status = np.array(self.status, np.int16)
        done = np.array(self.done_ns, np.int64)
        done[status == UNANSWERED] = now_ns
        return Samples(np.array(self.due_ns, np.int64), np.array(self.sent_ns, np.int64), done, status)


@dataclass(frozen=True, slots=True)
class Samples:
    """One row for each request, in the order they were due."""

    due_ns: Instants
    sent_ns: Instants
    done_ns: Instants
    status: NDArray[np.int16]

    def between(self, begin_ns: int, end_ns: int) -> "Samples":
        """The requests that were due in [begin_ns, end_ns)."""
        kept = (self.due_ns >= begin_ns) & (self.due_ns < end_ns)
        return Samples(self.due_ns[kept], self.sent_ns[kept], self.done_ns[kept], self.status[kept])

    @property
    def latency_ns(self) -> Instants:
        """From the instant it was due to its answer, for requests that ended OK."""
        latency: Instants = (self.done_ns - self.due_ns)[self.status == OK]
        return latency

    @property
    def lateness_ns(self) -> Instants:
        """How long after its due instant each request left; all requests."""
        return self.sent_ns - self.due_ns

    def save(self, path: Path) -> None:
        """Write all columns to an .npz file."""
        np.savez(path, due_ns=self.due_ns, sent_ns=self.sent_ns, done_ns=self.done_ns, status=self.status)


def load_samples(path: Path) -> Samples:
    """Read what `Samples.save` wrote."""
    with np.load(path) as columns:
        return Samples(columns["due_ns"], columns["sent_ns"], columns["done_ns"], columns["status"])
