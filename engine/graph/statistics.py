"""How long the nodes of a graph waited and computed, and how often something stood in for them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

import numpy as np

from engine.graph.ledger import Entry
from engine.graph.plan import Plan
from engine.telemetry import Histogram

_SAMPLES_MAX = 1024
"""Runs that are gathered before they are counted together, at a twentieth of what one by one would cost."""


class NodeStatistics:
    """Of one node. Read it under `lock`."""

    def __init__(self, lock: threading.RLock) -> None:
        self.lock = lock
        self.wait, self.compute = Histogram(), Histogram()
        self.marks: dict[str, int] = {}


class GraphStatistics:
    """Of all nodes of one plan. Any thread."""

    def __init__(self, plan: Plan) -> None:
        self._lock = threading.RLock()
        self._names = tuple(each.name for each in plan.nodes)
        self._nodes = tuple(NodeStatistics(self._lock) for _ in plan.nodes)
        self._samples: deque[Sequence[Entry | None]] = deque()

    def add(self, entries: Sequence[Entry | None], requests: int, marked: bool) -> None:
        """Counts one ended run, in which so many requests were."""
        self._samples.extend([entries] * requests)
        if marked or len(self._samples) >= _SAMPLES_MAX:
            with self._lock:
                self._fold()

    def read(self) -> list[tuple[str, NodeStatistics]]:
        """Each node's name and its counts so far."""
        with self._lock:
            self._fold()
        return list(zip(self._names, self._nodes, strict=True))

    def _fold(self) -> None:
        samples = [self._samples.popleft() for _ in range(len(self._samples))]  # others append meanwhile
        for index, node in enumerate(self._nodes):
            entries = [each[index] for each in samples]
            ran = [each for each in entries if each is not None and each[3] is not None]
            for each in entries:
                if each is not None and each[4]:
                    node.marks[each[4]] = node.marks.get(each[4], 0) + 1
            if ran:
                times = np.array([each[:3] for each in ran], np.int64)
                node.wait.observe_all(times[:, 1] - times[:, 0])
                node.compute.observe_all(times[:, 2] - times[:, 1])
