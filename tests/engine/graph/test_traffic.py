"""A split hands each request to one variant, and answers as if there were no split."""

from __future__ import annotations

import gc
import random
import threading
import weakref
from collections import Counter

import numpy as np
import pytest

from engine import (
    BATCH,
    Cancelled,
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    Job,
    Request,
    Response,
    Tensor,
    Unavailable,
)
from engine.graph.assignment import Assignment
from engine.graph.merge import Indexes, merge
from tests.engine.graph.splits import FP64, KEYED, LONE, Plus, answer, request, running, within
from tests.fakes import CountdownServable, Endings, Gate, ignore, tensor

HALF = {"a": 1.0, "b": 1.0}


def two() -> dict[str, Plus]:
    """Variants whose answers tell them apart."""
    return {"a": Plus(100.0), "b": Plus(200.0)}


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("inline", [True, False])
def test_key_decides_and_stays(at_once: bool, inline: bool) -> None:
    with running(two(), HALF, key="user", inline=inline) as split:
        assignment = Assignment("s", (1, 1))
        for user in [*range(20), *range(20)]:
            job = split.ask(request(1.0, users=[user]), at_once=at_once)
            assert answer(job) == [101.0 + 100 * assignment.of_key(b"%d" % user)]
            assert job.response is not None
            assert (job.response.model, job.response.version, job.response.marks) == ("s", 1, ())
        told = [(each.variant, each.keys) for each in split.exposures]
        assert told == [("ab"[assignment.of_key(b"%d" % user)], [b"%d" % user]) for user in [*range(20), *range(20)]]
        assert sum(each.requests for each in split.runner.traffic().values()) == 40
        assert not split.runner.waiting


def test_answer_of_a_random_batch_is_that_of_its_rows_one_by_one() -> None:
    rng = random.Random(4)
    assignment = Assignment("s", (3, 1))
    with running(two(), {"a": 3.0, "b": 1.0}, key="user") as split:
        for _ in range(200):
            users = [rng.randrange(50) for _ in range(rng.randint(1, 9))]
            values = [float(rng.randint(-99, 99)) for _ in users]
            job = split.ask(request(*values, users=users), at_once=rng.random() < 0.5)
            assert answer(job) == [
                value + 100 + 100 * assignment.of_key(b"%d" % user) for value, user in zip(values, users, strict=True)
            ]
            assert job.response is not None
            stages = job.response.ledger.stages
            assert {each.name for each in stages} == {"s/" + "ab"[assignment.of_key(b"%d" % user)] for user in users}
            assert [each.ended_ns - each.ready_ns for each in stages if each.critical] == [job.ledger.total_ns]


def test_request_id_is_a_key_and_without_one_chance_decides() -> None:
    with running(two(), HALF, key="$id") as split:
        assignment = Assignment("s", (1, 1))
        for name in map(str, range(20)):
            job = split.ask(request(1.0, request_id=name))
            assert answer(job) == [101.0 + 100 * assignment.of_key(name.encode())]
            assert job.response is not None
            assert job.response.id == name
        drawn = Counter(answer(split.ask(request(1.0)))[0] for _ in range(400))
        assert set(drawn) == {101.0, 201.0}
        assert 120 < drawn[101.0] < 280
        assert [each.keys for each in split.exposures[-400:]] == [None] * 400


def test_by_chance_shares_are_the_weights() -> None:
    with running(two(), {"a": 9.0, "b": 1.0}) as split:
        for _ in range(1_000):
            split.ask(request(1.0, users=[7]))
        counted = split.runner.traffic()
        assert 50 < counted["b"].requests < 160
        assert counted["a"].requests + counted["b"].requests == 1_000


def test_missing_optional_key_is_left_to_chance() -> None:
    with running(two(), HALF, key="user") as split:
        assert {answer(split.ask(request(1.0)))[0] for _ in range(50)} == {101.0, 201.0}


def test_variant_that_does_not_know_an_optional_input_is_not_given_it() -> None:
    plain = Plus(200.0, signature=type(KEYED)(KEYED.inputs[:1], KEYED.outputs, batchable=True))
    with running({"a": Plus(100.0), "b": plain}, {"a": 0.0, "b": 1.0}, key="user") as split:
        assert answer(split.ask(request(1.0, users=[3]))) == [201.0]


