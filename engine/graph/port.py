"""What a graph needs of whatever computes a node: in this process a scheduling.Worker, or the runner of another graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from engine.scheduling.batcher import BatchBounds
from engine.scheduling.job import Job
from engine.servables.signature import Signature


class NodePort(Protocol):
    """Methods may be called from any thread. `nested`: it is a graph: `run_at_once` may return before the job has ended."""

    @property
    def nested(self) -> bool:
        """See above."""

    @property
    def joint(self) -> BatchBounds | None:
        """How much of several requests may come as one job, of which each row is answered as it would be alone; None: nothing."""

    def submit(self, job: Job) -> None:
        """Takes a job in to wait, or raises the error it is shed with. It is not started before `flush`."""

    def run_at_once(self, job: Job) -> bool:
        """Computes `job` here and now where nobody waits and it is short; else False, nothing done."""

    def flush(self) -> None:
        """Computes what waits: here where that is short, else on other threads, without waiting for those."""

    def expected_ns(self, rows: int) -> int:
        """What a job of `rows` that came now would take from its submission to its answer; 0 before anything is known."""

    def keep_off_callers(self) -> None:
        """From now on everything is computed on threads of its own."""


@dataclass(frozen=True, slots=True)
class Target:
    """One loaded version of a servable, as a plan calls it."""

    name: str
    version: int
    signature: Signature
    streams: bool
    port: NodePort
    may_hang: bool = False
    """It runs code of the user, or calls another machine: where its time is bounded, no caller's thread may be in it."""
