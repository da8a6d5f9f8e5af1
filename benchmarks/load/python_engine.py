"""Carry out an order in Python, on this thread: HTTP, and gRPC where the native engine cannot be had."""

import gc
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.load.frames import read_frames
from benchmarks.load.headers import HeadCache
from benchmarks.load.http1 import Http1Wire
from benchmarks.load.http2 import Http2Wire, call_templates
from benchmarks.load.loops import Loop
from benchmarks.load.order import LoadOrder, Protocol
from benchmarks.load.outcome import NS_PER_S, Outcome, Window
from benchmarks.load.plan import authority_of, block_of, connections_of, plan_of
from benchmarks.load.pump import Pump
from benchmarks.load.samples import Recorder
from benchmarks.load.wire import Wire


def run(order: LoadOrder, announce: Callable[[int, int], None]) -> Outcome:
    """See `run.carry_out`."""
    pump = Pump(address=(order.host, order.port), make_wire=wire_maker(order), connections=connections_of(order))
    plan = plan_of(order, time.monotonic_ns())
    loop = Loop(pump, Recorder(plan.due_ns.tolist()), spin_ns=order.spin_us * 1000)
    announce(plan.begin_ns, plan.end_ns)
    gc.collect()
    gc.freeze()
    gc.disable()
    loop.tend(plan.start_ns)
    if order.callers is None:
        window = open_run(loop, plan.begin_ns)
    else:
        window = closed_run(loop, order.callers, plan.begin_ns, plan.end_ns)
    loop.drain(time.monotonic_ns() + int(order.drain_s * NS_PER_S))
    pump.close()
    samples = loop.recorder.seal(time.monotonic_ns())
    return Outcome(samples, window, pump.reconnects, pump.faults)


def wire_maker(order: LoadOrder) -> Callable[[], Wire]:
    """What makes the protocol half of one more connection; payloads are encoded once, here."""
    frames = read_frames(Path(order.frames))
    if order.protocol is Protocol.HTTP:
        from benchmarks.load.tensor_body import infer_requests  # heavy, and only needed here

        requests = infer_requests(frames, authority=authority_of(order))
        return lambda: Http1Wire(requests=requests)
    block = block_of(order)
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
