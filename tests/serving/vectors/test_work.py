"""Work off the event loop is bounded by its call's deadline, whoever else is at work."""

from __future__ import annotations

import asyncio

import pytest

from engine import Deadline, DeadlineExceeded, Engine, Spec
from serving.dispatch import Dispatch
from serving.vectors_work import VectorsWork
from tests.fakes import Gate


def test_a_call_behind_long_ones_is_told_at_its_deadline_and_never_done() -> None:
    gate, done = Gate(), list[str]()

    async def check() -> None:
        dispatch = Dispatch(Engine(Spec()))
        work = VectorsWork(dispatch)
        long = [asyncio.create_task(work.read(Deadline.NEVER, gate)) for _ in range(4)]
        for _ in long:
            await asyncio.to_thread(gate.wait_entered)
        soon = Deadline.after(0.01, dispatch.engine.clock())
        with pytest.raises(DeadlineExceeded, match="while the call was being served"):
            await work.read(soon, lambda: done.append("late"))
        assert dispatch.in_flight == len(long)
        gate.open()
        await asyncio.gather(*long)
        await work.read(Deadline.NEVER, lambda: done.append("in time"))
        assert dispatch.in_flight == 0
        work.close()

    asyncio.run(check())
    assert done == ["in time"]


def test_a_write_that_has_begun_is_finished_though_nobody_waits_any_more() -> None:
    gate, done = Gate(), list[str]()

    def write() -> None:
        gate()
        done.append("written")

    async def check() -> None:
        dispatch = Dispatch(Engine(Spec()))
        work = VectorsWork(dispatch)
        begun = asyncio.create_task(work.write(Deadline.after(0.5, dispatch.engine.clock()), write))
        with pytest.raises(DeadlineExceeded):
            await begun
        gate.open()
        work.close()

    asyncio.run(check())
    assert done == ["written"]
