"""The callers at work, in a process of their own: `python -m benchmarks.soak.load`, one line of JSON at the end.

Every caller has a thread and a seed, acts, rests a moment, and acts again until time is up. One that does not come back
is stuck, which is told: no call waits longer than its patience.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import msgspec

from benchmarks.fraud_inputs import fraud_inputs
from benchmarks.soak.grpc_callers import GRPC_CALLERS, PATIENCE_S
from benchmarks.soak.http2_caller import Http2Caller
from benchmarks.soak.http_callers import Poster, Reader
from benchmarks.soak.outcome import Caller, LoadOutcome, Outcome, Tally, rows_of
from benchmarks.soak.questions import Material, Questions, gather
from benchmarks.soak.vanishing import Vanisher

COUNTS = {
    "patient": 3, "impatient": 2, "streams": 2, "watcher": 1, "mover": 1, "follower": 1,
    "http1": 2, "reader": 1, "http2": 1, "vanisher": 2,
}  # fmt: skip
REST_S = 0.02
"""How long a caller rests between two acts on average: the server is to be busy, not flooded."""

LEAVE_S_MAX = PATIENCE_S + 30.0


@dataclass(frozen=True, slots=True)
class SoakOrder:
    """What to do."""

    grpc_port: int
    http_port: int
    transport: str
    seconds: float
    seed: int
    inputs: str
    core: int | None = None


@dataclass(slots=True)
class Place:
    """One caller's thread and what came of its acts."""

    name: str
    number: int
    make: Callable[[Questions], Caller]
    tally: Tally = field(default_factory=Tally)
    thread: threading.Thread | None = None

    def run(self, material: Material, seed: int, end_s: float) -> None:
        """Acts until `end_s` on the monotonic clock."""
        questions = Questions(Random(f"{seed} {self.name} {self.number}"), material)
        caller = self.make(questions)
        while time.monotonic() < end_s:
            try:
                outcome = caller.act()
            except Exception as error:
                outcome = Outcome(type(error).__name__, False, str(error)[:200])
                caller.close()
                caller = self.make(questions)
            self.tally.count(self.name, outcome)
            time.sleep(questions.rng.expovariate(1 / REST_S))
        caller.close()


def places(order: SoakOrder) -> list[Place]:
    """Every caller. Over grpcio only gRPC is HTTP/2."""
    native = order.transport != "grpcio"
    ports = (order.grpc_port, order.http_port)
    makers: dict[str, Callable[[int, Questions], Caller]] = {
        **GRPC_CALLERS, "http1": Poster, "reader": Reader, "http2": Http2Caller, "vanisher": Vanisher,
    }  # fmt: skip
    found = []
    for name, count in COUNTS.items():
        if name == "http2" and not native:
            continue
        for number in range(count):
            port = ports[number % 2] if name == "vanisher" or native else ports[name not in GRPC_CALLERS]
            make = makers[name]
            found.append(Place(name, number, lambda questions, make=make, port=port: make(port, questions)))  # type: ignore[misc]
    return found


def work(order: SoakOrder) -> LoadOutcome:
    """Carries out `order`."""
    if order.core is not None:
        os.sched_setaffinity(0, {order.core})
    material = gather(fraud_inputs(Path(order.inputs)), order.seed)
    end_s = time.monotonic() + order.seconds
    callers = places(order)
    for place in callers:
        name = f"{place.name}-{place.number}"
        place.thread = threading.Thread(target=place.run, args=(material, order.seed, end_s), name=name, daemon=True)
        place.thread.start()
    give_up_s = end_s + LEAVE_S_MAX
    total, stuck = Tally(), []
    for place in callers:
        assert place.thread is not None
        place.thread.join(max(0.0, give_up_s - time.monotonic()))
        if place.thread.is_alive():
            stuck.append(place.thread.name)
        total.add(place.tally)
    return LoadOutcome(rows_of(total), stuck)


def main() -> None:
    """The command line: the order as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("order", help="a SoakOrder as JSON")
    order = msgspec.json.decode(parser.parse_args().order, type=SoakOrder)
    sys.stdout.buffer.write(msgspec.json.encode(work(order)) + b"\n")
    sys.stdout.flush()
    os._exit(0)  # stuck callers and grpcio's threads are not waited for


if __name__ == "__main__":
    main()
