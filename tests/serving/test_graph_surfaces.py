"""Graphs as callers and operators see them: the ledger and its sum, marks, spans and metrics, on every surface."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

import serving.tracing
from tests.fakes import PATIENCE_S, Gate
from tests.serving.calls import numbers, stub_of, together, typed
from tests.serving.servers import ServerHere, eventually
from tests.serving.test_ledger import ASKING, check

Start = Callable[[str], ServerHere]

SERVER = "server: {grpc_port: 0, http_port: 0, drain_s: 5, tracing: {sample: 0}}\n"
TENSORS = """
    batchable: true
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1]}}
"""


def function(name: str, call: str, more: str = "") -> str:
    """A function over rows of one number."""
    return f"  {name}:\n    call: tests.serving.functions:{call}\n{more}{TENSORS}"


FUNCTIONS = "functions:\n" + "".join(
    (
        function("quick", "double"),
        function("apart", "double", "    inline_us_max: 0\n"),
        function("failing", "faulty"),
        function("stuck", "gated", "    inline_us_max: 0\n"),
    )
)
GRAPHS = """
graphs:
  chain:
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    nodes:
      first: {call: quick, inputs: {x: x}}
      second: {call: apart, inputs: {x: first.y}}
      third: {call: quick, inputs: {x: second.y}}
    outputs: {y: third.y}
  fan:
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    nodes:
      left: {call: apart, inputs: {x: x}}
      right: {call: quick, inputs: {x: x}}
      never: {call: quick, inputs: {x: x}, when: x > 1000, otherwise: {y: 0.5}}
      joined: {call: quick, inputs: {x: left.y}}
    outputs: {y: joined.y, z: right.y, w: never.y}
  outer:
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    nodes:
      before: {call: quick, inputs: {x: x}}
      inner: {call: chain, inputs: {x: before.y}}
    outputs: {y: inner.y}
  careful:
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    nodes:
      risky: {call: failing, inputs: {x: x}, on_error: {default: {y: 7.0}}}
      last: {call: quick, inputs: {x: risky.y}}
    outputs: {y: last.y}
  patient:
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    nodes:
      slow: {call: stuck, inputs: {x: x}, timeout_ms: 30, on_late: {call: quick}}
    outputs: {y: slow.y}
"""
TRAFFIC = """
traffic:
  split:
    variants: {champion: {call: chain, weight: 1}, challenger: {call: careful, weight: 0}}
    shadows: {silent: {call: quick}}
"""


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where spans go in place of a collector."""
    made = InMemorySpanExporter()
    monkeypatch.setattr(serving.tracing, "OTLPSpanExporter", lambda **_: made)
    return made


@pytest.fixture
def server(start: Start, memory: InMemorySpanExporter) -> ServerHere:
    """A server of graphs and a split."""
    running = start(SERVER + FUNCTIONS + GRAPHS + TRAFFIC)
    assert running.engine.ready, running.engine.problems()
    return running


def asked(stub: Any, graph: str, *values: float) -> tuple[dict[str, Any], list[float]]:  # noqa: ANN401
    """The ledger of one call, and the values of its first output."""
    request = typed(graph, "x", "FP32", (len(values), 1), fp32_contents=values)
    answer, call = stub.ModelInfer.with_call(request, metadata=ASKING)
    found = np.frombuffer(answer.raw_output_contents[0], np.float32)
    return json.loads(dict(call.trailing_metadata())["vireo-ledger"]), [float(each) for each in found]


@contextmanager
def http_of(server: ServerHere) -> Iterator[httpx.Client]:
    """A plain client."""
    with httpx.Client(base_url=f"http://127.0.0.1:{server.host.http_port}", timeout=PATIENCE_S) as client:
        yield client


def body(*values: float) -> dict[str, Any]:
    """The input of any of the graphs."""
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(values), 1], "data": list(values)}]}


# The ledger.


def test_stages_of_a_chain_sum_up_to_the_total(server: ServerHere) -> None:
    with stub_of(server.address) as stub:
        for _ in range(50):
            ledger, values = asked(stub, "chain", 1.0, 2.0)
            assert values == [8.0, 16.0]
            check(ledger, "decode", "first", "second", "third", "encode")
            assert all(each["critical"] for each in ledger["stages"])
            assert [each["rows"] for each in ledger["stages"]] == [0, 2, 2, 2, 0]


def test_only_the_chain_that_decided_the_end_is_critical(server: ServerHere) -> None:
    with stub_of(server.address) as stub:
        for _ in range(20):
            ledger, _ = asked(stub, "fan", 1.0)
            stages = {each["name"]: each for each in ledger["stages"]}
            assert set(stages) == {"decode", "left", "right", "never", "joined", "encode"}
            check(ledger, *stages)
            assert stages["left"]["critical"]
            assert not stages["right"]["critical"]
            assert (stages["never"]["mark"], stages["never"]["rows"]) == ("skipped", 0)


