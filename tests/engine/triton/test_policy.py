"""Which server is asked, ejected, hedged: single decisions, and a seeded simulation of servers that die, fail and stall."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest

from engine.clock import NEVER_NS
from engine.retry_budget import RetryBudget
from engine.triton.policy import (
    HedgeDelay,
    Standing,
    choose,
    failed,
    may_hedge,
    may_retry,
    slow,
    succeeded,
)

MS = 1_000_000
S = 1_000 * MS


def test_nobody_is_asked_who_is_not_ready() -> None:
    draw = Random(1).randrange
    assert choose([], 0, draw) is None
    assert choose([Standing(), Standing()], 0, draw) is None
    assert choose([Standing(), Standing(ready=True)], 0, draw) == 1


def test_the_one_with_less_to_do_is_asked() -> None:
    draw = Random(2).randrange
    busy, idle = Standing(ready=True, outstanding=9, latency_ns=MS), Standing(ready=True, latency_ns=MS)
    assert {choose([busy, idle], 0, draw) for _ in range(50)} == {1}
    slow_one = Standing(ready=True, latency_ns=20 * MS)
    assert {choose([slow_one, Standing(ready=True, outstanding=4, latency_ns=MS)], 0, draw) for _ in range(50)} == {1}


def test_who_was_tried_is_asked_again_only_where_no_other_is_left() -> None:
    draw = Random(3).randrange
    two = [Standing(ready=True), Standing(ready=True)]
    assert {choose(two, 0, draw, (0,)) for _ in range(20)} == {1}
    assert choose(two[:1], 0, draw, (0,)) == 0


def test_five_failures_in_a_row_eject_and_each_time_for_longer() -> None:
    one, other = Standing(ready=True), Standing(ready=True)
    now, spans = 0, []
    for _ in range(3):
        outcomes = [failed(one, [one, other], now) for _ in range(5)]
        assert outcomes == [False] * 4 + [True]
        assert not one.in_rotation(now)
        spans.append(one.ejected_until_ns - now)
        now = one.ejected_until_ns
        assert one.in_rotation(now)
    assert spans == [1 * S, 2 * S, 4 * S]
    succeeded(one, MS, now + 5 * S)
    assert one.ejections == 0


def test_an_answer_between_failures_starts_the_count_again() -> None:
    one, other = Standing(ready=True), Standing(ready=True)
    for _ in range(20):
        assert not any(failed(one, [one, other], 0) for _ in range(4))
        succeeded(one, MS, 0)


def test_the_last_one_in_rotation_is_never_ejected() -> None:
    one, other = Standing(ready=True), Standing(ready=False)
    assert not any(failed(one, [one, other], 0) for _ in range(50))
    assert choose([one, other], 0, Random(4).randrange) == 0


def test_where_all_are_ejected_those_that_are_ready_are_asked_all_the_same() -> None:
    one = Standing(ready=True, ejected_until_ns=S)
    assert choose([one, Standing(ready=False)], 0, Random(5).randrange) == 0


def test_a_budget_lets_its_burst_through_and_then_its_share() -> None:
    budget = RetryBudget(0.1, 3)
    assert [budget.take() for _ in range(5)] == [True] * 3 + [False] * 2
    for _ in range(10_000):
        budget.sent()
    assert [budget.take() for _ in range(4)] == [True] * 3 + [False]
    taken = 0
    for _ in range(1_000):
        budget.sent()
        taken += budget.take()
    assert taken == pytest.approx(100, abs=1)


@pytest.mark.parametrize("seed", range(5))
def test_hedges_wait_for_what_most_calls_take(seed: int) -> None:
    random, delay = Random(seed), HedgeDelay(MS)
    assert delay.after_ns == NEVER_NS
    late = 0
    for index in range(20_000):
        took = int(random.lognormvariate(0, 0.5) * 5 * MS)
        late += index >= 2_000 and took > delay.after_ns
        delay.observe(took)
    assert 0.03 < late / 18_000 < 0.08, f"seed {seed}"


def test_hedges_never_come_before_the_least_delay() -> None:
    delay = HedgeDelay(5 * MS)
    for _ in range(100):
        delay.observe(MS // 10)
    assert delay.after_ns == 5 * MS


def test_what_may_have_been_computed_goes_again_only_where_that_does_no_harm() -> None:
    facts = {"attempts": 1, "attempts_max": 3, "remaining_ns": MS}
    assert may_retry(**facts, idempotent=True, unprocessed=False)
    assert may_retry(**facts, idempotent=False, unprocessed=True)
    assert not may_retry(**facts, idempotent=False, unprocessed=False)
    assert not may_retry(attempts=3, attempts_max=3, remaining_ns=MS, idempotent=True, unprocessed=True)
    assert not may_retry(attempts=1, attempts_max=3, remaining_ns=0, idempotent=True, unprocessed=True)


def test_nothing_is_hedged_that_could_not_be_answered_in_time() -> None:
    facts = {"attempts": 1, "attempts_max": 3, "latency_ns": 5 * MS}
    assert may_hedge(**facts, idempotent=True, remaining_ns=6 * MS)
    assert not may_hedge(**facts, idempotent=True, remaining_ns=4 * MS)
    assert not may_hedge(**facts, idempotent=False, remaining_ns=6 * MS)


@dataclass
class Asked:
    """A call of the simulation."""

    sent_ns: int
    tried: list[int] = field(default_factory=list)
    took_ns: int | None = None
    failed: bool = False

    @property
    def ended(self) -> bool:
        return self.failed or self.took_ns is not None


class Simulation:
    """Servers and a fleet that follows the policy, on a clock moved by events. `behave(server, now, random)` gives what becomes
    of a call that arrives: nanoseconds until its answer; negative, until its failure; None, never."""

    def __init__(
        self, servers: int, seed: int, behave: Callable[[int, int, Random], int | None], hedge_ns: int | None
    ) -> None:
        self.random = Random(seed)
        self.standings = [Standing(ready=True) for _ in range(servers)]
        self.behave = behave
        self.hedge = None if hedge_ns is None else HedgeDelay(hedge_ns)
        self.hedge_budget, self.retry_budget = RetryBudget(0.1, 10), RetryBudget(0.2, 1_000)
        self.calls: list[Asked] = []
        self.sent = [0] * servers
        self.hedged = 0
        self._numbers = count()
        self._events: list[tuple[int, int, Callable[[int], None]]] = []

    def at(self, when_ns: int, do: Callable[[int], None]) -> None:
        heapq.heappush(self._events, (when_ns, next(self._numbers), do))

    def run(self, *, rate: int, seconds: int) -> None:
        for index in range(rate * seconds):
            self.at(index * S // rate, self.begin)
        while self._events:
            now_ns, _, do = heapq.heappop(self._events)
            do(now_ns)

    def begin(self, now_ns: int) -> None:
        call = Asked(now_ns)
        self.calls.append(call)
        self.hedge_budget.sent()
        self.retry_budget.sent()
        self.send(call, now_ns)
        if self.hedge is not None and self.hedge.after_ns < S:
            self.at(now_ns + self.hedge.after_ns, lambda now: self.second(call, now))

    def send(self, call: Asked, now_ns: int) -> None:
        index = choose(self.standings, now_ns, self.random.randrange, call.tried)
        if index is None:
            call.failed = True
            return
        call.tried.append(index)
        self.sent[index] += 1
        self.standings[index].outstanding += 1
        took = self.behave(index, now_ns, self.random)
        if took is None:
            self.at(now_ns + S, lambda now: self.over(call, index, now_ns, now, bad=True))
        else:
            self.at(now_ns + abs(took), lambda now: self.over(call, index, now_ns, now, bad=took < 0))

    def second(self, call: Asked, now_ns: int) -> None:
        index = choose(self.standings, now_ns, self.random.randrange, call.tried)
        if call.ended or index is None or index in call.tried or not self.hedge_budget.take():
            return
        self.hedged += 1
        slow(self.standings[call.tried[0]], now_ns - call.sent_ns)
        self.send(call, now_ns)

    def over(self, call: Asked, index: int, sent_ns: int, now_ns: int, *, bad: bool) -> None:
        standing = self.standings[index]
        standing.outstanding -= 1
        if bad:
            failed(standing, self.standings, now_ns)
            again = may_retry(
                attempts=len(call.tried), attempts_max=3, idempotent=True, unprocessed=False, remaining_ns=S
            )
            if not call.ended and again and self.retry_budget.take():
                self.send(call, now_ns)
            elif not call.ended:
                call.failed = True
            return
        succeeded(standing, now_ns - sent_ns, now_ns)
        if not call.ended:
            call.took_ns = now_ns - call.sent_ns
            if self.hedge is not None:
                self.hedge.observe(now_ns - sent_ns)

    def quantile_ms(self, share: float) -> float:
        took = sorted(each.took_ns for each in self.calls if each.took_ns is not None)
        return took[int(share * (len(took) - 1))] / MS


def usual(random: Random) -> int:
    return int(random.lognormvariate(0, 0.3) * 2 * MS)


@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_refuses_for_three_seconds_costs_no_call(seed: int) -> None:
    def behave(server: int, now_ns: int, random: Random) -> int | None:
        return -MS // 10 if server == 0 and 2 * S <= now_ns < 5 * S else usual(random)

    made = Simulation(2, seed, behave, hedge_ns=None)
    made.run(rate=500, seconds=10)
    assert sum(each.failed for each in made.calls) == 0, f"seed {seed}"
    back = [each for each in made.calls if each.sent_ns > 9 * S]
    assert sum(each.tried[0] == 0 for each in back) > 0.3 * len(back), f"seed {seed}: it is asked again"


@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_always_fails_gets_hardly_anything(seed: int) -> None:
    made = Simulation(3, seed, lambda server, _, random: -MS if server == 1 else usual(random), hedge_ns=None)
    made.run(rate=500, seconds=20)
    assert sum(each.failed for each in made.calls) == 0, f"seed {seed}"
    assert made.sent[1] < 0.02 * len(made.calls), f"seed {seed}: {made.sent}"


@pytest.mark.parametrize("seed", range(5))
def test_stalls_of_one_call_in_a_hundred_are_hedged_within_the_budget(seed: int) -> None:
    def behave(_: int, __: int, random: Random) -> int | None:
        return 300 * MS if random.random() < 0.015 else usual(random)

    plain, hedged = Simulation(2, seed, behave, hedge_ns=None), Simulation(2, seed, behave, hedge_ns=MS)
    plain.run(rate=500, seconds=20)
    hedged.run(rate=500, seconds=20)
    assert plain.quantile_ms(0.99) > 250, f"seed {seed}"
    assert hedged.quantile_ms(0.99) < 20, f"seed {seed}"
    assert hedged.hedged <= 0.1 * len(hedged.calls) + 10, f"seed {seed}"


@pytest.mark.parametrize("seed", range(3))
def test_a_server_ten_times_as_slow_gets_little(seed: int) -> None:
    made = Simulation(2, seed, lambda server, _, random: usual(random) * (10 if server else 1), hedge_ns=None)
    made.run(rate=500, seconds=10)
    assert made.sent[1] < 0.1 * len(made.calls), f"seed {seed}: {made.sent}"


@pytest.mark.parametrize("seed", range(3))
def test_silence_is_not_taken_for_ever(seed: int) -> None:
    made = Simulation(2, seed, lambda server, now, r: None if server == 0 and now < 3 * S else usual(r), hedge_ns=MS)
    made.run(rate=200, seconds=8)
    late = [each for each in made.calls if S < each.sent_ns < 3 * S]
    assert sum(each.failed for each in made.calls) == 0, f"seed {seed}"
    assert sum((each.took_ns or 0) < 100 * MS for each in late) > 0.99 * len(late), f"seed {seed}"
