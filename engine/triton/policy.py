"""Which of several servers is asked, which is left alone for a while, and when a second one is asked as well. Pure: facts, `now`
and a seeded draw in, decisions out.

Choice: the least expected wait of two drawn at random (Mitzenmacher, "The Power of Two Choices", 2001). Ejection: consecutive
failures, for longer each time, never the last one in rotation (as Envoy's outlier detection). Hedges: a second server is asked
once the first has taken longer than most calls do, for a bounded share of the calls (Dean & Barroso, "The Tail at Scale", 2013).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from engine.clock import NEVER_NS

_WEIGHT = 0.1
"""Of a new sample in a server's mean latency."""

_FAILURES_MAX = 5
"""So many failures, one after the other, take a server out of rotation."""

_EJECTION_NS, _EJECTION_NS_MAX = 1_000_000_000, 30_000_000_000
"""The first time, doubled each time; forgotten when it has answered for as long again."""

_QUANTILE, _STEP = 0.95, 0.05
"""Hedges are sent after the time within which so many of the calls are answered, followed by steps of this part of it."""

Draw = Callable[[int], int]
"""A seeded random whole number below its argument."""


@dataclass(slots=True)
class Standing:
    """What is known of one server. `ready`: it is connected and says that the model answers."""

    ready: bool = False
    outstanding: int = 0
    latency_ns: float = 0.0
    failures: int = 0
    ejections: int = 0
    ejected_until_ns: int = 0

    def in_rotation(self, now_ns: int) -> bool:
        """Whether it is asked."""
        return self.ready and now_ns >= self.ejected_until_ns

    @property
    def expected_ns(self) -> float:
        """What one more call would take, if those on the way share it."""
        return (self.outstanding + 1) * max(self.latency_ns, 1.0)


def choose(standings: Sequence[Standing], now_ns: int, draw: Draw, tried: Collection[int] = ()) -> int | None:
    """The server to ask next, None where there is none. One that was tried is asked again only where no other is left; one that
    is ejected, only where all are."""
    if len(standings) == 1:
        return 0 if standings[0].ready else None
    found = [index for index, each in enumerate(standings) if each.ready and now_ns >= each.ejected_until_ns]
    if not found:
        found = [index for index, each in enumerate(standings) if each.ready]
    if tried:
        found = [each for each in found if each not in tried] or found
    if len(found) < 2:
        return found[0] if found else None
    first = draw(len(found))
    second = (first + 1 + draw(len(found) - 1)) % len(found)
    one, other = found[first], found[second]
    return one if standings[one].expected_ns <= standings[other].expected_ns else other


def succeeded(standing: Standing, took_ns: int, now_ns: int) -> None:
    """The server answered; what a model says of its inputs is an answer too."""
    standing.failures = 0
    standing.latency_ns += _WEIGHT * (took_ns - standing.latency_ns) if standing.latency_ns else took_ns
    if standing.ejections and now_ns - standing.ejected_until_ns > _ejection_ns(standing.ejections):
        standing.ejections = 0


def slow(standing: Standing, waited_ns: int) -> None:
    """A call was given up, or answered elsewhere, when the server had kept it so long."""
    if waited_ns > standing.latency_ns:
        standing.latency_ns += _WEIGHT * (waited_ns - standing.latency_ns) if standing.latency_ns else waited_ns


def failed(standing: Standing, standings: Sequence[Standing], now_ns: int) -> bool:
    """The server failed on a call; whether that takes it out of rotation. The last one in rotation stays."""
    standing.failures += 1
    if standing.failures < _FAILURES_MAX or not standing.in_rotation(now_ns):
        return False
    if not any(each is not standing and each.in_rotation(now_ns) for each in standings):
        return False
    standing.ejections += 1
    standing.failures = 0
    standing.ejected_until_ns = now_ns + _ejection_ns(standing.ejections)
    return True


def _ejection_ns(times: int) -> int:
    return min(_EJECTION_NS << min(times - 1, 5), _EJECTION_NS_MAX)


class HedgeDelay:
    """After how long a call is hedged: what most calls take, at least `least_ns`. Never before the first answers."""

    __slots__ = ("_least_ns", "_quantile_ns")

    def __init__(self, least_ns: int) -> None:
        self._least_ns = least_ns
        self._quantile_ns = 0.0

    def observe(self, took_ns: int) -> None:
        """A call was answered."""
        if not self._quantile_ns:
            self._quantile_ns = 2.0 * took_ns
            return
        up = took_ns > self._quantile_ns
        self._quantile_ns *= 1 + _STEP * _QUANTILE if up else 1 - _STEP * (1 - _QUANTILE)

    @property
    def after_ns(self) -> int:
        """Since the call was sent."""
        return max(self._least_ns, int(self._quantile_ns)) if self._quantile_ns else NEVER_NS


def may_retry(*, attempts: int, attempts_max: int, idempotent: bool, unprocessed: bool, remaining_ns: float) -> bool:
    """Whether a call that a server failed on may go to another: what may have been computed already, only where twice does no
    harm."""
    return attempts < attempts_max and remaining_ns > 0 and (idempotent or unprocessed)


def may_hedge(*, attempts: int, attempts_max: int, idempotent: bool, remaining_ns: float, latency_ns: float) -> bool:
    """Whether a second server may be asked while the first is silent: where it could still answer in time."""
    return idempotent and attempts < attempts_max and remaining_ns > latency_ns
