"""Many threads against one worker: every job ends exactly once, rightly, whatever happens when."""

from __future__ import annotations

import random
import threading
from collections import Counter
from dataclasses import dataclass, field

import pytest

from engine import (
    BATCH,
    INTERACTIVE,
    Cancelled,
    Deadline,
    DeadlineExceeded,
    InvalidArgument,
    Job,
    ModelStatistics,
    ResourceExhausted,
    Unavailable,
    VireoError,
    monotonic,
)
from engine.scheduling.batcher import BatchBounds
from engine.scheduling.queue import QueueBounds
from engine.scheduling.worker import Worker, WorkerOptions
from tests.fakes import Endings, RecordingServable, answer, job

JOBS_EACH = 150
CALLERS = 4


@dataclass
class Tally:
    """What one caller did."""

    admitted: list[Job] = field(default_factory=list)
    cancelled: list[Job] = field(default_factory=list)
    shed: int = 0


def _bad(value: float) -> bool:
    return value % 17 == 13


def _servable() -> RecordingServable:
    def before(values: list[float]) -> None:
        if any(map(_bad, values)):
            raise InvalidArgument("bad value")

    return RecordingServable(before=before)


def _call(worker: Worker, endings: Endings, rng: random.Random, tally: Tally) -> None:
    for _ in range(JOBS_EACH):
        values = [float(rng.randrange(1000)) for _ in range(rng.randint(1, 4))]
        now_ns = monotonic()
        at_ns = rng.choice([None, None, now_ns + rng.randrange(1, 3_000_000)])
        priority = rng.choice([INTERACTIVE, INTERACTIVE, BATCH])
        each = job(*values, done=endings, at_ns=at_ns, received_ns=now_ns, priority=priority)
        try:
            worker.submit(each)
            tally.admitted.append(each)
        except VireoError:
            tally.shed += 1
        if tally.admitted and rng.random() < 0.1:
            victim = rng.choice(tally.admitted[-5:])
            victim.cancel()
            tally.cancelled.append(victim)
        if rng.random() < 0.6:
            worker.flush()
    worker.flush()


def _check(ended: Job) -> None:
    values = [float(each) for each in ended.request.inputs["x"].array[:, 0]]
    if ended.error is None:
        assert answer(ended) == [2 * each for each in values]
        assert not any(map(_bad, values))
    elif isinstance(ended.error, InvalidArgument):
        assert any(map(_bad, values)), "a request was refused for a neighbour's value"
    elif isinstance(ended.error, Cancelled):
        assert ended.cancelled
    elif isinstance(ended.error, DeadlineExceeded):
        assert ended.request.deadline.expired(monotonic())
    elif isinstance(ended.error, ResourceExhausted):
        assert ended.request.deadline is not Deadline.NEVER
        assert "when its turn came" in ended.error.message
    else:
        assert isinstance(ended.error, Unavailable)


@pytest.mark.parametrize("inline_us_max", [0, 1_000_000], ids=["threads", "inline"])
@pytest.mark.parametrize("instances", [1, 2])
@pytest.mark.parametrize("closing", [False, True], ids=["open", "closing"])
@pytest.mark.parametrize("seed", range(3))
def test_every_job_ends_exactly_once_and_rightly(seed: int, closing: bool, instances: int, inline_us_max: int) -> None:
    print(f"seed {seed}")
    servable, statistics, endings = _servable(), ModelStatistics(), Endings()
    options = WorkerOptions(BatchBounds(rows_max=7), QueueBounds(64), instances, inline_us_max=inline_us_max)
    worker = Worker("fake", 1, servable, options, monotonic, statistics)
    tallies = [Tally() for _ in range(CALLERS)]
    callers = [
        threading.Thread(target=_call, args=(worker, endings, random.Random(f"{seed}/{index}"), tally), daemon=True)
        for index, tally in enumerate(tallies)
    ]
    for each in callers:
        each.start()
    if closing:
        endings.wait(50)
        worker.close()
    for each in callers:
        each.join(30)
        assert not each.is_alive()
    admitted = [each for tally in tallies for each in tally.admitted]
    endings.wait(len(admitted))
    worker.close()

    assert Counter(map(id, endings.jobs)) == Counter(map(id, admitted))
    for ended in endings.jobs:
        _check(ended)
    assert servable.inside_max <= instances
    assert all(len(each) <= 7 for each in servable.calls)
    assert worker.waiting == 0
    ended_counts = statistics.success.count + statistics.fail.count + statistics.dropped
    assert ended_counts == len(admitted)
