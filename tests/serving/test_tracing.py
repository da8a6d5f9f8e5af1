"""OpenTelemetry spans of requests: seen by the SDK's own exporter in memory, and by a collector over the wire."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import serving.tracing
from engine import Array, SpecError, current_work, parse_spec
from serving.trace_context import parse_traceparent
from tests.fakes import PATIENCE_S, Gate
from tests.serving.calls import refused, stub_of, typed
from tests.serving.models import FUNCTIONS
from tests.serving.servers import PROJECT, ServerHere, eventually

Start = Callable[[str], ServerHere]

TRACE, SPAN = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331
SAMPLED = f"00-{TRACE:032x}-{SPAN:016x}-01"
UNSAMPLED = f"00-{TRACE:032x}-{SPAN:016x}-00"
ONE = typed("double", "x", "FP32", (1, 2), fp32_contents=[1.0, 2.0])
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]}


TRACES: list[str | None] = []
"""What `remember` was told of, except in its warm-up."""


def remember(x: Array) -> dict[str, Array]:
    """A function that is interested in the trace it is part of."""
    if x.any():
        work = current_work()
        TRACES.append(None if work is None else work.trace)
    return {"y": x}


REMEMBER = """
  remember:
    call: tests.serving.test_tracing:remember
    batchable: true
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1]}}
graphs:
  within:
    inputs: {x: {datatype: FP32, shape: [-1, 1]}}
    nodes:
      first: {call: remember, inputs: {x: x}}
      second: {call: remember, inputs: {x: first.y}}
    outputs: {y: second.y}
"""


def text(sample: float, endpoint: str = "http://127.0.0.1:9") -> str:
    """A spec of functions with tracing on."""
    tracing = f"tracing: {{endpoint: '{endpoint}', sample: {sample}, service: shop}}"
    return f"server: {{grpc_port: 0, http_port: 0, drain_s: 5, {tracing}}}\n{FUNCTIONS}"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Where spans go in place of a collector."""
    made = InMemorySpanExporter()
    monkeypatch.setattr(serving.tracing, "OTLPSpanExporter", lambda **_: made)
    return made


def spans_of(server: ServerHere, memory: InMemorySpanExporter, count: int) -> list[ReadableSpan]:
    """The spans of ended requests, of which there are `count`, each request's own before its stages."""
    assert server.host.tracing is not None
    server.host.tracing.flush()
    spans = list(memory.get_finished_spans())
    assert sum(each.kind is SpanKind.SERVER for each in spans) == count, [each.name for each in spans]
    return sorted(spans, key=lambda each: (each.kind is not SpanKind.SERVER, each.start_time))


def call(stub: Any, *metadata: tuple[str, str]) -> dict[str, str]:  # noqa: ANN401
    """Calls `double`; the trailing metadata of its answer."""
    _, ended = stub.ModelInfer.with_call(ONE, metadata=metadata)
    return {each.key: each.value for each in ended.trailing_metadata()}


def test_request_with_a_sampled_parent_gives_a_span_and_one_for_each_stage(
    start: Start, memory: InMemorySpanExporter
) -> None:
    server = start(text(sample=0))
    before_ns = time.time_ns()
    with stub_of(server.address) as stub:
        trailers = call(stub, ("traceparent", SAMPLED), ("tracestate", "shop=7"), ("vireo-ledger", "1"))
    after_ns = time.time_ns()
    own, *stages = spans_of(server, memory, 1)
    assert own.context is not None
    assert own.parent is not None
    assert (own.context.trace_id, own.parent.span_id, own.parent.is_remote) == (TRACE, SPAN, True)
    assert own.context.trace_state.to_header() == "shop=7"
    assert own.name == "infer double"
    assert own.resource.attributes["service.name"] == "shop"
    assert own.status.status_code is StatusCode.UNSET
    assert dict(own.attributes or {}) == {
        "vireo.model": "double", "vireo.version": 1, "vireo.rows": 1, "vireo.marks": (), "vireo.status": "OK",
    }  # fmt: skip
    assert [each.name for each in stages] == ["decode", "double", "encode"]
    assert all(each.parent is not None and each.parent.span_id == own.context.span_id for each in stages)
    check_times([own, *stages], before_ns, after_ns, json.loads(trailers["vireo-ledger"]))
    assert parse_traceparent(trailers["traceparent"]) is not None
    assert trailers["traceparent"] == f"00-{TRACE:032x}-{own.context.span_id:016x}-01"


