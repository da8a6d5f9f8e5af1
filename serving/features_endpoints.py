"""Logs and feature views over HTTP (`/v1/logs/...`, `/v1/features/...`), as a table of endpoints: JSON or Arrow."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from engine import FeatureView, InvalidArgument, arrow_stream, limits, quoted
from serving.codec import check_name
from serving.dispatch import Dispatch
from serving.event_push import Pushes, spans
from serving.event_rows import rows_batch
from serving.features_codec import (
    Lookup,
    feature_batch,
    json_rows,
    lookup_of_batch,
    lookup_of_values,
    read_arrow,
)
from serving.features_reads import read
from serving.features_service import FeaturesService
from serving.http_app import ARROW, JSON, Endpoint, HttpCall, Reply, json_reply
from serving.json_body import decoded

if TYPE_CHECKING:
    import pyarrow as pa

    from engine import FeatureRows, ShardedView

_ARROW_FILE: Final = "application/vnd.apache.arrow.file"


class _PushBody(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[dict[str, Any]]


class _GetBody(msgspec.Struct, forbid_unknown_fields=True):
    entities: list[Any]
    as_of: Any = None
    request: dict[str, Any] | None = None
    features: list[str] | None = None


class FeaturesEndpoints:
    """The endpoints over one engine; descriptions are those of the gRPC service."""

    def __init__(self, dispatch: Dispatch, service: FeaturesService, pushes: Pushes) -> None:
        self._dispatch = dispatch
        self._store = dispatch.engine.features
        self._clock = dispatch.engine.clock
        self._service = service
        self._pushes = pushes

    def endpoints(self) -> list[Endpoint]:
        """Every endpoint, the busiest first."""
        return [
            Endpoint("POST", "/v1/features/{view}/get", self._get, "Features of entities", takes="FeaturesRequest"),
            Endpoint("POST", "/v1/logs/{log}/push", self._push, "Append events to a log", takes="PushRequest"),
            Endpoint("GET", "/v1/features", self._views, "The names of the feature views"),
            Endpoint("GET", "/v1/features/{view}", self._view, "A feature view: declaration and state"),
            Endpoint("GET", "/v1/logs", self._logs, "The logs and their columns"),
        ]

    # Lookups.

    async def _get(self, call: HttpCall) -> Reply:
        view = self._store.shown(check_name("view", call.path["view"]))
        (after,) = call.query("after")["after"][-1:] or [""]
        deadline, body = call.deadline, await call.body()
        as_arrow = _accepts_arrow(call)
        decode = partial(_arrow_lookup if _is_arrow(call) else _json_lookup, view, body)
        if after or not isinstance(view, FeatureView):
            told = _told(await read(self._dispatch, decode(), after, deadline), as_arrow)
        elif len(body) <= limits.LOOKUP_INLINE_BYTES_MAX:
            told = _told(decode()(), as_arrow)
        else:
            told = await asyncio.to_thread(lambda: _told(decode()(), as_arrow))
        return Reply(told, ARROW if as_arrow else JSON, packable=True)

    # Pushes.

    async def _push(self, call: HttpCall) -> Reply:
        query = call.query("wait", "wait_ms")
        wait_for = [name for each in query["wait"] for name in each.split(",") if name]
        deadline = call.deadline
        wait_ms = _wait_ms(query["wait_ms"])
        body = await call.body()
        decode = partial(_arrow_events, body) if _is_arrow(call) else partial(_json_events, body)
        wait_s = min(wait_ms / 1000, max(0.0, deadline.remaining_s(self._clock())))
        name = check_name("log", call.path["log"])
        pushed = await self._pushes.push(name, decode, wait_for, wait_s)
        return json_reply({"spans": spans(pushed.appended), "pending": pushed.pending, "token": pushed.token})

    # Descriptions.

    async def _views(self, call: HttpCall) -> Reply:
        return json_reply({"views": list(self._store.views)})

    async def _view(self, call: HttpCall) -> Reply:
        return json_reply(self._service.describe_view(call.path["view"]))

    async def _logs(self, call: HttpCall) -> Reply:
        return json_reply({"logs": self._service.describe_logs()})


def _told(rows: FeatureRows, as_arrow: bool) -> bytes:
    if not as_arrow:
        return json_rows(rows)
    answer: bytes = arrow_stream(feature_batch(rows)).to_pybytes()
    return answer


def _json_lookup(view: FeatureView | ShardedView, body: bytes) -> Lookup:
    asked = decoded(body, _GetBody)
    return lookup_of_values(view, asked.entities, asked.as_of, asked.request or {}, asked.features)


def _arrow_lookup(view: FeatureView | ShardedView, body: bytes) -> Lookup:
    batch = read_arrow(body)
    if batch is None:
        raise InvalidArgument("request body: no rows")
    return lookup_of_batch(view, batch)


def _json_events(body: bytes, schema: pa.Schema) -> pa.RecordBatch | None:
    rows = decoded(body, _PushBody).rows
    return rows_batch(schema, rows) if rows else None


def _arrow_events(body: bytes, schema: pa.Schema) -> pa.RecordBatch | None:
    return read_arrow(body)


def _wait_ms(given: list[str]) -> float:
    if not given:
        return limits.PUSH_WAIT_S_DEFAULT * 1000
    text = given[-1]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidArgument(f"wait_ms: expected a whole number of milliseconds, got {quoted(text)}")
    return int(text)


def _is_arrow(call: HttpCall) -> bool:
    """Whether the body is an Arrow stream; anything else is read as JSON, but for Arrow's other form."""
    given = call.headers().get("content-type", "").partition(";")[0].strip().lower()
    if given.startswith(_ARROW_FILE):
        raise InvalidArgument(f"content-type {quoted(given)}: send {ARROW}")
    return given == ARROW


def _accepts_arrow(call: HttpCall) -> bool:
    return any(each.partition(";")[0].strip().lower() == ARROW for each in call.headers().get("accept", "").split(","))
