"""What one language model did, counted on its event loop and read from any thread."""

from __future__ import annotations

from collections import Counter

from engine.telemetry import Histogram


class GenerationStatistics:
    """Counts since the start of the engine; they outlive the model that is loaded anew. `outcomes`: "ok", "refused" (the answer
    is an error of the model's), "cancelled", or the name of the error that was raised. `first`: from the call to the first bytes
    of its answer; `total`: to the last. Both count what ended well alone. `kept_hits` and
    `kept_misses`: calls that were answered with a kept answer, and those that might have been.
    """

    __slots__ = ("first", "kept_hits", "kept_misses", "outcomes", "restarts", "total", "under_way")

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.first, self.total = Histogram(), Histogram()
        self.restarts = self.kept_hits = self.kept_misses = 0
        self.under_way = 0
