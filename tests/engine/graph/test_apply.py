"""Graphs while what is wanted changes: nobody who calls one is refused, and what is replaced is let go of."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from engine import Engine, NotFound, Request, SpecError, Tensor, VireoError, parse_spec
from tests.engine.graph import functions
from tests.engine.graph.test_graphs import FP64, FUNCTIONS, ask, function, graph, numbers, running, settled
from tests.engine.graph.test_nested import graphs, node
from tests.fakes import Endings, Gate

SPLIT = "traffic:\n  split: {{variants: {{one: {{call: double, weight: {}}}, two: {{call: light, weight: {}}}}}}}\n"


def apply(engine: Engine, text: str) -> None:
    """As SIGHUP does."""
    engine.apply(parse_spec(text, folder=Path()))


@contextmanager
def callers(engine: Engine, model: str, value: float, seen: set[float]) -> Iterator[list[VireoError]]:
    """Threads that call `model` all the time; what they are refused with."""
    errors: list[VireoError] = []
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            try:
                seen.add(numbers(ask(engine, model, value))[0])
            except VireoError as error:
                errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for each in threads:
        each.start()
    try:
        yield errors
    finally:
        over.set()
        for each in threads:
            each.join()


def test_graph_answers_as_before_until_what_it_calls_now_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new function takes long to load; meanwhile nobody is refused."""
    imported = Gate()
    monkeypatch.setattr(functions, "seen", imported)  # it is warmed with ones
    new = "  newer: {call: 'tests.engine.graph.functions:slow_to_warm', batchable: true, inputs: {x: X}, outputs: {y: X}}\n"
    new = new.replace("X", "{datatype: FP64, shape: [-1]}")
    with running(graphs(g=node("last", "double"))) as engine:
        seen: set[float] = set()
        with callers(engine, "g", 4.0, seen) as errors:
            applying = threading.Thread(target=apply, args=(engine, FUNCTIONS + new + graphs(g=node("last", "newer"))))
            applying.start()
            imported.wait_entered()
            settled(lambda: 8.0 in seen)
            assert numbers(ask(engine, "g", 4.0)) == [8.0]
            imported.open()
            applying.join()
            assert numbers(ask(engine, "g", 4.0)) == [4.0]
            settled(lambda: 4.0 in seen)
        assert not errors, errors[0]
        assert seen == {8.0, 4.0}


def test_graph_that_does_not_resolve_any_more_answers_as_before_and_that_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running(graphs(g=node("last", "double"), other=node("last", "double"))) as engine:
        broken = FUNCTIONS.replace("functions:gated'", "functions:no_such'") + graphs(
            g=node("last", "gated"), other=node("last", "light")
        )
        with caplog.at_level(logging.ERROR):
            apply(engine, broken)
        assert numbers(ask(engine, "g", 4.0)) == [4.0]  # the old version of `gated` stays, as models do
        apply(engine, FUNCTIONS.replace("  gated:", "  gone:") + graphs(g=node("last", "double")))
        caplog.clear()
        fresh = function("gated").replace("  gated:", "  fresh:").replace("functions:gated", "functions:no_such")
        with caplog.at_level(logging.ERROR):
            apply(engine, FUNCTIONS + fresh + graphs(g=node("last", "fresh"), h=node("last", "g")))
        assert numbers(ask(engine, "g", 4.0)) == numbers(ask(engine, "h", 4.0)) == [8.0]
        assert "g answers as it was declared before: graph 'g', node 'last'" in caplog.text
        (entry,) = (each for each in engine.index() if each.name == "g")
        assert (entry.state, entry.reason.startswith("as it was declared before: graph 'g'")) == ("READY", True)
        apply(engine, FUNCTIONS + graphs(g=node("last", "light")))
        assert numbers(ask(engine, "g", 4.0)) == [1.0]
        assert [each.reason for each in engine.index() if each.name == "g"] == [""]


