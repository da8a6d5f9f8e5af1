"""A table of methods that do what a test of the wire needs, and servers of it over either transport.

What a handler sees and where it waits is kept at a `Desk`, which the test reads and opens from its own thread.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop

import engine
from engine import VireoError, parse_spec
from serving.auth import Authenticator
from serving.grpc_server import GrpcServer
from serving.methods import Call, Exchange, Method
from serving.metrics import CallCounter
from serving.native.calls import Surroundings
from serving.native.server import NativeServer
from tests.fakes import PATIENCE_S
from tests.serving.servers import eventually

Result = TypeVar("Result")

SERVICE = "/test.Wire/"
ECHO, NOTHING, FAIL, CRASH, ABOUT, HOLD = (
    SERVICE + each for each in ("Echo", "Nothing", "Fail", "Crash", "About", "Hold")
)
DIRECT, DIRECT_HOLD = SERVICE + "Direct", SERVICE + "DirectHold"
STREAM, COUNT, TAKE, LAST = (SERVICE + each for each in ("Stream", "Count", "Take", "Last"))


class Desk:
    """What the handlers of one server have been through: calls that began, and those whose caller left, by their `x-tag`."""

    def __init__(self) -> None:
        self.began: Counter[str] = Counter()
        self.cancelled: Counter[str] = Counter()
        self.taken = 0  # messages that Take has got
        self.exchanges: list[tuple[Exchange, bytes]] = []
        self.open = asyncio.Event()  # lets Hold go on
        self.permits = asyncio.Semaphore(0)  # messages that Take may take

    @contextmanager
    def _told(self, call: Call) -> Iterator[None]:
        tag = _tag(call)
        self.began[tag] += 1
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled[tag] += 1
            raise

    # Unary.

    async def echo(self, call: Call, message: bytes) -> bytes:
        """The message."""
        return message

    async def nothing(self, call: Call, message: bytes) -> bytes:
        """The empty message."""
        return b""

    async def fail(self, call: Call, message: bytes) -> bytes:
        """Fails as "Class:text" says; a class in lower case says that it may be tried again in 1.5 s."""
        raise _error(message)

    async def crash(self, call: Call, message: bytes) -> bytes:
        """A mistake of ours."""
        raise LookupError("nobody caught it")

    async def about(self, call: Call, message: bytes) -> bytes:
        """What the transport says of the call."""
        remaining_s = call.deadline.remaining_s(engine.monotonic())
        return json.dumps({"remaining_s": remaining_s, "metadata": dict(call.metadata())}).encode()

    async def hold(self, call: Call, message: bytes) -> bytes:
        """The message, once the desk is open."""
        with self._told(call):
            await self.open.wait()
        return message

    # Without a task.

    def direct(self, exchange: Exchange, message: Any) -> None:  # noqa: ANN401  a Buffer
        """The message, at once."""
        self.began[_tag(exchange)] += 1
        exchange.answer(bytes(message), "", ())

    def direct_hold(self, exchange: Exchange, message: Any) -> None:  # noqa: ANN401  a Buffer
        """Keeps the exchange."""
        tag = _tag(exchange)
        self.began[tag] += 1
        exchange.on_gone(lambda: self.cancelled.update([tag]))
        self.exchanges.append((exchange, bytes(message)))

    # Streams.

    async def stream(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Each message as it comes. One that begins with "!" fails the call, with "." ends it."""
        async for message in messages:
            if message.startswith(b"!"):
                raise _error(message[1:])
            if message.startswith(b"."):
                return
            yield message

    async def count(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """The first message says "count size"; so many messages of the size, each filled with its number."""
        number, size = map(int, (await anext(messages)).split())
        with self._told(call):
            for index in range(number):
                self.taken += 1
                yield bytes([index % 251]) * size

    async def take(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Takes messages only as the test permits; at the end says how many and how large they were together."""
        count = size = 0
        with self._told(call):
            await self.permits.acquire()
            async for message in messages:
                count, size, self.taken = count + 1, size + len(message), self.taken + 1
                await self.permits.acquire()
        yield b"%d %d" % (count, size)

    async def last(self, call: Call, messages: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        """Everything in one message once the client has said all."""
        yield b"".join([each async for each in messages])

    def methods(self) -> list[Method]:
        """The table."""
        unary = {ECHO: self.echo, NOTHING: self.nothing, FAIL: self.fail, CRASH: self.crash, ABOUT: self.about}
        streams = {STREAM: self.stream, COUNT: self.count, TAKE: self.take, LAST: self.last}
        return [
            *(Method(path, unary=each) for path, each in {**unary, HOLD: self.hold}.items()),
            *(Method(path, stream=each) for path, each in streams.items()),
            Method(DIRECT, unary=self.echo, direct=self.direct),
            Method(DIRECT_HOLD, unary=self.hold, direct=self.direct_hold),
        ]


def _tag(call: Call) -> str:
    return call.metadata().get("x-tag", "")


def _error(message: bytes) -> VireoError:
    name, _, text = message.decode().partition(":")
    kind: type[VireoError] = getattr(engine, name[:1].upper() + name[1:])
    return kind(text, retry_after_s=1.5 if name[:1].islower() else None)


async def hello(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  ASGI
    """An HTTP application that says what it was asked and how long the body was. `/hold` never answers, `/fail` fails,
    `/nothing` ends without an answer, `/early` does not wait for the body, `/large` answers 20 MiB in pieces."""
    path, size, more = scope["path"], 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    if path == "/hold":
        assert (await receive())["type"] == "http.disconnect"
    elif path == "/fail":
        raise LookupError("on purpose")
    elif path == "/large":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for index in range(20):
            await send({"type": "http.response.body", "body": bytes(1 << 20), "more_body": index < 19})
    elif path != "/nothing":
        body = json.dumps({"method": scope["method"], "path": path, "size": size}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class TableServer:
    """A transport over a table of its own desk, on a thread with an event loop."""

    def __init__(self, transport: str, *, message_bytes_max: int = 1 << 20) -> None:
        server = f"{{grpc_port: 0, http_port: null, message_bytes_max: {message_bytes_max}}}"
        self._spec = parse_spec(f"server: {server}", folder=Path())
        self.counter = CallCounter()
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="server-under-test", daemon=True)
        self._thread.start()
        self._stopped = False
        self.native: NativeServer | None = None
        self.grpcio: GrpcServer | None = None
        self.port = self.run(self._start(transport))

    async def _start(self, transport: str) -> int:
        self.desk = Desk()
        methods = {each.path: each for each in self.desk.methods()}
        authenticator, clock = Authenticator([]), engine.monotonic
        if transport == "grpcio":
            self.grpcio = GrpcServer(self._spec, methods, authenticator, self.counter, clock)
            port = await self.grpcio.start()
            assert port is not None
            return port
        bytes_max = self._spec.server.message_bytes_max
        around = Surroundings(authenticator, self.counter, clock, bytes_max, self.loop)
        self.native = NativeServer(self._spec, methods, around, hello, asyncio.Protocol, lambda: None)
        return await self.native.listen("grpc_port", 0)

    @property
    def address(self) -> str:
        """Where gRPC clients connect."""
        return f"127.0.0.1:{self.port}"

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs `work` on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def do(self, work: Any) -> Any:  # noqa: ANN401  a function without arguments, and what it returns
        """Calls a function on the server's loop."""

        async def call() -> Any:  # noqa: ANN401
            return work()

        return self.run(call())

    def open(self) -> None:
        """Lets everything that is held go on."""
        self.do(self.desk.open.set)

    def permit(self, count: int) -> None:
        """Lets Take take so many messages more."""

        def release() -> None:
            for _ in range(count):
                self.desk.permits.release()

        self.do(release)

    def answer_held(self) -> None:
        """Answers what DirectHold keeps."""

        def answer() -> None:
            for exchange, content in self.desk.exchanges:
                exchange.answer(content, "", ())
            self.desk.exchanges.clear()

        self.do(answer)

    def counted(self, path: str) -> dict[str, int]:
        """How many calls of a method ended with each status."""
        return {code: count for (name, code), count in self.counter.counts.copy().items() if name == path}

    def tasks(self) -> Counter[str]:
        """The tasks of calls, by the coroutine they run."""

        async def names() -> Counter[str]:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            found = (getattr(each.get_coro(), "__qualname__", "") for each in others)
            return Counter(each for each in found if "Call" in each or "Exchange" in each or "Desk" in each)

        return self.run(names())

    def connections(self) -> list[Any]:
        """The HTTP/2 connections of the native transport."""
        found: list[Any] = self.do(lambda: list(self.native._connections) if self.native else [])
        return found

    def streams(self) -> int:
        """The streams that are open on them."""
        return sum(each.streams for each in self.connections())

    def queued(self) -> int:
        """Bytes of answers that wait in the native transport."""
        return sum(each.queued for each in self.connections())

    def check_nothing_left(self) -> None:
        """Fails unless every call is forgotten."""
        eventually(lambda: not self.tasks(), f"no task is left of {self.tasks()}")
        if self.native is not None:
            eventually(lambda: self.streams() == 0, "no stream is open")
            assert not any(each.open for each in self.connections())

    def stop(self) -> None:
        """Ends it; twice is once."""
        if self._stopped:
            return
        self._stopped = True
        self.run((self.native or self.grpcio).stop())  # type: ignore[union-attr]
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE_S)
        self.loop.close()
