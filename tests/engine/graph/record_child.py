"""Started by test_records_crash: an engine whose graph records durably, asked by several threads until it is killed.

Tells the x of each request in one line once it is answered.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np

from engine import Engine, Request, Tensor, datatype_named, parse_spec

ROWS = "{datatype: FP64, shape: [-1]}"
SPEC = f"""functions:
  double: {{call: 'tests.engine.graph.functions:double', batchable: true, inputs: {{x: {ROWS}}}, outputs: {{y: {ROWS}}}}}
logs:
  decisions: {{schema: {{x: float64, y: float64, request: string}}, local: {{path: decisions.log, durability: os}}}}
  alerts: {{schema: {{x: float64, at: timestamp}}, local: {{path: alerts.log, durability: os}}}}
graphs:
  decide:
    inputs: {{x: {ROWS}}}
    outputs: {{y: double.y}}
    nodes:
      double: {{call: double, inputs: {{x: x}}}}
    records:
      decision: {{log: decisions, durable: true, columns: {{x: x, y: double.y, request: $id}}}}
      alert: {{log: alerts, when: double.y > 1000, columns: {{x: x, at: $time}}}}
"""
THREADS = 3
FP64 = datatype_named("FP64", of="record_child")


def request(*values: float, request_id: str = "") -> Request:
    """Of the graph above."""
    return Request("decide", {"x": Tensor(FP64, np.array(values))}, id=request_id)


def main() -> None:
    """Arguments: the folder, and the first x."""
    folder, first = Path(sys.argv[1]), int(sys.argv[2])
    engine = Engine(parse_spec(SPEC, folder=folder))
    engine.start()

    def work(thread: int) -> None:
        number = first + thread
        while True:
            engine.infer(request(float(number), request_id=str(number)))
            os.write(1, f"{number}\n".encode())
            number += THREADS

    threads = [threading.Thread(target=work, args=(each,)) for each in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()


if __name__ == "__main__":
    main()
