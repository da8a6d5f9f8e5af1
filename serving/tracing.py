"""OpenTelemetry spans of requests, sent in the background. The one file that knows that library; loaded where the spec asks.

A traced request is one span of this server, with the ids of the trace it came with, and below it one span for each stage of
its ledger. Spans are made when a request ends, except the server's own, whose id goes into `Request.trace` at its beginning.
A collector that does not answer costs what waits for it: a bounded queue, past which spans are dropped.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

try:
    from opentelemetry.context import Context
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON
    from opentelemetry.trace import (
        NonRecordingSpan,
        Span,
        SpanContext,
        SpanKind,
        Status,
        StatusCode,
        TraceFlags,
        Tracer,
        TraceState,
        format_span_id,
        format_trace_id,
        set_span_in_context,
    )
except ImportError as error:
    raise ImportError(f"server.tracing needs OpenTelemetry ({error}); pip install 'vireo[otel]'") from error

from engine import Clock, Request, Response, Spec, Stage, VireoError
from serving.ledger import Timeline
from serving.status import grpc_name, told
from serving.trace_context import TraceParent

_PATH: Final = "/v1/traces"


class Tracing:
    """Begins spans and sends them. `begin` is called by the event loop's thread alone."""

    def __init__(self, spec: Spec, clock: Clock, exporter: SpanExporter | None = None) -> None:
        """`exporter` stands in for the one that the spec asks for."""
        tracing = spec.server.tracing
        assert tracing is not None
        self._sample = tracing.sample
        self._offset_ns = time.time_ns() - clock()
        self._exporter = exporter or OTLPSpanExporter(endpoint=_endpoint(tracing.endpoint))
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,  # who is traced is decided here
            resource=Resource.create({SERVICE_NAME: tracing.service or spec.server.name}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer: Tracer = self._provider.get_tracer("vireo")

    def draws(self) -> bool:
        """Whether chance has it that a request without a parent is traced."""
        return random.random() < self._sample

    def wants(self, parent: TraceParent | None) -> bool:
        """Whether a request is to be traced: as the span that sent it is, or by chance where none did."""
        return self.draws() if parent is None else parent.sampled

    def begin(self, request: Request, parent: TraceParent | None, state: str, received_ns: int) -> RequestSpan | None:
        """A span for `request`, below `parent` with its tracestate; None where the library's own switch is off."""
        context = Context() if parent is None else _remote(parent, state)
        span = self._tracer.start_span(
            f"infer {request.model}", context, SpanKind.SERVER, start_time=received_ns + self._offset_ns
        )
        return RequestSpan(self._tracer, span, request, self._offset_ns) if span.is_recording() else None

    def flush(self) -> None:
        """Sends what has ended; returns when that is done or has failed."""
        self._provider.force_flush()

    def close(self, within_s: float) -> None:
        """Sends what has ended, for at most `within_s`; nothing is sent after that."""
        ending = threading.Thread(target=self._provider.shutdown, name="vireo-tracing-end", daemon=True)
        ending.start()
        ending.join(within_s)
        if ending.is_alive():
            self._exporter.shutdown()  # ends its waiting


class RequestSpan:
    """The span of one request; `end` or `fail` is called once."""

    __slots__ = ("_offset_ns", "_request", "_span", "_tracer", "traceparent")

    def __init__(self, tracer: Tracer, span: Span, request: Request, offset_ns: int) -> None:
        self._tracer, self._span, self._request, self._offset_ns = tracer, span, request, offset_ns
        ids = span.get_span_context()
        self.traceparent = str(TraceParent(format_trace_id(ids.trace_id), format_span_id(ids.span_id), sampled=True))

    def end(self, response: Response, timeline: Timeline) -> None:
        """The request was answered."""
        parents: dict[str, Context] = {}
        top = set_span_in_context(self._span, Context())
        for stage in timeline.stages:
            around = parents.get(stage.name.rpartition("/")[0], top)  # the node whose graph it is in
            parents[stage.name] = set_span_in_context(self._stage(stage, around), Context())
        self._close("OK", timeline.answered_ns, {
            "vireo.version": response.version, "vireo.rows": response.ledger.batch_rows, "vireo.marks": response.marks,
        })  # fmt: skip

    def _stage(self, stage: Stage, around: Context) -> Span:
        span = self._tracer.start_span(stage.name, around, start_time=stage.ready_ns + self._offset_ns)
        span.set_attribute("vireo.wait_us", (stage.started_ns - stage.ready_ns) / 1e3)
        span.set_attribute("vireo.rows", stage.batch_rows)
        span.set_attribute("vireo.critical", stage.critical)
        if stage.mark:
            span.set_attribute("vireo.mark", stage.mark)
        span.end(stage.ended_ns + self._offset_ns)
        return span

    def fail(self, error: VireoError, now_ns: int) -> None:
        """The request failed."""
        self._span.set_status(Status(StatusCode.ERROR, told(error)))
        self._close(grpc_name(error), now_ns, {})

    def _close(self, status: str, at_ns: int, attributes: Mapping[str, str | int | tuple[str, ...]]) -> None:
        self._span.set_attributes({"vireo.model": self._request.model, "vireo.status": status, **attributes})
        if self._request.id:
            self._span.set_attribute("vireo.request_id", self._request.id)
        self._span.end(at_ns + self._offset_ns)


def _endpoint(url: str | None) -> str | None:
    """Where spans are posted to: a URL without a path gets the one that collectors have."""
    return url.rstrip("/") + _PATH if url is not None and urlsplit(url).path in ("", "/") else url


def _remote(parent: TraceParent, state: str) -> Context:
    ids = SpanContext(
        int(parent.trace_id, 16), int(parent.span_id, 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED),
        trace_state=TraceState.from_header([state]) if state else None,
    )  # fmt: skip
    return set_span_in_context(NonRecordingSpan(ids), Context())