def check_times(spans: list[ReadableSpan], before_ns: int, after_ns: int, ledger: dict[str, Any]) -> None:
    """Stages follow one another within the request's span, which lies where wall clocks say, as long as the ledger says."""
    own, *stages = spans
    instants = [own.start_time, *(at for each in stages for at in (each.start_time, each.end_time)), own.end_time]
    assert None not in instants
    assert instants == sorted(instant for instant in instants if instant is not None)
    slack_ns = 50_000_000  # the two clocks are read one after the other
    assert own.start_time is not None
    assert own.end_time is not None
    assert before_ns - slack_ns < own.start_time < own.end_time < after_ns + slack_ns
    assert abs((own.end_time - own.start_time) / 1e3 - ledger["total_us"]) < 1
    for span, stage in zip(stages, ledger["stages"], strict=True):
        assert span.attributes is not None
        assert span.attributes["vireo.rows"] == stage["rows"]
        assert span.attributes["vireo.wait_us"] == pytest.approx(stage["wait_us"], abs=0.1)


def test_who_is_traced_is_as_the_parent_says_or_by_chance(start: Start, memory: InMemorySpanExporter) -> None:
    never, always = start(text(sample=0)), start(text(sample=1))
    with stub_of(never.address) as stub:
        assert call(stub) == call(stub, ("traceparent", UNSAMPLED)) == call(stub, ("traceparent", "nonsense")) == {}
    assert spans_of(never, memory, 0) == []
    with stub_of(always.address) as stub:
        assert call(stub, ("traceparent", UNSAMPLED)) == {}
        traces = [call(stub)["traceparent"], call(stub, ("traceparent", "nonsense"))["traceparent"]]
    own = [each for each in spans_of(always, memory, 2) if each.kind is SpanKind.SERVER]
    assert all(each.parent is None for each in own)
    assert sorted(traces) == sorted(f"00-{c.trace_id:032x}-{c.span_id:016x}-01" for each in own if (c := each.context))


def test_every_route_is_traced(start: Start, memory: InMemorySpanExporter, transport: str) -> None:
    server = start(text(sample=0))
    metadata, header = (("traceparent", SAMPLED),), {"traceparent": SAMPLED}
    base = f"http://127.0.0.1:{server.host.http_port}"
    told = []
    with stub_of(server.address) as stub:
        stub.ModelInfer(ONE, metadata=metadata, compression=grpc.Compression.Gzip)
        countdown = typed("countdown", "x", "FP32", (1,), fp32_contents=[3.0])
        answers = list(stub.ModelStreamInfer(iter([ONE, countdown]), metadata=metadata))
        told += [each.infer_response.parameters["traceparent"].string_param for each in answers]
    for http2 in [False] if transport == "grpcio" else [False, True]:
        with httpx.Client(base_url=base, http1=not http2, http2=http2, timeout=PATIENCE_S) as client:
            told.append(client.post("/v2/models/double/infer", json=BODY, headers=header).headers["traceparent"])
    count = 4 if transport == "grpcio" else 5
    spans = spans_of(server, memory, count)
    own = [each for each in spans if each.kind is SpanKind.SERVER]
    assert all(each.context and each.context.trace_id == TRACE for each in spans)
    ids = {f"00-{TRACE:032x}-{each.context.span_id:016x}-01" for each in own if each.context}
    assert len(ids) == count
    assert set(told) < ids
    assert len(spans) == 4 * count


def test_servables_see_the_span_that_they_are_part_of(start: Start, memory: InMemorySpanExporter) -> None:
    for sample, parent in ((1, None), (0, SAMPLED), (0, UNSAMPLED), (0, None)):
        TRACES.clear()
        server = start(text(sample) + REMEMBER)
        metadata = () if parent is None else (("traceparent", parent),)
        with stub_of(server.address) as stub:
            for model, calls in (("remember", 1), ("within", 2)):
                request = typed(model, "x", "FP32", (1, 1), fp32_contents=[1.0])
                _, ended = stub.ModelInfer.with_call(request, metadata=metadata)
                told = {each.key: each.value for each in ended.trailing_metadata()}.get("traceparent", parent)
                assert TRACES[-calls:] == [told] * calls
        assert len(TRACES) == 3


