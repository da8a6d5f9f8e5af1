"""Arrow Flight: events into logs by DoPut, streaming lookups and scoring by DoExchange, catalogues by DoGet.

It runs on threads of its own, each call on one. The one file that knows `pyarrow.flight`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import orjson
import pyarrow as pa
from pyarrow import flight

from engine import (
    INTERACTIVE,
    Cancelled,
    DeadlineExceeded,
    Engine,
    FeatureView,
    Internal,
    InvalidArgument,
    NotFound,
    Request,
    ResourceExhausted,
    Spec,
    SpecError,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    VireoError,
    limits,
    nearest,
    quoted,
)
from serving.asked import asked_by
from serving.auth import Authenticator
from serving.codec import check_name, parse_version
from serving.event_push import spans
from serving.features_codec import feature_batch, feature_schema, lookup_of_batch
from serving.flight_points import FlightPoints, is_points
from serving.flight_tensors import model_batch, model_inputs
from serving.listener import listener
from serving.status import grpc_name, told
from serving.tls import load_tls

log = logging.getLogger("vireo.serving")

_GRACE_S: Final = 1.0
_POLL_S: Final = 0.01
_CUT_S: Final = 5.0

# A subclass without a line of its own has its parent's. Arrow's own exceptions would show callers our tracebacks.
_ERRORS: Final[dict[type[VireoError], type[Exception]]] = {
    Unavailable: flight.FlightUnavailableError,
    TooLarge: flight.FlightServerError,
    ResourceExhausted: flight.FlightUnavailableError,
    DeadlineExceeded: flight.FlightTimedOutError,
    Cancelled: flight.FlightCancelledError,
    Unauthenticated: flight.FlightUnauthenticatedError,
    Internal: flight.FlightInternalError,
    VireoError: flight.FlightServerError,
}


def flight_error(error: VireoError) -> Exception:
    """`error` as pyarrow.flight has it: the class by kind, and the status in `extra_info` as JSON."""
    kind = next(_ERRORS[each] for each in type(error).__mro__ if each in _ERRORS)
    extra = orjson.dumps({"code": grpc_name(error), "retryable": error.retryable})
    return kind(f"{grpc_name(error)}: {told(error)}", extra)


class FlightFront:
    """Arrow Flight on a port, from start to a graceful end."""

    def __init__(self, spec: Spec, engine: Engine, authenticator: Authenticator) -> None:
        self._spec = spec
        self._engine = engine
        self._authenticator = authenticator
        self._server: FlightServer | None = None

    async def start(self) -> int:
        """Begins to answer; the port. Raises SpecError."""
        server = self._spec.server
        assert server.flight_port is not None
        host = server.host.strip("[]")
        try:
            listener(host, server.flight_port, shared=server.share_ports).close()  # gRPC does not say why it cannot
            self._server = FlightServer(self._spec, self._engine, self._authenticator, _location(self._spec, host))
        except (OSError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or error
            raise SpecError(f"server.flight_port: cannot listen on {host}:{server.flight_port}: {reason}") from error
        return int(self._server.port)

    async def stop(self) -> None:
        """Takes no new calls; those open may finish the batch they are at, then they are ended."""
        if self._server is not None:
            await asyncio.to_thread(self._server.end)


def _location(spec: Spec, host: str) -> str:
    scheme = "grpc" if spec.server.tls is None else "grpc+tls"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{spec.server.flight_port}"


class _Guard(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Lets nobody in without credentials."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    def start_call(self, info: Any, headers: Any) -> None:  # noqa: ANN401
        """See pyarrow."""
        found = {name.lower(): str(values[-1]) for name, values in headers.items() if values}
        try:
            self._authenticator.check(found)
        except Unauthenticated as error:
            raise flight_error(error) from None


class _Asked(flight.ServerMiddleware):  # type: ignore[misc]
    """What the headers of one call ask for."""

    def __init__(self, priority: int) -> None:
        self.priority = priority


class _Asking(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Reads them, `vireo-priority`, once a call."""

    def start_call(self, info: Any, headers: Any) -> _Asked:  # noqa: ANN401
        """See pyarrow."""
        try:
            asked = asked_by({name.lower(): str(values[-1]) for name, values in headers.items() if values})
        except InvalidArgument as error:
            raise flight_error(error) from None
        return _Asked(INTERACTIVE if asked is None or asked.priority is None else asked.priority)


