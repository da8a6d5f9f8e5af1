"""Graphs as an engine serves them: wired by a spec, called like models."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from engine import (
    Cancelled,
    Deadline,
    DeadlineExceeded,
    Engine,
    Internal,
    InvalidArgument,
    Job,
    NotFound,
    Request,
    ResourceExhausted,
    Response,
    Tensor,
    datatype_named,
    monotonic,
    parse_spec,
)
from engine.graph.call import NodeJob
from engine.graph.run import GraphRun
from tests.engine.graph import functions
from tests.fakes import PATIENCE_S, Endings, Gate

FP64 = datatype_named("FP64", of="tests")
ROWS = "{datatype: FP64, shape: [-1]}"


def function(name: str, inputs: str = "x", output: str = "FP64", **more: object) -> str:
    """A function's line in a spec."""
    wired = ", ".join(f"{each}: {ROWS}" for each in inputs.split())
    rest = "".join(f", {key}: {value}" for key, value in more.items())
    streams = "batchable: true" if name != "count_down" else "batchable: false"
    return (
        f"  {name}: {{call: 'tests.engine.graph.functions:{name}', {streams}, inputs: {{{wired}}}, "
        f"outputs: {{y: {{datatype: {output}, shape: [-1]}}}}{rest}}}\n"
    )


FUNCTIONS = "functions:\n" + "".join(
    [
        function("double"), function("add", "a b"), function("light"), function("picky"), function("gated"), function("slow"),
        function("is_large", output="BOOL"), function("count_down"),
    ]
)  # fmt: skip


@contextmanager
def running(graphs: str) -> Iterator[Engine]:
    """An engine with the functions above and these graphs."""
    engine = Engine(parse_spec(FUNCTIONS + graphs, folder=Path()))
    engine.start()
    try:
        yield engine
    finally:
        engine.close()


def graph(name: str, nodes: str, outputs: str, **more: object) -> str:
    """A graph over the input x."""
    rest = "".join(f"    {key}: {value}\n" for key, value in more.items())
    return f"graphs:\n  {name}:\n    inputs: {{x: {ROWS}}}\n{rest}    outputs: {{{outputs}}}\n    nodes:\n{nodes}"


DIAMOND = graph(
    "diamond",
    """      left: {call: double, inputs: {x: x}}
      right: {call: light, inputs: {x: x}}
      both: {call: add, inputs: {a: left.y, b: right.y}}
""",
    "y: both.y, left: left.y",
)


def ask(engine: Engine, model: str, *values: float, within_s: float | None = None, **more: object) -> Response:
    """The answer of `model` to x."""
    deadline = Deadline.NEVER if within_s is None else Deadline.after(within_s, monotonic())
    request = Request(model, {"x": Tensor(FP64, np.array(values))}, deadline=deadline, **more)  # type: ignore[arg-type]
    return engine.infer(request)


def numbers(response: Response, name: str = "y") -> list[float]:
    """One output."""
    return [float(each) for each in response.outputs[name].array]


