"""What a replica measures of its queues, for the decision how many there are to be. Knows no Ray."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Final

from engine import (
    DeadlineExceeded,
    Engine,
    GenerationStatistics,
    Histogram,
    ModelStatistics,
    ResourceExhausted,
    deployment_of,
    quantile_s,
)
from serving.dispatch import Dispatch
from serving.ray_host.scaling import Load

_SHARE: Final = 0.95
_TURN_S: Final = 0.05
"""How often it is looked how late the loop is."""


@dataclass(frozen=True, slots=True)
class _Counts:
    """Of one version until now."""

    waits: tuple[int, ...] = field(default=(0,) * len(Histogram().counts))
    answered: int = 0
    missed: int = 0


def _counts(statistics: ModelStatistics | GenerationStatistics) -> _Counts:
    if isinstance(statistics, GenerationStatistics):  # how long a call waited in its model, nobody tells
        missed = sum(statistics.outcomes[each.__name__] for each in (ResourceExhausted, DeadlineExceeded))
        return _Counts(answered=statistics.outcomes.total() - missed, missed=missed)
    with statistics.lock:
        missed = statistics.shed + statistics.expired + statistics.late
        return _Counts(
            tuple(statistics.queue_histogram.counts), statistics.success.count + statistics.fail.count, missed
        )


class LoadMeter:
    """Reads what the engine counts, from when it is made and from one call to the next. For the loop that requests come in on."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._loop = asyncio.get_running_loop()
        self._before: dict[ModelStatistics | GenerationStatistics, _Counts] = {}
        self._read_at = self._loop.time()
        self._behind = Histogram()
        self._due = self._read_at + _TURN_S
        self._timer = self._loop.call_at(self._due, self._turn)
        self.read()  # what came before it

    def _turn(self) -> None:
        """What has come in waits for the loop too, before the engine sees it."""
        now = self._loop.time()
        self._behind.observe(int(max(0.0, now - self._due) * 1e9))
        self._due = now + _TURN_S
        self._timer = self._loop.call_at(self._due, self._turn)

    def close(self) -> None:
        """Looks no more."""
        self._timer.cancel()

    def read(self) -> dict[str, float]:
        """See `Load`: since the last call, of whichever model computed here waits longest and misses most."""
        now = self._loop.time()
        took_s, self._read_at = max(now - self._read_at, 1e-3), now
        behind, self._behind = self._behind, Histogram()
        wait_s, missed, answered = quantile_s(behind.counts, _SHARE), 0.0, 0
        counted: dict[ModelStatistics | GenerationStatistics, _Counts] = {}
        for statistics in self._computed_here():
            before, counts = self._before.get(statistics, _Counts()), _counts(statistics)
            counted[statistics] = counts
            waits = [now_so_many - then for now_so_many, then in zip(counts.waits, before.waits, strict=True)]
            wait_s = max(wait_s, quantile_s(waits, _SHARE))
            more, lost = counts.answered - before.answered, counts.missed - before.missed
            answered += more
            missed = max(missed, min(1.0, lost / max(1, more + lost)))
        self._before = counted
        return asdict(Load(1e3 * wait_s, missed, float(self._dispatch.in_flight), answered / took_s))

    def _computed_here(self) -> Collection[ModelStatistics | GenerationStatistics]:
        engine: Engine = self._dispatch.engine
        spec = engine.spec
        made_of_others = {*spec.graphs, *spec.traffic}
        counted = [(name, each) for name, _, each in engine.statistics() if name not in made_of_others]
        found: list[tuple[str, ModelStatistics | GenerationStatistics]] = [
            *counted,
            *engine.language_models.statistics(),
        ]
        return [each for name, each in found if deployment_of(spec.placement, name) is None]
