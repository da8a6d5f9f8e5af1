"""gRPC calls on streams of a connection, between the compiled session and the method table."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from engine import (
    NEVER_NS,
    Cancelled,
    Clock,
    Deadline,
    DeadlineExceeded,
    ResourceExhausted,
    TooLarge,
    Unavailable,
    Unimplemented,
    VireoError,
    quoted,
)
from serving.auth import Authenticator
from serving.http_body import unpack
from serving.methods import Method
from serving.metrics import CallCounter
from serving.native.connection import Connection
from serving.status import DETAILS, grpc_code, grpc_name, grpc_status_name, status_details, told, trailing_metadata

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ENCODINGS = ("gzip", "deflate")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every call of a server needs."""

    authenticator: Authenticator
    counter: CallCounter
    clock: Clock
    message_bytes_max: int
    loop: asyncio.AbstractEventLoop


class Served:
    """A method with what its calls share."""

    __slots__ = ("around", "direct", "locked", "method", "path", "succeeded")

    def __init__(self, method: Method, around: Surroundings) -> None:
        self.method = method
        self.path = method.path
        self.direct = method.direct
        self.around = around
        self.locked = around.authenticator.required and not method.open_to_all
        self.succeeded = around.counter.of(method.path, "OK")


class _GrpcCall:
    """What any call is: a stream, a method, a deadline, and one end."""

    __slots__ = ("connection", "deadline_ns", "ended_", "served", "stream", "timer")

    def __init__(self, connection: Connection, stream: int, served: Served, deadline_ns: int) -> None:
        self.connection = connection
        self.stream = stream
        self.served = served
        self.deadline_ns = deadline_ns
        self.ended_ = False
        self.timer: asyncio.TimerHandle | None = None

    @property
    def deadline(self) -> Deadline:
        """See `methods.Call`."""
        return Deadline.NEVER if self.deadline_ns == NEVER_NS else Deadline(self.deadline_ns)

    def metadata(self) -> Mapping[str, str]:
        """See `methods.Call`."""
        pairs = self.connection.headers(self.stream)
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs if not name.endswith(b"-bin")}

    @property
    def received_ns(self) -> int:
        """See `methods.Call`."""
        return self.connection.begun_ns(self.stream)

    def trail(self, pairs: Sequence[tuple[str, str]]) -> None:
        """See `methods.Call`."""
        self.connection.trail(self.stream, [(name.encode(), value.encode()) for name, value in pairs])

    def check_access(self) -> None:
        """Raises Unauthenticated where the method needs credentials and the call has none."""
        if self.served.locked:
            self.served.around.authenticator.check(self.metadata())

    def wait(self) -> None:
        """Called where the call is not answered at once: it is told of what happens to its stream, and of its deadline."""
        self.connection.open[self.stream] = self
        if self.deadline_ns != NEVER_NS:
            around = self.served.around
            self.timer = around.loop.call_later(self.deadline.remaining_s(around.clock()), self.expired)

    def end(self) -> bool:
        """Marks the end; False where it had come before."""
        if self.ended_:
            return False
        self.ended_ = True
        self.connection.open.pop(self.stream, None)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        return True

    def fail(self, error: Exception) -> None:
        """Ends the call with the status of `error`."""
        if not self.end():
            return
        counter = self.served.around.counter
        if isinstance(error, MemoryError):
            error = ResourceExhausted(f"the server cannot hold this answer now: {error or 'out of memory'}")
        known = error if isinstance(error, VireoError) else counter.fault(self.served.path, error)
        counter.of(self.served.path, grpc_name(known))()
        self.connection.finish(self.stream, grpc_code(known), told(known), _trailers(known))

    def expired(self) -> None:
        """The deadline has passed."""
        self.drop(DeadlineExceeded("deadline passed while the call was being served"))

    def gone(self) -> None:
        """See `connection.Open`."""
        self.drop(Cancelled("the caller has left"))

    def shut_down(self) -> None:
        """See `connection.Open`."""
        self.drop(Unavailable("the server is shutting down"))

    def refused(self, code: int, text: str) -> None:
        """See `connection.Open`."""
        self.drop(Cancelled("the call is against the protocol"), finish=(code, text))

    def drop(self, error: VireoError, finish: tuple[int, str] | None = None) -> None:
        """Stops what works on the call and ends it with `error`, or told otherwise."""
        if self.ended_:
            return
        self.stop()
        if finish is None:
            self.fail(error)
        elif self.end():
            self.connection.finish(self.stream, *finish, refusal_trailers(*finish))

    def stop(self) -> None:
        """Nobody waits for the answer any more."""

    def message(self, payload: Any, encoding: str | None) -> None:  # noqa: ANN401
        """See `connection.Open`."""

    def ended(self) -> None:
        """See `connection.Open`."""

    def room(self) -> None:
        """See `connection.Open`."""