def test_what_the_request_says_goes_on_to_the_variant() -> None:
    seen: list[Job] = []
    with running(two(), HALF, key="user") as split:
        for worker in split.workers.values():
            submit = worker.submit
            worker.run_at_once = lambda job: False  # type: ignore[method-assign]
            worker.submit = lambda job, submit=submit: (seen.append(job), submit(job))[1]  # type: ignore
        asked = request(
            1.0, users=[1], request_id="7", outputs=("y",), deadline=within(60), priority=BATCH, trace="00-trace",
            parameters={"p": 1},
        )  # fmt: skip
        job = split.ask(asked)
        assert answer(job)[0] > 100
        (child,) = seen
        got = child.request
        assert (got.id, got.outputs, got.priority, got.trace, got.parameters) == (
            "7",
            ("y",),
            BATCH,
            "00-trace",
            {"p": 1},
        )
        assert child.deadline_ns == job.deadline_ns == asked.deadline.at_ns
        assert got.inputs is asked.inputs


def test_variant_that_fails_fails_its_request_and_is_named() -> None:
    def fail(values: list[float]) -> None:
        if values[0] < 0:
            raise RuntimeError("negative")

    with running({"a": Plus(1.0, fail), "b": Plus(2.0, fail)}, HALF, key="user") as split:
        job = split.ask(request(-1.0, users=[1]))
        assert isinstance(job.error, Internal)
        assert job.error.message.startswith("split 's', variant '")
        assert job.error.message.endswith("' version 1: RuntimeError: negative")
        rows = split.ask(request(*[-1.0] * 8, users=range(8)))
        assert isinstance(rows.error, Internal)
        assert answer(split.ask(request(1.0, users=[1])))[0] in (2.0, 3.0)
        assert sum(each.failed for each in split.runner.traffic().values()) == 3
        assert len(split.exposures) == 1
        assert split.runner.statistics.fail.count == 2
        assert split.runner.statistics.success.count == 1


def test_refused_request_is_told_by_whom_and_exposes_nobody() -> None:
    with running(two(), HALF, key="user") as split:
        with pytest.raises(DeadlineExceeded, match=r"split 's', variant '[ab]': "):
            split.ask(request(1.0, users=[1], deadline=within(-1)))
        assert not split.exposures
        assert not split.runner.waiting
        split.runner.close()
        with pytest.raises(Unavailable, match="split 's' is being replaced"):
            split.ask(request(1.0))


def test_rows_that_one_variant_refuses_end_the_request_once_all_have_ended() -> None:
    servables = two()
    with running(servables, HALF, key="user") as split:
        split.workers["b"].close()
        job = split.ask(request(*map(float, range(8)), users=range(8)))
        assert isinstance(job.error, Unavailable)
        assert job.error.message.startswith("split 's', variant 'b': model 'b' version 1 is being unloaded")
        assert not split.runner.waiting


def test_keys_that_fall_apart_need_variants_that_batch() -> None:
    with running({"a": Plus(1.0, signature=LONE), "b": Plus(2.0)}, HALF, key="user") as split:
        assert not split.runner.batchable
        assert split.runner.plan.signature.rows_max is None
        with pytest.raises(InvalidArgument, match="split 's', key 'user': its 8 values fall to different variants"):
            split.ask(request(*map(float, range(8)), users=range(8)))
        assert answer(split.ask(request(1.0, 2.0, 3.0, users=[5, 5, 5]))) in ([2.0, 3.0, 4.0], [3.0, 4.0, 5.0])
    with running({"a": Plus(1.0, signature=LONE), "b": Plus(2.0)}, {"a": 0, "b": 1}) as split:
        job = split.ask(request(1.0, 2.0))
        assert answer(job) == [3.0, 4.0]
        assert job.response is not None
        assert job.response.ledger.batch_rows == 2


def test_cancellation_reaches_the_variant() -> None:
    gate = Gate()
    servable = Plus(1.0, gate)
    with running({"a": servable}, {"a": 1}, inline=False) as split:
        endings = Endings()
        first, second = (split.job(request(value), endings) for value in (1.0, 2.0))
        split.runner.submit(first)
        split.flush()
        gate.wait_entered()
        worker = split.workers["a"]
        held = [split.job(request(9.0), endings) for _ in range(3)]
        for job in (second, *held):
            split.runner.submit(job)
        second.cancel()
        gate.open()
        endings.wait(5)
        assert isinstance(second.error, Cancelled)
        assert 2.0 not in servable.computed
        assert all(job.on_cancel is None for job in (first, second))
        assert worker.waiting == split.runner.waiting == 0


