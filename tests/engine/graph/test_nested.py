"""Graphs and splits inside graphs: what is inside keeps its own bounds, refusals and rows, also where requests go together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from engine import (
    Deadline,
    Engine,
    Internal,
    Job,
    Ledger,
    Request,
    ResourceExhausted,
    Tensor,
    monotonic,
    parse_spec,
)
from engine.graph.record_rows import Origin, RecordMaker
from engine.scheduling.worker import Worker
from tests.engine.graph import functions
from tests.engine.graph.test_graphs import FP64, FUNCTIONS, ROWS, ask, function, graph, numbers, running, settled
from tests.fakes import Endings, Gate

Nodes = str


def graphs(**nodes: Nodes) -> str:
    """Graphs over x by name; the output is y of the node `last`."""
    return "graphs:\n" + "".join(
        graph(name, text, "y: last.y").removeprefix("graphs:\n") for name, text in nodes.items()
    )


def node(name: str, call: str, x: str = "x", **more: str) -> str:
    """A node over one input."""
    rest = "".join(f", {key}: {value}" for key, value in more.items())
    return f"      {name}: {{call: {call}, inputs: {{x: {x}}}{rest}}}\n"


def go_together(engine: Engine, model: str, values: Sequence[float], **more: object) -> list[Job]:
    """Requests of one turn, each of one row."""
    endings = Endings()
    jobs = [
        engine.submit(Request(model, {"x": Tensor(FP64, np.array([each]))}, id=f"id-{each:g}", **more), endings)  # type: ignore[arg-type]
        for each in values
    ]
    engine.flush()
    endings.wait(len(jobs))
    assert len(endings.jobs) == len(jobs)
    return jobs


def answers(jobs: Sequence[Job]) -> list[list[float]]:
    """The y of each."""
    return [numbers(job.response) if job.response is not None else [float("nan")] for job in jobs]


SLOW_INNER = node("last", "slow")


@pytest.mark.parametrize("together", [False, True])
def test_refusal_of_an_inner_graph_is_a_refusal_or_takes_the_fallback(together: bool) -> None:
    spec = graphs(
        inner=SLOW_INNER,
        outer=node("last", "inner"),
        careful=node("last", "inner", on_late="{default: {y: -3}}", timeout_ms="2"),
    )
    with running(spec) as engine:
        for _ in range(20):
            ask(engine, "inner", 40.0)
        runner = engine._registry.find("outer", None).hosted.worker
        with pytest.raises(ResourceExhausted, match="the deadline cannot be met"):
            ask(engine, "outer", 40.0, within_s=0.004)
        at_once = Endings()
        request = Request("careful", {"x": Tensor(FP64, np.array([40.0]))}, deadline=Deadline.after(10, monotonic()))
        if together:
            jobs = [engine.submit(request, at_once) for _ in range(3)]
            engine.flush()
        else:
            jobs = [engine.submit(request, at_once, at_once=True)]
        at_once.wait(len(jobs))
        for job in jobs:
            assert job.response is not None, job.error
            assert (numbers(job.response), job.response.marks) == ([-3.0], ("last: late: default",))
        assert not runner.waiting
        settled(lambda: engine._registry.find("outer", None).users == 0)


def test_refusal_that_only_the_inner_graph_foresees_keeps_its_class_and_nothing_is_held() -> None:
    """The inner refuses in the middle of the outer's run, on the caller's thread."""
    with running(graphs(inner=SLOW_INNER, outer=node("first", "double") + node("last", "inner", "first.y"))) as engine:
        for _ in range(20):
            ask(engine, "inner", 40.0)
        outer = engine._registry.find("outer", None).hosted.worker
        outer._measure = lambda rows: outer._prediction  # type: ignore[method-assign, union-attr]  # it is blind
        endings = Endings()
        request = Request("outer", {"x": Tensor(FP64, np.array([20.0]))}, deadline=Deadline.after(0.01, monotonic()))
        job = engine.submit(request, endings, at_once=True)
        endings.wait(1)
        assert isinstance(job.error, ResourceExhausted), job.error
        assert job.error.message.startswith("graph 'outer', node 'last': graph 'inner': the deadline cannot be met")
        settled(lambda: engine._registry.find("outer", None).users == 0)


@pytest.mark.parametrize("at_once", [False, True])
def test_graph_that_hangs_inside_a_graph_is_stood_in_for_at_its_bound(at_once: bool) -> None:
    gate = functions.GATES["gated"] = Gate()
    spec = graphs(
        inner=node("last", "gated"), outer=node("last", "inner", timeout_ms="50", on_late="{default: {y: -5}}")
    )
    with running(spec) as engine:
        settled(lambda: not ask(engine, "outer", 1.0).marks)
        endings = Endings()
        job = engine.submit(Request("outer", {"x": Tensor(FP64, np.array([200.0]))}), endings, at_once=at_once)
        engine.flush()
        endings.wait(1)
        assert job.response is not None
        assert (numbers(job.response), job.response.marks) == ([-5.0], ("last: late: default",))
        gate.open()


def test_lighter_servable_is_called_at_the_bound_though_nobody_else_comes() -> None:
    """What stands in is called on the alarm's thread, after which nobody would flush."""
    gate = functions.GATES["gated"] = Gate()
    cached = node("kept", "double", on_error="{cached: {key: x}}")  # so that requests do not go together
    nodes = cached + node("slow", "gated", "kept.y", timeout_ms="50", on_late="{call: light}")
    with running(graphs(g=nodes + node("last", "double", "slow.y"))) as engine:
        settled(lambda: not ask(engine, "g", 1.0).marks)
        response = ask(engine, "g", 200.0)
        assert (numbers(response), response.marks) == ([2.0], ("slow: late: light",))
        gate.open()


