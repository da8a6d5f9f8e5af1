"""Many threads ask, cancel, apply and close at once: every request ends once, with its own rows, and nothing is kept."""

from __future__ import annotations

import gc
import random
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from engine import (
    BATCH,
    INTERACTIVE,
    Cancelled,
    Deadline,
    DeadlineExceeded,
    Engine,
    Internal,
    Job,
    Request,
    ResourceExhausted,
    Tensor,
    datatype_named,
    monotonic,
    parse_spec,
)
from engine.graph.call import NodeJob
from engine.graph.run import GraphRun
from tests.engine.graph.test_graphs import FUNCTIONS, ROWS, running, settled
from tests.fakes import PATIENCE_S

FP64, BYTES = (datatype_named(name, of="stress") for name in ("FP64", "BYTES"))
TEXT = "{datatype: BYTES, shape: [-1]}"
WHO = "{datatype: BYTES, shape: [-1], optional: true}"
GREET = (
    "  greet: {call: 'tests.engine.graph.functions:greet', batchable: true, "
    f"inputs: {{x: {ROWS}, who: {WHO}}}, outputs: {{y: {ROWS}, said: {TEXT}}}}}\n"
)
INPUTS = f"    inputs: {{x: {ROWS}, who: {WHO}}}\n"
GRAPHS = (
    "graphs:\n"
    f"  mixed:\n{INPUTS}    outputs: {{y: sum.y, said: greet.said, heavy: heavy.y}}\n    nodes:\n"
    "      greet: {call: greet, inputs: {x: x, who: who}}\n"
    "      large: {call: is_large, inputs: {x: x}}\n"
    "      heavy: {call: double, inputs: {x: greet.y}, when: large.y, otherwise: {y: -1}}\n"
    "      picky: {call: picky, inputs: {x: x}, on_error: {call: light}}\n"
    "      sum: {call: add, inputs: {a: heavy.y, b: picky.y}}\n"
    f"  outer:\n{INPUTS}    outputs: {{y: last.y, said: inner.said}}\n    nodes:\n"
    "      inner: {call: mixed, inputs: {x: x, who: who}, timeout_ms: 20000, on_late: {default: {y: -77, said: late}}}\n"
    "      slow: {call: slow, inputs: {x: x}}\n"
    "      last: {call: add, inputs: {a: inner.y, b: slow.y}}\n"
    f"  strict:\n{INPUTS}    outputs: {{y: sum.y, said: split.said}}\n    nodes:\n"
    "      split: {call: split, inputs: {x: x, who: who}}\n"
    "      picky: {call: picky, inputs: {x: split.y}}\n"
    "      kept: {call: double, inputs: {x: picky.y}, on_error: {cached: {key: x}}}\n"
    "      sum: {call: add, inputs: {a: kept.y, b: x}}\n"
    "traffic:\n"
    "  split: {key: who, variants: {one: {call: greet, weight: 1}, two: {call: greet, weight: %d}}, "
    "shadows: {dark: {call: greet}}}\n"
)


def spec(weight: int = 1) -> str:
    """The whole, with a weight that may change."""
    return FUNCTIONS + GREET + GRAPHS % weight


@dataclass(slots=True)
class Asked:
    """A request, and what it must be answered by its own rows."""

    request: Request
    deadline: bool
    ended: list[Job] = field(default_factory=list)
    told: threading.Event = field(default_factory=threading.Event)
    cancelled: bool = False
    job: Job | None = None

    def done(self, job: Job) -> None:
        """A job's `done`."""
        self.ended.append(job)
        self.told.set()


