"""A gRPC method without a transport: a path, a kind, and a handler on message bytes.

A transport looks a path up in the table, makes a `Call`, feeds bytes and sends what comes back; a VireoError becomes a
status by `status`. Which transport that is, no method knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from engine import Deadline
from serving.codec import parse

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Call(Protocol):
    """What a transport tells a method about one call."""

    @property
    def deadline(self) -> Deadline:
        """From `grpc-timeout`, on the engine's clock."""

    @property
    def received_ns(self) -> int:
        """When the first bytes of the call had been read, as far as the transport knows, on the engine's clock."""

    def metadata(self) -> Mapping[str, str]:
        """Request metadata, keys in lower case; binary values left out."""

    def trail(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Trailing metadata that will go out with the call's answer, in ASCII; to be called before that."""


class Exchange(Call, Protocol):
    """A unary inference call that is answered by calling back, on the event loop's thread, exactly once."""

    @property
    def asks(self) -> bool:
        """Whether its metadata may say something to act on; where not, it need not be read."""

    def asked(self) -> Mapping[str, str]:
        """That part of its metadata: `vireo-...`, `traceparent` and `tracestate`."""

    @property
    def alone(self) -> bool:
        """No other call came in the same turn of the event loop; where others did, the turn's end flushes them all."""

    def answer(self, head: bytes, request_id: str, raws: Sequence[Buffer]) -> None:
        """A ModelInferResponse: its encoded fields without id and raw contents, and those. Nothing is copied before it is
        written, so the buffers must not change. Any other message is all `head`, with no id and no raw contents."""

    def fail(self, error: Exception) -> None:
        """The status of `error`."""

    def on_gone(self, cancel: Callable[[], None]) -> None:
        """What to call where the caller leaves, or the deadline passes, before the answer."""


Unary = Callable[[Call, bytes], Awaitable[bytes]]
Direct = Callable[[Exchange, "Buffer"], None]
Stream = Callable[[Call, AsyncIterator[bytes]], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class Method:
    """Exactly one of `unary` (one message in, one out) and `stream` (any number either way) is set.

    `direct`, beside `unary`: the same without a task, for transports that can; may raise what the call fails with.
    `open_to_all`: answered without credentials, as health checks must be.
    """

    path: str
    unary: Unary | None = None
    stream: Stream | None = None
    direct: Direct | None = None
    open_to_all: bool = False


MethodTable = Mapping[str, Method]


def answering(kind: Any, answer: Callable[[Any], Any]) -> Unary:  # noqa: ANN401  protobuf classes are dynamic
    """A method that answers at once: `answer` takes a message of `kind` and gives one."""

    async def handler(call: Call, message: bytes) -> bytes:
        encoded: bytes = answer(parse(kind, message)).SerializeToString()
        return encoded

    return handler


def answer_later(call: Exchange, work: Coroutine[Any, Any, bytes]) -> None:
    """Answers the call with the message that `work` gives, in a task that ends where the caller leaves."""
    task = asyncio.create_task(work)
    call.on_gone(lambda: _cancel(task))
    task.add_done_callback(partial(_answer, call))


def _answer(call: Exchange, ended: asyncio.Task[bytes]) -> None:
    if ended.cancelled():
        return
    error = ended.exception()
    if error is None:
        call.answer(ended.result(), "", ())
    elif isinstance(error, Exception):
        call.fail(error)


def _cancel(task: asyncio.Task[bytes]) -> None:
    task.cancel()
