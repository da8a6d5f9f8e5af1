"""Carry out one order in this process, on this thread."""

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.load.frames import read_frames
from benchmarks.load.headers import HeadCache, request_block
from benchmarks.load.http1 import Http1Wire
from benchmarks.load.http2 import Http2Wire, call_templates
from benchmarks.load.loops import Loop, Window
from benchmarks.load.order import LoadOrder, Protocol
from benchmarks.load.pump import Pump
from benchmarks.load.result import LoadResult, summarise
from benchmarks.load.samples import Recorder
from benchmarks.load.schedule import NS_PER_S, poisson_offsets_ns
from benchmarks.load.wire import Wire

LEAD_NS = 100_000_000
"""From the first connection to the first request, so that greetings are over."""


def carry_out(order: LoadOrder, announce: Callable[[int, int], None] | None = None) -> LoadResult:
    """Run the order. `announce` is told the measured window (monotonic ns) before the first request leaves.

    Raises OSError when the server cannot be reached, FramesError for bad frames, ValueError for frames that do not
    suit the protocol.
    """
    if order.core is not None:
        os.sched_setaffinity(0, {order.core})
    pump = Pump(address=(order.host, order.port), make_wire=wire_maker(order), connections=connections_of(order))
    offsets = [] if order.rate_per_s is None else open_offsets(order, order.rate_per_s)
    start_ns = time.monotonic_ns() + LEAD_NS
    begin_ns = start_ns + int(order.warmup_s * NS_PER_S)
    end_ns = begin_ns + int(order.duration_s * NS_PER_S)
    loop = Loop(pump, Recorder([start_ns + offset for offset in offsets]), spin_ns=order.spin_us * 1000)
    if announce is not None:
        announce(begin_ns, end_ns)
    gc.collect()
    gc.freeze()
    gc.disable()
    loop.tend(start_ns)
    window = open_run(loop, begin_ns) if order.callers is None else closed_run(loop, order.callers, begin_ns, end_ns)
    loop.drain(time.monotonic_ns() + int(order.drain_s * NS_PER_S))
    pump.close()
    samples = loop.recorder.seal(time.monotonic_ns())
    if order.samples is not None:
        samples.save(Path(order.samples))
    return summarise(order, samples, window, reconnects=pump.reconnects, faults=pump.faults)


def open_offsets(order: LoadOrder, rate_per_s: float) -> list[int]:
    """The whole schedule, warm-up first, in ns after the start."""
    whole_s = order.warmup_s + order.duration_s
    offsets: list[int] = poisson_offsets_ns(rate_per_s=rate_per_s, duration_s=whole_s, seed=order.seed).tolist()
    return offsets


def connections_of(order: LoadOrder) -> int:
    """HTTP/1.1 needs a connection for each caller; over HTTP/2 callers share."""
    if order.callers is None:
        return order.connections
    return order.callers if order.protocol is Protocol.HTTP else min(order.callers, order.connections)


def wire_maker(order: LoadOrder) -> Callable[[], Wire]:
    """What makes the protocol half of one more connection; payloads are encoded once, here."""
    frames, authority = read_frames(Path(order.frames)), f"{order.host}:{order.port}"
    if order.protocol is Protocol.HTTP:
        from benchmarks.load.tensor_body import infer_requests  # heavy, and only needed here

        requests = infer_requests(frames, authority=authority)
        return lambda: Http1Wire(requests=requests)
    extra = () if order.timeout_ms is None else (("grpc-timeout", f"{order.timeout_ms}m"),)
    block = request_block(path=order.path, authority=authority, extra=extra)
    templates, heads = call_templates(block, frames), HeadCache()
    return lambda: Http2Wire(block=block, templates=templates, heads=heads, window_bytes=order.window_bytes)


def open_run(loop: Loop, measured_from_ns: int) -> Window:
    """Offer the warm-up, then the rest; the window of the rest."""
    due = loop.recorder.due_ns
    first = next((tag for tag, at_ns in enumerate(due) if at_ns >= measured_from_ns), len(due))
    loop.offer(0, first)
    begin = loop.usage()
    loop.offer(first, len(due))
    return Window(begin, loop.usage())


def closed_run(loop: Loop, callers: int, measured_from_ns: int, until_ns: int) -> Window:
    """Call through the warm-up, then through the measured time; the window of the latter."""
    loop.call(measured_from_ns, callers)
    begin = loop.usage()
    loop.call(until_ns, 0)
    return Window(begin, loop.usage())