def settled(holds: Callable[[], bool]) -> None:
    """Returns when it is so, on a machine that may be busy with something else."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "it never came"
        time.sleep(0.01)


def test_graph_is_called_like_a_model() -> None:
    with running(DIAMOND) as engine:
        assert engine.ready
        response = ask(engine, "diamond", 3.0, 4.0)
        assert (response.model, response.version, response.marks) == ("diamond", 1, ())
        assert numbers(response) == [7.0, 9.0]
        assert numbers(response, "left") == [6.0, 8.0]
        assert list(ask(engine, "diamond", 3.0, outputs=("left",)).outputs) == ["left"]
        described = engine.describe("diamond", None)
        assert [each.name for each in described.signature.inputs] == ["x"]
        assert [each.name for each in described.signature.outputs] == ["y", "left"]
        assert described.signature.batchable
        assert ("diamond", 1, "READY", "") in [
            (each.name, each.version, each.state, each.reason) for each in engine.index()
        ]
        counted = {name: statistics for name, _, statistics in engine.statistics()}
        assert (counted["diamond"].success.count, counted["both"].success.count if "both" in counted else 0) == (2, 0)
        assert counted["add"].success.count == 2


def test_bad_requests_are_refused_as_a_models_are() -> None:
    with running(DIAMOND) as engine:
        with pytest.raises(InvalidArgument, match="model 'diamond' has no output 'z'"):
            ask(engine, "diamond", 3.0, outputs=("z",))
        with pytest.raises(InvalidArgument, match="model 'diamond': missing input 'x'"):
            engine.infer(Request("diamond", {}))
        with pytest.raises(InvalidArgument, match="zero rows"):
            ask(engine, "diamond")
        with pytest.raises(NotFound, match="unknown model"):
            ask(engine, "diamon", 1.0)


def test_graph_calls_another_graph_and_its_stages_are_told_by_path() -> None:
    outer = DIAMOND + (
        f"  outer:\n    inputs: {{x: {ROWS}}}\n    outputs: {{y: last.y}}\n    nodes:\n"
        "      first: {call: double, inputs: {x: x}}\n"
        "      inner: {call: diamond, inputs: {x: first.y}}\n"
        "      last: {call: add, inputs: {a: inner.y, b: inner.left}}\n"
    )
    with running(outer) as engine:
        response = ask(engine, "outer", 1.0)
        assert numbers(response) == [9.0]
        stages = response.ledger.stages
        assert [each.name for each in stages] == [
            "first", "inner", "inner/left", "inner/right", "inner/both", "last",
        ]  # fmt: skip
        assert sum(each.ended_ns - each.ready_ns for each in stages if each.critical) <= response.ledger.total_ns
        assert all(each.ready_ns <= each.started_ns <= each.ended_ns for each in stages)


def test_condition_chooses_a_branch_and_a_list_joins_them() -> None:
    nodes = """      large: {call: is_large, inputs: {x: x}}
      heavy: {call: double, inputs: {x: x}, when: large.y}
      cheap: {call: light, inputs: {x: x}}
      joined: {call: double, inputs: {x: [heavy.y, cheap.y]}}