def test_failure_is_told_as_the_status_of_the_span(start: Start, memory: InMemorySpanExporter, transport: str) -> None:
    server = start(text(sample=1))
    with stub_of(server.address) as stub:
        with refused("NOT_FOUND"):
            stub.ModelInfer(typed("nothing", "x", "FP32", (1,), fp32_contents=[1.0]))
        with refused("INTERNAL"):
            stub.ModelInfer(typed("faulty", "x", "FP32", (1,), fp32_contents=[1.0]))
        list(stub.ModelStreamInfer(iter([typed("countdown", "x", "FP32", (1,), fp32_contents=[1.5])])))
    with httpx.Client(base_url=f"http://127.0.0.1:{server.host.http_port}") as client:
        assert client.post("/v2/models/faulty/infer", json=BODY).status_code == 400
    found = [(each.name, (each.attributes or {})["vireo.status"]) for each in spans_of(server, memory, 4)]
    assert found == [
        ("infer nothing", "NOT_FOUND"), ("infer faulty", "INTERNAL"), ("infer countdown", "INTERNAL"),
        ("infer faulty", "INVALID_ARGUMENT"),
    ]  # fmt: skip
    for each in memory.get_finished_spans():
        assert each.status.status_code is StatusCode.ERROR
        assert each.status.description


def test_caller_that_leaves_ends_its_span(start: Start, memory: InMemorySpanExporter, gate: Gate) -> None:
    server = start(text(sample=1))
    request = typed("gated", "x", "FP32", (1, 1), fp32_contents=[1.0])
    with stub_of(server.address) as stub:
        left = stub.ModelInfer.future(request)
        gate.wait_entered()
        with refused("DEADLINE_EXCEEDED"):
            stub.ModelInfer(request, timeout=0.2)
        left.cancel()
        eventually(lambda: server.in_flight == 0, "both have left")
    statuses = {(each.attributes or {})["vireo.status"] for each in spans_of(server, memory, 2)}
    assert "CANCELLED" in statuses
    assert statuses <= {"CANCELLED", "DEADLINE_EXCEEDED"}
    gate.open()


# The wire.


class Collector(HTTPServer):
    """A collector that keeps what it is sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        """One export."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector in this process."""
    made = Collector()
    yield made
    made.shutdown()
    made.server_close()


def test_spans_reach_a_collector_at_the_end_at_the_latest(start: Start, collector: Collector) -> None:
    server = start(text(sample=1, endpoint=collector.url))
    with stub_of(server.address) as stub:
        trace = parse_traceparent(call(stub)["traceparent"])
    server.stop()
    ((path, request),) = collector.requests
    assert path == "/v1/traces"
    (resource,) = request.resource_spans
    assert {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"] == "shop"
    spans = resource.scope_spans[0].spans
    assert sorted(each.name for each in spans) == ["decode", "double", "encode", "infer double"]
    assert trace is not None
    assert {int.from_bytes(each.trace_id, "big") for each in spans} == {int(trace.trace_id, 16)}


def test_dead_collector_delays_no_request_and_no_end(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server = start(text(sample=1, endpoint=f"http://127.0.0.1:{closed.getsockname()[1]}"))
        with stub_of(server.address) as stub:
            for _ in range(50):
                assert "traceparent" in call(stub)
        before = time.monotonic()
        server.stop()
        assert time.monotonic() - before < PATIENCE_S / 2
    assert "unexpected error" not in caplog.text


# The spec.


def test_tracing_library_is_loaded_only_where_the_spec_asks(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom engine import parse_spec\nfrom serving.embedded import EmbeddedHost\n"
        "EmbeddedHost(parse_spec('server: {%s}', folder=Path('.')))\n"
        "print(any(each.startswith('opentelemetry.sdk') for each in sys.modules))\n"
    )
    for server, loaded in (("name: x", "False"), ("tracing: {sample: 0}", "True")):
        run = [sys.executable, "-c", script % server]
        found = subprocess.run(run, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True)
        assert found.stdout.strip() == loaded


def test_missing_library_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    monkeypatch.delitem(sys.modules, "serving.tracing")
    from serving.embedded import EmbeddedHost

    with pytest.raises(SpecError, match=r"server\.tracing needs OpenTelemetry .*vireo\[otel\]"):
        EmbeddedHost(parse_spec(text(sample=1), folder=tmp_path))


@pytest.mark.parametrize(
    ("tracing", "words"),
    [
        ("{sample: 1.5}", "server.tracing.sample: must be from 0 to 1, got 1.5"),
        ("{sample: -0.1}", "must be from 0 to 1"),
        ("{endpoint: 'collector:4318'}", "expected an http:// or https:// URL, got 'collector:4318'"),
        ("{rate: 1}", "rate"),
    ],
)
def test_wrong_tracing_is_refused_by_its_place(tracing: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(f"server:\n  tracing: {tracing}\n", folder=tmp_path)
    assert words in str(caught.value)
    assert "spec:2" in str(caught.value)
