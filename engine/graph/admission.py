"""Whether a request can still make it through a graph, and by which path. Pure: facts in, a verdict out.

The prediction is a fluid one: what waits before the request, at the rate at which the graph has lately been computed, and then
the longest chain of its nodes, each at its own live estimate. Refusing at once costs the caller less than an answer that
comes too late (Dean & Barroso, "The Tail at Scale", 2013).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from engine.clock import NEVER_NS
from engine.limits import ESTIMATE_TRUST


class Path(Enum):
    """What an arriving request is given."""

    FULL = "full"
    LIGHT = "light"
    """Every node that has one takes its `on_late` at once."""

    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Prediction:
    """Nanoseconds: of the wait before a request that comes now, and of the graph's longest chain, whole and with every `on_late`
    taken (None where no node has one)."""

    wait_ns: int
    full_ns: int
    light_ns: int | None


def choose_path(prediction: Prediction, deadline_ns: int, now_ns: int, idle_ns: int) -> Path:
    """The best path that is predicted to end before the deadline.

    Where nothing waits the full path is tried even if its estimate is up to twice what remains, and even if it is more once
    nothing has run for `ESTIMATE_TRUST` times the estimate (`idle_ns`: for how long): an estimate that nothing refreshes would
    otherwise refuse for ever.
    """
    if deadline_ns == NEVER_NS:
        return Path.FULL
    remaining_ns = deadline_ns - now_ns
    if prediction.wait_ns + prediction.full_ns <= remaining_ns:
        return Path.FULL
    if prediction.light_ns is not None and prediction.wait_ns + prediction.light_ns <= remaining_ns:
        return Path.LIGHT
    stale = idle_ns >= ESTIMATE_TRUST * prediction.full_ns
    if prediction.wait_ns == 0 and (stale or prediction.full_ns <= 2 * remaining_ns):
        return Path.FULL
    return Path.REFUSED


def chains_ns(expected_ns: Sequence[int], consumers: Sequence[Sequence[int]]) -> list[int]:
    """For each node, in plan order, the longest chain of expected times from its start to the graph's end."""
    longest = [0] * len(expected_ns)
    for index in range(len(expected_ns) - 1, -1, -1):
        longest[index] = expected_ns[index] + max((longest[each] for each in consumers[index]), default=0)
    return longest
