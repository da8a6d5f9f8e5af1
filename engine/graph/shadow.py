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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

import numpy as np

from engine.clock import Clock, Deadline
from engine.errors import VireoError
from engine.graph.port import NodePort
from engine.graph.traffic_plan import PlannedShadow
from engine.limits import SHADOWS_WAITING_MAX
from engine.request import BATCH, Ledger, Request, Response
from engine.scheduling.job import Job, Shape
from engine.tensor import BF16, Array, Tensor

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
        """Runs them and counts what came of it; returns when all have ended. Those alike go as one request, where the shadow
        answers each row as it would alone: a copy then costs a fraction."""
        alone: list[_Copy] = []
        for group in self._groups(copies):
            if len(group) == 1 or not self._run_as_one(group):
                alone += group
            _let_others()
        if alone:
            self._run_apart(alone)

    def _groups(self, copies: Sequence[_Copy]) -> Iterator[list[_Copy]]:
        groups: dict[object, list[_Copy]] = {}
        for copy in copies:
            asked, bounds = copy.request, self._shadows[copy.index].target.port.joint
            if bounds is None or asked.parameters:
                yield [copy]
                continue
            kind = asked.layout.row_shapes if asked.layout is not None else _shapes(asked.inputs)
            key = (copy.index, kind, tuple(copy.response.outputs))
            group = groups.setdefault(key, [])
            if group and sum([each.rows for each in group]) + copy.rows > bounds.rows_max:
                yield group
                groups[key] = group = []
            group.append(copy)
        yield from groups.values()

    def _run_as_one(self, group: Sequence[_Copy]) -> bool:
        """Whether it went well; nothing is counted where it did not."""
        shadow, first = self._shadows[group[0].index], group[0]
        try:
            inputs = {
                name: Tensor(each.datatype, np.concatenate([copy.request.inputs[name].array for copy in group]))
                for name, each in first.request.inputs.items()
                if name not in shadow.drops
            }
            told = {
                name: Tensor(each.datatype, np.concatenate([copy.response.outputs[name].array for copy in group]))
                for name, each in first.response.outputs.items()
            }
        except (ValueError, MemoryError):  # answers of other shapes, or too much in one piece
            return False
        ended, rows = threading.Semaphore(0), [each.rows for each in group]
        request = Request(
            shadow.target.name, inputs, shadow.target.version, deadline=Deadline.NEVER, priority=BATCH,
            outputs=tuple(name for name in told if name in shadow.target.signature.output_names),
        )  # fmt: skip
        job = Job(request, sum(rows), Ledger(self._clock()), lambda _: ended.release())
        _let_others()
        try:
            self._start(job, shadow.target.port)
        except VireoError:
            return False
        ended.acquire()
        _let_others()
        if job.response is None or any(each.shape[:1] != (job.rows,) for each in job.response.outputs.values()):
            return False
        self._add(first.index, len(group), compare_each(told, job.response.outputs, rows))
        return True

    def _start(self, job: Job, port: NodePort) -> None:
        port.submit(job)
        port.flush()
        if port.nested:  # what it calls is ripe, not flushed
            self._flush()

    def _run_apart(self, copies: Sequence[_Copy]) -> None:
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
        if response is not None:
            self._add(copy.index, 1, compare(copy.response.outputs, response.outputs))
            return
        with self._changed:
            self._counts[copy.index].failed += 1

    def _add(self, index: int, copies: int, differences: Differences) -> None:
        """What was found of copies for one shadow."""
        counted, sums = self._counts[index], self._sums[index]
        with self._changed:
            counted.ran += copies
            counted.equal += differences.equal
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
    """`equal`: how many answers are. `sums`: of the absolute differences of each floating output, and of how many elements."""

    equal: int
    sums: Mapping[str, tuple[float, int]]


def compare(told: Mapping[str, Tensor], shadow: Mapping[str, Tensor]) -> Differences:
    """How the outputs that both have differ in one answer; NaN is like NaN. Where a shape or datatype does, nothing is summed."""
    equal, sums = True, dict[str, tuple[float, int]]()
    for name in told.keys() & shadow.keys():
        same = _compared(name, told[name], shadow[name], sums)
        equal = equal and same is not None and bool(same.all())
    return Differences(int(equal), sums)


def compare_each(told: Mapping[str, Tensor], shadow: Mapping[str, Tensor], rows: Sequence[int]) -> Differences:
    """As `compare`, of answers behind each other, of so many `rows` each, at least one."""
    equal, sums = np.ones(sum(rows), np.bool_), dict[str, tuple[float, int]]()
    for name in told.keys() & shadow.keys():
        same = _compared(name, told[name], shadow[name], sums)
        equal &= False if same is None else same.reshape(len(equal), -1).all(axis=1)
    starts = np.cumsum([0, *rows[:-1]])
    return Differences(int(np.logical_and.reduceat(equal, starts).sum()), sums)


def _compared(name: str, one: Tensor, other: Tensor, sums: dict[str, tuple[float, int]]) -> Array | None:
    """Which elements are alike, the differences added to `sums`; None where the tensors are of different kinds."""
    if one.datatype is not other.datatype or one.shape != other.shape:
        return None
    if one.datatype is not BF16 and one.array.dtype.kind != "f":
        same: Array = np.asarray(one.array == other.array)
        return same
    left, right = _wide(one), _wide(other)
    with np.errstate(invalid="ignore"):  # inf - inf
        apart = np.abs(left - right)
    finite = np.isfinite(apart)
    sums[name] = (float(apart[finite].sum()), int(finite.sum()))
    alike: Array = (apart <= _SAME) | (left == right) | (np.isnan(left) & np.isnan(right))
    return alike


def _shapes(inputs: Mapping[str, Tensor]) -> Shape:
    return tuple([(name, each.array.shape[1:]) for name, each in inputs.items()])


def _wide(tensor: Tensor) -> Array:
    return tensor.values.astype(np.float64)
