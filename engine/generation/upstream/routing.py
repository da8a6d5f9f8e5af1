"""Where a call goes next, and when: targets by weight, tries again inside the deadline, then the fallback. Pure:
facts, instants and a seeded random come as arguments.

Waits between tries are drawn from the whole span ("full jitter", Brooker 2015), and added to what Retry-After asks
(RFC 9110).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate

from engine.clock import Deadline
from engine.generation.upstream.declaration import UpstreamSpec
from engine.generation.upstream.health import Health
from engine.retry_budget import RetryBudget


class Outcome(Enum):
    """What became of one try."""

    ANSWERED = "answered"
    """The server answered, or began to; what it refuses for the caller's fault is an answer too."""
    LIMITED = "limited"
    """It works, and refuses for its rate limit or overload."""
    FAILED = "failed"
    """It could not be reached, broke off, or failed; or it refuses this server's credentials or settings."""


@dataclass(frozen=True, slots=True)
class Try:
    """Ask `target` at `at_ns`, not before."""

    target: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Stop:
    """No target is to be asked any more. `retry_after_s`: when asking again may help, where that is known."""

    why: str
    retry_after_s: float | None = None


class Router:
    """The targets of one model, their health, and the budget of tries again. `chance` gives numbers from 0 to 1, below
    1. Only one thread may use it."""

    def __init__(self, spec: UpstreamSpec, chance: Callable[[], float], *, spare: int) -> None:
        self.spec = spec
        self.health = {name: Health(spec.ejection) for name in spec.targets}
        self._weights = {name: each.weight for name, each in spec.targets.items()}
        self._budget = RetryBudget(spec.retry.share, spare)
        self._chance = chance

    def route(self, targets: Collection[str], deadline: Deadline) -> Route:
        """The way of a new call that each of `targets` could answer."""
        self._budget.sent()
        return Route(self, targets, deadline)

    def choose(self, among: Collection[str], now_ns: int) -> str | None:
        """One of `among` that may be asked: by weight; one of weight 0 where there is no other."""
        free = [name for name in among if self.health[name].available(now_ns)]
        weighted = [name for name in free if self._weights[name] > 0]
        if not weighted:
            return free[0] if free else None
        sums = list(accumulate(self._weights[name] for name in weighted))
        return weighted[min(bisect(sums, self._chance() * sums[-1]), len(weighted) - 1)]

    def allows_retry(self) -> bool:
        """Whether the budget has one more try; if so, it is taken."""
        return self._budget.take()

    def jitter_s(self, tries: int) -> float:
        """How long to wait after so many tries."""
        retry = self.spec.retry
        return self._chance() * min(retry.backoff_s_max, retry.backoff_s_min * 2.0 ** (tries - 1))


class Route:
    """One call's way through its targets: `first`, then `next` or `past` after each that did not answer."""

    def __init__(self, router: Router, targets: Collection[str], deadline: Deadline) -> None:
        self._router = router
        self._retry = router.spec.retry
        self._deadline = deadline
        self._fresh = list(targets)
        self._tried: list[str] = []
        self.tries = 0

    def first(self, now_ns: int) -> Try | Stop:
        """Where the call goes."""
        if self._deadline.expired(now_ns):
            return Stop("its deadline has passed")
        target = self._router.choose(self._fresh, now_ns)
        if target is None:
            return self._none_free(now_ns)
        return self._begin(target, now_ns)

    def past(self, now_ns: int) -> Try | Stop:
        """Where it goes after a target turned out not to be able to take it: nobody was asked, so that counts as no
        try."""
        self.tries -= 1
        self._tried.pop()
        return self.first(now_ns) if self._fresh else Stop("no target can take it")

    def next(self, now_ns: int, *, retry_after_s: float | None = None, spent: bool = False) -> Try | Stop:
        """Where it goes after the try before failed. Its target is not asked again where it is `spent`;
        `retry_after_s` is what it asked for, which its health has been told."""
        if spent:
            self._tried.pop()
        if self.tries >= self._retry.attempts_max:
            return Stop(f"tried {self.tries} time(s)", retry_after_s)
        another = self._router.choose(self._fresh, now_ns)
        found = (another, 0.0) if another is not None else self._again(now_ns)
        if found is None:
            return Stop("no target can be asked again in time", retry_after_s)
        chosen, wait_s = found
        at_ns = Deadline.after(wait_s, now_ns).at_ns
        if self._deadline.expired(at_ns):
            return Stop("its deadline leaves no time for another try", retry_after_s)
        if not self._router.allows_retry():
            return Stop("too many calls are being tried again already", retry_after_s)
        return self._begin(chosen, at_ns)

    def _begin(self, target: str, at_ns: int) -> Try:
        self.tries += 1
        if target in self._fresh:
            self._fresh.remove(target)
            self._tried.append(target)
        else:
            self._tried.sort(key=target.__eq__)  # the one that is tried stands last
        return Try(target, at_ns)

    def _none_free(self, now_ns: int) -> Stop:
        waits = [self._router.health[name].available_in_s(now_ns) for name in self._fresh]
        return Stop("no target can be asked now: all have failed or are at their limit", min(waits))

    def _again(self, now_ns: int) -> tuple[str, float] | None:
        """Of those tried, the one that can be asked the soonest, and in how long."""
        waits = {name: self._router.health[name].available_in_s(now_ns) for name in self._tried}
        name = min(waits, key=lambda each: waits[each], default=None)
        if name is None or waits[name] > self._retry.retry_after_s_max:
            return None
        return name, waits[name] + self._router.jitter_s(self.tries)