class DirectCall(_GrpcCall):
    """A `methods.Exchange`: answered without a task."""

    __slots__ = ("_cancel", "alone")
    asks: ClassVar[bool] = False

    def asked(self) -> Mapping[str, str]:
        """See `methods.Exchange`."""
        return self.connection.asked(self.stream)

    def __init__(self, connection: Connection, stream: int, served: Served, deadline_ns: int, alone: bool) -> None:
        self.connection = connection  # as in `super().__init__`, whose call would take as long as all of this
        self.stream = stream
        self.served = served
        self.deadline_ns = deadline_ns
        self.ended_ = False
        self.timer = None
        self.alone = alone
        self._cancel: Callable[[], None] | None = None

    def begin(self, message: Buffer) -> None:
        """Starts the method; the call may end in it."""
        try:
            if self.served.locked:
                self.check_access()
            self.served.direct(self, message)  # type: ignore[misc]
        except Exception as error:
            self.fail(error)

    def answer(self, head: bytes, request_id: str, raws: Sequence[Buffer]) -> None:
        """See `methods.Exchange`."""
        if self.ended_:
            return
        try:
            bytes_size = self.connection.respond_infer(self.stream, head, request_id, *raws)
        except MemoryError as error:
            self.fail(error)
            return
        if bytes_size > self.served.around.message_bytes_max:
            self.fail(_answer_too_large(bytes_size, self.served.around.message_bytes_max))
        elif self.end():
            self.served.succeeded()

    def end(self) -> bool:
        """See `_GrpcCall`, whose call would take as long as all of this."""
        self._cancel = None  # no cycle may keep the message until the garbage collector comes
        if self.ended_:
            return False
        self.ended_ = True
        self.connection.open.pop(self.stream, None)
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        return True

    def on_gone(self, cancel: Callable[[], None]) -> None:
        """See `methods.Exchange`."""
        self._cancel = cancel

    def stop(self) -> None:
        """See `_GrpcCall`."""
        if self._cancel is not None:
            self._cancel()


class AskingCall(DirectCall):
    """One with metadata to act on."""

    __slots__ = ()
    asks = True


