"""Shadows get copies after the answer; callers feel nothing of them."""

from __future__ import annotations

import random
import threading

import numpy as np

from engine import BATCH, Request, Tensor, datatype_named
from engine.graph.shadow import compare, compare_each
from engine.limits import SHADOWS_WAITING_MAX
from tests.engine.graph.splits import FP64, KEYED, Plus, answer, request, running, until
from tests.fakes import Gate, ManualClock


def test_copy_runs_after_the_answer_and_is_compared() -> None:
    servables = {"a": Plus(100.0), "same": Plus(100.0), "other": Plus(102.0)}
    with running(servables, {"a": 1}, shadows={"same": 1.0, "other": 1.0}) as split:
        for value in range(20):
            assert answer(split.ask(request(float(value), users=[value], request_id=str(value)))) == [100.0 + value]
        shadows = split.runner.shadows
        assert shadows is not None
        until(lambda: all(each.ran == 20 for each in shadows.statistics().values()))
        assert sorted(servables["same"].computed) == sorted(servables["other"].computed) == list(map(float, range(20)))
        same, other = (shadows.statistics()[name] for name in ("same", "other"))
        assert (same.equal, same.differences, same.failed, same.dropped) == (20, {"y": 0.0}, 0, 0)
        assert (other.equal, other.differences, other.late) == (0, {"y": 2.0}, 0)


def test_shadow_is_of_the_batch_class_without_deadline_and_shares_the_tensors() -> None:
    with running({"a": Plus(1.0), "next": Plus(1.0)}, {"a": 1}, shadows={"next": 1.0}) as split:
        seen = []
        submit = split.workers["next"].submit
        split.workers["next"].submit = lambda job: (seen.append(job), submit(job))[1]  # type: ignore
        asked = request(1.0, users=[1], request_id="7", parameters={"p": 1})
        split.ask(asked)
        until(lambda: bool(seen))
        got = seen[0].request
        assert (got.priority, got.id, got.parameters, got.model) == (BATCH, "7", {"p": 1}, "next")
        assert got.inputs["x"].array is asked.inputs["x"].array
        assert got.deadline.remaining_s(0) == float("inf")


def test_failure_of_a_shadow_is_counted_and_told_to_nobody() -> None:
    def fail(values: list[float]) -> None:
        raise RuntimeError("not ready yet")

    with running({"a": Plus(1.0), "next": Plus(1.0, fail)}, {"a": 1}, shadows={"next": 1.0}) as split:
        assert answer(split.ask(request(1.0))) == [2.0]
        shadows = split.runner.shadows
        assert shadows is not None
        until(lambda: shadows.statistics()["next"].failed == 1)
        split.workers["next"].close()
        assert answer(split.ask(request(1.0))) == [2.0]
        until(lambda: shadows.statistics()["next"].failed == 2)
        assert shadows.statistics()["next"].ran == 0


def test_shadow_that_hangs_costs_its_copies_alone() -> None:
    gate = Gate()
    servables = {"a": Plus(1.0), "next": Plus(1.0, gate)}
    with running(servables, {"a": 1}, shadows={"next": 1.0}) as split:
        split.ask(request(0.0))
        gate.wait_entered()
        for value in range(SHADOWS_WAITING_MAX + 10):
            assert answer(split.ask(request(float(value)))) == [1.0 + value]
        shadows = split.runner.shadows
        assert shadows is not None
        until(lambda: shadows.statistics()["next"].dropped == 10)
        gate.open()
        until(lambda: shadows.statistics()["next"].ran == SHADOWS_WAITING_MAX + 1)


def test_large_requests_are_not_kept_alive_by_the_dozen() -> None:
    gate = Gate()
    with running({"a": Plus(1.0), "next": Plus(1.0, gate)}, {"a": 1}, shadows={"next": 1.0}) as split:
        split.ask(request(0.0))
        gate.wait_entered()
        large = np.zeros(2 << 20)  # 16 MiB
        for _ in range(6):
            split.ask(Request("s", {"x": Tensor(FP64, large)}))
        shadows = split.runner.shadows
        assert shadows is not None
        until(lambda: shadows.statistics()["next"].dropped == 2)  # a copy is offered after the answer
        gate.open()


def test_copies_wait_for_an_idle_moment_and_then_run_together() -> None:
    busy = threading.Event()
    busy.set()
    servables = {"a": Plus(1.0), "next": Plus(1.0)}
    clock = ManualClock()  # patience never ends
    with running(servables, {"a": 1}, shadows={"next": 1.0}, idle=lambda: not busy.is_set(), clock=clock) as split:
        for value in range(10):
            split.ask(request(float(value)))
        assert not servables["next"].calls
        busy.clear()
        until(lambda: len(servables["next"].computed) == 10)
        assert len(servables["next"].calls) == 1


def test_server_that_is_never_idle_still_compares_some() -> None:
    servables = {"a": Plus(1.0), "next": Plus(1.0)}
    with running(servables, {"a": 1}, shadows={"next": 1.0}, idle=lambda: False) as split:
        for value in range(3):
            split.ask(request(float(value)))
        shadows = split.runner.shadows
        assert shadows is not None
        until(lambda: shadows.statistics()["next"].ran == 3)
        until(lambda: shadows.statistics()["next"].late == 3)
        assert all(len(each) == 1 for each in servables["next"].calls)