def test_graph_in_a_graph_is_told_by_its_path_and_counted_once(server: ServerHere) -> None:
    with stub_of(server.address) as stub:
        ledger, values = asked(stub, "outer", 1.0)
    assert values == [16.0]
    names = ["decode", "before", "inner", "inner/first", "inner/second", "inner/third", "encode"]
    check(ledger, *names)
    assert [each["name"] for each in ledger["stages"] if not each["critical"]] == names[3:6]


def test_ledgers_sum_up_under_load_too(server: ServerHere) -> None:
    with stub_of(server.address) as stub:

        def many() -> None:
            for _ in range(25):
                for graph in ("chain", "fan", "outer"):
                    ledger, _ = asked(stub, graph, 1.0)
                    check(ledger, *[each["name"] for each in ledger["stages"]])

        outcomes = together([many] * 8)
    assert outcomes == [None] * 8


def test_random_graphs_sum_up(start: Start, memory: InMemorySpanExporter) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    names = [f"graph{index}" for index in range(15)]
    text = SERVER + FUNCTIONS + "graphs:\n" + "".join(random_graph(rng, each) for each in names)
    server = start(text)
    assert server.engine.ready, server.engine.problems()
    with stub_of(server.address) as stub:
        for _ in range(5):
            for name in names:
                check_undisturbed(lambda: asked(stub, name, *given(rng))[0])  # noqa: B023  asked at once


def given(rng: random.Random) -> list[float]:
    """Up to three rows."""
    return [rng.uniform(0, 2) for _ in range(rng.randint(1, 3))]


def check_undisturbed(ask: Callable[[], dict[str, Any]], tries: int = 4) -> None:
    """The ledger of one of these sums up: the system may take the core away between two readings of the clock, not each time."""
    for left in reversed(range(tries)):
        ledger = ask()
        try:
            check(ledger, *[each["name"] for each in ledger["stages"]])
        except AssertionError:
            if not left:
                raise
        else:
            return


def random_graph(rng: random.Random, name: str) -> str:
    """A graph of random edges, conditions and failures."""
    nodes, known = [], ["x"]
    for index in range(rng.randint(1, 8)):
        call = rng.choice(["quick", "quick", "apart", "failing"])
        extra = ", on_error: {default: {y: 1.0}}" if call == "failing" else ""
        if rng.random() < 0.3:
            extra += f", when: {rng.choice(known)} > 1, otherwise: {{y: 0.0}}"
        nodes.append(f"      n{index}: {{call: {call}, inputs: {{x: {rng.choice(known)}}}{extra}}}\n")
        known.append(f"n{index}.y")
    outputs = ", ".join(f"o{index}: {each}" for index, each in enumerate(known[1:]))
    head = f"  {name}:\n    inputs: {{x: {{datatype: FP32, shape: [-1, 1]}}}}\n    nodes:\n"
    return f"{head}{''.join(nodes)}    outputs: {{{outputs}}}\n"


def test_http_header_and_server_timing_tell_the_nodes(server: ServerHere) -> None:
    with http_of(server) as client:
        answer = client.post("/v2/models/outer/infer", json=body(1.0), headers={"vireo-ledger": "1"})
    ledger = json.loads(answer.headers["vireo-ledger"])
    check(ledger, "decode", "before", "inner", "inner/first", "inner/second", "inner/third", "encode")
    timing = [each.split(";")[0].strip() for each in answer.headers["server-timing"].split(",")]
    assert timing == ["decode", "before", "inner", "encode", "total"]


def test_every_answer_of_a_stream_tells_its_graph(server: ServerHere) -> None:
    requests = [typed("chain", "x", "FP32", (1, 1), fp32_contents=[float(each)]) for each in range(3)]
    with stub_of(server.address) as stub:
        for answer in stub.ModelStreamInfer(iter(requests), metadata=ASKING):
            ledger = json.loads(answer.infer_response.parameters["vireo_ledger"].string_param)
            check(ledger, "decode", "first", "second", "third", "encode")


# Marks.


