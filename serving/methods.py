"""A gRPC method without a transport: a path, a kind, and a handler on message bytes.

A transport looks a path up in the table, makes a `Call`, feeds bytes and sends what comes back; a VireoError becomes a
status by `status`. Which transport that is, no method knows.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from engine import Deadline


class Call(Protocol):
    """What a transport tells a method about one call."""

    @property
    def deadline(self) -> Deadline:
        """From `grpc-timeout`, on the engine's clock."""

    def metadata(self) -> Mapping[str, str]:
        """Request metadata, keys in lower case; binary values left out."""


Unary = Callable[[Call, bytes], Awaitable[bytes]]
Stream = Callable[[Call, AsyncIterator[bytes]], AsyncGenerator[bytes, None]]


@dataclass(frozen=True, slots=True)
class Method:
    """Exactly one of `unary` (one message in, one out) and `stream` (any number either way) is set.

    `open_to_all`: answered without credentials, as health checks must be.
    """

    path: str
    unary: Unary | None = None
    stream: Stream | None = None
    open_to_all: bool = False


MethodTable = Mapping[str, Method]
