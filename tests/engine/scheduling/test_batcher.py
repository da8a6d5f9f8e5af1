"""Which jobs run together, and that being together changes no answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import BATCH, BYTES, INTERACTIVE, Internal, Ledger, Request, Tensor
from engine.scheduling.batcher import BatchBounds, join_inputs, joint_outputs, split_outputs, take_batch
from engine.scheduling.job import Job
from engine.scheduling.queue import Queue
from tests.fakes import FP32, ignore, job, tensor


def _queue(*jobs: Job) -> Queue:
    queue = Queue()
    for each in jobs:
        queue.push(each)
    return queue


def _with_inputs(inputs: dict[str, Tensor], rows: int) -> Job:
    return Job(Request("fake", inputs), rows, Ledger(0), ignore)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3), st.sampled_from([1, 2])), min_size=1, max_size=20),
    st.integers(1, 12),
    st.integers(4, 80),
)
def test_batches_keep_bounds_and_order_and_lose_nobody(
    made: list[tuple[int, int, int]], rows_max: int, bytes_max: int
) -> None:
    jobs = []
    for rows, at_ns, width in made:
        request_job = _with_inputs({"x": Tensor(FP32, np.zeros((rows, width), np.float32))}, rows)
        request_job.deadline_ns = at_ns
        jobs.append(request_job)
    queue, bounds, taken = _queue(*jobs), BatchBounds(rows_max, bytes_max), list[Job]()
    while queue:
        batch = take_batch(queue, bounds, batchable=True)
        assert len({each.shape for each in batch}) == 1
        if len(batch) > 1:
            assert sum(each.rows for each in batch) <= rows_max
            assert sum(each.bytes_size for each in batch) <= bytes_max
        if queue and queue.head().shape == batch[0].shape:  # it stopped for a reason
            head = queue.head()
            assert (
                sum(each.rows for each in batch) + head.rows > rows_max
                or sum(each.bytes_size for each in batch) + head.bytes_size > bytes_max
            )
        taken += batch
    assert taken == sorted(jobs, key=lambda each: each.deadline_ns)


@pytest.mark.parametrize(
    ("hurried", "together"), [(1, 1), (2, 3), (5, 7), (7, 7), (8, 15), (12, 15), (16, 20), (20, 20)]
)
def test_batch_jobs_fill_up_interactive_ones_only_as_far_as_that_costs_them_no_time(
    hurried: int, together: int
) -> None:
    queue = Queue(batch_share=0)
    for each in [BATCH] * 40 + [INTERACTIVE] * hurried:
        queue.push(job(1.0, priority=each))
    batch = take_batch(queue, BatchBounds(rows_max=20), batchable=True)
    assert [each.request.priority for each in batch] == [INTERACTIVE] * hurried + [BATCH] * (together - hurried)


def test_a_batch_of_the_batch_class_alone_is_as_large_as_any() -> None:
    queue = _queue(*(job(1.0, priority=BATCH) for _ in range(30)))
    assert len(take_batch(queue, BatchBounds(rows_max=20), batchable=True)) == 20


def test_reserved_share_rides_along_with_interactive_jobs() -> None:
    queue = _queue(*(job(1.0, priority=each) for each in [BATCH] * 40 + [INTERACTIVE] * 40))
    batch = take_batch(queue, BatchBounds(rows_max=20), batchable=True)
    assert [each.request.priority for each in batch] == ([INTERACTIVE] * 9 + [BATCH]) * 2


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([INTERACTIVE, BATCH]), st.integers(1, 9)), min_size=1, max_size=40),
    st.integers(1, 30),
)
def test_no_interactive_job_waits_longer_for_what_fills_its_batch(made: list[tuple[int, int]], rows_max: int) -> None:
    queue = _queue(*(job(*range(rows), priority=priority) for priority, rows in made))
    while queue:
        batch = take_batch(queue, BatchBounds(rows_max), batchable=True)
        assert len(batch) == 1 or sum(each.rows for each in batch) <= rows_max
        last_hurried = max((i for i, each in enumerate(batch) if each.request.priority == INTERACTIVE), default=None)
        if last_hurried is not None and not queue.has_interactive:
            rows = sum(each.rows for each in batch[: last_hurried + 1])
            filled = sum(each.rows for each in batch)
            assert rows.bit_length() == filled.bit_length()


def test_a_request_over_the_bounds_runs_alone() -> None:
    big, small = job(*range(10)), job(1.0)
    queue = _queue(big, small)
    assert take_batch(queue, BatchBounds(rows_max=4), batchable=True) == [big]
    assert take_batch(queue, BatchBounds(rows_max=4), batchable=True) == [small]


def test_nothing_runs_together_where_rows_are_not_independent() -> None:
    queue = _queue(job(1.0), job(2.0))
    assert len(take_batch(queue, BatchBounds(), batchable=False)) == 1


@pytest.mark.parametrize("first_streams", [True, False])
def test_a_job_that_takes_parts_runs_alone(first_streams: bool) -> None:
    part, whole = job(1.0, part=lambda _: None), job(2.0)
    queue = _queue(*((part, whole) if first_streams else (whole, part)))
    assert len(take_batch(queue, BatchBounds(), batchable=True)) == 1


def test_jobs_with_other_inputs_or_row_shapes_do_not_run_together() -> None:
    wide = _with_inputs({"x": Tensor(FP32, np.zeros((1, 2), np.float32))}, 1)
    other = _with_inputs({"z": tensor(1.0)}, 1)
    queue = _queue(job(1.0), wide, other, job(2.0), job(3.0))
    sizes = []
    while queue:
        sizes.append(len(take_batch(queue, BatchBounds(), batchable=True)))
    assert sizes == [1, 1, 1, 2]


def test_a_lone_job_goes_in_and_comes_out_uncopied() -> None:
    lone = job(1.0, 2.0)
    assert join_inputs([lone])["x"] is lone.request.inputs["x"]
    outputs = {"y": tensor(5.0, 6.0)}
    assert split_outputs([lone], outputs)[0]["y"] is outputs["y"]


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=5), min_size=1, max_size=6))
def test_joining_and_splitting_agrees_with_each_job_computed_alone(rows: list[list[float]]) -> None:
    batch = [job(*each) for each in rows]
    joined = join_inputs(batch)
    parts = split_outputs(batch, {"y": Tensor(FP32, joined["x"].array * 3)})
    for each, part in zip(batch, parts, strict=True):
        assert part["y"].array.tobytes() == (each.request.inputs["x"].array * 3).tobytes()
        assert part["y"].array.flags.c_contiguous


def test_strings_are_joined_and_split_as_they_are() -> None:
    made = [Tensor.from_values("x", BYTES, [len(each)], each) for each in (["a", "bb"], ["", "dddd", "e"])]
    batch = [_with_inputs({"x": each}, each.shape[0]) for each in made]
    parts = split_outputs(batch, join_inputs(batch))
    assert [part["x"].array.tolist() for part in parts] == [[b"a", b"bb"], [b"", b"dddd", b"e"]]


def test_each_job_gets_the_outputs_it_asked_for_in_its_order() -> None:
    batch = [job(1.0, outputs=("b", "a")), job(2.0), job(3.0, outputs=("a",))]
    outputs = {name: tensor(*values) for name, values in {"a": (1, 2, 3), "b": (4, 5, 6), "c": (7, 8, 9)}.items()}
    parts = split_outputs(batch, outputs)
    assert [list(part) for part in parts] == [["b", "a"], ["a", "b", "c"], ["a"]]
    assert [float(part["a"].array[0, 0]) for part in parts] == [1, 2, 3]


def test_outputs_wanted_alike_are_all_that_is_computed_else_everything() -> None:
    assert joint_outputs([job(1.0, outputs=("a",)), job(2.0, outputs=("a",))]) == ("a",)
    assert joint_outputs([job(1.0, outputs=("a",)), job(2.0, outputs=("b",))]) == ()
    assert joint_outputs([job(1.0, outputs=("a",)), job(2.0)]) == ()


@pytest.mark.parametrize("shape", [(), (2,), (4, 1), (1, 3)])
def test_outputs_whose_rows_do_not_add_up_are_an_internal_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(Internal, match="output 'y' of a batch of 3 rows has shape"):
        split_outputs([job(1.0), job(2.0, 3.0)], {"y": Tensor(FP32, np.zeros(shape, np.float32))})
