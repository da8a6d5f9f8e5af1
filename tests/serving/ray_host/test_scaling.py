"""How many replicas are wanted, in a simulated deployment whose replicas queue what they cannot compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace
from itertools import pairwise
from random import Random
from statistics import fmean

import pytest

from serving.ray_host.scaling import WINDOW_S, Bounds, Load, Memory, wanted

CAPACITY = 100.0
"""Requests a second that one replica computes."""
START_S = 8.0
"""A new replica takes so long to be warmed."""
BOUNDS = Bounds(1, 16, queue_wait_ms=5.0, misses_max=0.01, calls_target=None, calm_s=120.0)

Rate = Callable[[float], float]


@dataclass
class Deployment:
    """Replicas that share requests evenly, seen second by second as the controller sees them: means over the window."""

    bounds: Bounds
    random: Random
    running: int = 1
    asked: int = 1
    backlog: float = 0.0
    memory: Memory = field(default_factory=Memory)
    window: deque[Load] = field(default_factory=lambda: deque(maxlen=int(WINDOW_S)))
    starting: list[float] = field(default_factory=list)
    history: list[int] = field(default_factory=list)
    waits_ms: list[float] = field(default_factory=list)

    def second(self, now: float, rate: float) -> None:
        """One second of `rate` requests."""
        self.running += sum(each <= now for each in self.starting)
        self.starting = [each for each in self.starting if each > now]
        loads = self._loads(rate)
        self.asked, self.memory = wanted(loads, self.running, self.asked, self.bounds, self.memory, now)
        coming = self.running + len(self.starting)
        self.starting += [now + START_S] * (self.asked - coming)
        if self.asked < self.running:
            self.running = self.asked
        self.history.append(self.asked)

    def _loads(self, rate: float) -> list[Load]:
        if not self.running:
            return []
        capacity = CAPACITY * self.running
        come = self.backlog + rate * self.random.uniform(0.9, 1.1)
        done = min(come, capacity)
        self.backlog = come - done
        busy = min(done / capacity, 0.99)
        wait_ms = 1e3 * self.backlog / capacity + 3e3 / CAPACITY * busy**4 / (1 - busy)
        self.waits_ms.append(wait_ms)
        self.window.append(Load(wait_ms, 0.0, come * wait_ms / 1e3 / self.running, done / self.running))
        figures = [fmean(each) for each in zip(*map(astuple, self.window), strict=True)]
        return [Load(*figures)] * self.running


def _simulated(rate: Rate, seconds: int, bounds: Bounds = BOUNDS, *, seed: int = 1) -> Deployment:
    deployment = Deployment(bounds, Random(seed), bounds.replicas_min, bounds.replicas_min)
    for second in range(seconds):
        deployment.second(float(second), rate(second))
    return deployment


def _changes(history: list[int]) -> int:
    return sum(now != then for then, now in pairwise(history))


def _steady(running: int, load: Load, bounds: Bounds = BOUNDS, memory: Memory | None = None) -> int:
    """What is wanted where so many have run for long, and all measure the same."""
    replicas, _ = wanted([load] * running, running, running, bounds, memory or Memory(running, -1e6), 0.0)
    return replicas


@pytest.mark.parametrize("rate", [150.0, 420.0, 700.0])
def test_waits_bring_replicas_until_they_are_short(rate: float) -> None:
    deployment = _simulated(lambda _: rate, 600)
    needed = rate / CAPACITY
    assert needed < deployment.asked <= 2 * needed + 2, deployment.history
    assert max(deployment.waits_ms[-60:]) < 2 * (BOUNDS.queue_wait_ms or 0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [60.0, 95.0, 130.0, 190.0, 333.0])
def test_constant_load_does_not_make_it_flap(rate: float, seed: int) -> None:
    settled = _simulated(lambda _: rate, 3 * 3600, seed=seed).history[600:]
    assert _changes(settled) <= 3 * 4, f"seed {seed}: one less is tried once an hour, and given up"


def test_replicas_go_one_by_one_only_after_calm() -> None:
    deployment = _simulated(lambda second: 420.0 if second < 300 else 10.0, 300 + 16 * 150)
    later = deployment.history[300:]
    assert all(now in (then, then - 1) for then, now in pairwise(later))
    gone = [second for second, (then, now) in enumerate(pairwise(later)) if now < then]
    assert all(second - before >= BOUNDS.calm_s for before, second in pairwise(gone))
    assert later[-1] == 1


def test_one_less_wants_calm_without_a_break() -> None:
    memory, calm, restless = Memory(4, -1e6), Load(wait_ms=0.1), Load(wait_ms=4.0)
    asked = []
    for second in range(3 * int(BOUNDS.calm_s)):
        load = restless if second == 100 else calm
        replicas, memory = wanted([load] * 4, 4, 4, BOUNDS, memory, float(second))
        asked.append(replicas)
    assert asked.index(3) == 101 + BOUNDS.calm_s


def test_bounds_are_kept() -> None:
    few = replace(BOUNDS, replicas_min=2, replicas_max=3)
    assert set(_simulated(lambda _: 5_000.0, 300, few).history) == {2, 3}
    assert set(_simulated(lambda _: 0.0, 600, few).history) == {2}
    assert _steady(3, Load(wait_ms=1e6), replace(BOUNDS, replicas_max=2)) == 2


def test_idle_deployment_goes_to_zero_where_it_may() -> None:
    may = replace(BOUNDS, replicas_min=0)
    deployment = Deployment(may, Random(1))
    for second in range(int(BOUNDS.calm_s) + 30):
        deployment.second(float(second), 0.0)
    assert deployment.asked == 0
    busy = Deployment(may, Random(1))
    for second in range(int(BOUNDS.calm_s) + 30):
        busy.second(float(second), 1.0 if second % 10 else 0.0)
    assert busy.asked == 1, "a request every second is not idle"


def test_misses_and_calls_count_as_waits_do() -> None:
    calls = replace(BOUNDS, queue_wait_ms=None, misses_max=None, calls_target=8.0)
    assert _steady(4, Load(missed=0.0125)) == 5
    assert _steady(4, Load(missed=0.25)) == 6
    assert _steady(4, Load(missed=1.0)) == 8, "twice as many at most"
    assert _steady(4, Load(calls=10.0), calls) == 5
    assert _steady(4, Load(wait_ms=1e3, missed=1.0, calls=7.0), calls) == 4
    assert _steady(4, Load(calls=5.9), replace(calls, calm_s=0.0)) == 3
    assert _steady(4, Load(calls=6.1), replace(calls, calm_s=0.0)) == 4, "with three it would be too many at each"


def test_nothing_is_decided_before_those_asked_for_have_measured() -> None:
    loads = [Load(wait_ms=100.0)] * 2
    assert wanted(loads, 2, 4, BOUNDS, Memory(2, -1e6), 0.0)[0] == 4, "they are still being warmed"
    replicas, memory = wanted(loads, 4, 4, BOUNDS, Memory(2, -1e6), 0.0)
    assert replicas == 4, "what is measured was measured with two"
    assert wanted(loads, 4, 4, BOUNDS, memory, WINDOW_S)[0] == 8
    assert wanted([], 4, 4, BOUNDS, Memory(4, -1e6), 0.0)[0] == 4


def test_rate_at_which_replicas_were_overloaded_keeps_as_many_until_it_is_forgotten() -> None:
    bounds = replace(BOUNDS, calm_s=0.0)
    calm = Load(wait_ms=0.1, rate=40.0)
    assert _steady(2, calm, bounds, Memory(2, -1e6, limit_rate=200.0)) == 1
    assert _steady(2, calm, bounds, Memory(2, -1e6, limit_rate=100.0)) == 2
    assert _steady(2, calm, bounds, Memory(2, -1e6, limit_rate=100.0, limit_at=-4_000.0)) == 1
