"""Carry out one order in this process, on this thread, by the engine that suits it."""

import os
from collections.abc import Callable
from pathlib import Path

from benchmarks.load import python_engine
from benchmarks.load.native import engine as native_engine
from benchmarks.load.native.build import BuildError
from benchmarks.load.order import Engine, LoadOrder, Protocol
from benchmarks.load.result import LoadResult, summarise


def carry_out(order: LoadOrder, announce: Callable[[int, int], None] | None = None) -> LoadResult:
    """Run the order. `announce` is told the measured window (monotonic ns) before the first request leaves.

    Raises OSError when the server cannot be reached, FramesError for bad frames, ValueError for frames that do not
    suit the protocol, BuildError when the order names the native engine and it cannot be had.
    """
    engine, fallback = chosen_engine(order)
    if order.core is not None:
        os.sched_setaffinity(0, {order.core})
    run = native_engine.run if engine is Engine.NATIVE else python_engine.run
    outcome = run(order, announce or (lambda begin_ns, end_ns: None))
    if order.samples is not None:
        outcome.samples.save(Path(order.samples))
    return summarise(order, outcome, engine=engine, fallback=fallback)


def chosen_engine(order: LoadOrder) -> tuple[Engine, str | None]:
    """Which engine carries out the order, and why not the native one where it was wanted; compiles it if need be."""
    if order.engine is Engine.PYTHON or order.protocol is Protocol.HTTP:
        return Engine.PYTHON, None
    try:
        native_engine.loaded()
    except BuildError as error:
        if order.engine is Engine.NATIVE:
            raise
        return Engine.PYTHON, str(error)
    return Engine.NATIVE, None
