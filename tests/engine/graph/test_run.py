"""Runs of plans: random graphs against a plain evaluation, deadlines on a manual clock, failures and what stands in."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest

from engine import Cancelled, DeadlineExceeded, Internal, Job
from tests.engine.graph.circuits import Circuit, Drawn, build, draw, expected
from tests.fakes import Endings

GRAPHS = 1_000


def answer(job: Job) -> list[float]:
    """The graph's output."""
    assert job.response is not None, job.error
    return [float(each) for each in job.response.outputs["y"].array]


def go(circuit: Circuit, job: Job, *, at_once: bool) -> None:
    """As the engine submits."""
    if at_once:
        circuit.runner.run_at_once(job)
    else:
        circuit.runner.submit(job)
    circuit.flush()


@pytest.mark.parametrize("threads", [False, True], ids=["inline", "threads"])
def test_random_graphs_answer_what_a_plain_evaluation_does(threads: bool) -> None:
    rng = random.Random(5)
    for number in range(GRAPHS // 10 if threads else GRAPHS):
        drawn = draw(rng, bounds=True)
        for each in drawn:
            each.timeout_ns = each.on_late = None
        circuit = build(drawn, lambda *_: None, inline=lambda _: not threads or rng.random() < 0.5)
        endings = Endings()
        jobs = [circuit.job([rng.uniform(-9, 9) for _ in range(rng.randint(1, 3))], done=endings) for _ in range(3)]
        for job in jobs:
            go(circuit, job, at_once=rng.random() < 0.5)
        endings.wait(len(jobs))
        for job in jobs:
            values = [float(each) for each in job.request.inputs["x"].array]
            assert answer(job) == pytest.approx(expected(drawn, values)), f"graph {number} of seed 5"
        circuit.close()


def test_requests_that_go_together_are_answered_as_if_each_went_alone() -> None:
    rng = random.Random(9)
    for number in range(GRAPHS):
        drawn = draw(rng, bounds=True)
        for each in drawn:
            each.timeout_ns = each.on_late = None
        instead = {each.name: each.on_error for each in drawn if each.on_error is not None}

        def fail(name: str, _: int) -> None:
            if name in instead:  # noqa: B023
                raise RuntimeError("no")

        failing = rng.random() < 0.3
        circuit = build(drawn, fail if failing else lambda *_: None, inline=lambda _: True)
        endings = Endings()
        jobs = [circuit.job([rng.uniform(-9, 9) for _ in range(rng.randint(1, 3))], done=endings) for _ in range(5)]
        for job in jobs:
            circuit.runner.submit(job)
        circuit.flush()
        assert len(endings.jobs) == 5
        for job in jobs:
            values = [float(each) for each in job.request.inputs["x"].array]
            told = f"graph {number} of seed 9"
            assert answer(job) == pytest.approx(expected(drawn, values, instead if failing else None)), told
        circuit.close()


@pytest.mark.parametrize("at_once", [False, True])
def test_no_node_starts_after_the_deadline(at_once: bool) -> None:
    rng = random.Random(6)
    late = 0
    for number in range(GRAPHS):
        drawn = draw(rng, bounds=True)
        circuit: Circuit

        def pass_time(*_: object) -> None:
            circuit.clock.advance(rng.choice((0.0, 0.001, 0.003, 0.02)))  # noqa: B023  called within this round

        circuit = build(drawn, pass_time, inline=lambda _: True)
        endings = Endings()
        deadline_ns = circuit.clock() + rng.randint(1, 30) * 1_000_000
        job = circuit.job([rng.uniform(-9, 9)], deadline_ns=deadline_ns, done=endings)
        go(circuit, job, at_once=at_once)
        assert len(endings.jobs) == 1, f"graph {number} of seed 6"
        assert all(at_ns < deadline_ns for _, at_ns in circuit.started), f"graph {number} of seed 6"
        if job.error is not None:
            assert isinstance(job.error, DeadlineExceeded), job.error
            late += 1
        circuit.close()
    assert GRAPHS / 20 < late < GRAPHS * 19 / 20


def test_cancelled_request_starts_nothing_more() -> None:
    rng = random.Random(7)
    for _ in range(200):
        drawn = draw(rng)
        circuit: Circuit
        job: Job
        at = rng.randrange(len(drawn))

        def leave(name: str, _: int) -> None:
            if name == f"n{at}":  # noqa: B023
                job.cancel()  # noqa: B023

        circuit = build(drawn, leave, inline=lambda _: True)
        endings = Endings()
        job = circuit.job([1.0], done=endings)
        go(circuit, job, at_once=True)
        assert len(endings.jobs) == 1
        assert isinstance(job.error, Cancelled) or len(circuit.started) == len(drawn)
        assert circuit.started[-1][0] == f"n{at}"
        circuit.close()


def chain(count: int) -> list[Drawn]:
    """Nodes one after the other."""
    return [Drawn(f"n{index}", (index,), 1.0) for index in range(count)]


def test_failed_node_fails_its_request_alone_and_is_named() -> None:
    def fail_on_two(name: str, rows: int) -> None:
        if name == "n1" and rows > 1:
            raise RuntimeError("two rows are too many")

    circuit = build(chain(3), fail_on_two, inline=lambda _: True)
    endings = Endings()
    good, bad = circuit.job([1.0], done=endings), circuit.job([1.0, 2.0], done=endings)
    for job in (bad, good):
        circuit.runner.submit(job)
    circuit.flush()
    assert answer(good) == [4.0]
    assert isinstance(bad.error, Internal)
    assert bad.error.message.startswith("graph 'graph', node 'n1': model 'n1' version 1: RuntimeError: two rows")
    circuit.close()


def test_default_stands_in_for_a_failed_node_and_is_marked() -> None:
    drawn = chain(3)
    drawn[1].on_error = 50.0

    def fail(name: str, _: int) -> None:
        if name == "n1":
            raise RuntimeError("no")

    circuit = build(drawn, fail, inline=lambda _: True)
    job = circuit.job([1.0, 2.0])
    go(circuit, job, at_once=True)
    assert answer(job) == [51.0, 51.0]
    assert job.response is not None
    assert job.response.marks == ("n1: failed: default",)
    circuit.close()


def test_node_that_hangs_is_stood_in_for_when_its_time_is_up() -> None:
    drawn = chain(3)
    drawn[1].on_late, drawn[1].timeout_ns = 50.0, 1_000_000
    hung, let_go = threading.Event(), threading.Event()

    def hang(name: str, _: int) -> None:
        if name == "n1":
            hung.set()
            let_go.wait(20)

    circuit = build(drawn, hang, inline=lambda index: index != 1)
    endings = Endings()
    job = circuit.job([1.0], done=endings)
    go(circuit, job, at_once=True)
    assert hung.wait(20)
    circuit.clock.advance(0.002)
    circuit.alarm.at(0, lambda: None)  # the manual clock wakes nobody
    endings.wait(1)
    assert answer(job) == [51.0]
    assert job.response is not None
    assert job.response.marks == ("n1: late: default",)
    let_go.set()
    circuit.close()


def test_stages_of_the_critical_chain_sum_up_to_the_total() -> None:
    rng = random.Random(8)
    for number in range(300):
        drawn = draw(rng)
        circuit: Circuit

        def pass_time(*_: object) -> None:
            circuit.clock.advance(rng.uniform(0, 0.003))  # noqa: B023

        circuit = build(drawn, pass_time, inline=lambda _: True)
        job = circuit.job([1.0])
        go(circuit, job, at_once=True)
        stages = job.ledger.stages
        assert [each.name for each in stages if not each.mark] == [name for name, _ in circuit.started]
        total_ns = sum(each.ended_ns - each.ready_ns for each in stages if each.critical)
        assert total_ns == job.ledger.total_ns, f"graph {number} of seed 8"
        circuit.close()


def test_requests_of_one_turn_meet_at_every_node() -> None:
    rows: list[tuple[str, int]] = []
    circuit = build(chain(3), lambda name, count: rows.append((name, count)), inline=lambda _: True)
    jobs = [circuit.job([float(index)]) for index in range(10)]
    for job in jobs:
        circuit.runner.submit(job)
    circuit.flush()
    assert rows == [("n0", 10), ("n1", 10), ("n2", 10)]
    assert [answer(each) for each in jobs] == [[index + 3.0] for index in range(10)]
    circuit.close()


def test_tensors_pass_between_nodes_by_reference() -> None:
    circuit = build(chain(2), lambda *_: None, inline=lambda _: True)
    job = circuit.job([1.0])
    seen: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    for worker in circuit.workers:
        servable = worker._servable
        execute = servable.execute

        def spy(inputs, outputs, execute=execute):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            seen.extend(each.array for each in inputs.values())
            answered = execute(inputs, outputs)
            seen.extend(each.array for each in answered.values())
            return answered

        servable.execute = spy  # type: ignore[method-assign]
    go(circuit, job, at_once=True)
    assert seen[0] is job.request.inputs["x"].array
    assert seen[1] is seen[2]
    assert job.response is not None
    assert job.response.outputs["y"].array is seen[3]
    circuit.close()
