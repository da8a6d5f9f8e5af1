"""Calls of a fleet against a server whose frames a test writes, on an event loop that a test steps."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from engine.home import Home
from engine.limits import TRITON_IDLE_S
from engine.triton.fleet import Fleet
from engine.triton.replica import Access
from tests.fakes import PATIENCE_S, ManualClock


class Timer:
    """See `asyncio.TimerHandle`."""

    def __init__(self, delay_s: float, work: Callable[[], None]) -> None:
        self.delay_s, self.work, self.cancelled = delay_s, work, False

    def cancel(self) -> None:
        self.cancelled = True


class SteppedLoop:
    """What a fleet wants of an event loop; nothing happens but in `step`."""

    def __init__(self) -> None:
        self.ready: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self.timers: list[Timer] = []
        self.readers: dict[int, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def call_soon_threadsafe(self, work: Callable[..., None], *arguments: object) -> None:
        self.ready.append((work, arguments))

    def call_later(self, delay_s: float, work: Callable[[], None]) -> Timer:
        self.timers.append(Timer(delay_s, work))
        return self.timers[-1]

    def add_reader(self, number: int, work: Callable[..., None], *arguments: object) -> None:
        self.readers[number] = (work, arguments)

    def remove_reader(self, number: int) -> None:
        self.readers.pop(number, None)

    def remove_writer(self, number: int) -> None:
        pass

    def step(self) -> int:
        """Does what is ready now, and not what that makes ready; how much it was."""
        count = len(self.ready)
        for _ in range(count):
            work, arguments = self.ready.popleft()
            work(*arguments)
        return count

    def due(self) -> Timer:
        """The one timer that waits."""
        (only,) = [each for each in self.timers if not each.cancelled]
        return only


@pytest.fixture
def loop() -> SteppedLoop:
    return SteppedLoop()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """One that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def fleet_of(port: int, loop: SteppedLoop, clock: ManualClock) -> Fleet:
    home = Home()
    home.bind(cast("Any", loop))
    return Fleet([f"127.0.0.1:{port}"], Access("scale"), home=home, clock=clock)


def when(loop: SteppedLoop, so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not so():
        assert time.monotonic() < give_up
        loop.step()
        time.sleep(0.001)


def test_a_fleet_that_nobody_calls_wakes_only_by_its_timer(
    loop: SteppedLoop, clock: ManualClock, closed_port: int
) -> None:
    fleet = fleet_of(closed_port, loop, clock)
    fleet.start()
    when(loop, lambda: "cannot be reached" in fleet.replicas[0].problem)
    clock.advance(2 * TRITON_IDLE_S)
    for _ in range(3):
        timer = loop.due()
        timer.cancelled = True
        timer.work()
        assert loop.step() == 0
        assert loop.due().delay_s > TRITON_IDLE_S
        fleet.flush()  # of calls without a deadline and without a second server nothing is due
        assert loop.step() == 0
