"""Driver `log`: events through a local log, made durable before each append answers, into a view."""

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.features.engines import engine_over, push_all
from benchmarks.features.events import batches, read_stream
from benchmarks.features.states import NAME, warm
from benchmarks.features.views import LOG, local_log
from engine import Appended

WAIT_S_MAX = 300.0


def drive(order: dict[str, Any]) -> dict[str, Any]:
    """The order: `file`, `view`, `prefill` rows, `rows` of a batch, `events`, `durability`, `folder`, `pushers` (threads).

    Gives events, wall_s (from the first push until the view shows the last event), pushed_s (until the last push was
    acknowledged), cpu_s.
    """
    table = read_stream(Path(order["file"]))
    prefill, rows = order["prefill"], order["rows"]
    pushed = batches(table, rows, prefill, min(table.num_rows, prefill + order["events"]))
    warm(order["view"], pushed[0])
    with tempfile.TemporaryDirectory(dir=order["folder"]) as folder:
        log = local_log(f"{folder}/log", order["durability"])
        with engine_over({NAME: order["view"]}, log, Path(folder)) as engine:
            push_all(engine, batches(table, 1 << 16, 0, prefill), NAME)
            view = engine.features.view(NAME)
            last: list[Appended] = []
            step = order["pushers"]

            def work(number: int) -> None:
                last.append(max((engine.features.push(LOG, each) for each in pushed[number::step]), key=_next))

            threads = [threading.Thread(target=work, args=(number,)) for number in range(step)]
            began_s, cpu_s = time.perf_counter(), time.process_time()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            pushed_s = time.perf_counter() - began_s
            assert view.wait(max(last, key=_next), WAIT_S_MAX)
            wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    events = sum(each.num_rows for each in pushed)
    return {"events": events, "wall_s": wall_s, "pushed_s": pushed_s, "cpu_s": cpu_s}


def _next(appended: Appended) -> int:
    return appended.next