def test_answer_with_a_fallback_says_so_on_every_surface(server: ServerHere) -> None:
    with tritonclient.grpc.InferenceServerClient(server.address) as client:
        degraded = client.infer("careful", numbers(1.0))
        assert float(degraded.as_numpy("y")[0, 0]) == 14.0
        assert degraded.get_response().parameters["vireo_marks"].string_param == "risky: failed: default"
        plain = client.infer("careful", numbers(0.0))
        assert not plain.get_response().parameters
    with http_of(server) as client:
        answer = client.post("/v2/models/careful/infer", json=body(1.0))
        assert answer.json()["parameters"] == {"vireo_marks": "risky: failed: default"}
        assert answer.headers["vireo-marks"] == "risky: failed: default"
        answer = client.post("/v2/models/careful/infer", json=body(0.0))
        assert "parameters" not in answer.json()
        assert "vireo-marks" not in answer.headers
    with stub_of(server.address) as stub:
        streamed = stub.ModelStreamInfer(iter([typed("careful", "x", "FP32", (1, 1), fp32_contents=[1.0])]))
        assert [each.infer_response.parameters["vireo_marks"].string_param for each in streamed] == [
            "risky: failed: default"
        ]
        ledger, _ = asked(stub, "careful", 1.0)
    check(ledger, "decode", "risky", "last", "encode")
    assert ledger["stages"][1]["mark"] == "failed: default"


def test_late_node_is_marked_and_its_lighter_path_told(server: ServerHere, gate: Gate) -> None:
    with stub_of(server.address) as stub:
        ledger, values = asked(stub, "patient", 1.0)
    gate.open()
    assert values == [2.0]
    check(ledger, "decode", "slow", "encode")
    assert ledger["stages"][1]["mark"] == "late: quick"
    assert ledger["total_us"] > 30_000


# Spans and metrics.


def test_spans_of_a_graph_nest_as_its_nodes_do(server: ServerHere, memory: InMemorySpanExporter) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with stub_of(server.address) as stub:
        request = typed("outer", "x", "FP32", (1, 1), fp32_contents=[1.0])
        stub.ModelInfer(request, metadata=(("traceparent", trace),))
    assert server.host.tracing is not None
    server.host.tracing.flush()
    spans = {each.name: each for each in memory.get_finished_spans()}
    ids = {each.context.span_id: name for name, each in spans.items() if each.context is not None}
    parents = {name: ids.get(each.parent.span_id, "") for name, each in spans.items() if each.parent is not None}
    assert parents == {
        "infer outer": "", "decode": "infer outer", "before": "infer outer", "inner": "infer outer", "encode": "infer outer",
        "inner/first": "inner", "inner/second": "inner", "inner/third": "inner",
    }  # fmt: skip


def samples_of(server: ServerHere) -> dict[tuple[str, ...], float]:
    """What `/metrics` says, by name and labels from the widest to the narrowest."""
    with http_of(server) as client:
        families = list(text_string_to_metric_families(client.get("/metrics").text))
    order = ("graph", "split", "model", "node", "variant", "shadow", "version", "mark", "outcome", "output")
    return {
        (sample.name, *[sample.labels[each] for each in order if each in sample.labels]): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_tell_each_variant_and_shadow_of_a_split(server: ServerHere) -> None:
    with stub_of(server.address) as stub:
        for _ in range(10):
            ledger, values = asked(stub, "split", 1.0)
            assert values == [8.0]
            check(ledger, *[each["name"] for each in ledger["stages"]])

    def outcomes() -> list[float]:
        samples = samples_of(server)
        assert samples["vireo_variant_requests_total", "split", "champion"] == 10
        assert samples["vireo_variant_requests_total", "split", "challenger"] == 0
        assert samples["vireo_variant_failures_total", "split", "champion"] == 0
        names = ("equal", "different", "failed", "dropped")
        return [samples["vireo_shadow_copies_total", "split", "silent", each] for each in names]

    eventually(lambda: sum(outcomes()) == 10, "every copy has become something")
    equal, different, failed, dropped = outcomes()
    assert equal == failed == 0
    assert different > 0 or dropped == 10
    if different:
        assert samples_of(server)["vireo_shadow_difference", "split", "silent", "y"] == 6.0


def test_metrics_tell_each_node_of_each_graph(server: ServerHere) -> None:
    with stub_of(server.address) as stub:
        for graph, value in (("chain", 1.0), ("careful", 1.0), ("careful", 0.0), ("fan", 1.0)):
            asked(stub, graph, value)
    samples = samples_of(server)
    for node in ("first", "second", "third"):
        for what in ("wait", "compute"):
            assert samples[f"vireo_stage_{what}_seconds_count", "chain", node] == 1
        assert samples["vireo_stage_compute_seconds_sum", "chain", node] > 0
    assert samples["vireo_fallbacks_total", "careful", "risky", "failed: default"] == 1
    assert samples["vireo_stages_skipped_total", "fan", "never"] == 1
    assert samples["vireo_requests_late_total", "chain", "1"] == 0