"""
    with running(graph("branch", nodes, "y: joined.y")) as engine:
        functions.CALLS.clear()
        assert numbers(ask(engine, "branch", 3.0)) == [2.0]
        assert functions.CALLS == {"light": 1, "double": 1}
        assert numbers(ask(engine, "branch", 30.0)) == [120.0]


def test_node_that_raises_or_answers_the_wrong_shape_fails_its_request_alone() -> None:
    nodes = "      first: {call: double, inputs: {x: x}}\n      picky: {call: picky, inputs: {x: first.y}}\n"
    with running(graph("g", nodes, "y: picky.y")) as engine:
        with pytest.raises(Internal, match=r"graph 'g', node 'picky': .*raised ValueError: a negative x"):
            ask(engine, "g", -1.0)
        with pytest.raises(Internal, match=r"graph 'g', node 'picky': .*shape \[1\], declared"):
            ask(engine, "g", 2000.0, 1.0)
        assert numbers(ask(engine, "g", 4.0)) == [8.0]


@pytest.mark.parametrize(
    ("fallback", "value", "mark"),
    [
        ("{default: {y: 7}}", [7.0, 7.0], "picky: failed: default"),
        ("{call: light}", [1.0, 1.0], "picky: failed: light"),
        ("{call: double, inputs: {x: x}}", [-2.0, -4.0], "picky: failed: double"),
    ],
)
def test_something_stands_in_for_a_node_that_fails(fallback: str, value: list[float], mark: str) -> None:
    nodes = f"      picky: {{call: picky, inputs: {{x: x}}, on_error: {fallback}}}\n"
    with running(graph("g", nodes, "y: picky.y")) as engine:
        assert ask(engine, "g", 1.0).marks == ()
        response = ask(engine, "g", -1.0, -2.0)
        assert (numbers(response), response.marks) == (value, (mark,))


def test_earlier_answer_stands_in_for_the_same_key() -> None:
    nodes = "      picky: {call: picky, inputs: {x: x}, on_error: {cached: {key: who}}}\n"
    spec = graph("g", nodes, "y: picky.y").replace("x: {", "who: {datatype: BYTES, shape: [-1]}, x: {", 1)
    bytes_type = datatype_named("BYTES", of="tests")

    def about(engine: Engine, who: bytes, value: float) -> Response:
        keys = Tensor(bytes_type, np.array([who], object))
        return engine.infer(Request("g", {"x": Tensor(FP64, np.array([value])), "who": keys}))

    with running(spec) as engine:
        assert numbers(about(engine, b"ann", 4.0)) == [4.0]
        assert numbers(about(engine, b"bob", 5.0)) == [5.0]
        response = about(engine, b"ann", -1.0)
        assert (numbers(response), response.marks) == ([4.0], ("picky: failed: cached",))
        with pytest.raises(Internal, match=r"graph 'g', node 'picky': .*negative.*no earlier answer"):
            about(engine, b"eve", -1.0)


def test_node_that_hangs_is_stood_in_for_and_touches_nobody_else() -> None:
    nodes = "      gated: {call: gated, inputs: {x: x}, timeout_ms: 300, on_late: {default: {y: -5}}}\n"
    gate = functions.GATES["gated"] = Gate()
    with running(graph("g", nodes, "y: gated.y") + DIAMOND.partition("graphs:\n")[2]) as engine:
        settled(lambda: not ask(engine, "g", 1.0).marks)
        response = ask(engine, "g", 200.0)
        assert (numbers(response), response.marks) == ([-5.0], ("gated: late: default",))
        assert numbers(ask(engine, "diamond", 1.0)) == [3.0]
        gate.open()
        settled(lambda: not ask(engine, "g", 1.0).marks)


def test_node_without_a_fallback_fails_at_its_bound_and_is_named() -> None:
    nodes = "      gated: {call: gated, inputs: {x: x}, timeout_share: 0.1}\n"
    gate = functions.GATES["gated"] = Gate()
    with running(graph("g", nodes, "y: gated.y")) as engine:
        assert numbers(ask(engine, "g", 1.0, within_s=30)) == [1.0]
        with pytest.raises(DeadlineExceeded, match="graph 'g', node 'gated': not answered within its bound of 30"):
            ask(engine, "g", 200.0, within_s=0.3)
        gate.open()


def test_slo_is_the_deadline_of_a_request_that_brings_none() -> None:
    nodes = "      gated: {call: gated, inputs: {x: x}, timeout_share: 1}\n"
    gate = functions.GATES["gated"] = Gate()
    with running(graph("g", nodes, "y: gated.y", slo_ms=80)) as engine:
        with pytest.raises(DeadlineExceeded, match="graph 'g'"):
            ask(engine, "g", 200.0)
        gate.open()


def test_hopeless_request_is_refused_at_once_with_a_hint() -> None:
    nodes = "      slow: {call: slow, inputs: {x: x}}\n"
    with running(graph("g", nodes, "y: slow.y")) as engine:
        for _ in range(20):
            ask(engine, "g", 20.0)
        with pytest.raises(ResourceExhausted, match="graph 'g': the deadline cannot be met") as refused:
            ask(engine, "g", 20.0, within_s=0.001)
        assert refused.value.retry_after_s is not None
        with pytest.raises(DeadlineExceeded):
            ask(engine, "g", 20.0, within_s=0)


def test_lighter_path_is_taken_where_the_full_one_cannot_make_it() -> None:
    nodes = "      slow: {call: slow, inputs: {x: x}, on_late: {call: light}}\n"
    with running(graph("g", nodes, "y: slow.y")) as engine:
        for _ in range(20):
            assert ask(engine, "g", 50.0, within_s=10).marks == ()

        def is_light() -> bool:
            with suppress(DeadlineExceeded, ResourceExhausted):
                response = ask(engine, "g", 50.0, within_s=0.02)
                return (numbers(response), response.marks) == ([1.0], ("slow: late: light",))
            return False

        settled(is_light)


def test_cancelled_graph_reaches_what_runs_and_starts_nothing_more() -> None:
    nodes = "      gated: {call: gated, inputs: {x: x}}\n      then: {call: double, inputs: {x: gated.y}}\n"
    gate = functions.GATES["gated"] = Gate()
    with running(FUNCTIONS.partition("functions:\n")[0] + graph("g", nodes, "y: then.y")) as engine:
        worker = engine._registry.find("gated", None).hosted.worker
        worker.keep_off_callers()
        functions.CALLS.clear()
        endings = Endings()
        job: Job = engine.submit(Request("g", {"x": Tensor(FP64, np.array([200.0]))}), endings, at_once=True)
        gate.wait_entered()
        job.cancel()
        endings.wait(1)
        assert isinstance(job.error, Cancelled)
        gate.open()
    assert "double" not in functions.CALLS


def test_graph_streams_where_its_last_node_does() -> None:
    nodes = "      first: {call: double, inputs: {x: x}}\n      down: {call: count_down, inputs: {x: first.y}}\n"
    spec = graph("g", nodes, "y: down.y").replace("[-1]}}\n    outputs", "[1]}}\n    outputs")
    with running(spec) as engine:
        assert engine.streams("g", None)
        parts: list[Response] = []
        ended = threading.Event()
        request = Request("g", {"x": Tensor(FP64, np.array([2.0]))}, id="7")
        job = engine.submit(request, lambda _: ended.set(), parts.append)
        engine.flush()
        assert ended.wait(PATIENCE_S)
        assert job.error is None, job.error
        assert [numbers(each) for each in parts] == [[4.0], [3.0], [2.0], [1.0]]
        assert {(each.model, each.version, each.id) for each in parts} == {("g", 1, "7")}


def test_graph_whose_function_went_away_is_not_served_and_says_why() -> None:
    with running(DIAMOND) as engine:
        without = FUNCTIONS.replace("  light:", "  lighter:") + DIAMOND.replace("call: light", "call: lighter")
        engine.apply(parse_spec(without, folder=Path()))
        assert numbers(ask(engine, "diamond", 3.0)) == [7.0]
        engine.apply(parse_spec(FUNCTIONS, folder=Path()))
        with pytest.raises(NotFound):
            ask(engine, "diamond", 3.0)
        assert engine.ready


def test_apply_swaps_a_graph_while_requests_are_in_it() -> None:
    nodes = "      gated: {call: gated, inputs: {x: x}}\n"
    gate = functions.GATES["gated"] = Gate()
    with running(graph("g", nodes, "y: gated.y")) as engine:
        engine._registry.find("gated", None).hosted.worker.keep_off_callers()
        endings = Endings()
        job = engine.submit(Request("g", {"x": Tensor(FP64, np.array([200.0]))}), endings)
        engine.flush()
        gate.wait_entered()
        engine.apply(
            parse_spec(FUNCTIONS + graph("g", "      n: {call: double, inputs: {x: x}}\n", "y: n.y"), folder=Path())
        )
        assert numbers(ask(engine, "g", 200.0)) == [400.0]
        gate.open()
        endings.wait(1)
        assert job.response is not None
        assert numbers(job.response) == [200.0]


def test_node_may_count_rows_where_its_graph_does_not() -> None:
    nodes = """      whole: {call: whole, inputs: {x: x}}
      sum: {call: add, inputs: {a: whole.y, b: {value: 5}}}
      large: {call: is_large, inputs: {x: whole.y}}
      heavy: {call: double, inputs: {x: whole.y}, when: large.y, otherwise: {y: -1}}
      picky: {call: picky, inputs: {x: whole.y}, on_error: {default: {y: 7}}}
