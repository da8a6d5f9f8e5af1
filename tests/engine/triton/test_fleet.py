"""Calls of a fleet against a server whose frames a test writes, on an event loop that a test steps."""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import pytest

from engine.clock import NEVER_NS
from engine.errors import VireoError
from engine.home import Home
from engine.limits import TRITON_IDLE_S
from engine.triton.fleet import Fleet
from engine.triton.replica import Access
from tests.fakes import PATIENCE_S, ManualClock

MS = 1_000_000


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


class Asked:
    """A call that a stand-in's server was asked. See `connection.Exchange`."""

    headers: Mapping[str, str] = {"grpc-status": "0"}
    unprocessed = waits = False
    reset = None

    def __init__(self, owner: object) -> None:
        self.owner, self.ended = owner, False

    @property
    def ok(self) -> bool:
        return self.ended

    def message(self) -> bytes:
        return b"answer"


class Server:
    """A connection to a server that is asked nothing but calls. See `connection.Connection`."""

    regions = None
    tls = closing = has_room = False

    def __init__(self) -> None:
        self.socket = socket.socket()
        self.asked: list[Asked] = []
        self.given_up: list[Asked] = []
        self._answered: list[Asked] = []

    @property
    def open(self) -> int:
        return len(self.asked)

    def send(self, block: bytes, body: bytes, owner: object, *, live: bool = False) -> Asked:
        self.asked.append(Asked(owner))
        return self.asked[-1]

    def flush(self) -> None:
        pass

    def reset(self, exchange: Asked) -> None:
        self.asked.remove(exchange)
        self.given_up.append(exchange)

    def answer(self) -> None:
        """Has all that was asked answered when it is read next."""
        self._answered, self.asked = self.asked, []
        for each in self._answered:
            each.ended = True

    def read(self) -> list[Asked]:
        answered, self._answered = self._answered, []
        return answered

    def close(self) -> list[Asked]:
        self.socket.close()
        return self.asked


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    made = Server(), Server()
    yield made
    for each in made:
        each.close()


def test_a_second_server_is_asked_when_most_calls_have_been_answered_and_the_loop_wakes_for_that_alone(
    loop: SteppedLoop, clock: ManualClock, servers: tuple[Server, Server]
) -> None:
    home = Home()
    home.bind(cast("Any", loop))
    fleet = Fleet(["one:1", "two:2"], Access("scale"), home=home, clock=clock, hedge_ns=5 * MS)
    for replica, server in zip(fleet.replicas, servers, strict=True):
        replica.connection, replica.heard_ns, replica.standing.ready = cast("Any", server), clock(), True
    told: list[bytes | VireoError] = []

    def call() -> Server:
        """The server that is asked."""
        before = [len(each.asked) for each in servers]
        fleet.begin("ModelInfer", b"", NEVER_NS, told.append)
        fleet.flush()
        (only,) = [each for each, count in zip(servers, before, strict=True) if len(each.asked) > count]
        return only

    def tick() -> None:
        timer = loop.due()
        clock.advance(timer.delay_s)
        timer.cancelled = True
        timer.work()

    def answered(server: Server) -> None:
        server.answer()
        fleet.readable(cast("Any", server))

    fleet.start()
    loop.step()
    first = call()
    assert loop.step() == 0  # nobody knows yet how long a call takes
    clock.advance(0.004)
    answered(first)
    slow = call()
    assert loop.step() == 1
    assert loop.due().delay_s == pytest.approx(0.008)  # twice what the first took, until more is known
    tick()
    (other,) = [each for each in servers if each is not slow]
    assert len(other.asked) == 1
    answered(other)
    assert len(slow.given_up) == 1
    assert told == [b"answer", b"answer"]
    tick()
    for _ in range(5):
        clock.advance(0.001)
        answered(call())
        assert loop.step() == 0  # the timer that is set already comes before any of them is due
    assert len(told) == 7