def test_share_of_the_requests_is_copied() -> None:
    with running(
        {"a": Plus(1.0), "next": Plus(1.0), "none": Plus(1.0)}, {"a": 1}, shadows={"next": 0.3, "none": 0.0}
    ) as split:
        for _ in range(1_000):
            split.ask(request(1.0))
        shadows = split.runner.shadows
        assert shadows is not None
        split.runner.close()
        counted = shadows.statistics()
        assert 220 < counted["next"].ran + counted["next"].dropped < 380
        assert counted["none"].ran + counted["none"].dropped == 0


def test_closed_shadows_run_nothing_more() -> None:
    servables = {"a": Plus(1.0), "next": Plus(1.0)}
    with running(servables, {"a": 1}, shadows={"next": 1.0}, idle=lambda: False, clock=ManualClock()) as split:
        split.ask(request(1.0))
        split.runner.close()
        shadows = split.runner.shadows
        assert shadows is not None
        assert not servables["next"].calls
        until(lambda: shadows.statistics()["next"].dropped == 1)


def test_shadow_that_takes_less_is_given_less() -> None:
    plain = Plus(1.0, signature=type(KEYED)(KEYED.inputs[:1], KEYED.outputs, batchable=True))
    with running({"a": Plus(1.0), "next": plain}, {"a": 1}, shadows={"next": 1.0}) as split:
        split.ask(request(1.0, users=[3]))
        shadows = split.runner.shadows
        assert shadows is not None
        until(lambda: shadows.statistics()["next"].equal == 1)


def test_differences_are_those_of_numpy() -> None:
    rng = random.Random(3)
    for _ in range(100):
        one = np.array(
            [rng.choice([0.0, 1.0, float("nan"), float("inf"), -float("inf"), rng.uniform(-9, 9)]) for _ in range(8)]
        )
        other = np.where(np.array([rng.random() < 0.5 for _ in range(8)]), one, one + rng.choice([1e-9, 1e-3, 5.0]))
        found = compare({"y": Tensor(FP64, one)}, {"y": Tensor(FP64, other)})
        assert found.equal == bool(np.allclose(one, other, rtol=0, atol=1e-6, equal_nan=True))
        finite = np.isfinite(one) & np.isfinite(other)
        assert found.sums["y"] == (np.abs(one[finite] - other[finite]).sum(), finite.sum())


def test_outputs_of_another_kind_are_unequal() -> None:
    text, half = datatype_named("BYTES", of="t"), datatype_named("BF16", of="t")
    words = Tensor(text, np.array([b"a", b"b"], object))
    assert compare({"y": words}, {"y": words}).equal
    assert not compare({"y": words}, {"y": Tensor(text, np.array([b"a", b"c"], object))}).equal
    assert not compare({"y": words}, {"y": Tensor(FP64, np.zeros(2))}).equal
    assert not compare({"y": Tensor(FP64, np.zeros(2))}, {"y": Tensor(FP64, np.zeros(3))}).equal
    bits = Tensor(half, np.array([0x3F80], np.uint16)), Tensor(half, np.array([0x4000], np.uint16))
    assert compare({"y": bits[0]}, {"y": bits[1]}).sums == {"y": (1.0, 1)}
    assert compare({"y": words}, {"z": words}).equal


def test_one_bad_copy_fails_alone_among_those_that_run_together() -> None:
    def fail(values: list[float]) -> None:
        if 3.0 in values:
            raise RuntimeError("not with three")

    busy = threading.Event()
    busy.set()
    servables = {"a": Plus(1.0), "next": Plus(1.0, fail)}
    with running(servables, {"a": 1}, shadows={"next": 1.0}, idle=lambda: not busy.is_set()) as split:
        counting = split.runner.shadows
        assert counting is not None
        for value in range(8):
            split.ask(request(float(value)))
        busy.clear()
        until(lambda: counting.statistics()["next"].ran == 7)
        assert counting.statistics()["next"].equal == 7
        until(lambda: counting.statistics()["next"].failed == 1)


def test_answers_compared_together_are_compared_like_each_alone() -> None:
    rng = np.random.default_rng(5)
    datatypes = {name: datatype_named(kind, of=name) for name, kind in (("f", "FP32"), ("i", "INT64"), ("b", "BYTES"))}
    for _ in range(200):
        rows = [int(each) for each in rng.integers(1, 4, size=int(rng.integers(1, 6)))]
        total = sum(rows)
        told, shadow = {}, {}
        for name, datatype in datatypes.items():
            shape = (total, 2) if rng.random() < 0.5 else (total,)
            values = rng.integers(0, 3, size=shape).astype(datatype.dtype)
            other = values.copy()
            if rng.random() < 0.5:
                other[int(rng.integers(total))] += 1 if name != "b" else 7
            if name == "f":
                values[0], other[0] = np.nan, np.nan if rng.random() < 0.5 else 1.0
            told[name] = Tensor(datatype, values)
            shadow[name] = Tensor(datatype, other if rng.random() < 0.9 else other[..., None])
        together = compare_each(told, shadow, rows)
        stops = np.cumsum(rows)
        alone = [
            compare(*({name: Tensor(each.datatype, each.array[stop - count : stop]) for name, each in one.items()}
                      for one in (told, shadow)))
            for count, stop in zip(rows, stops, strict=True)
        ]  # fmt: skip
        assert together.equal == sum(each.equal for each in alone)
        for name, (difference, count) in together.sums.items():
            assert difference == sum(each.sums[name][0] for each in alone)
            assert count == sum(each.sums[name][1] for each in alone)
