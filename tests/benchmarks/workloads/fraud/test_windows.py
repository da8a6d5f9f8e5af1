"""Windowed aggregates agree with a full scan, event by event."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.workloads.fraud.windows import Ints, Timeline, Window

Event = tuple[int, int, int]
EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(-5, 1000)), max_size=40)
WINDOWS = st.builds(Window, st.integers(1, 40), st.integers(0, 10))


def columns(events: list[Event]) -> tuple[Ints, Ints, Ints]:
    table = np.array(events, np.int64).reshape(-1, 3)
    return table[:, 0], table[:, 1], table[:, 2]


def naive_window(events: list[Event], now: Event, window: Window) -> list[int]:
    """The values of the events in one event's window, by looking at every event."""
    until_s = now[1] - window.end_s
    return [
        value for entity, time_s, value in events if entity == now[0] and until_s - window.length_s <= time_s < until_s
    ]


@given(EVENTS, WINDOWS)
def test_counts_and_sums_agree_with_a_full_scan(events: list[Event], window: Window) -> None:
    entity, time_s, values = columns(events)
    timeline = Timeline(entity, time_s)
    naive = [naive_window(events, each, window) for each in events]
    assert timeline.counts(window).tolist() == [len(each) for each in naive]
    assert timeline.sums(values, window).tolist() == [sum(each) for each in naive]


@given(EVENTS)
def test_previous_event_is_the_latest_strictly_earlier_one_of_the_entity(events: list[Event]) -> None:
    entity, time_s, _ = columns(events)
    row, known = Timeline(entity, time_s).previous()
    for index, (mine, now_s, _) in enumerate(events):
        earlier = [when_s for whose, when_s, _ in events if whose == mine and when_s < now_s]
        assert known[index] == bool(earlier)
        if earlier:
            assert (entity[row[index]], time_s[row[index]]) == (mine, max(earlier))


@pytest.mark.parametrize(("window", "count"), [(Window(10), 1), (Window(11), 2), (Window(10, end_s=1), 2)])
def test_window_holds_its_first_instant_and_not_its_last(window: Window, count: int) -> None:
    timeline = Timeline(np.zeros(3, np.int64), np.array([9, 12, 20], np.int64))
    assert timeline.counts(window)[2] == count