def draw(rng: random.Random, hurried: bool) -> Asked:
    """A request of one to four rows; some are of the kind that `picky` raises on."""
    rows = rng.choice((1, 1, 1, 2, 4))
    values = [float(rng.choice((0, 1, 2, 11, 12))) for _ in range(rows)]
    if rng.random() < 0.1:
        values[rng.randrange(rows)] = -1.0
    inputs = {"x": Tensor(FP64, np.array(values))}
    if rng.random() < 0.5:
        names = [rng.choice((b"", b"ann", "bébé".encode(), b"\x00\xff")) for _ in range(rows)]
        inputs["who"] = Tensor(BYTES, np.array(names, object))
    outputs = rng.choice(((), (), ("y",), ("said", "y"), ("said",)))
    within_s = (
        rng.choice((0.0005, 0.005, 0.05)) if hurried and rng.random() < 0.3 else 60.0 if rng.random() < 0.5 else None
    )
    return Asked(
        Request(
            rng.choice(("mixed", "outer", "strict")), inputs, id=f"{rng.random()}", outputs=outputs,
            deadline=Deadline.NEVER if within_s is None else Deadline.after(within_s, monotonic()),
            priority=rng.choice((INTERACTIVE, INTERACTIVE, BATCH)),
        ),
        within_s is not None,
    )  # fmt: skip


def check(asked: Asked, told: str) -> None:
    """It ended once, with its own rows or an error that it may have."""
    assert len(asked.ended) == 1, told
    job, request = asked.ended[0], asked.request
    x = [float(each) for each in request.inputs["x"].array]
    names = [bytes(each) for each in request.inputs["who"].array] if "who" in request.inputs else [b""] * len(x)
    negative = any(each < 0 for each in x)
    if job.error is not None:
        fits = (
            (isinstance(job.error, Cancelled) and asked.cancelled)
            or (isinstance(job.error, DeadlineExceeded | ResourceExhausted) and asked.deadline)
            or (isinstance(job.error, Internal) and request.model == "strict" and negative)
        )
        assert fits, (told, job.error)
        return
    assert job.response is not None
    marks, outputs = job.response.marks, job.response.outputs
    assert list(outputs) == list(
        request.outputs or {"mixed": ("y", "said", "heavy")}.get(request.model, ("y", "said"))
    ), told
    if any("late" in each for each in marks):
        assert asked.deadline, told
        return
    failed = {"mixed": ("picky: failed: light",), "outer": ("inner/picky: failed: light",), "strict": ()}[request.model]
    assert marks == (failed if negative else ()), told
    if "said" in outputs:
        assert [bytes(each) for each in outputs["said"].array] == [b"hi " + each for each in names], told
    if "y" in outputs:
        assert [float(each) for each in outputs["y"].array] == expected(request.model, x, names, negative), told


def expected(model: str, x: Sequence[float], names: Sequence[bytes], negative: bool) -> list[float]:
    """y of a graph, row by row; where a row is negative, `picky` was stood in for all rows of its request."""
    greeted = [value + len(name) for value, name in zip(x, names, strict=True)]
    if model == "strict":
        return [2 * each + value for each, value in zip(greeted, x, strict=True)]
    picked = [1.0] * len(x) if negative else list(x)
    mixed = [(2 * each if value > 10 else -1.0) + own for each, value, own in zip(greeted, x, picked, strict=True)]
    return [each + value for each, value in zip(mixed, x, strict=True)] if model == "outer" else mixed


def ask_many(engine: Engine, seed: int, turns: int, all_asked: list[Asked], *, hurried: bool) -> None:
    """One caller's turns: some requests, together or alone, some of which it leaves."""
    rng = random.Random(seed)
    for _ in range(turns):
        group = [draw(rng, hurried) for _ in range(rng.choice((1, 1, 3, 8)))]
        for asked in group:
            all_asked.append(asked)
            try:
                asked.job = engine.submit(asked.request, asked.done, at_once=len(group) == 1 and rng.random() < 0.7)
            except (ResourceExhausted, DeadlineExceeded) as error:
                refused = Job(asked.request, 1, None, asked.done)  # type: ignore[arg-type]
                refused.finish(error)
            if hurried and rng.random() < 0.1 and asked.job is not None:
                asked.cancelled = True
                asked.job.cancel()
        engine.flush()
        if hurried and rng.random() < 0.3:
            left = rng.choice(group)
            if left.job is not None:
                left.cancelled = True
                left.job.cancel()


