"""Where calls go: weights, ejection, tries again inside the deadline. On a clock of the test's own, with seeded
chance."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from engine.clock import Deadline
from engine.generation.upstream.declaration import EjectionSpec, RetrySpec, TargetSpec, UpstreamSpec
from engine.generation.upstream.health import Health
from engine.generation.upstream.routing import Router, Stop, Try

SECOND = 10**9


def _router(
    *weights: float, retry: RetrySpec | None = None, ejection: EjectionSpec | None = None, spare: int = 100
) -> Router:
    targets = {f"t{index}": TargetSpec(weight=weight) for index, weight in enumerate(weights)}
    spec = UpstreamSpec(targets, retry=retry or RetrySpec(), ejection=ejection or EjectionSpec())
    return Router(spec, Random(7).random, spare=spare)


def _first(router: Router, now_ns: int = 0, deadline: Deadline = Deadline.NEVER) -> Try | Stop:
    return router.route(router.health, deadline).first(now_ns)


def test_targets_share_calls_by_weight_and_one_of_weight_zero_stands_by() -> None:
    router = _router(3, 1, 0)
    found = Counter(step.target for step in (_first(router) for _ in range(4_000)) if isinstance(step, Try))
    assert set(found) == {"t0", "t1"}
    assert 0.7 < found["t0"] / 4_000 < 0.8
    for name in ("t0", "t1"):
        router.health[name].rest(1.0, 0)
    assert _first(router) == Try("t2", 0)


def test_a_call_is_tried_at_other_targets_at_once_and_at_the_same_one_after_a_pause() -> None:
    router = _router(1, 1, retry=RetrySpec(attempts_max=4, backoff_s_min=1.0))
    route = router.route(router.health, Deadline.NEVER)
    first = route.first(5)
    assert isinstance(first, Try)
    second = route.next(10)
    assert isinstance(second, Try)
    assert {first.target, second.target} == {"t0", "t1"}
    assert second.at_ns == 10
    third = route.next(20)
    assert isinstance(third, Try)
    assert 20 <= third.at_ns <= 20 + 2 * SECOND  # after two tries the span has doubled


def test_a_target_that_cannot_be_helped_is_not_asked_again() -> None:
    router = _router(1, retry=RetrySpec(attempts_max=5))
    route = router.route(router.health, Deadline.NEVER)
    route.first(0)
    assert isinstance(route.next(0, spent=True), Stop)


def test_a_target_that_cannot_take_a_call_costs_no_try() -> None:
    router = _router(1, 1, retry=RetrySpec(attempts_max=1), spare=0)
    route = router.route(router.health, Deadline.NEVER)
    first = route.first(0)
    second = route.past(0)
    assert isinstance(first, Try)
    assert isinstance(second, Try)
    assert first.target != second.target
    assert route.past(0) == Stop("no target can take it")


def test_failures_in_a_row_eject_a_target_and_one_call_tries_it_later() -> None:
    health = Health(EjectionSpec(failures_max=2, eject_s=5, eject_s_max=12))
    health.failed(0)
    assert health.available(0)
    health.failed(0)
    assert not health.available(5 * SECOND - 1)
    assert health.available_in_s(SECOND) == 4
    assert health.available(5 * SECOND)
    health.begin(5 * SECOND)
    assert not health.available(5 * SECOND), "others stay away while one call tries it"
    health.failed(6 * SECOND)
    assert not health.available(16 * SECOND - 1)
    health.begin(16 * SECOND)
    health.failed(16 * SECOND)
    assert health.available(28 * SECOND), "the span is bounded"
    health.begin(28 * SECOND)
    health.succeeded()
    health.failed(28 * SECOND)
    assert health.available(28 * SECOND), "failures are counted anew"
    assert health.ejections == 3


def test_a_call_that_is_cancelled_while_it_tries_a_target_lets_others_try_it() -> None:
    health = Health(EjectionSpec(failures_max=1, eject_s=1))
    health.failed(0)
    health.begin(SECOND)
    health.left()
    assert health.available(SECOND)


def test_answers_that_break_off_eject_a_target_though_each_began_well() -> None:
    health = Health(EjectionSpec(failures_max=3, eject_s=1))
    for _ in range(3):
        health.begin(0)
        health.answering()
        health.failed(0)
    assert not health.available(0)


def test_when_every_target_rests_the_call_is_told_when_the_first_is_back() -> None:
    router = _router(1, 1)
    router.health["t0"].rest(9.0, 0)
    router.health["t1"].rest(4.0, 0)
    step = _first(router)
    assert isinstance(step, Stop)
    assert step.retry_after_s == 4.0


def test_all_calls_together_are_tried_again_no_more_often_than_the_budget_allows() -> None:
    router = _router(1, 1, ejection=EjectionSpec(failures_max=10**9), spare=10)
    again = 0
    for _ in range(1_000):
        route = router.route(router.health, Deadline.NEVER)
        route.first(0)
        while isinstance(route.next(0), Try):
            again += 1
    assert again <= 10 + 0.2 * 1_000
    assert again >= 0.19 * 1_000


@given(
    seed=st.integers(0, 2**32),
    attempts=st.integers(1, 8),
    budget_s=st.floats(0, 40),
    asked=st.lists(st.one_of(st.none(), st.floats(0, 60)), min_size=8, max_size=8),
    took=st.lists(st.floats(0, 5), min_size=8, max_size=8),
    targets=st.integers(1, 4),
)
def test_no_try_begins_past_the_deadline_or_before_its_target_wants_it(
    seed: int, attempts: int, budget_s: float, asked: list[float | None], took: list[float], targets: int
) -> None:
    spec = UpstreamSpec({f"t{each}": TargetSpec() for each in range(targets)}, retry=RetrySpec(attempts_max=attempts))
    router = Router(spec, Random(seed).random, spare=100)
    deadline = Deadline.after(budget_s, 0)
    route = router.route(router.health, deadline)
    now_ns = tries = 0
    not_before = dict.fromkeys(router.health, 0)
    step = route.first(now_ns)
    while isinstance(step, Try):
        tries += 1
        assert step.at_ns >= now_ns
        assert not deadline.expired(step.at_ns)
        assert step.at_ns >= not_before[step.target], "Retry-After is honoured"
        now_ns = step.at_ns + int(took[tries - 1] * 1e9)
        wait_s = asked[tries - 1]
        if wait_s is None:
            router.health[step.target].failed(now_ns)
        else:
            router.health[step.target].rest(wait_s, now_ns)
            not_before[step.target] = now_ns + int(wait_s * 1e9)
        step = route.next(now_ns, retry_after_s=wait_s)
    assert tries <= attempts
