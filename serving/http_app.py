"""The HTTP front without a server: an ASGI application over a table of endpoints. It knows no protocol above HTTP.

An endpoint takes an `HttpCall` and gives a `Reply`; a VireoError becomes `{"error": message, "code": name}` with the
status of the one table in `status`. Which server runs the application, no endpoint knows.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs

from starlette.routing import Match, Route

from engine import (
    Cancelled,
    Chunks,
    Clock,
    Deadline,
    InvalidArgument,
    NotFound,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    VireoError,
    nearest,
    quoted,
)
from serving.auth import Authenticator
from serving.http_body import Receive, UnknownEncoding, chosen_encoding, pack, read_body, unpack
from serving.metrics import CallCounter
from serving.status import grpc_name, http_status, retry_after_ms, told

Result = TypeVar("Result")
Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON: Final = "application/json"
TEXT: Final = "text/plain"
RECEIVED_NS: Final = "vireo_received_ns"
"""Where a server that knows it says in the ASGI scope when a request's first bytes had been read, on the engine's clock."""

ARROW: Final = "application/vnd.apache.arrow.stream"
_PACK_BYTES_MIN: Final = 1024
"""A shorter body is not worth packing: it fits into one packet."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What an endpoint answers: a whole `body`, or `chunks`, sent one by one as they come and closed in the end.

    `packable`: may be compressed. Only what is asked to be large is: tritonclient's aio client accepts gzip for every
    answer and unpacks only those to inference.
    """

    body: bytes = b""
    content_type: str = JSON
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    packable: bool = False
    chunks: Chunks | None = None


class HttpCall:
    """One request as an endpoint sees it; what is not asked for is not computed."""

    __slots__ = ("_bytes_max", "_clock", "_headers", "_receive", "_scope", "received_ns")

    def __init__(self, scope: Scope, receive: Receive, clock: Clock, bytes_max: int) -> None:
        self._scope = scope
        self._receive = receive
        self._clock = clock
        self._bytes_max = bytes_max
        self._headers: dict[str, str] | None = None
        self.received_ns: int = scope.get(RECEIVED_NS) or clock()

    def headers(self) -> Mapping[str, str]:
        """Request headers, names in lower case; the last where one comes more than once."""
        if self._headers is None:
            pairs: Sequence[tuple[bytes, bytes]] = self._scope["headers"]
            self._headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
        return self._headers

    def whole_number(self, header: str) -> int | None:
        """The value of a header that must be a whole number; None where it is absent. Raises InvalidArgument."""
        value = self.headers().get(header)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 19):
            raise InvalidArgument(f"header {header}: expected a whole number, got {quoted(value)}")
        return int(value)

    @property
    def path(self) -> Mapping[str, str]:
        """The variable parts of the path, by name."""
        parts: Mapping[str, str] = self._scope["path_params"]
        return parts

    def query(self, *known: str) -> Mapping[str, list[str]]:
        """The values of each of the `known` parameters of the query. Raises InvalidArgument where there is another."""
        given = parse_qs(self._scope["query_string"].decode("latin-1"), keep_blank_values=True)
        for name in given:
            if name not in known:
                raise InvalidArgument(f"query: unknown parameter {quoted(name)}{nearest(name, known)}")
        return {name: given.get(name, []) for name in known}

    @property
    def deadline(self) -> Deadline:
        """From the header `x-request-timeout-ms`, on the engine's clock."""
        timeout_ms = self.whole_number("x-request-timeout-ms")
        return Deadline.NEVER if timeout_ms is None else Deadline.after(timeout_ms / 1e3, self._clock())

    async def body(self) -> bytes:
        """The request's body, unpacked. Raises TooLarge, InvalidArgument, Cancelled."""
        headers = self.headers()
        declared = self.whole_number("content-length")
        body = await read_body(self._receive, declared, self._bytes_max)
        encoding = headers.get("content-encoding")
        return body if encoding is None else await unpack(body, encoding, self._bytes_max)

    async def gone(self) -> None:
        """Returns when the caller has left; to be awaited once the body has been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def while_here(call: HttpCall, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` gives or raises. Where the caller leaves first it is stopped, and Cancelled raised; to be awaited once the body
    has been read."""
    task, gone = asyncio.create_task(work), asyncio.create_task(call.gone())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Cancelled("the caller has left")
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