@pytest.mark.parametrize("hurried", [False, True], ids=["patient", "hurried"])
def test_every_request_of_many_threads_ends_once_with_its_own_rows_while_weights_change(hurried: bool) -> None:
    threads_count, turns = 4, 60
    with running(GREET + GRAPHS % 1) as engine:
        gathered: list[list[Asked]] = [[] for _ in range(threads_count)]
        threads = [
            threading.Thread(target=ask_many, args=(engine, 100 + index, turns, mine), kwargs={"hurried": hurried})
            for index, mine in enumerate(gathered)
        ]
        for each in threads:
            each.start()
        for weight in (2, 1, 3):
            engine.apply(parse_spec(spec(weight), folder=Path()))
        for each in threads:
            each.join(PATIENCE_S * 3)
            assert not each.is_alive()
        everything = [each for mine in gathered for each in mine]
        for number, asked in enumerate(everything):
            assert asked.told.wait(PATIENCE_S), f"request {number} never ended: {asked.request}"
        for number, asked in enumerate(everything):
            check(asked, f"request {number}, seeds 100 to {99 + threads_count}: {asked.request}")
        answered = sum(each.ended[0].error is None for each in everything)
        assert answered > len(everything) * (0.3 if hurried else 0.8)
        settled(lambda: engine._idle())
        baseline = Counter({"mixed": 1, "split": 1})  # by the graphs that call them
        for name in ("mixed", "outer", "strict", "split"):
            handle = engine._registry.find(name, None)
            settled(lambda handle=handle, name=name: handle.users == baseline[name])  # type: ignore[misc]
            assert engine._registry.find(name, None) is handle


def test_nothing_of_ended_requests_is_kept_after_a_storm() -> None:
    others = {id(each) for each in kept()}  # of tests before
    with running(GREET + GRAPHS % 1) as engine:
        mine: list[Asked] = []
        ask_many(engine, 1, 80, mine, hurried=True)
        assert all(each.told.wait(PATIENCE_S) for each in mine)
        settled(lambda: engine._idle())
        mine.clear()
        settled(lambda: {id(each) for each in kept()} <= others)


def kept() -> list[object]:
    """Runs and their jobs that somebody holds."""
    gc.collect()
    everything = gc.get_objects()  # by type: isinstance() would ask dead weak proxies
    return [each for each in everything if issubclass(type(each), GraphRun | NodeJob)]


def test_engine_closed_in_the_middle_of_a_storm_ends_every_request_once() -> None:
    for seed in range(3):
        engine = Engine(parse_spec(spec(), folder=Path()))
        engine.start()
        mine: list[list[Asked]] = [[], []]
        refused: list[Exception] = []

        def storm(index: int, engine: Engine = engine, mine: list[list[Asked]] = mine, seed: int = seed) -> None:
            try:
                ask_many(engine, 10 * seed + index, 200, mine[index], hurried=False)
            except Exception as error:
                refused.append(error)  # noqa: B023
                mine[index].pop()
                engine.flush()

        threads = [threading.Thread(target=storm, args=(index,)) for index in range(2)]
        for each in threads:
            each.start()
        settled(lambda mine=mine: all(len(each) > 20 for each in mine))  # type: ignore[misc]
        engine.close(drain_s=random.Random(seed).choice((0.0, 0.05, 5.0)))
        for each in threads:
            each.join(PATIENCE_S)
        assert all(type(each).__name__ == "Unavailable" for each in refused), refused
        for asked in (each for some in mine for each in some):
            assert asked.told.wait(PATIENCE_S), f"seed {seed}: {asked.request}"
            assert len(asked.ended) == 1