"""
    whole = function("whole").replace("batchable: true", "batchable: false")
    with running(whole + graph("g", nodes, "sum: sum.y, heavy: heavy.y, picky: picky.y")) as engine:
        assert not engine.describe("g", None).signature.batchable
        response = ask(engine, "g", -1.0, 2.0, 3.0)
        assert numbers(response, "sum") == [4.0, 7.0, 8.0]
        assert numbers(response, "heavy") == [-1.0, -1.0, -1.0]
        assert numbers(response, "picky") == [7.0, 7.0, 7.0]
        assert numbers(ask(engine, "g", 1.0, 20.0), "heavy") == [2.0, 40.0]


def test_request_that_is_over_leaves_nothing_to_the_collector() -> None:
    nodes = """      first: {call: double, inputs: {x: x}}
      picky: {call: picky, inputs: {x: first.y}, on_error: {call: light}}
      slow: {call: slow, inputs: {x: first.y}, timeout_ms: 20, on_late: {default: {y: 0}}}
      strict: {call: picky, inputs: {x: x}}
      both: {call: add, inputs: {a: picky.y, b: slow.y}}
"""
    kinds = (GraphRun, NodeJob, Job, Response)

    def alive() -> int:
        return sum(
            issubclass(type(each), kinds) for each in gc.get_objects()
        )  # isinstance() would ask dead weak proxies

    def ask_all(engine: Engine) -> None:
        for values in ([1.0], [1.0, 2.0], [30.0], [-1.0]):
            with suppress(Internal):
                ask(engine, "g", *values)
        ended = threading.Semaphore(0)
        for index in range(10):
            engine.submit(Request("g", {"x": Tensor(FP64, np.array([float(index)]))}), lambda _: ended.release())
        engine.flush()
        assert all(ended.acquire(timeout=PATIENCE_S) for _ in range(10))

    with running(graph("g", nodes, "y: both.y, strict: strict.y")) as engine:
        ask_all(engine)  # caches are made
        gc.collect()
        before = alive()  # other tests may have left some
        gc.disable()
        try:
            ask_all(engine)
            settled(lambda: alive() <= before)
        finally:
            gc.enable()
