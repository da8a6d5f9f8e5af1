"""Writes are durable and visible when they return, whole or not at all, within the quota, and each tenant's own."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from engine.errors import InvalidArgument, ResourceExhausted, Unavailable
from engine.vectors import writer
from engine.vectors.declaration import QuotaSpec
from engine.vectors.filter import Filter, Group, Match, Range
from engine.vectors.payload_change import setting
from engine.vectors.plain_points import payload_patch
from engine.vectors.writer import FULL_MAX, Written
from tests.engine.log.disks import QuickDisk
from tests.engine.vectors.core import OWNED, SPEC, opened, points, shown
from tests.fakes import PATIENCE_S


class HeldDisk(QuickDisk):
    """Holds who syncs a file until it is let go."""

    def __init__(self) -> None:
        self.held = threading.Event()
        self.let_go = threading.Event()
        self.armed = False

    def sync(self, file: int) -> None:
        """Disk."""
        if self.armed:
            self.armed = False
            self.held.set()
            assert self.let_go.wait(PATIENCE_S)


def together(*calls: Callable[[], object]) -> None:
    """Each in a thread of its own."""
    threads = [threading.Thread(target=each) for each in calls]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE_S)
    assert not any(each.is_alive() for each in threads)


def test_a_write_is_shown_and_durable_when_it_returns(tmp_path: Path) -> None:
    core = opened(tmp_path)
    assert core.writer.upsert(points([1, 2, 3], 1)) == Written(3, 3)
    assert shown(core.view) == {1: 1, 2: 1, 3: 1}
    assert core.writer.upsert(points([3, 4], 2)) == Written(5, 2)
    assert core.writer.delete([1, 9]) == Written(7, 1)
    assert shown(core.view) == {2: 1, 3: 2, 4: 2}
    core.close()
    core = opened(tmp_path)
    assert shown(core.view) == {2: 1, 3: 2, 4: 2}
    core.close()


def test_deletes_count_the_points_that_were_there_each_once(tmp_path: Path) -> None:
    core = opened(tmp_path)
    core.writer.upsert(points([1, 2, 3]))
    assert core.writer.delete([2, 2, 7, 2]).count == 1
    assert core.writer.delete([2, 7]).count == 0
    assert core.writer.delete([]) == Written(core.view.offset, 0)
    assert core.view.count == 2
    core.close()


@pytest.mark.parametrize("wrong", [[-1], [1 << 64], ["1"], [True], [1.0], [None], [1, None]])
def test_ids_that_are_none_are_named_by_their_place_and_delete_nothing(tmp_path: Path, wrong: list[int]) -> None:
    core = opened(tmp_path)
    core.writer.upsert(points([1]))
    with pytest.raises(InvalidArgument, match=rf"ids\[{len(wrong) - 1}\]"):
        core.writer.delete(wrong)
    assert core.view.count == 1
    core.close()


def test_a_bad_point_keeps_all_of_its_batch_out(tmp_path: Path) -> None:
    core = opened(tmp_path)
    core.writer.upsert(points([1, 2], 1))
    twice = pa.concat_batches([points([5, 6], 2), points([5], 3)])
    with pytest.raises(InvalidArgument):
        core.writer.upsert(twice)
    with pytest.raises(InvalidArgument):
        core.writer.upsert(points([7, 8]).drop_columns(["vector.v"]))
    assert (shown(core.view), core.view.offset) == ({1: 1, 2: 1}, 2)
    assert core.writer.upsert(points([1]).slice(0, 0)) == Written(2, 0)
    core.close()


def test_what_is_loaded_may_be_larger_than_the_log_takes_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(writer, "WRITE_BYTES", 2_000)
    core = opened(tmp_path, replace(SPEC, growing_rows=1_000))
    found = core.writer.load(points(range(500), 1))
    assert (found, core.log.latest()) == (Written(500, 500), {0: 500})
    assert len(shown(core.view)) == 500
    assert core.writer.load(points([], 1)) == Written(500, 0)
    rows = points(range(1_000, 1_500), 1).to_pylist()
    rows[444]["vector.v"][2] = float("nan")
    with pytest.raises(InvalidArgument, match=r"points\[444\] \(id 1444\)"):
        core.writer.load(pa.RecordBatch.from_pylist(rows, points([1]).schema))
    assert len(shown(core.view)) == 500
    core.close()


def test_what_was_loaded_when_the_quota_ends_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "WRITE_BYTES", 2_000)
    core = opened(tmp_path, replace(SPEC, quota=QuotaSpec(points_max=100)))
    with pytest.raises(ResourceExhausted) as caught:
        core.writer.load(points(range(500), 1))
    kept = len(shown(core.view))
    assert 0 < kept <= 100
    assert caught.value.message.endswith(f"(the first {kept} points are kept)")
    core.close()


def test_points_are_deleted_by_a_filter_wherever_they_are(tmp_path: Path) -> None:
    core = opened(tmp_path)
    for step in range(6):
        core.writer.upsert(points(range(step * 10, step * 10 + 10), step))
        core.indexer.step()
    filter_ = Filter.of(Range("n", gte=1, lte=3), SPEC)
    assert core.writer.delete_matching(filter_).count == 30
    assert set(shown(core.view).values()) == {0, 4, 5}
    assert core.writer.delete_matching(filter_).count == 0
    assert core.writer.delete_matching(Filter.of(Group(), SPEC)).count == 30
    assert core.view.count == 0
    core.close()


def test_points_are_written_anew_as_a_change_makes_them(tmp_path: Path) -> None:
    core = opened(tmp_path)
    for step in range(4):
        core.writer.upsert(points(range(step * 10, step * 10 + 10), step))
        core.indexer.step()
    change = setting(SPEC, payload_patch(SPEC, {"n": 77}))
    assert core.writer.rewrite(change, ids=[5, 15, 99, 5]).count == 2
    assert core.writer.rewrite(change, filter_=Filter.of(Match("n", 3), SPEC)).count == 10
    assert core.writer.rewrite(change, ids=[99]).count == 0
    expected = {each: 77 if each in (5, 15) or each >= 30 else each // 10 for each in range(40)}
    assert shown(core.view) == expected
    assert core.writer.rewrite(change).count == 40
    assert set(shown(core.view).values()) == {77}
    core.close()


def test_a_change_that_fails_changes_nothing(tmp_path: Path) -> None:
    core = opened(tmp_path)
    core.writer.upsert(points(range(10)))

    def refuse(batch: pa.RecordBatch) -> pa.RecordBatch:
        raise InvalidArgument("no")

    with pytest.raises(InvalidArgument):
        core.writer.rewrite(refuse)
    assert core.view.offset == 10
    core.writer.upsert(points([10]))  # the gate is open
    core.close()


def test_a_change_never_undoes_a_write_beside_it(tmp_path: Path) -> None:
    """It reads before it writes: what comes between would be lost."""
    core = opened(tmp_path)
    core.writer.upsert(points(range(5), 0))
    change = setting(SPEC, payload_patch(SPEC, {"tag": "changed"}))

    def write() -> None:
        for step in range(1, 60):
            core.writer.upsert(points(range(5), step))
            assert set(shown(core.view).values()) == {step}

    def rewrite() -> None:
        for _ in range(60):
            core.writer.rewrite(change)

    failed: list[BaseException] = []

    def guarded(call: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            try:
                call()
            except BaseException as error:
                failed.append(error)

        return run

    core.indexer.start()
    together(guarded(write), guarded(rewrite))
    assert not failed, failed
    assert set(shown(core.view).values()) == {59}
    core.close()


def test_many_writers_lose_nothing_and_each_sees_its_own(tmp_path: Path) -> None:
    core = opened(tmp_path)
    core.indexer.start()
    truth: dict[int, int] = {}
    failed: list[BaseException] = []

    def write(base: int) -> None:
        source = random.Random(base)
        try:
            for step in range(50):
                ids = [base + source.randrange(20) for _ in range(3)]
                ids = list(dict.fromkeys(ids))
                if step % 4 == 3:
                    core.writer.delete(ids)
                    for each in ids:
                        truth.pop(each, None)
                else:
                    core.writer.upsert(points(ids, step))
                    truth.update(dict.fromkeys(ids, step))
                found = shown(core.view)
                mine = {each: n for each, n in found.items() if each in range(base, base + 20)}
                assert mine == {each: n for each, n in list(truth.items()) if each in range(base, base + 20)}
        except BaseException as error:
            failed.append(error)

    together(*(lambda base=base: write(base) for base in (0, 100, 200)))
    assert not failed, failed
    assert shown(core.view) == truth
    core.close()


def test_past_the_quota_nothing_comes_in_but_what_is_there_may_be_replaced(tmp_path: Path) -> None:
    core = opened(tmp_path, replace(SPEC, quota=QuotaSpec(points_max=10)))
    core.writer.upsert(points(range(8)))
    with pytest.raises(ResourceExhausted, match=r"quota.points_max is 10, there are 8 points and 3 more would be"):
        core.writer.upsert(points([7, 8, 9, 10]))
    assert core.view.count == 8
    core.writer.upsert(points([7, 8, 9], 1))
    core.writer.upsert(points(range(10), 2))
    core.writer.delete([0])
    core.writer.upsert(points([11]))
    assert core.view.count == 10
    core.close()


def test_a_tenant_that_is_full_keeps_no_other_out(tmp_path: Path) -> None:
    core = opened(tmp_path, replace(OWNED, quota=QuotaSpec(tenant_points_max=5)))
    core.writer.upsert(points(range(5), 0, OWNED), tenant="one")
    with pytest.raises(ResourceExhausted, match="tenant_points_max"):
        core.writer.upsert(points([5], 0, OWNED), tenant="one")
    core.writer.upsert(points(range(5), 1, OWNED), tenant="one")
    core.writer.upsert(points(range(5), 2, OWNED), tenant="two")
    assert core.view.count == 10
    core.close()


def test_what_another_tenant_is_writing_is_not_of_ones_quota(tmp_path: Path) -> None:
    disk = HeldDisk()
    core = opened(tmp_path, replace(OWNED, quota=QuotaSpec(tenant_points_max=5)), disk=disk)
    written: list[Written] = []
    disk.armed = True
    other = threading.Thread(target=lambda: core.writer.upsert(points(range(5), 0, OWNED), tenant="two"))
    other.start()
    assert disk.held.wait(PATIENCE_S)
    mine = threading.Thread(target=lambda: written.append(core.writer.upsert(points([1], 0, OWNED), tenant="one")))
    mine.start()
    disk.let_go.set()
    other.join(PATIENCE_S)
    mine.join(PATIENCE_S)
    assert [each.count for each in written] == [1]
    core.close()


def test_two_writes_at_once_do_not_pass_the_quota_together(tmp_path: Path) -> None:
    core = opened(tmp_path, replace(SPEC, quota=QuotaSpec(points_max=50)))
    core.indexer.start()
    refused: list[int] = []

    def write(base: int) -> None:
        for at in range(20):
            try:
                core.writer.upsert(points([base + at]))
            except ResourceExhausted:
                refused.append(base + at)

    together(*(lambda base=base: write(base) for base in (0, 100, 200, 300)))
    assert core.view.count <= 50
    assert core.view.count + len(refused) == 80
    core.close()


def test_each_tenant_sees_and_changes_its_own_points(tmp_path: Path) -> None:
    core = opened(tmp_path, OWNED)
    core.writer.upsert(points(range(4), 1, OWNED), tenant="one")
    core.writer.upsert(points(range(2, 6), 2, OWNED), tenant="two")
    every = Filter.of(Group(), OWNED)
    change = setting(OWNED, payload_patch(OWNED, {"n": 9}))
    assert core.writer.rewrite(change, ids=[2, 5], tenant="one").count == 1
    assert core.writer.rewrite(change, filter_=every, tenant="two").count == 4
    assert core.writer.delete([3, 4], tenant="one").count == 1
    assert core.writer.delete_matching(Filter.of(Match("owner", "two"), OWNED), tenant="one").count == 0
    assert core.writer.delete_matching(every, tenant="two").count == 4
    assert shown(core.view) == {0: 1, 1: 1, 2: 9}
    core.close()


def test_where_there_are_tenants_one_must_be_named_and_else_none(tmp_path: Path) -> None:
    owned, plain = opened(tmp_path / "owned", OWNED), opened(tmp_path / "plain")
    for core, spec, tenant in (
        (owned, OWNED, None),
        (plain, SPEC, "one"),
        (owned, OWNED, ""),
        (owned, OWNED, "x" * 256),
    ):
        calls: list[Callable[[], object]] = [
            lambda: core.writer.upsert(points([1], 0, spec), tenant=tenant),  # noqa: B023
            lambda: core.writer.delete([1], tenant=tenant),  # noqa: B023
            lambda: core.writer.delete_matching(Filter.of(Group(), spec), tenant=tenant),  # noqa: B023
            lambda: core.writer.rewrite(lambda each: each, ids=[1], tenant=tenant),  # noqa: B023
        ]
        for call in calls:
            with pytest.raises(InvalidArgument, match="tenant"):
                call()
        assert core.view.offset == 0
    owned.close()
    plain.close()


def test_where_sealing_is_behind_writes_wait_for_it_and_at_last_are_refused(tmp_path: Path) -> None:
    core = opened(tmp_path)
    for at in range(FULL_MAX):
        core.writer.upsert(points(range(at * 16, at * 16 + 16)))
    with pytest.raises(ResourceExhausted, match="wait to be sealed"):
        core.writer.upsert(points([1]), deadline_s=0)
    core.writer.delete([1])  # deletes make room
    core.indexer.start()
    core.writer.upsert(points([1], 5))
    assert shown(core.view)[1] == 5
    core.close()


def test_a_load_waits_longer_for_sealing_unless_something_is_wrong_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_WAIT_S", 0.0)
    monkeypatch.setattr(writer, "_LOAD_WAITS_MAX", 10)
    core = opened(tmp_path)
    for at in range(FULL_MAX):
        core.writer.upsert(points(range(at * 16, at * 16 + 16)))
    waited = 0

    def room(full_max: int, timeout_s: float | None) -> bool:
        nonlocal waited
        waited += 1
        if waited == 5:
            core.work()
        return len(core.fold.full) < full_max

    core.indexer.wait_for_room = room  # type: ignore[method-assign]
    with pytest.raises(ResourceExhausted, match="wait to be sealed"):
        core.writer.upsert(points([1], 5))
    core.indexer.problem = "no disk"
    with pytest.raises(ResourceExhausted, match="wait to be sealed: no disk"):
        core.writer.load(points([1], 5))
    assert waited == 2
    core.indexer.problem = None
    core.writer.load(points([1], 5))
    assert waited == 5
    assert shown(core.view)[1] == 5
    core.close()


def test_after_closing_writes_are_refused_and_what_was_written_is_still_shown(tmp_path: Path) -> None:
    core = opened(tmp_path)
    core.writer.upsert(points([1]))
    view = core.view
    core.close()
    calls: list[Callable[[], object]] = [
        lambda: core.writer.upsert(points([2])),
        lambda: core.writer.delete([1]),
        lambda: core.writer.delete_matching(Filter.of(Group(), SPEC)),
        lambda: core.writer.rewrite(lambda each: each),
    ]
    for call in calls:
        with pytest.raises(Unavailable, match="is closed"):
            call()
    assert shown(view) == {1: 0}


def test_closing_waits_for_the_write_under_way(tmp_path: Path) -> None:
    disk = HeldDisk()
    core = opened(tmp_path, disk=disk)
    disk.armed = True
    writing = threading.Thread(target=lambda: core.writer.upsert(points([1])))
    writing.start()
    assert disk.held.wait(PATIENCE_S)
    closing = threading.Thread(target=core.close)
    closing.start()
    disk.let_go.set()
    writing.join(PATIENCE_S)
    closing.join(PATIENCE_S)
    assert shown(core.view) == {1: 0}
