"""Deadlines as instants."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine import Deadline, monotonic
from tests.fakes import ManualClock


def test_deadline_expires_at_its_instant_and_not_before() -> None:
    clock = ManualClock()
    deadline = Deadline.after(0.5, clock())
    clock.advance(0.499_999)
    assert not deadline.expired(clock())
    clock.advance(0.000_001)
    assert deadline.expired(clock())


def test_remaining_time_never_goes_below_zero() -> None:
    deadline = Deadline.after(2.0, 0)
    assert deadline.remaining_s(500_000_000) == 1.5
    assert deadline.remaining_s(3_000_000_000) == 0.0


def test_no_deadline_never_expires_and_leaves_infinite_time() -> None:
    assert not Deadline.NEVER.expired(1 << 62)
    assert Deadline.NEVER.remaining_s(0) == float("inf")


@given(st.floats(min_value=1e10) | st.just(float("nan")), st.integers(0, 1 << 60))
def test_span_too_long_for_the_clock_is_no_deadline(seconds: float, now_ns: int) -> None:
    assert Deadline.after(seconds, now_ns) == Deadline.NEVER


@given(st.floats(-1e12, 0), st.integers(0, 1 << 53))
def test_deadline_in_the_past_has_expired(seconds: float, now_ns: int) -> None:
    assert Deadline.after(seconds, now_ns).expired(now_ns)


def test_deadlines_order_by_instant() -> None:
    assert Deadline(1) < Deadline(2) < Deadline.NEVER


def test_the_real_clock_does_not_run_backwards() -> None:
    instants = [monotonic() for _ in range(100)]
    assert instants == sorted(instants)
