"""`vireo.v1.Features` as a table of methods on message bytes. It knows no transport.

A lookup takes microseconds, so a short one is answered on the event loop, without a task where the transport can; long
ones and pushes run on threads.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from google.protobuf import json_format

from engine import Deadline, Engine, FeatureView, Internal, InvalidArgument, VireoError, limits
from protos.vireo.v1 import features_pb2 as pb
from serving.codec import check_name, parse
from serving.dispatch import Dispatch
from serving.event_push import Pushed, Pushes, spans
from serving.features_codec import Lookup, as_field, decode_get, encode_get, pushed_batch
from serving.features_reads import read
from serving.methods import Call, Exchange, Method, answer_later, answering
from serving.status import grpc_code, told

if TYPE_CHECKING:
    from typing_extensions import Buffer

log = logging.getLogger("vireo.serving")

SERVICE: Final = "vireo.v1.Features"
_GET_FIELD: Final = 2
"""Of a StreamResponse."""


class FeaturesService:
    """The service's methods over one engine. Descriptions are built by `describe_*`, which other fronts share."""

    def __init__(self, dispatch: Dispatch, pushes: Pushes) -> None:
        self._dispatch = dispatch
        self._engine: Engine = dispatch.engine
        self._store = dispatch.engine.features
        self._pushes = pushes

    def methods(self) -> list[Method]:
        """Every method of the service."""
        plain: dict[str, tuple[Any, Callable[[Any], Any]]] = {
            "ListViews": (pb.ListViewsRequest, lambda _: pb.ListViewsResponse(views=self._store.views)),
            "DescribeView": (pb.DescribeViewRequest, self._describe_view),
            "ListLogs": (pb.ListLogsRequest, lambda _: self._list_logs()),
        }
        return [
            Method(_path("Get"), unary=self._get, direct=self._get_direct),
            Method(_path("Push"), unary=self._push),
            Method(_path("Stream"), stream=self._stream),
            *(Method(_path(name), unary=answering(kind, answer)) for name, (kind, answer) in plain.items()),
        ]

    # Lookups.

    def _get_direct(self, call: Exchange, message: Buffer) -> None:
        if len(message) > limits.LOOKUP_INLINE_BYTES_MAX:  # type: ignore[arg-type]
            answer_later(call, self._get(call, bytes(message)))
            return
        request = parse(pb.GetRequest, bytes(message))
        view = self._store.shown(request.view)
        if request.after or not isinstance(view, FeatureView):
            answer_later(call, self._read(decode_get(view, request), request.after, call.deadline))
            return
        call.answer(encode_get(decode_get(view, request)()), "", ())

    async def _get(self, call: Call, message: bytes) -> bytes:
        if len(message) <= limits.LOOKUP_INLINE_BYTES_MAX:
            return await self._look_up(parse(pb.GetRequest, message), len(message), call.deadline)
        request = await asyncio.to_thread(lambda: parse(pb.GetRequest, message))
        return await self._look_up(request, len(message), call.deadline)

    async def _look_up(self, request: pb.GetRequest, size: int, deadline: Deadline) -> bytes:
        """An encoded GetResponse. Raises NotFound, InvalidArgument, TooLarge, Unavailable, DeadlineExceeded."""
        view = self._store.shown(request.view)
        if request.after or not isinstance(view, FeatureView):
            return await self._read(decode_get(view, request), request.after, deadline)
        if size <= limits.LOOKUP_INLINE_BYTES_MAX:
            return encode_get(decode_get(view, request)())
        return await asyncio.to_thread(lambda: encode_get(decode_get(view, request)()))

    async def _read(self, lookup: Lookup, after: str, deadline: Deadline) -> bytes:
        return encode_get(await read(self._dispatch, lookup, after, deadline))

    # Pushes.

    async def _push(self, call: Call, message: bytes) -> bytes:
        request = parse(pb.PushRequest, message)
        encoded: bytes = (await self.push(request)).SerializeToString()
        return encoded

    async def push(self, request: pb.PushRequest) -> pb.PushResponse:
        """Appends. Raises as `Pushes.push` does."""
        wait_s = request.wait_ms / 1000 if request.wait_ms else None
        name = check_name("log", request.log)
        return push_response(
            await self._pushes.push(name, lambda schema: pushed_batch(schema, request), request.wait_for[:], wait_s)
        )

    # Both, on a held-open stream.

    async def _stream(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        async for message in messages:
            try:
                request = parse(pb.StreamRequest, message)
            except VireoError as error:
                yield await _answered(_failing(error), "")
            else:
                yield await _answered(self._stream_answer(request, call.deadline), request.id[: limits.ID_CHARS_MAX])

    async def _stream_answer(self, request: pb.StreamRequest, deadline: Deadline) -> bytes:
        kind = request.WhichOneof("request")
        if kind == "get":
            return as_field(_GET_FIELD, await self._look_up(request.get, request.ByteSize(), deadline))
        if kind == "push":
            encoded: bytes = pb.StreamResponse(push=await self.push(request.push)).SerializeToString()
            return encoded
        raise InvalidArgument("stream: a request has neither 'get' nor 'push'")

    # Descriptions.

    def _describe_view(self, request: pb.DescribeViewRequest) -> pb.DescribeViewResponse:
        return json_format.ParseDict(
            self.describe_view(request.view), pb.DescribeViewResponse(), ignore_unknown_fields=True
        )

    def describe_view(self, name: str) -> dict[str, Any]:
        """A view as the fields of a DescribeViewResponse. Raises NotFound, Unavailable."""
        found = self._store.shown(check_name("view", name))
        view = found.view
        texts = {each.name for each in view.features if each.text}
        return {
            "view": name,
            "source": view.source,
            "entity": view.entity,
            "entity_type": str(found.entity_type),
            "features": [{"name": each, "text": each in texts} for each in found.features],
            "request": [{"name": each.name, "text": each.text} for each in view.request],
            "declaration": declared(self._engine.spec.feature_views[name]),
            "statistics": _counted(found) if isinstance(found, FeatureView) else {"restored": True},
        }

    def _list_logs(self) -> pb.ListLogsResponse:
        message = pb.ListLogsResponse()
        for each in self.describe_logs():
            message.logs.add(**each, arrow_schema=self._store.schema(each["log"]).serialize().to_pybytes())
        return message

    def describe_logs(self) -> list[dict[str, Any]]:
        """Every log and its columns, as the fields of LogDescriptions."""
        return [
            {
                "log": name,
                "columns": [
                    {"name": each.name, "type": str(each.type), "nullable": each.nullable}
                    for each in self._store.schema(name)
                ],
            }
            for name in self._store.logs
        ]


def _counted(view: FeatureView) -> dict[str, Any]:
    """The fields of a ViewStatistics that are known."""
    counted = view.statistics()
    statistics = {field.name: getattr(counted, field.name) for field in dataclasses.fields(counted)}
    statistics["offsets"] = {str(partition): offset for partition, offset in counted.offsets.items()}
    return {key: value for key, value in statistics.items() if value is not None}


def push_response(pushed: Pushed) -> pb.PushResponse:
    """As a message."""
    found = [pb.Span(**each) for each in spans(pushed.appended)]
    return pb.PushResponse(spans=found, pending=pushed.pending, token=pushed.token)


def declared(value: Any) -> Any:  # noqa: ANN401  any value of a spec
    """A part of the spec as values of JSON, without what was left at its default."""
    if dataclasses.is_dataclass(value):
        found = {}
        for field in dataclasses.fields(value):
            given = getattr(value, field.name)
            if given != field.default and (
                field.default_factory is dataclasses.MISSING or given != field.default_factory()
            ):
                found[field.name] = declared(given)
        return found
    if isinstance(value, Mapping):
        return {str(key): declared(each) for key, each in value.items()}
    return [declared(each) for each in value] if isinstance(value, tuple | list) else value


async def _failing(error: VireoError) -> bytes:
    raise error


async def _answered(answer: Awaitable[bytes], request_id: str) -> bytes:
    """A StreamResponse with `answer` (an encoded field of it), or with why there is none."""
    try:
        return _with_id(request_id) + await answer
    except Exception as error:
        known = error if isinstance(error, VireoError) else _fault(error)
        told_as = pb.StreamError(code=grpc_code(known), message=told(known), retryable=known.retryable)
        return _with_id(request_id) + pb.StreamResponse(error=told_as).SerializeToString()


def _with_id(request_id: str) -> bytes:
    return pb.StreamResponse(id=request_id).SerializeToString() if request_id else b""


def _fault(error: Exception) -> Internal:
    log.error("unexpected error in %s", _path("Stream"), exc_info=error)
    return Internal(f"internal error: {type(error).__name__}")


def _path(name: str) -> str:
    return f"/{SERVICE}/{name}"