def _security(spec: Spec) -> dict[str, Any]:
    tls = spec.server.tls
    if tls is None:
        return {}
    load_tls(spec)  # gRPC does not say why it cannot
    certificate, key = (spec.path(each).read_bytes() for each in (tls.certificate, tls.key))
    given: dict[str, Any] = {"tls_certificates": [flight.CertKeyPair(certificate, key)]}
    if tls.client_ca is not None:
        given |= {"verify_client": True, "root_certificates": spec.path(tls.client_ca).read_bytes()}
    return given


class FlightServer(flight.FlightServerBase):  # type: ignore[misc]
    """The calls. Descriptors are paths: a log's name; a view's, perhaps with the features wanted; a model's, perhaps with its
    version; `collections`, a collection's and perhaps a tenant's."""

    def __init__(self, spec: Spec, engine: Engine, authenticator: Authenticator, location: str) -> None:
        self._engine = engine
        self._store = engine.features
        self._points = FlightPoints(engine.vectors)
        self._bytes_max = spec.server.message_bytes_max
        self._open = 0
        self._lock = threading.Lock()
        self._ending = False
        middleware = {"asked": _Asking(), **({"auth": _Guard(authenticator)} if authenticator.required else {})}
        super().__init__(location, middleware=middleware, **_security(spec))

    # Events.

    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:  # noqa: ANN401
        """Appends each batch and, once it is durable, writes where it lies, {"spans": [...]}, as JSON. Points: flight_points."""
        with self._call():
            path = _path(descriptor, None)
            if is_points(path):
                for answer in self._points.put(path, self._batches(reader, empty=True)):
                    writer.write(pa.py_buffer(answer))
                return
            (name,) = _path(descriptor, 1)
            if name not in self._store.logs:
                self._points.check_no_name(name)
            self._store.schema(name)
            for batch, _ in self._batches(reader):
                told_as = {"spans": spans(self._store.push(name, batch))}
                writer.write(pa.py_buffer(orjson.dumps(told_as)))

    # Lookups and scoring.

    def do_exchange(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:  # noqa: ANN401
        """Answers each batch with one, in order, its metadata given back."""
        with self._call():
            path = _path(descriptor, None)
            name, *rest = path
            if is_points(path):
                raise Unimplemented("points of collections come and go by DoPut and DoGet, not by DoExchange")
            if name in self._store.views:
                self._look_up(name, tuple(rest), reader, writer)
            else:
                self._score(name, rest, reader, writer, context.get_middleware("asked").priority)

    def _look_up(self, name: str, features: tuple[str, ...], reader: Any, writer: Any) -> None:  # noqa: ANN401
        view = self._store.shown(name)
        wanted = features or view.features
        for each in wanted:
            if each not in view.features:
                raise InvalidArgument(
                    f"view {quoted(name)}: unknown feature {quoted(each)}{nearest(each, view.features)}"
                )
        texts = [each.name for each in view.view.features if each.text]
        writer.begin(feature_schema(wanted, texts))
        for batch, metadata in self._batches(reader):
            view = self._store.shown(name)  # another one where the spec was applied anew meanwhile
            _write(writer, feature_batch(lookup_of_batch(view, batch, wanted)()), metadata)

    def _score(self, name: str, rest: Sequence[str], reader: Any, writer: Any, priority: int) -> None:  # noqa: ANN401
        if len(rest) > 1:
            raise InvalidArgument(f"descriptor path of a model: [name] or [name, version], got {len(rest) + 1} parts")
        model, version = check_name("model", name), parse_version(rest[0] if rest else "")
        signature = self._engine.describe(model, version).signature
        begun = False
        for batch, metadata in self._batches(reader):
            response = self._engine.infer(Request(model, model_inputs(signature, batch), version, priority=priority))
            answer = model_batch(response.outputs, batch.num_rows)
            if not begun:
                writer.begin(answer.schema)
                begun = True
            _write(writer, answer, metadata)

    def _batches(self, reader: Any, *, empty: bool = False) -> Iterator[tuple[pa.RecordBatch, Any]]:  # noqa: ANN401
        """(batch, its metadata), each checked to the last value; metadata alone is left out, and, unless `empty`, no rows are."""
        while not self._ending:
            try:
                chunk = reader.read_chunk()
                if chunk.data is not None:
                    chunk.data.validate(full=True)
            except StopIteration:
                return
            except flight.FlightCancelledError as error:
                raise Cancelled("the caller has left") from error
            except (pa.ArrowException, OSError) as error:
                raise InvalidArgument(f"not a valid Arrow batch: {error}") from error
            batch = chunk.data
            if batch is not None and batch.nbytes > self._bytes_max:
                raise TooLarge(
                    f"batch of {batch.nbytes} bytes, at most {self._bytes_max} are allowed (server.message_bytes_max)"
                )
            if batch is not None and (empty or batch.num_rows):
                yield batch, chunk.app_metadata
        raise Unavailable("the server is shutting down")

    # Catalogues.

    def list_flights(self, context: Any, criteria: bytes) -> Iterator[Any]:  # noqa: ANN401
        """Every log, every view that answers, every collection that is served."""
        with self._call():
            for name in self._store.logs:
                yield _info(name, self._store.schema(name))
            for name in self._store.views:
                with suppress(Unavailable):
                    yield _info(name, self._view_schema(name))
            for path in self._points.paths():
                with suppress(VireoError):  # it could not be opened, or was dropped meanwhile
                    yield _info(path, *self._points.about(path))

    def get_flight_info(self, context: Any, descriptor: Any) -> Any:  # noqa: ANN401
        """The schema of a log's events, of a view's answers, of a collection's points."""
        with self._call():
            path = _path(descriptor, None)
            if is_points(path):
                return _info(path, *self._points.about(path))
            (name,) = _path(descriptor, 1)
            return _info(name, self._schema(name))

    def get_schema(self, context: Any, descriptor: Any) -> Any:  # noqa: ANN401
        """As `get_flight_info`."""
        with self._call():
            path = _path(descriptor, None)
            if is_points(path):
                return flight.SchemaResult(self._points.schema(path))
            (name,) = _path(descriptor, 1)
            return flight.SchemaResult(self._schema(name))

    def do_get(self, context: Any, ticket: Any) -> Any:  # noqa: ANN401
        """The table of logs for the ticket `logs`, that of views and how they are doing for `views`; points for one of JSON."""
        with self._call():
            name = ticket.ticket.decode(errors="replace")
            if name.startswith("{"):
                schema, batches = self._points.get(ticket.ticket)
                return flight.GeneratorStream(schema, self._streamed(batches))
            if name == "logs":
                rows = [{"log": each, "columns": self._store.schema(each).names} for each in self._store.logs]
            elif name == "views":
                rows = [self._view_row(each) for each in self._store.views]
            else:
                raise NotFound(f"ticket {quoted(name)}{nearest(name, ('logs', 'views'))}")
            return flight.RecordBatchStream(pa.Table.from_pylist(rows, _CATALOGUES[name]))

    def do_action(self, context: Any, action: Any) -> None:  # noqa: ANN401
        """There are none; Arrow's own refusal shows callers our traceback."""
        with self._call():
            raise Unimplemented(f"action {quoted(str(action.type))}: there are no actions")

    def list_actions(self, context: Any) -> list[Any]:  # noqa: ANN401
        """None."""
        return []

    def _streamed(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with self._call():
            for each in batches:
                if self._ending:
                    raise Unavailable("the server is shutting down")
                yield each

    def _schema(self, name: str) -> pa.Schema:
        if name in self._store.views:
            return self._view_schema(name)
        if name not in self._store.logs:
            self._points.check_no_name(name)
            known = (*self._store.logs, *self._store.views)
            raise NotFound(f"no log or view is called {quoted(name)}{nearest(name, known)}")
        return self._store.schema(name)

    def _view_schema(self, name: str) -> pa.Schema:
        view = self._store.shown(name)
        return feature_schema(view.features, [each.name for each in view.view.features if each.text])

    def _view_row(self, name: str) -> dict[str, Any]:
        try:
            view = self._store.shown(name)
        except Unavailable as error:
            return {"view": name, "ready": False, "error": error.message}
        if not isinstance(view, FeatureView):
            return {"view": name, "ready": True, "source": view.view.source, "entity": view.view.entity}
        counted = view.statistics()
        return {
            "view": name,
            "ready": counted.restored,
            "error": counted.error,
            "source": view.view.source,
            "entity": view.view.entity,
            "features": list(view.features),
            **{each: getattr(counted, each) for each in _COUNTED},
        }

    # Calls, and the end of them.

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Counts the call, and tells what it fails with as pyarrow.flight does."""
        try:
            with self._counted():
                yield
        except VireoError as error:
            raise flight_error(error) from None
        except (flight.FlightError, pa.ArrowException, OSError) as error:  # writing to a caller who has left
            raise flight.FlightCancelledError(f"CANCELLED: the stream has ended: {type(error).__name__}") from None
        except GeneratorExit:
            raise
        except Exception as error:
            log.error("unexpected error in Arrow Flight", exc_info=error)
            raise flight_error(Internal(f"internal error: {type(error).__name__}")) from None

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._lock:
            if self._ending:
                raise Unavailable("the server is shutting down")
            if self._open >= limits.FLIGHT_CALLS_MAX:
                raise ResourceExhausted(
                    f"{self._open} Arrow Flight calls are open, at most {limits.FLIGHT_CALLS_MAX} may be"
                )
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1

    def end(self) -> None:
        """Lets open calls finish within `_GRACE_S`, cuts those that still wait for their callers, returns when all have ended."""
        self._ending = True
        ending = threading.Thread(target=self.shutdown, name="vireo-flight-end", daemon=True)
        ending.start()
        end = time.monotonic() + _GRACE_S
        while self._open and time.monotonic() < end:
            time.sleep(_POLL_S)
        if self._open:
            _hang_up(self.port)  # a call that waits for its caller's next batch ends no other way
        ending.join(_CUT_S)


def _hang_up(port: int) -> None:
    """Ends this process's connections on a port it serves: gRPC's C++ server lets nobody cancel the calls of others."""
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with suppress(OSError, ValueError):
            found = socket.socket(fileno=os.dup(int(name)))
            with found:
                address = found.getsockname()
                if isinstance(address, tuple) and address[1] == port:
                    found.shutdown(socket.SHUT_RDWR)


_COUNTED: Final = ("applied", "duplicates", "filtered", "late", "dead", "entities", "bytes", "lag_rows", "watermark_us")
_CATALOGUES: Final = {
    "logs": pa.schema([("log", pa.string()), ("columns", pa.list_(pa.string()))]),
    "views": pa.schema(
        [
            *((name, pa.string()) for name in ("view", "source", "entity")),
            ("features", pa.list_(pa.string())),
            ("ready", pa.bool_()),
            ("error", pa.string()),
            *((name, pa.int64()) for name in _COUNTED),
        ]
    ),
}


def _path(descriptor: Any, length: int | None) -> list[str]:  # noqa: ANN401
    """The parts of a descriptor's path, `length` of them where that is given."""
    if descriptor.descriptor_type != flight.DescriptorType.PATH or not descriptor.path:
        raise InvalidArgument("descriptor: expected a path that begins with the name of a log, a view or a model")
    parts = [each.decode("utf-8", "backslashreplace") for each in descriptor.path]
    if length is not None and len(parts) != length:
        raise InvalidArgument(f"descriptor: expected a path of {length} part, got {len(parts)}")
    return parts


def _info(path: str | Sequence[str], schema: pa.Schema, rows: int = -1, ticket: bytes | None = None) -> Any:  # noqa: ANN401
    descriptor = flight.FlightDescriptor.for_path(*((path,) if isinstance(path, str) else path))
    return flight.FlightInfo(
        schema, descriptor, [] if ticket is None else [flight.FlightEndpoint(ticket, [])], rows, -1
    )


def _write(writer: Any, batch: pa.RecordBatch, metadata: Any) -> None:  # noqa: ANN401
    if metadata is None:
        writer.write_batch(batch)
    else:
        writer.write_with_metadata(batch, metadata)
