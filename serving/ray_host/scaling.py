"""How many replicas a deployment is to have, decided from what its replicas measure of their queues.

Waiting grows without bound as a replica nears what it can do, and says little of how near that is. So what a replica can do is
learnt: the rate of requests at which replicas were seen overloaded is remembered, and one less is tried only where the rate that
would be left to each stays well below it.

`wanted` is pure. `QueuePolicy` is the shell that Ray Serve's controller calls; it is sent there by value, so this module
needs nothing of ours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ray.serve.config import AutoscalingContext

WINDOW_S: Final = 5.0
"""Over so much time the measures of a replica are averaged."""

_GROWTH_MAX: Final = 2.0
"""More than twice as many replicas are not asked for at once: what these do is seen first."""
_CALM: Final = 0.5
"""Waits and misses are calm below this share of their bounds."""
_EASING: Final = 0.9
"""Of what requests waited a window ago: below it replicas work off what had piled up before there were so many."""
_FILLED: Final = 0.7
"""So near to the rate at which replicas were overloaded one less may bring the others."""
_REMEMBERED_S: Final = 3_600.0
"""Whatever made replicas slow then may be over."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one replica measured over the last seconds: milliseconds that requests waited for a worker (all but a twentieth wait
    less), the share of them that was refused or late, those in work or waiting on average, and how many were answered a second.
    """

    wait_ms: float = 0.0
    missed: float = 0.0
    calls: float = 0.0
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """See `engine.AutoscalingSpec`."""

    replicas_min: int
    replicas_max: int
    queue_wait_ms: float | None
    misses_max: float | None
    calls_target: float | None
    calm_s: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered from one decision to the next; instants in seconds of one clock."""

    replicas: int = 0
    """That ran at the last decision."""
    since: float = 0.0
    """So many run since."""
    calm_since: float | None = None
    """One less would have been enough at every moment since."""
    limit_rate: float | None = None
    """Requests a second, at each replica, at which they were overloaded."""
    limit_at: float = 0.0
    queue: float | None = None
    """The wait over its bound, when it was above it last and still is."""


def wanted(
    loads: Sequence[Load], running: int, asked: int, bounds: Bounds, memory: Memory, now: float
) -> tuple[int, Memory]:
    """How many replicas there should be, and what to remember. `loads`: of replicas that run and have measured; `running`: how
    many run; `asked`: how many were asked for.
    """
    if running != memory.replicas:
        memory = replace(memory, replicas=running, since=now, calm_since=None)
    if memory.limit_rate is not None and now - memory.limit_at > _REMEMBERED_S:
        memory = replace(memory, limit_rate=None)
    settling = running != asked or now - memory.since < WINDOW_S  # what is measured was measured with fewer or more
    if settling or not loads:
        return _within(asked, bounds), replace(memory, calm_since=None)
    load = Load(*(fmean(each) for each in zip(*map(astuple, loads), strict=True)))
    queue, others = _shares(load, bounds)
    if max(queue, *others) > 1:
        easing = max(others) <= 1 and memory.queue is not None and queue < _EASING * memory.queue
        before = (memory.limit_rate or 0.0) if now - memory.limit_at < WINDOW_S else 0.0  # of the same rush
        memory = replace(memory, calm_since=None, limit_rate=max(load.rate, before), limit_at=now, queue=queue)
        if easing:  # what had piled up is being worked off
            return _within(asked, bounds), replace(memory, since=now)
        return _within(_more(load, running, bounds), bounds), memory
    memory = replace(memory, queue=None)
    if not _enough_with(running - 1, load, running, bounds, memory.limit_rate):
        return _within(asked, bounds), replace(memory, calm_since=None)
    if memory.calm_since is None:
        memory = replace(memory, calm_since=now)
    assert memory.calm_since is not None
    calm = now - memory.calm_since >= bounds.calm_s
    return _within(running - 1 if calm else asked, bounds), memory


def _within(replicas: int, bounds: Bounds) -> int:
    return max(bounds.replicas_min, min(replicas, bounds.replicas_max))


def _shares(load: Load, bounds: Bounds) -> tuple[float, tuple[float, float]]:
    """Of their bounds: the wait, and misses and calls, which tell how many replicas would do."""
    wait = 0.0 if bounds.queue_wait_ms is None else load.wait_ms / bounds.queue_wait_ms
    missed = 0.0 if bounds.misses_max is None else load.missed / bounds.misses_max
    return wait, (missed, 0.0 if bounds.calls_target is None else load.calls / bounds.calls_target)


def _more(load: Load, running: int, bounds: Bounds) -> int:
    """More than `running`, where one of the shares is above 1."""
    wait, (missed, calls) = _shares(load, bounds)
    answered = max(1 - load.missed, 1 / _GROWTH_MAX) if missed > 1 else 1.0
    return max(running + 1, math.ceil(running * min(max(wait, 1 / answered, calls), _GROWTH_MAX)))


def _enough_with(fewer: int, load: Load, running: int, bounds: Bounds, limit_rate: float | None) -> bool:
    if fewer == 0:
        return load.rate == 0 and load.calls == 0
    wait, (missed, calls) = _shares(load, bounds)
    more = running / fewer
    learnt = limit_rate is None or load.rate * more <= _FILLED * limit_rate
    return learnt and max(wait, missed) < _CALM and calls * more < 1


class QueuePolicy:
    """See `ray.serve.config.AutoscalingPolicy`: asked by the controller of Ray Serve some times a second."""

    def __init__(self, **bounds: Any) -> None:  # noqa: ANN401  as JSON has them
        """`bounds`: the fields of `Bounds` but those that Serve knows."""
        self._bounds = bounds

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """The number of replicas wanted, and the memory as plain values."""
        known = {each: context.policy_state[each] for each in asdict(Memory()) if each in context.policy_state}
        replicas, memory = wanted(
            _loads(context.aggregated_metrics or {}),
            context.current_num_replicas,
            context.target_num_replicas,
            Bounds(context.capacity_adjusted_min_replicas, context.capacity_adjusted_max_replicas, **self._bounds),
            Memory(**known),
            context.current_time or 0.0,
        )
        return replicas, asdict(memory)


def _loads(measured: Mapping[str, Mapping[Any, float]]) -> list[Load]:
    """Of each replica that has measured; what Serve itself counts is left out."""
    names = asdict(Load())
    replicas = set[Any].intersection(*(set(measured.get(each, ())) for each in names))
    return [Load(**{each: measured[each][one] for each in names}) for one in replicas]
