"""How much of what it should find a search finds, as a live figure: some searches are answered again, exactly, off their path.

A search that is sampled is put on a bounded queue with the view it saw; one thread of low priority answers it exactly and counts.
The thread rests for so long after each that it takes a small share of a core, however many points there are to score. Where it is
behind, searches are left out rather than kept. Counts are by how selective the filter was, since that is what
recall depends on. Searches that are exact anyway (no dense vector, `exact`), pages after the first, and groups and diversity,
whose order is not that of scores, are not sampled.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import log as ln
from random import Random
from typing import Final

from engine.limits import RECALL_WAITING_MAX
from engine.vectors.found import Found
from engine.vectors.matching import count
from engine.vectors.query import DenseLeg, Hit, Query, RecommendLeg
from engine.vectors.search import exact, filter_of
from engine.vectors.view import View

log = logging.getLogger("vireo.vectors")

Exact = Callable[[View, Query], Found]

_BUCKETS: Final = ((0.5, ">50%"), (0.1, "10-50%"), (0.01, "1-10%"), (0.001, "0.1-1%"))
BUCKETS: Final = ("none", *(name for _, name in _BUCKETS), "<0.1%")
"""Selectivity: the share of points that the filter is about; "none" is no filter. A tenant is a filter, as it is for an index."""

_NICE: Final = 15
RESTS: Final = 19
"""Times as long as an exact answer took: 5% of a core."""


@dataclass(frozen=True, slots=True)
class RecallCount:
    """Of `searches`, `hits` of the `wanted` true hits were found; recall is hits / wanted."""

    searches: int = 0
    hits: int = 0
    wanted: int = 0

    @property
    def recall(self) -> float | None:
        """None where nothing was to be found."""
        return self.hits / self.wanted if self.wanted else None


def bucket_of(passing: int, total: int) -> str:
    """Of a filter that is about `passing` of `total` points."""
    share = passing / total if total else 0.0
    return next((name for least, name in _BUCKETS if share > least), BUCKETS[-1])


def hits_found(found: Sequence[Hit], true: Sequence[Hit], *, fused: bool = False) -> int:
    """How many of the `true` hits, best first, were found. One that scores as the last of them, or better, is as true as that;
    not where several legs are fused, whose scores come of ranks among what was found."""
    if not true:
        return 0
    ids = {each.id for each in true}
    if fused:
        return sum(each.id in ids for each in found)
    last, sign = true[-1].score, 1 if true[0].score >= true[-1].score else -1
    there = sum(each.id in ids or sign * (each.score - last) >= 0 for each in found)
    return min(there, len(true))


def measurable(query: Query) -> bool:
    """Whether a search may miss something, and it can be told what."""
    searched = any(isinstance(each, DenseLeg | RecommendLeg) for each in query.legs)
    plain = query.group_by is None and query.diversity is None and not query.offset
    return searched and plain and not query.params.exact


@dataclass(frozen=True, slots=True)
class _Sampled:
    watcher: RecallWatcher
    view: View
    query: Query
    found: Found


class RecallWatcher:
    """Samples the searches of one collection: each with the chance `share`. `offer` may be called by any thread, and is cheap."""

    def __init__(self, meter: RecallMeter, share: float, seed: int | None) -> None:
        self._meter = meter
        self._random = Random(seed)
        self._share = share
        self._skip = 0
        self._counts: dict[str, RecallCount] = {}
        self.sample(share)

    def sample(self, share: float) -> None:
        """Another chance from now on; what was counted stays."""
        self._share, self._skip = share, self._gap(share)

    def _gap(self, share: float) -> int:
        """How many searches to pass over: geometric, so that no rhythm of the callers is met."""
        if share >= 1:
            return 0
        return 0 if share <= 0 else int(ln(1.0 - self._random.random()) / ln(1.0 - share))

    def offer(self, view: View, query: Query, found: Found) -> None:
        """Takes some of them. Two threads at once may count as one, which does no harm."""
        if self._skip > 0:
            self._skip -= 1
            return
        if self._share > 0 and measurable(query):
            self._skip = self._gap(self._share)
            self._meter.take(_Sampled(self, view, query, found))

    def count(self, bucket: str, hits: int, wanted: int) -> None:
        """One search more. One thread at a time."""
        was = self._counts.get(bucket, RecallCount())
        now = RecallCount(was.searches + 1, was.hits + hits, was.wanted + wanted)
        self._counts = {**self._counts, bucket: now}

    def read(self) -> Mapping[str, RecallCount]:
        """Those of BUCKETS in which something was counted."""
        counts = self._counts
        return {name: counts[name] for name in BUCKETS if name in counts}


class RecallMeter:
    """Answers exactly what the watchers of all collections took."""

    def __init__(self, exact: Exact = exact, *, waiting_max: int = RECALL_WAITING_MAX) -> None:
        self._exact = exact
        self._waiting: deque[_Sampled] = deque()
        self._waiting_max = waiting_max
        self._watchers: dict[str, RecallWatcher] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.left_out = 0
        """Searches that were sampled and not measured: too many waited, or they failed."""

    def watcher(self, name: str, share: float, *, seed: int | None = None) -> RecallWatcher:
        """The one of collection `name`, which samples `share` of its searches from now on."""
        found = self._watchers.get(name)
        if found is None:
            found = RecallWatcher(self, share, seed)
            self._watchers = {**self._watchers, name: found}
        else:
            found.sample(share)
        return found

    def forget(self, name: str) -> None:
        """The counts of a collection that is gone."""
        self._watchers = {each: watcher for each, watcher in self._watchers.items() if each != name}

    def read(self) -> dict[str, Mapping[str, RecallCount]]:
        """Counts by collection and bucket."""
        return {name: each.read() for name, each in self._watchers.items()}

    def take(self, sampled: _Sampled) -> None:
        """Lets a search wait to be measured, where there is room."""
        with self._changed:
            if len(self._waiting) >= self._waiting_max or self._stopping:
                self.left_out += 1
                return
            self._waiting.append(sampled)
            self._changed.notify()

    def step(self) -> bool:
        """Measures the search that waited longest; False where none does. What it fails with is told in the log."""
        with self._changed:
            if not self._waiting:
                return False
            sampled = self._waiting.popleft()
        try:
            self._measure(sampled)
        except Exception:  # the thread must live on, and the search itself was answered
            self.left_out += 1
            log.warning("a search could not be measured", exc_info=True)
        return True

    def _measure(self, sampled: _Sampled) -> None:
        query, view = sampled.query, sampled.view
        true = self._exact(view, query).hits
        filter_ = filter_of(view, query)
        bucket = "none" if filter_ is None else bucket_of(count(view, filter_), view.count)
        sampled.watcher.count(bucket, hits_found(sampled.found.hits, true, fused=len(query.legs) > 1), len(true))

    # The thread.

    def start(self) -> None:
        """Measures by itself from now on."""
        self._thread = threading.Thread(target=self._run, name="vireo-recall", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError, AttributeError):  # of this thread alone, on Linux
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
            began_s = time.thread_time()
            self.step()
            rest_s = RESTS * (time.thread_time() - began_s)
            with self._changed:
                self._changed.wait_for(lambda: self._stopping, rest_s)

    def close(self) -> None:
        """Ends after the search that is being measured; those that wait are let go."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