def test_spec_that_is_refused_as_a_whole_changes_no_graph(tmp_path: Path) -> None:
    old = FUNCTIONS + graphs(g=node("last", "double"))
    with running(graphs(g=node("last", "double"))) as engine:
        (tmp_path / "models").mkdir()
        refused = "repository: {path: models, control: explicit, load: [no-such]}\n" + FUNCTIONS
        with pytest.raises((NotFound, SpecError)):
            engine.apply(parse_spec(refused + graphs(h=node("last", "light")), folder=tmp_path))
        engine._reconciler._wake()
        engine._reconciler._settle()
        assert numbers(ask(engine, "g", 4.0)) == [8.0]
        with pytest.raises(NotFound):
            ask(engine, "h", 4.0)
        apply(engine, old)
        assert numbers(ask(engine, "g", 4.0)) == [8.0]


def test_graphs_and_weights_change_under_load_and_nobody_is_refused() -> None:
    """Also what was replaced is let go of: every old function's worker is closed."""
    rng = random.Random(11)
    with running(graphs(g=node("last", "double"), outer=node("last", "g")) + SPLIT.format(1, 1)) as engine:
        seen: set[float] = set()
        with callers(engine, "outer", 4.0, seen) as errors, callers(engine, "split", 4.0, seen) as others:
            workers = []
            for turn in range(12):
                functions_ = FUNCTIONS.replace(
                    "functions:double', ", f"functions:double', queue: {{requests_max: {100 + turn}}}, "
                )
                call = rng.choice(("double", "light"))
                bound = rng.choice(("{}", "{on_late: {default: {y: 1}}}"))
                inner = node("first", "double") + node("last", call, rng.choice(("x", "first.y")))
                if "first.y" not in inner:
                    inner = node("last", call)
                more = {} if bound == "{}" else {"on_late": "{default: {y: 1}}"}
                weights = (rng.randint(0, 3), rng.randint(1, 3))
                apply(engine, functions_ + graphs(g=inner, outer=node("last", "g", **more)) + SPLIT.format(*weights))
                workers.append(engine._registry.find("double", None).hosted.worker)
        assert not errors, errors[0]
        assert not others, others[0]
        assert seen <= {1.0, 8.0, 16.0}
        settled(lambda: all(each._closed for each in workers[:-1]))
        assert not workers[-1]._closed


def test_replaced_graph_keeps_its_functions_until_what_hangs_in_it_has_ended() -> None:
    gate = functions.GATES["gated"] = Gate()
    nodes = node("last", "gated", timeout_ms="30", on_late="{default: {y: -5}}")
    with running(graphs(g=nodes)) as engine:
        settled(lambda: not ask(engine, "g", 1.0).marks)
        old = engine._registry.find("gated", None).hosted.worker
        endings = Endings()
        for _ in range(3):
            engine.submit(Request("g", {"x": Tensor(FP64, np.array([200.0]))}), endings)
        engine.flush()
        endings.wait(3)
        assert all(job.response is not None and numbers(job.response) == [-5.0] for job in endings.jobs)
        changed = FUNCTIONS.replace("functions:gated', ", "functions:gated', queue: {requests_max: 9}, ")
        apply(engine, changed + graph("g", nodes, "y: last.y"))
        assert not old._closed
        gate.open()
        settled(lambda: old._closed)
        settled(lambda: not ask(engine, "g", 1.0).marks)


def test_engine_that_closes_ends_every_request_in_its_graphs_once() -> None:
    rng = random.Random(12)
    for number in range(5):
        endings = Endings()
        submitted = 0
        nodes = node("first", "double") + node("last", "slow", "first.y", on_error="{call: light}")
        with running(graphs(inner=nodes, g=node("last", "inner"))) as engine:
            engine._registry.find("slow", None).hosted.worker.keep_off_callers()
            for _ in range(30):
                request = Request(rng.choice(("inner", "g")), {"x": Tensor(FP64, np.array([rng.uniform(0, 3)]))})
                engine.submit(request, endings, at_once=rng.random() < 0.2)
                submitted += 1
                if rng.random() < 0.3:
                    engine.flush()
            engine.close(drain_s=rng.choice((0.0, 0.01, 1.0)))
            engine.flush()
        endings.wait(submitted)
        assert len(endings.jobs) == len({id(each) for each in endings.jobs}) == submitted, f"round {number} of seed 12"