def test_lighter_servable_that_is_refused_fails_the_request_once() -> None:
    lighter = function("light", queue="{requests_max: 1}").replace("  light:", "  lighter:")
    nodes = node("last", "gated", timeout_ms="30", on_late="{call: lighter}")
    gate = functions.GATES["gated"] = Gate()
    with running(lighter + graphs(g=nodes)) as engine:
        settled(lambda: not ask(engine, "g", 1.0).marks)
        worker = engine._registry.find("lighter", None).hosted.worker
        x = Tensor(FP64, np.array([1.0]))
        waits = Job(Request("lighter", {"x": x}), 1, Ledger(engine.clock()), Endings())
        worker.submit(waits)  # and nobody flushes
        with pytest.raises(ResourceExhausted, match=r"graph 'g', node 'last': .*queue is full"):
            ask(engine, "g", 200.0)
        gate.open()
        worker.flush()
    assert waits.response is not None


def test_requests_that_go_together_keep_their_own_branch_of_an_inner_graph() -> None:
    branch = (
        node("large", "is_large")
        + node("heavy", "double", when="large.y")
        + node("cheap", "light")
        + node("last", "double", "[heavy.y, cheap.y]")
    )
    with running(graphs(branch=branch, outer=node("last", "branch"))) as engine:
        alone = [numbers(ask(engine, "outer", each)) for each in (3.0, 30.0, 4.0)]
        assert alone == [[2.0], [120.0], [2.0]]
        assert answers(go_together(engine, "outer", [3.0, 30.0, 4.0])) == alone


def test_condition_that_says_only_part_of_what_other_rows_hold_is_asked_request_by_request() -> None:
    both = (
        "  both: {call: 'tests.engine.graph.functions:both', batchable: true, "
        f"inputs: {{x: {ROWS}}}, outputs: {{y: {ROWS}, z: {ROWS}}}}}\n"
    )
    nodes = (
        node("large", "is_large")
        + node("heavy", "both", when="large.y", otherwise="{y: -1}")
        + node("cheap", "light")
        + "      last: {call: add, inputs: {a: heavy.y, b: [heavy.z, cheap.y]}}\n"
    )
    with running(both + graphs(g=nodes)) as engine:
        alone = [numbers(ask(engine, "g", each)) for each in (3.0, 30.0)]
        assert alone == [[0.0], [150.0]]
        assert answers(go_together(engine, "g", [3.0, 30.0])) == alone


def test_servable_whose_batching_is_off_computes_each_request_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(functions, "seen", lambda x: sizes.append(len(x)))
    apart = function("watched", batching="{enabled: false}")
    for name, more in (("apart", apart), ("few", function("watched", batching="{rows_max: 3}"))):
        spec = more + graphs(inner=node("last", "watched"), g=node("last", "watched"), outer=node("last", "inner"))
        with running(spec) as engine:
            for model in ("g", "outer"):
                sizes.clear()
                jobs = go_together(engine, model, [float(each) for each in range(1, 11)])
                assert answers(jobs) == [[float(each)] for each in range(1, 11)]
                assert max(sizes) == (1 if name == "apart" else 3), (name, model, sizes)
                assert sum(sizes) == 10


def test_split_by_the_requests_id_inside_a_graph_keeps_each_id_with_its_variant() -> None:
    split = "traffic:\n  split:\n    key: $id\n    variants: {one: {call: double, weight: 1}, two: {call: light, weight: 1}}\n"
    with running(graphs(g=node("last", "split")) + split) as engine:
        values = [float(each) for each in range(2, 40)]
        alone = answers([job for each in values for job in go_together(engine, "g", [each])])
        assert {each == [1.0] for each in alone} == {True, False}
        assert answers(go_together(engine, "g", values)) == alone


def test_one_in_a_hurry_costs_those_who_are_not_neither_their_answer_nor_a_mark() -> None:
    spec = graphs(g=node("last", "slow", timeout_share="0.5", on_late="{default: {y: -9}}"))
    with running(spec) as engine:
        for _ in range(20):
            assert numbers(ask(engine, "g", 30.0, within_s=60)) == [30.0]
        endings = Endings()
        jobs = []
        for within_s in (0.05, 60.0, 60.0):
            request = Request("g", {"x": Tensor(FP64, np.array([5.0]))}, deadline=Deadline.after(within_s, monotonic()))
            jobs.append(engine.submit(request, endings))
        engine.flush()
        endings.wait(3)
        for job in jobs[1:]:
            assert job.response is not None, job.error
            assert (numbers(job.response), job.response.marks) == ([5.0], ())


