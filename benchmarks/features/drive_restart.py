"""Driver `restart`: builds a log and a snapshot and dies (`build`), or comes back and answers one read (`return`)."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from benchmarks.features.engines import engine_over, push_all
from benchmarks.features.events import batches, read_stream
from benchmarks.features.states import NAME
from benchmarks.features.views import local_log

PUSHED_ROWS = 1 << 16


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """The order: `what`, `folder`, `view`; for `build` `file`, `events` and `after` (of them, those after the snapshot); for
    `return` `card` and `as_of_us`.

    `return` gives answered_ns (of the monotonic clock, which all processes share), entities, applied, missing. `build` gives
    nothing: it kills itself.
    """
    folder = Path(order["folder"])
    log, views = local_log(str(folder / "log"), "os"), {NAME: order["view"]}
    if order["what"] == "return":
        with engine_over(views, log, folder) as engine:
            view = engine.features.view(NAME)
            rows = view.lookup(pa.array([order["card"]]), as_of_us=order["as_of_us"])
            answered_ns = time.monotonic_ns()
            told = view.statistics()
            found = {"answered_ns": answered_ns, "entities": told.entities, "applied": told.applied}
            print(msgspec.json.encode({**found, "missing": bool(rows.status[0])}).decode(), flush=True)
            os._exit(0)  # without another snapshot: the next one is to have as much to replay
    table = read_stream(Path(order["file"]))
    before = order["events"] - order["after"]
    with engine_over(views, log, folder) as engine:
        push_all(engine, batches(table, PUSHED_ROWS, 0, before), NAME)
    with engine_over(views, log, folder) as engine:  # closing wrote the snapshot
        push_all(engine, batches(table, PUSHED_ROWS, before, order["events"]), NAME)
        os.kill(os.getpid(), signal.SIGKILL)
    return {}
