"""Whether a request may wait for a worker. Pure: facts in, a verdict out.

A request is shed when the queue is full, or when it is not expected to be answered before its deadline: refusing at once
costs the caller less than an answer nobody can use (Dean & Barroso, "The Tail at Scale", 2013).
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.clock import NEVER_NS
from engine.errors import Cancelled, DeadlineExceeded, ResourceExhausted, VireoError
from engine.limits import BATCH_CLASS_QUEUE_SHARE, ESTIMATE_TRUST
from engine.request import INTERACTIVE
from engine.scheduling.job import Job
from engine.scheduling.queue import QueueBounds

_IDLE_MARGIN = 2
"""Where nobody waits, a request is tried though its estimate is up to so many times what remains: the estimate may be stale
(a model that was slow while its core was taken), nothing else is delayed by trying, and only trying puts it right. Past that
it is hopeless even if the estimate is somewhat off."""


@dataclass(slots=True)  # not frozen: that costs four times as much to make, once a request with a deadline
class Load:
    """What a worker is busy with as one more job sees it. Never changed once made.

    `requests` and `bytes_size` wait, `batch_requests` and `batch_bytes_size` of them in the batch class. `wait_ns`: until what
    goes before the job will be done; `end_ns`: until the job would be answered. `idle_ns`: since a batch was started.
    """

    requests: int
    bytes_size: int
    wait_ns: int
    end_ns: int = 0
    batch_requests: int = 0
    batch_bytes_size: int = 0
    idle_ns: int = 0


def refusal(job: Job, load: Load, bounds: QueueBounds, now_ns: int) -> VireoError | None:
    """The error with which to shed `job`, or None to admit it."""
    if is_dead(job, now_ns):
        return dead(job, now_ns)
    full = _full(load.requests, load.bytes_size, job, bounds.requests_max, bounds.bytes_max)
    if full is None and job.request.priority != INTERACTIVE:
        requests_max = max(1, int(bounds.requests_max * BATCH_CLASS_QUEUE_SHARE))
        bytes_max = int(bounds.bytes_max * BATCH_CLASS_QUEUE_SHARE)
        full = _full(load.batch_requests, load.batch_bytes_size, job, requests_max, bytes_max, " of the batch class")
    if full is None and is_hopeless(job, load, now_ns):
        full = (
            f"the deadline cannot be met, {(job.deadline_ns - now_ns) / 1e6:.1f} ms remain and {load.wait_ns / 1e6:.1f} ms of "
            f"work wait; its answer is expected in {load.end_ns / 1e6:.1f} ms"
        )
    if full is None:
        return None
    return ResourceExhausted(f"model '{job.request.model}': {full}", retry_after_s=load.wait_ns / 1e9)


def _full(requests: int, size: int, job: Job, requests_max: int, bytes_max: int, of: str = "") -> str | None:
    """Which bound `job` would pass; it may always be the only one."""
    if requests >= requests_max:
        return f"queue is full, {requests} requests{of} wait, at most {requests_max} may"
    if requests and size + job.bytes_size > bytes_max:
        return f"queue is full, {size} bytes{of} wait, at most {bytes_max} may"
    return None


def is_hopeless(job: Job, load: Load, now_ns: int) -> bool:
    """Whether `job` is not expected to be answered before its deadline, so surely that it is better not to try."""
    remaining_ns = job.deadline_ns - now_ns
    if load.end_ns < remaining_ns or job.deadline_ns == NEVER_NS:
        return False
    if load.requests:
        return True
    return load.end_ns > _IDLE_MARGIN * remaining_ns and load.idle_ns < ESTIMATE_TRUST * load.end_ns


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


def too_late(job: Job, now_ns: int) -> VireoError:
    """The error of a job whose turn has come when too little of its time remains to compute it."""
    remaining_ms = (job.deadline_ns - now_ns) / 1e6
    return ResourceExhausted(
        f"model '{job.request.model}': the deadline cannot be met, {remaining_ms:.1f} ms remained when its turn came; not "
        "computed"
    )