Handler = Callable[[HttpCall], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method and a path (Starlette's syntax for its variable parts) with what answers there.

    `open_to_all`: answered without credentials, as health checks must be. `failed`: how its errors are told, where that is not
    as everywhere. The rest is for the API's description: the
    schema of the JSON it takes, the media type it gives, and whether it is `offered` or known only to be refused.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    open_to_all: bool = False
    takes: str | None = None
    gives: str = JSON
    offered: bool = True
    failed: Callable[[VireoError], Reply] | None = None


class HttpApp:
    """An ASGI application that serves a table of endpoints."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        authenticator: Authenticator,
        counter: CallCounter,
        clock: Clock,
        bytes_max: int,
    ) -> None:
        self._routes = [(Route(each.path, _unused, methods=[each.method]), each) for each in endpoints]
        self._succeeded = {each: counter.of(_label(each), "OK") for each in endpoints}
        self._authenticator = authenticator
        self._counter = counter
        self._clock = clock
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry; only the scope type "http" is served."""
        if scope["type"] != "http":
            raise NotImplementedError(f"ASGI scope {scope['type']}")
        call = HttpCall(scope, receive, self._clock, self._bytes_max)
        endpoint: Endpoint | None = None
        try:
            endpoint = self._find(scope)
            if self._authenticator.required and not endpoint.open_to_all:
                self._authenticator.check(call.headers())
            reply = await endpoint.handler(call)
            self._succeeded[endpoint]()
        except asyncio.CancelledError:  # only the end of the server's patience with what is in flight cancels
            reply = self._failed(endpoint, Unavailable("the server is shutting down"))
        except Exception as error:
            reply = self._failed(endpoint, error)
        await (_send(reply, call, send) if reply.chunks is None else _stream(reply, reply.chunks, call, send))

    def _find(self, scope: Scope) -> Endpoint:
        allowed: list[str] = []
        for route, endpoint in self._routes:
            match, found = route.matches(scope)
            if match is Match.FULL:
                scope["path_params"] = found["path_params"]
                return endpoint
            if match is Match.PARTIAL:
                allowed += ["GET", "HEAD"] if endpoint.method == "GET" else [endpoint.method]
        if allowed:
            raise MethodNotAllowed(f"{scope['method']} {quoted(scope['path'])}", tuple(dict.fromkeys(allowed)))
        raise NotFound(f"nothing is served at {quoted(scope['path'])}; see /docs")

    def _failed(self, endpoint: Endpoint | None, error: Exception) -> Reply:
        label = "unrouted" if endpoint is None else _label(endpoint)
        known = error if isinstance(error, VireoError) else self._counter.fault(label, error)
        self._counter.of(label, grpc_name(known))()
        return (endpoint.failed if endpoint and endpoint.failed else error_reply)(known)


class MethodNotAllowed(Unimplemented):
    """The path is served, the method is not; `allowed` are those that are."""

    def __init__(self, call: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"{call}: allowed is {', '.join(allowed)}")
        self.allowed = allowed


def error_reply(error: VireoError) -> Reply:
    """The reply that tells `error`."""
    body = {"error": told(error), "code": grpc_name(error)}
    return json_reply(body, status=_status(error), headers=tuple(_error_headers(error)))


def _status(error: VireoError) -> int:
    if isinstance(error, MethodNotAllowed):
        return 405
    return 415 if isinstance(error, UnknownEncoding) else http_status(error)


def _error_headers(error: VireoError) -> Iterator[tuple[str, str]]:
    after_ms = retry_after_ms(error)
    if after_ms is not None:
        yield "retry-after", str(math.ceil(after_ms / 1000))  # in whole seconds, where a queue is empty in some ms
        yield "retry-after-ms", str(after_ms)
    if isinstance(error, Unauthenticated):
        yield "www-authenticate", "Bearer"
    if isinstance(error, MethodNotAllowed):
        yield "allow", ", ".join(error.allowed)
    if isinstance(error, UnknownEncoding):
        yield "accept-encoding", "gzip, deflate"


def json_reply(value: object, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """`value` as JSON, in ASCII: an echoed text need not be valid Unicode."""
    return Reply(json.dumps(value, separators=(",", ":")).encode(), status=status, headers=headers)


def _label(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


async def _send(reply: Reply, call: HttpCall, send: Send) -> None:
    body, headers = reply.body, _headers(reply)
    if reply.packable and len(body) >= _PACK_BYTES_MIN:
        encoding = chosen_encoding(call.headers().get("accept-encoding", ""))
        headers.append((b"vary", b"accept-encoding"))
        if encoding is not None:
            body = await pack(body, encoding)
            headers.append((b"content-encoding", encoding.encode()))
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(reply: Reply) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", reply.content_type.encode()), *((n.encode(), v.encode()) for n, v in reply.headers)]


async def _stream(reply: Reply, chunks: Chunks, call: HttpCall, send: Send) -> None:
    """Sends each chunk as it comes, as quickly as the caller takes them. Where the caller leaves, there is no end to tell."""

    async def work() -> None:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": _headers(reply)})
        await while_here(call, work())
        await send({"type": "http.response.body", "body": b""})
    except Cancelled:
        return
    finally:
        await chunks.aclose()


def _unused() -> None:
    """Routes are matched by Starlette and called by HttpApp."""