def test_node_that_answers_fewer_rows_than_it_was_asked_ends_every_request() -> None:
    with running(graphs(g=node("first", "double") + node("last", "double", "first.y"))) as engine:
        worker = engine._registry.find("double", None).hosted.worker
        assert isinstance(worker, Worker)
        execute = worker._servable.execute

        def short(inputs, outputs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            answered = execute(inputs, outputs)
            return {name: Tensor(each.datatype, each.array[:1]) for name, each in answered.items()}

        worker._servable.execute = short  # type: ignore[method-assign]
        jobs = go_together(engine, "g", [1.0, 2.0, 3.0])
        assert answers(jobs) == [[4.0], [8.0], [12.0]]


def test_outputs_come_in_the_order_in_which_they_are_asked_for() -> None:
    nodes = node("first", "double") + node("last", "double", "first.y")
    spec = graph("g", nodes, "y: last.y, z: first.y")
    with running(spec) as engine:
        assert list(ask(engine, "g", 1.0, outputs=("z", "y")).outputs) == ["z", "y"]
        assert list(ask(engine, "g", 1.0).outputs) == ["y", "z"]
        endings = Endings()
        x = Tensor(FP64, np.array([1.0]))
        asked: list[tuple[str, ...]] = [("z",), (), ("y", "z"), ("z", "y")]
        jobs = [engine.submit(Request("g", {"x": x}, outputs=each), endings) for each in asked]
        engine.flush()
        endings.wait(4)
        told = [list(job.response.outputs) for job in jobs if job.response is not None]
        assert told == [["z"], ["y", "z"], ["y", "z"], ["z", "y"]]


def streaming(engine: Engine, model: str, value: float, stop_after: int | None = None) -> tuple[Job, list[list[float]]]:
    """A streamed request, ended; its caller leaves after so many parts."""
    endings, parts = Endings(), list[list[float]]()
    box: list[Job] = []

    def part(response: object) -> None:
        parts.append(numbers(response))  # type: ignore[arg-type]
        if len(parts) == stop_after:
            settled(lambda: bool(box))
            box[0].cancel()

    job = engine.submit(Request(model, {"x": Tensor(FP64, np.array([value]))}), endings, part, at_once=True)
    box.append(job)
    endings.wait(1)
    return job, parts


STREAMS = (
    FUNCTIONS
    + graphs(inner=node("first", "double") + node("last", "count_down", "first.y"), outer=node("last", "inner"))
).replace("inputs: {x: {datatype: FP64, shape: [-1]}}\n", "inputs: {x: {datatype: FP64, shape: [1]}}\n")


@pytest.mark.parametrize("model", ["inner", "outer"])
def test_graph_that_streams_needs_nobody_else_to_come_and_stops_when_its_caller_leaves(model: str) -> None:
    engine = Engine(parse_spec(STREAMS, folder=Path()))
    engine.start()
    try:
        assert engine.ready, engine.problems()
        job, parts = streaming(engine, model, 2.0)
        assert job.error is None, job.error
        assert parts == [[4.0], [3.0], [2.0], [1.0]]
        job, parts = streaming(engine, model, 50_000.0, stop_after=2)
        assert job.error is not None
        assert len(parts) < 10
        settled(lambda: engine._registry.find(model, None).users == (1 if model == "inner" else 0))
    finally:
        engine.close()


def test_records_that_cannot_be_made_fail_their_request_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made: Callable[..., object] = RecordMaker.of

    def of_all(self: RecordMaker, values: object, ledger: object, origins: Sequence[Origin], *rest: object) -> object:
        assert "id-2" in {each.request_id for each in origins}
        raise RuntimeError("not all of them")

    def of(self: RecordMaker, values: object, response: object, *rest: object) -> object:
        if response.id == "id-2":  # type: ignore[attr-defined]
            raise RuntimeError("no")
        return made(self, values, response, *rest)

    monkeypatch.setattr(RecordMaker, "of", of)
    monkeypatch.setattr(RecordMaker, "of_all", of_all)
    logs = f"logs:\n  kept: {{schema: {{y: float64}}, local: {{path: {tmp_path}/kept}}}}\n"
    records = "    records: {row: {log: kept, columns: {y: last.y}}}\n"
    spec = FUNCTIONS + logs + graphs(g=node("last", "double")) + records
    engine = Engine(parse_spec(spec, folder=tmp_path))
    engine.start()
    try:
        first, second, third = go_together(engine, "g", [1.0, 2.0, 3.0])
        assert answers([first, third]) == [[2.0], [6.0]]
        assert isinstance(second.error, Internal)
    finally:
        engine.close()
