"""Whether a request may wait for a worker. Pure: facts in, a verdict out.

A request is shed when the queue is full, or when the work ahead of it makes its deadline hopeless: refusing at once
costs the caller less than an answer nobody can use (Dean & Barroso, "The Tail at Scale", 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import Cancelled, DeadlineExceeded, ResourceExhausted, VireoError
from engine.scheduling.job import Job
from engine.scheduling.queue import QueueBounds


@dataclass(frozen=True, slots=True)
class Load:
    """What waits at a worker, and how long it is expected to take to be done with it."""

    requests: int
    bytes_size: int
    wait_ns: int


NO_LOAD = Load(0, 0, 0)


def refusal(job: Job, load: Load, bounds: QueueBounds, now_ns: int) -> VireoError | None:
    """The error with which to shed `job`, or None to admit it."""
    if is_dead(job, now_ns):
        return dead(job, now_ns)
    if load is NO_LOAD:
        return None
    retry_after_s = load.wait_ns / 1e9
    if load.requests >= bounds.requests_max:
        return ResourceExhausted(
            f"model '{job.request.model}': queue is full, {load.requests} requests wait, at most {bounds.requests_max} may",
            retry_after_s=retry_after_s,
        )
    if load.requests and load.bytes_size + job.bytes_size > bounds.bytes_max:
        return ResourceExhausted(
            f"model '{job.request.model}': queue is full, {load.bytes_size} bytes wait, at most {bounds.bytes_max} may",
            retry_after_s=retry_after_s,
        )
    if load.requests and now_ns + load.wait_ns >= job.deadline_ns:
        remaining_ms = (job.deadline_ns - now_ns) / 1e6
        return ResourceExhausted(
            f"model '{job.request.model}': the deadline cannot be met, {remaining_ms:.1f} ms remain and "
            f"{load.wait_ns / 1e6:.1f} ms of work wait",
            retry_after_s=retry_after_s,
        )
    return None


def is_dead(job: Job, now_ns: int) -> bool:
    """Whether `job` is not worth computing any more: its caller is gone or its deadline has passed."""
    return job.cancelled or job.deadline_ns <= now_ns


def dead(job: Job, now_ns: int) -> VireoError | None:
    """The error of a job that is not worth computing any more, or None while it is."""
    if job.cancelled:
        return Cancelled(f"model '{job.request.model}': the caller is gone; not computed")
    if job.deadline_ns <= now_ns:
        late_ms = (now_ns - job.deadline_ns) / 1e6
        return DeadlineExceeded(f"model '{job.request.model}': deadline passed {late_ms:.1f} ms ago; not computed")
    return None