class _TaskCall(_GrpcCall):
    """A call that a task works on. A task that is stopped keeps the error, and that this call, which so lets go of the task:
    where it has begun it ends well all the same, but one that is stopped before that cannot.
    """

    __slots__ = ("_task",)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Makes the task."""
        self._task: asyncio.Task[None] | None = self.served.around.loop.create_task(work)
        self.wait()

    def end(self) -> bool:
        """See `_GrpcCall`."""
        self._task = None
        return super().end()

    def stop(self) -> None:
        """See `_GrpcCall`."""
        if self._task is not None:
            self._task.cancel()

    def check_size(self, answer: bytes) -> None:
        """Raises TooLarge where the client could not take `answer`."""
        bytes_max = self.served.around.message_bytes_max
        if len(answer) > bytes_max:
            raise _answer_too_large(len(answer), bytes_max)


class UnaryCall(_TaskCall):
    """One message in, one out."""

    __slots__ = ()

    def begin(self, message: Buffer, encoding: str | None) -> None:
        """Starts the method."""
        self.start(self._run(message, encoding))

    async def _run(self, message: Buffer, encoding: str | None) -> None:
        handler = self.served.method.unary
        assert handler is not None
        try:
            self.check_access()
            answer = await handler(self, await unpacked(message, encoding, self.served.around.message_bytes_max))
            self.check_size(answer)
            self.connection.respond(self.stream, answer)
        except asyncio.CancelledError:  # by `stop`
            return
        except Exception as error:
            self.fail(error)
            return
        if self.end():
            self.served.succeeded()


class StreamCall(_TaskCall):
    """Any number of messages either way."""

    __slots__ = ("_complete", "_news", "_received", "_room")

    def begin(self) -> None:
        """Starts the method."""
        self._received: deque[tuple[Any, str | None]] = deque()
        self._complete = False
        self._news: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self.start(self._run())

    async def _run(self) -> None:
        handler = self.served.method.stream
        assert handler is not None
        try:
            self.check_access()
            async with aclosing(handler(self, self._messages())) as answers:
                async for answer in answers:
                    await self._send(answer)
        except asyncio.CancelledError:  # by `stop`
            return
        except Exception as error:
            self.fail(error)
            return
        if self.end():
            self.connection.finish(self.stream, 0, "", [])
            self.served.succeeded()

    async def _messages(self) -> AsyncIterator[bytes]:
        while True:
            while self._received:
                payload, encoding = self._received.popleft()
                self.connection.taken(self.stream, len(payload))
                yield await unpacked(payload, encoding, self.served.around.message_bytes_max)
            if self._complete:
                return
            self._news = self.served.around.loop.create_future()
            await self._news

    async def _send(self, answer: bytes) -> None:
        self.check_size(answer)
        if not self.connection.send(self.stream, answer):
            self._room = self.served.around.loop.create_future()
            await self._room

    def message(self, payload: Any, encoding: str | None) -> None:  # noqa: ANN401
        """See `connection.Open`."""
        self._received.append((payload, encoding))
        _tell(self._news)

    def ended(self) -> None:
        """See `connection.Open`."""
        self._complete = True
        _tell(self._news)

    def room(self) -> None:
        """See `connection.Open`."""
        _tell(self._room)


def _trailers(error: VireoError) -> list[tuple[bytes, bytes]]:
    return _encoded(trailing_metadata(error))


def refusal_trailers(code: int, text: str) -> list[tuple[bytes, bytes]]:
    """Trailing metadata where the compiled session refuses a call: it knows codes, but no errors."""
    return _encoded([(DETAILS, status_details(code, text, grpc_status_name(code)))])


def _encoded(metadata: list[tuple[str, str | bytes]]) -> list[tuple[bytes, bytes]]:
    """Metadata as it travels: binary values in base64 without padding, by names that end in -bin."""
    return [
        (name.encode(), value.encode() if isinstance(value, str) else b64encode(value).rstrip(b"="))
        for name, value in metadata
    ]


def _answer_too_large(bytes_size: int, bytes_max: int) -> TooLarge:
    return TooLarge(f"answer larger than max ({bytes_size} vs. {bytes_max} bytes; server.message_bytes_max)")


def _tell(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


async def unpacked(message: Buffer, encoding: str | None, bytes_max: int) -> bytes:
    """The bytes of a message, decompressed. Raises Unimplemented, InvalidArgument, TooLarge."""
    content = bytes(message)
    if encoding is None:
        return content
    if encoding not in _ENCODINGS:
        raise Unimplemented(f"grpc-encoding {quoted(encoding)} is not supported; known: {', '.join(_ENCODINGS)}")
    try:
        return await unpack(content, encoding, bytes_max)
    except TooLarge as error:
        raise TooLarge(
            f"message larger than max (over {bytes_max} bytes unpacked; server.message_bytes_max)"
        ) from error
