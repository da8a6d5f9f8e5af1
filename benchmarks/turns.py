"""Servers loaded in turns over several rounds: what each turn found, and medians of figures and of ratios. Pure.

A ratio is taken within one round, where both servers met the same machine, and the median of those is told.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Protocol, TypeVar

from benchmarks.harness import Measured


@dataclass(frozen=True, slots=True)
class Turn:
    """One server under one number of callers in one round. Figures that could not be taken are NaN."""

    round: int
    server: str
    callers: int
    measured: Measured

    @property
    def rate_per_s(self) -> float:
        """Requests that ended OK, each second."""
        return self.measured.load.throughput_per_s

    @property
    def p50_ms(self) -> float:
        """Median latency."""
        return number_or_nan(self.measured.load.latency_ms.p50)

    @property
    def p99_ms(self) -> float:
        """The latency that one request in a hundred exceeds."""
        return number_or_nan(self.measured.load.latency_ms.p99)

    @property
    def cpu_us(self) -> float:
        """CPU of all the server's processes for each request."""
        return number_or_nan(self.measured.server_cpu_us_per_request)

    @property
    def core_share(self) -> float:
        """How much of its core the server had."""
        return self.measured.server_cpu_share

    @property
    def failed(self) -> int:
        """Requests that did not end OK."""
        return self.measured.load.requests - self.measured.load.ok


Figure = Callable[[Turn], float]


class Named(Protocol):
    """What is loaded."""

    @property
    def name(self) -> str:
        """Of one of them alone."""


Server = TypeVar("Server", bound=Named)


def one_round(
    number: int, servers: Sequence[Server], callers: Sequence[int], measured: Callable[[Server, int], Measured | None]
) -> list[Turn]:
    """Every server under every number of callers, servers taking turns; odd rounds go the other way round. `measured` may say
    None: that server does not meet so many."""
    ordered = servers if number % 2 == 0 else servers[::-1]
    met = [(count, each) for count in callers for each in ordered]
    found = [(count, each, measured(each, count)) for count, each in met]
    return [Turn(number, each.name, count, one) for count, each, one in found if one is not None]


class Rounds:
    """Turns, asked by server and number of callers. Base of dataclasses that hold them among other things."""

    __slots__ = ()
    turns: list[Turn]

    def of(self, server: str, callers: int) -> list[Turn]:
        """The turns of one server under one number of callers, by round."""
        found = [turn for turn in self.turns if turn.server == server and turn.callers == callers]
        return sorted(found, key=lambda turn: turn.round)

    def middle(self, figure: Figure, server: str, callers: int) -> float:
        """The median of a figure; NaN where it is not known."""
        return median_of([figure(turn) for turn in self.of(server, callers)])

    def ratio(self, figure: Figure, server: str, over: str, callers: int) -> float:
        """The median over the rounds of a server's figure divided by another's; NaN where one did not meet so many."""
        if not (self.of(server, callers) and self.of(over, callers)):
            return math.nan
        pairs = zip(self.of(server, callers), self.of(over, callers), strict=True)
        return median_of([figure(one) / figure(other) if figure(other) else math.nan for one, other in pairs])


def rate(turn: Turn) -> float:
    """Requests a second."""
    return turn.rate_per_s


def p50(turn: Turn) -> float:
    """Median latency in ms."""
    return turn.p50_ms


def p99(turn: Turn) -> float:
    """The 99th percentile in ms."""
    return turn.p99_ms


def cpu(turn: Turn) -> float:
    """CPU microseconds a request."""
    return turn.cpu_us


def core_share(turn: Turn) -> float:
    """The part of its core that the server had."""
    return turn.core_share


def number_or_nan(value: float | None) -> float:
    """NaN stands for a figure that could not be taken."""
    return math.nan if value is None else value


def median_of(values: Sequence[float]) -> float:
    """The median; NaN where any is missing."""
    return math.nan if not values or any(map(math.isnan, values)) else median(values)
