"""Which waiting requests run together, how they become one, and how the answer is taken apart. Pure; no timer.

A batch forms because requests waited while the worker was busy. An idle worker takes what is there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.errors import Internal
from engine.limits import BATCH_BYTES_MAX, BATCH_ROWS_MAX
from engine.request import INTERACTIVE
from engine.scheduling.estimate import bucket_rows
from engine.scheduling.job import Job
from engine.scheduling.queue import Queue
from engine.servables.servable import Tensors
from engine.tensor import Tensor


@dataclass(frozen=True, slots=True)
class BatchBounds:
    """How much may run together; a single request may exceed either and then runs alone."""

    rows_max: int = BATCH_ROWS_MAX
    bytes_max: int = BATCH_BYTES_MAX


def take_batch(queue: Queue, bounds: BatchBounds, batchable: bool) -> list[Job]:
    """Takes the job whose turn it is and those next in line that fit beside it: same inputs, same row shapes, within bounds.

    Interactive jobs are filled up with jobs of the batch class, whose turn it is not, only as far as nobody waits longer for
    it: while no interactive job is left, and up to the last row of which the estimate says that it takes as long.
    """
    first = queue.pop()
    batch = [first]
    if not batchable or not queue.requests or first.part:
        return batch
    shape, rows, size, layout = first.shape, first.rows, first.bytes_size, first.request.layout
    rows_max, hurried = bounds.rows_max, first.request.priority == INTERACTIVE
    while queue.requests:
        job = queue.head()
        if job.request.priority == INTERACTIVE:
            hurried = True
        elif hurried and not queue.has_interactive:
            rows_max = min(bounds.rows_max, bucket_rows(rows))
        rows, size = rows + job.rows, size + job.bytes_size
        if rows > rows_max or size > bounds.bytes_max or job.part:
            break
        if (layout is None or job.request.layout is not layout) and job.shape != shape:
            break
        batch.append(queue.pop())
    return batch


def join_inputs(batch: Sequence[Job]) -> Tensors:
    """The inputs of all jobs, one after the other along dimension 0; a lone job's own tensors, not copied."""
    first = batch[0].request.inputs
    if len(batch) == 1:
        return first
    return {
        name: Tensor(tensor.datatype, np.concatenate([job.request.inputs[name].array for job in batch]))
        for name, tensor in first.items()
    }


def joint_outputs(batch: Sequence[Job]) -> tuple[str, ...]:
    """The outputs to compute: those all jobs asked for alike, else all (empty)."""
    wanted = batch[0].request.outputs
    return wanted if all(job.request.outputs == wanted for job in batch) else ()


def split_outputs(batch: Sequence[Job], outputs: Tensors) -> list[Tensors]:
    """Each job's own rows as views, in the order and choice it asked for. Internal where the rows do not add up."""
    if len(batch) == 1:
        return [_chosen(batch[0], outputs)]
    rows = sum(job.rows for job in batch)
    for name, tensor in outputs.items():
        if tensor.array.shape[:1] != (rows,):
            raise Internal(f"output '{name}' of a batch of {rows} rows has shape {list(tensor.shape)}")
    parts: list[Tensors] = []
    start = 0
    for job in batch:
        stop = start + job.rows
        parts.append(
            {name: Tensor(each.datatype, each.array[start:stop]) for name, each in _chosen(job, outputs).items()}
        )
        start = stop
    return parts


def _chosen(job: Job, outputs: Tensors) -> Tensors:
    names = job.request.outputs
    return {name: outputs[name] for name in names} if names else outputs
