"""Carry out a gRPC order by the compiled engine, on this thread: the same samples as `python_engine`, for less CPU.

A library in this process rather than a program of its own: there is one process to pin, stop, kill and account for.
"""

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.load.frames import read_frames
from benchmarks.load.native.build import SOURCES, BuildError, library
from benchmarks.load.order import LoadOrder
from benchmarks.load.outcome import NS_PER_S, Outcome, Usage, Window
from benchmarks.load.plan import Plan, block_of, connections_of, plan_of
from benchmarks.load.samples import Samples

WHY_BYTES, FAULTS_BYTES = 512, 4096
_int64_p, _size_p = ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(ctypes.c_size_t)


class _Order(ctypes.Structure):
    """`Order` of generator.cpp; the comments are there."""

    _fields_ = (
        ("host", ctypes.c_char_p),
        ("port", ctypes.c_char_p),
        ("block", ctypes.c_char_p),
        ("block_bytes", ctypes.c_size_t),
        ("frames", ctypes.c_char_p),
        ("frame_ends", _size_p),
        ("frame_count", ctypes.c_size_t),
        ("connections", ctypes.c_uint32),
        ("window_bytes", ctypes.c_uint32),
    )


class _Plan(ctypes.Structure):
    """`Plan` of generator.cpp."""

    _fields_ = (
        ("start_ns", ctypes.c_int64),
        ("begin_ns", ctypes.c_int64),
        ("end_ns", ctypes.c_int64),
        ("drain_ns", ctypes.c_int64),
        ("spin_ns", ctypes.c_int64),
        ("due_ns", _int64_p),
        ("due_count", ctypes.c_size_t),
        ("callers", ctypes.c_uint32),
    )


class _Usage(ctypes.Structure):
    """`Usage` of generator.cpp."""

    _fields_ = (("at_ns", ctypes.c_int64), ("cpu_ns", ctypes.c_int64), ("spun_ns", ctypes.c_int64))

    def read(self) -> Usage:
        return Usage(self.at_ns, self.cpu_ns, self.spun_ns)


class _Report(ctypes.Structure):
    """`Report` of generator.cpp."""

    _fields_ = (("begin", _Usage), ("end", _Usage), ("samples", ctypes.c_size_t), ("reconnects", ctypes.c_uint32))


@cache
def loaded() -> ctypes.CDLL:
    """The engine, compiled if need be. Raises BuildError."""
    try:
        made = ctypes.CDLL(str(library(SOURCES / "generator.cpp")))
    except OSError as error:
        raise BuildError(f"the native engine does not load: {error}") from error
    made.generator_open.restype = ctypes.c_void_p
    return made


def run(order: LoadOrder, announce: Callable[[int, int], None]) -> Outcome:
    """See `run.carry_out`."""
    frames, block = read_frames(Path(order.frames)), block_of(order)
    content = b"".join(frames)
    ends = np.cumsum([len(frame) for frame in frames], dtype=np.uintp)
    asked = _Order(
        host=order.host.encode(),
        port=str(order.port).encode(),
        block=block,
        block_bytes=len(block),
        frames=content,
        frame_ends=ends.ctypes.data_as(_size_p),
        frame_count=len(frames),
        connections=connections_of(order),
        window_bytes=order.window_bytes,
    )
    with opened(asked) as generator, interruptible():
        plan = plan_of(order, time.monotonic_ns())
        announce(plan.begin_ns, plan.end_ns)
        report = _Report()
        loaded().generator_run(generator, ctypes.byref(_plan(order, plan)), ctypes.byref(report))
        return Outcome(
            samples=samples_of(generator, report.samples),
            window=Window(report.begin.read(), report.end.read()),
            reconnects=report.reconnects,
            faults=faults_of(generator),
        )


@contextmanager
def opened(asked: _Order) -> Iterator[ctypes.c_void_p]:
    """A generator whose connections stand. Raises OSError where the server does not answer."""
    why, number = ctypes.create_string_buffer(WHY_BYTES), ctypes.c_int(0)
    made = loaded().generator_open(ctypes.byref(asked), why, ctypes.sizeof(why), ctypes.byref(number))
    if not made:
        told = why.value.decode(errors="replace")
        raise OSError(number.value, told) if number.value else OSError(told)
    try:
        yield ctypes.c_void_p(made)
    finally:
        loaded().generator_close(ctypes.c_void_p(made))


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGINT end the process meanwhile: Python would only hear of it when the run is over."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _plan(order: LoadOrder, plan: Plan) -> _Plan:
    return _Plan(
        start_ns=plan.start_ns,
        begin_ns=plan.begin_ns,
        end_ns=plan.end_ns,
        drain_ns=int(order.drain_s * NS_PER_S),
        spin_ns=order.spin_us * 1000,
        due_ns=plan.due_ns.ctypes.data_as(_int64_p),
        due_count=len(plan.due_ns),
        callers=order.callers or 0,
    )


def samples_of(generator: ctypes.c_void_p, count: int) -> Samples:
    """All samples of the run."""
    due, sent, done = (np.empty(count, np.int64) for _ in range(3))
    status = np.empty(count, np.int16)
    columns = [ctypes.c_void_p(address) for address in (due.ctypes.data, sent.ctypes.data, done.ctypes.data)]
    loaded().generator_samples(generator, *columns, ctypes.c_void_p(status.ctypes.data))
    return Samples(due, sent, done, status)


def faults_of(generator: ctypes.c_void_p) -> list[str]:
    """What went wrong with the connections."""
    text = ctypes.create_string_buffer(FAULTS_BYTES)
    loaded().generator_faults(generator, text, ctypes.sizeof(text))
    return text.value.decode(errors="replace").splitlines()
