"""Copies of requests run on other servables after their callers were answered, and compared with what those were told.

Nothing of it reaches a caller: not its answer, not its failure, and of its cost as little as can be. A caller's thread only
leaves a reference behind. One thread of low priority gathers what has come, waits for a moment when nothing else is in flight,
and runs some of it together, as requests of the batch class. What does not fit the queue is left out and counted.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

import numpy as np

from engine.clock import Clock, Deadline
from engine.errors import VireoError
from engine.graph.traffic_plan import PlannedShadow
from engine.limits import SHADOWS_WAITING_MAX
from engine.request import BATCH, Ledger, Request, Response
from engine.scheduling.job import Job
from engine.tensor import BF16, Array, Tensor, bfloat16_values

log = logging.getLogger("vireo.graph")

_WAITING_BYTES_MAX: Final = 64 << 20
"""Of inputs of copies that wait: each keeps its request's message alive."""

_GATHER_S: Final = 0.005
"""Nobody waits for a shadow, so what comes within so long runs together, and the thread wakes 200 times a second at most."""

_LOOK_S: Final = 0.002
_PATIENCE_S: Final = 0.05
"""How often the thread looks for an idle moment, and after how long it runs one copy without, so that a server that is never
idle still compares some 20 a second."""

_TURN: Final = 16
"""Copies that run together before the thread looks again whether somebody came."""

_END_S: Final = 5.0
"""How long `close` waits for what runs."""

_NICE: Final = 10
"""Of the thread, where threads have a niceness. A caller's thread that wakes takes the core from it at once."""

_SAME: Final = 1e-6
"""Floating outputs that differ by no more are equal."""


@dataclass(slots=True)
class ShadowStatistics:
    """What became of the copies for one shadow. `ran`: answered, of which `equal` like the caller's answer; `failed`: with an
    error; `dropped`: left out; `late`: run although something else was in flight, having waited long for a moment when nothing
    was. `differences`: for each floating output the mean absolute difference from what the caller got, infinite and missing
    numbers aside."""

    ran: int = 0
    equal: int = 0
    failed: int = 0
    dropped: int = 0
    late: int = 0
    differences: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Copy:
    """Of one request for one shadow, with its caller's answer."""

    index: int
    request: Request
    rows: int
    bytes_size: int
    response: Response


class ShadowJob(Job):
    """A copy while it runs. `copy`: see `_Copy`."""

    __slots__ = ("copy",)

    copy: _Copy


