"""Exact aggregates over the past of each entity, for all events at once. Pure; knows nothing of cards or fraud.

Events are sorted by entity and time once; a window of an event is then a slice of that order, found by binary search,
and a sum over it is a difference of two prefix sums. Whole numbers only, so that the differences are exact.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Window:
    """The events at `time_s` with now - end_s - length_s <= time_s < now - end_s: never the present one."""

    length_s: int
    end_s: int = 0


class Timeline:
    """The events of all entities. Answers come in the order the events were given in; thread-safe."""

    def __init__(self, entity: Ints, time_s: Ints) -> None:
        """`entity` and `time_s` are whole, not negative, and equally long."""
        self._span = int(time_s.max(initial=0)) + 1
        self._entity, self._time_s = entity, time_s
        self._order = np.argsort(self._key(time_s), kind="stable")
        self._sorted = self._key(time_s)[self._order]

    def counts(self, window: Window) -> Ints:
        """How many events of the same entity lie in each event's window."""
        first, end = self._slices(window)
        return end - first

    def sums(self, values: Ints, window: Window) -> Ints:
        """The sum of `values`, one an event, over each event's window."""
        first, end = self._slices(window)
        prefix = np.concatenate([np.zeros(1, np.int64), np.cumsum(values[self._order], dtype=np.int64)])
        sums: Ints = prefix[end] - prefix[first]
        return sums

    def previous(self) -> tuple[Ints, Bools]:
        """The row of the last strictly earlier event of the same entity, and whether there is one (else row 0)."""
        before = self._before(self._time_s)
        known = before > self._before(np.zeros_like(self._time_s))
        return np.where(known, self._order[before - 1], 0), known

    def _slices(self, window: Window) -> tuple[Ints, Ints]:
        until_s = self._time_s - window.end_s
        return self._before(until_s - window.length_s), self._before(until_s)

    def _before(self, time_s: Ints) -> Ints:
        """How many events sort before this instant of each event's entity; an instant before all time counts as 0."""
        before: Ints = np.searchsorted(self._sorted, self._key(np.maximum(time_s, 0)), side="left")
        return before

    def _key(self, time_s: Ints) -> Ints:
        return self._entity * self._span + time_s
