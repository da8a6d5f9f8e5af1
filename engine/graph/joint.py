"""Requests that came together go through a graph as one: their rows behind each other, one run for all of them. Pure.

Where the nodes count rows, a run of many requests costs little more than a run of one; what follows the run is told apart by
rows. Who fails, or is stood in for because somebody in the run failed, goes through the graph again alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from engine.graph.call import Values
from engine.graph.ledger import Entry
from engine.graph.plan import Plan
from engine.graph.port import NodePort
from engine.graph.rows import runs_by_rows
from engine.limits import BATCH_ROWS_MAX
from engine.request import Ledger, Request
from engine.scheduling.batcher import BatchBounds, join_inputs, joint_outputs
from engine.scheduling.job import Job


class JointJob(Job):
    """The job of one run for all of `members`, their rows in this order.

    `entries`: what the run wrote down of its nodes, `values`: what its slots held at the end.
    """

    __slots__ = ("entries", "members", "values")

    entries: Sequence[Entry | None]
    values: Values
    members: list[Job]


_PATIENCE = 2
"""Of those that go together none has more than so many times the time that the first has left: what is late for one would be
so for all."""


def joint_bounds(plan: Plan) -> BatchBounds | None:
    """How much may go through a plan as one run; None where that would not answer each row as it would be alone.

    For that all nodes count rows and so does what is inside them, a condition that skips a node says what its rows hold instead,
    and no answer is remembered by a key of the whole request.
    """
    fallbacks = [each for node in plan.nodes for each in (node.on_late, node.on_error) if each is not None]
    conditions = all(node.when is None or runs_by_rows(plan, node) for node in plan.nodes)
    remembered = any(each.cached is not None for each in fallbacks)
    if not plan.signature.batchable or plan.streams or not conditions or remembered:
        return None
    return least_bounds([each.port for each in plan.targets], plan.signature.rows_max)


def least_bounds(ports: Iterable[NodePort], rows_max: int | None) -> BatchBounds | None:
    """What all of them take as one job; None where some take nothing."""
    least = BatchBounds() if rows_max is None else BatchBounds(min(rows_max, BATCH_ROWS_MAX))
    for port in ports:
        own = port.joint
        if own is None:
            return None
        least = BatchBounds(min(least.rows_max, own.rows_max), min(least.bytes_max, own.bytes_max))
    return least


def take_joint(waiting: deque[Job], bounds: BatchBounds, now_ns: int) -> list[Job]:
    """Takes the first and those after it that fit: of its priority and shapes, in as much of a hurry, within bounds."""
    first = waiting.popleft()
    taken, rows, size = [first], first.rows, first.bytes_size
    priority, shape, left_ns = first.request.priority, first.shape, first.deadline_ns - now_ns
    while waiting:
        job = waiting[0]
        rows, size = rows + job.rows, size + job.bytes_size
        if rows > bounds.rows_max or size > bounds.bytes_max or job.request.priority != priority or job.shape != shape:
            break
        if (
            job.deadline_ns != first.deadline_ns
            and not left_ns <= _PATIENCE * (job.deadline_ns - now_ns) <= _PATIENCE**2 * left_ns
        ):
            break
        taken.append(waiting.popleft())
    return taken


def join(name: str, members: list[Job], done: Callable[[Job], None], now_ns: int) -> JointJob:
    """One job of all `members`, due with the first of them."""
    request = Request(name, join_inputs(members), 1, outputs=joint_outputs(members))
    request.priority, request.trace = members[0].request.priority, members[0].request.trace
    job = JointJob(request, sum(each.rows for each in members), Ledger(now_ns), done)
    job.members = members
    job.deadline_ns = min(each.deadline_ns for each in members)
    return job


def all_cancelled(jobs: Iterable[Job]) -> bool:
    """Whether nobody waits for any of them."""
    return all(each.cancelled for each in jobs)