class Shadows:
    """The shadows of one split. `offer` may be called from any thread; `close` once.

    `idle`: whether nothing else is in flight now. `flush`: the engine's, for graphs among the shadows.
    """

    def __init__(
        self,
        split: str,
        shadows: Sequence[PlannedShadow],
        *,
        idle: Callable[[], bool],
        flush: Callable[[], None],
        random: Random,
        clock: Clock,
    ) -> None:
        self._split, self._shadows = split, tuple(shadows)
        self._idle, self._flush, self._random, self._clock = idle, flush, random, clock
        self._shares = tuple(each.share for each in shadows)
        self._changed = threading.Condition()
        self._waiting: deque[_Copy] = deque()
        self._waiting_bytes = 0
        self._counts = [ShadowStatistics() for _ in shadows]
        self._sums: list[dict[str, tuple[float, int]]] = [{} for _ in shadows]
        self._thread: threading.Thread | None = None
        self._awake = False
        self._closed = False

    def offer(self, job: Job, response: Response) -> None:
        """`job` was answered with `response`: leaves copies for those shadows whose share it falls into. Blocks nobody.

        Both are kept until the copies have run, and so are their tensors, which nobody may write to.
        """
        for index, share in enumerate(self._shares):
            if share < 1 and self._random.random() >= share:
                continue
            with self._changed:
                full = (
                    len(self._waiting) >= SHADOWS_WAITING_MAX
                    or self._waiting_bytes + job.bytes_size > _WAITING_BYTES_MAX
                )
                if full or self._closed:
                    self._counts[index].dropped += 1
                    continue
                self._waiting.append(_Copy(index, job.request, job.rows, job.bytes_size, response))
                self._waiting_bytes += job.bytes_size
                if not self._awake:
                    self._wake()

    def _wake(self) -> None:
        """The caller holds the lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name=f"vireo-shadows-{self._split}", daemon=True)
            self._thread.start()
        self._awake = True
        self._changed.notify()

    def statistics(self) -> dict[str, ShadowStatistics]:
        """By shadow."""
        with self._changed:
            return {
                shadow.name: replace(
                    counted, differences={name: total / count for name, (total, count) in sums.items() if count}
                )
                for shadow, counted, sums in zip(self._shadows, self._counts, self._sums, strict=True)
            }

    def close(self) -> None:
        """Runs nothing more; waits some seconds for what runs, since the servables it calls may be unloaded next."""
        with self._changed:
            self._closed = True
            for copy in self._waiting:
                self._counts[copy.index].dropped += 1
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_END_S)

    # On the thread.

    def _loop(self) -> None:
        if sys.platform == "linux":  # elsewhere niceness is the process's
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while self._await_any():
            turn = self._take(_TURN if self._await_idle() else 1)
            try:
                self._run(turn)
            except Exception:
                log.exception("split %s: shadows could not be run", self._split)
            del turn  # else it keeps the last requests alive

    def _await_any(self) -> bool:
        """Returns when something has come and gathered; False once closed."""
        with self._changed:
            if not self._waiting:
                self._awake = False
                self._changed.wait_for(lambda: self._closed or self._waiting)
                self._awake = True
                self._changed.wait_for(lambda: self._closed, _GATHER_S)
            return not self._closed

    def _await_idle(self) -> bool:
        """Whether nothing else is in flight, which is waited for with bounded patience."""
        until_ns = self._clock() + int(_PATIENCE_S * 1e9)
        while not self._idle():
            with self._changed:
                if self._changed.wait_for(lambda: self._closed, _LOOK_S) or self._clock() >= until_ns:
                    return False
        return True

    def _take(self, count: int) -> list[_Copy]:
        with self._changed:
            taken = [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]
            self._waiting_bytes = self._waiting_bytes - sum(each.bytes_size for each in taken) if self._waiting else 0
            if count == 1 and taken:
                self._counts[taken[0].index].late += 1
        return taken

    def _run(self, copies: Sequence[_Copy]) -> None:
        """Runs them together and counts what came of it; returns when all have ended."""
        ended = threading.Semaphore(0)
        submitted: list[ShadowJob] = []
        for copy in copies:
            try:
                job = self._job(copy, ended)
                self._shadows[copy.index].target.port.submit(job)
                submitted.append(job)
            except VireoError:
                self._count(copy, None)
            _let_others()
        for port in {self._shadows[each.copy.index].target.port for each in submitted}:
            port.flush()
            if port.nested:  # what it calls is ripe, not flushed
                self._flush()
        for _ in submitted:
            ended.acquire()
        for each in submitted:
            _let_others()
            self._count(each.copy, each.response)

    def _job(self, copy: _Copy, ended: threading.Semaphore) -> ShadowJob:
        shadow, asked = self._shadows[copy.index], copy.request
        signature = shadow.target.signature
        inputs = asked.inputs
        if shadow.drops:
            inputs = {name: each for name, each in inputs.items() if name not in shadow.drops}
        request = Request(
            shadow.target.name,
            inputs,
            shadow.target.version,
            asked.id,
            tuple(name for name in copy.response.outputs if name in signature.output_names),
            Deadline.NEVER,
            asked.parameters,
            asked.layout if len(inputs) == len(asked.inputs) else None,
            BATCH,
        )
        job = ShadowJob(request, signature.rows_of(request), Ledger(self._clock()), lambda _: ended.release())
        job.copy = copy
        return job

    def _count(self, copy: _Copy, response: Response | None) -> None:
        counted = self._counts[copy.index]
        differences = None if response is None else compare(copy.response.outputs, response.outputs)
        with self._changed:
            if differences is None:
                counted.failed += 1
                return
            counted.ran += 1
            counted.equal += differences.equal
            sums = self._sums[copy.index]
            for name, (total, count) in differences.sums.items():
                known = sums.get(name, (0.0, 0))
                sums[name] = (known[0] + total, known[1] + count)


def _let_others() -> None:
    """Whoever waits for the core goes first: a woken thread of a caller would else wait for the end of this one's slice, which is
    longer than its request takes."""
    if hasattr(os, "sched_yield"):
        os.sched_yield()


@dataclass(frozen=True, slots=True)
class Differences:
    """`sums`: of the absolute differences of each floating output, and of how many elements."""

    equal: bool
    sums: Mapping[str, tuple[float, int]]


def compare(told: Mapping[str, Tensor], shadow: Mapping[str, Tensor]) -> Differences:
    """How the outputs that both have differ; NaN is like NaN. Where a shape or datatype does, nothing is summed."""
    equal = True
    sums: dict[str, tuple[float, int]] = {}
    for name in told.keys() & shadow.keys():
        one, other = told[name], shadow[name]
        if one.datatype is not other.datatype or one.shape != other.shape:
            equal = False
        elif one.datatype is BF16 or one.array.dtype.kind == "f":
            left, right = _wide(one), _wide(other)
            with np.errstate(invalid="ignore"):  # inf - inf
                apart = np.abs(left - right)
            same = (apart <= _SAME) | (left == right) | (np.isnan(left) & np.isnan(right))
            equal = equal and bool(same.all())
            finite = np.isfinite(apart)
            sums[name] = (float(apart[finite].sum()), int(finite.sum()))
        else:
            equal = equal and bool(np.array_equal(one.array, other.array))
    return Differences(equal, sums)


def _wide(tensor: Tensor) -> Array:
    values = bfloat16_values(tensor.array) if tensor.datatype is BF16 else tensor.array
    return values.astype(np.float64)