def test_request_cancelled_before_it_begins_is_not_computed() -> None:
    servables = two()
    with running(servables, HALF, key="user") as split:
        endings = Endings()
        job = split.job(request(1.0, users=[1]), endings)
        job.cancel()
        split.runner.submit(job)
        split.flush()
        assert [type(each) for each in endings.errors] == [Cancelled]
        assert not servables["a"].calls + servables["b"].calls


def test_requests_of_a_turn_form_batches_at_the_variants() -> None:
    servables = two()
    with running(servables, HALF, key="user") as split:
        endings = Endings()
        for user in range(20):
            split.runner.submit(split.job(request(float(user), users=[user]), endings))
        split.flush()
        endings.wait(20)
        assert len(servables["a"].calls) == len(servables["b"].calls) == 1
        assert sorted(servables["a"].computed + servables["b"].computed) == list(map(float, range(20)))


def test_split_streams_where_its_variants_do() -> None:
    streams = {"a": CountdownServable(), "b": CountdownServable()}
    with running(streams, HALF, key="$id") as split:
        assert split.runner.streams
        parts: list[Response] = []
        endings = Endings()
        job = Job(
            Request("s", {"x": tensor(3.0)}, id="9"), 1, split.job(_counting(), endings).ledger, endings, parts.append
        )
        split.runner.run_at_once(job)
        endings.wait(1)
        assert job.error is None
        assert [float(each.outputs["y"].array[0, 0]) for each in parts] == [3.0, 2.0, 1.0]
        assert {(each.model, each.version, each.id) for each in parts} == {("s", 1, "9")}
        assert job.response is not None
        assert job.response.outputs == {}


def _counting() -> Request:
    return Request("s", {"x": tensor(1.0)})


def test_expected_time_is_the_mean_by_weight() -> None:
    with running(two(), {"a": 3.0, "b": 1.0}) as split:
        assert split.runner.expected_us(1) is not None
        assert split.runner.expected_ns(1) == pytest.approx(1_000, abs=1)
    with running(two(), HALF, inline=False) as split:
        assert split.runner.expected_us(1) is None


def test_many_threads_are_all_answered_and_counted() -> None:
    assignment = Assignment("s", (1, 1))
    with running(two(), HALF, key="user") as split:
        wrong: list[int] = []

        def ask(seed: int) -> None:
            rng = random.Random(seed)
            for _ in range(100):
                users = [rng.randrange(99) for _ in range(rng.randint(1, 4))]
                job = split.ask(request(*[0.0] * len(users), users=users), at_once=rng.random() < 0.5)
                if answer(job) != [100.0 + 100 * assignment.of_key(b"%d" % user) for user in users]:
                    wrong.append(seed)

        threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert split.runner.statistics.success.count == 400
        assert sum(each.requests for each in split.runner.traffic().values()) == len(split.exposures)


def test_parts_of_another_kind_cannot_be_put_together() -> None:
    def part(rows: list[int], shape: tuple[int, ...]) -> tuple[Indexes, dict[str, Tensor]]:
        return np.array(rows), {"y": Tensor(FP64, np.zeros(shape))}

    assert merge("split 's'", [part([0, 2], (2, 3)), part([1], (1, 3))], 3)["y"].shape == (3, 3)
    with pytest.raises(
        Internal, match=r"split 's': output 'y' of one variant is FP64 \[1, 4\], expected FP64 \[1, 3\]"
    ):
        merge("split 's'", [part([0, 2], (2, 3)), part([1], (1, 4))], 3)


def test_ended_requests_are_let_go_of_without_the_garbage_collector() -> None:
    with running(two(), HALF, key="user") as split:
        gc.disable()
        try:
            for users in ([1, 2, 3, 4, 5], [1]):
                job = split.job(request(*map(float, users), users=users), ignore)
                held = weakref.ref(job.request.inputs["x"].array)
                split.runner.run_at_once(job)
                assert job.response is not None
                assert len(job.response.ledger.stages) == min(2, len(users))
                del job
                assert held() is None
        finally:
            gc.enable()
