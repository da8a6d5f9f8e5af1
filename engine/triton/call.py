"""One request on its way to a model on Triton servers, and each server that it was sent to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from engine.errors import VireoError
from engine.triton.connection import Connection, Exchange
from engine.triton.http2 import PREFIX_BYTES
from engine.triton.shared_memory import Region
from engine.triton.shared_request import SharedRequest

Done = Callable[[bytes | VireoError], None]
"""Told once: the message that answers, or why there is none."""


def nobody(_: bytes | VireoError) -> None:
    """What a call that has ended tells."""


class GiverUp(Protocol):
    """Who sent a call."""

    def cancel(self, call: Call) -> None:
        """Nobody waits for it any more."""


class Attempt(Struct, eq=False):  # a Struct is made in a third of the time of a dataclass, once a request
    """One server that was asked. `exchange` is there once it was sent; `region`, where its tensors lie in one, until the server
    has answered or nobody waits."""

    call: Call
    replica: int
    connection: Connection
    sent_ns: int
    exchange: Exchange | None = None
    region: Region | None = None

    def drop(self) -> None:
        """Nothing is to come of it any more."""
        if self in self.call.open:
            self.call.open.remove(self)

    def let_go(self, *, done: bool) -> None:
        """It has no region any more. `done`: neither has the server any use for it."""
        region, self.region = self.region, None
        regions = self.connection.regions
        if region is not None and regions is not None:
            (regions.give_back if done else regions.retire)(region)


class Call(Struct, eq=False):
    """`body` is the framed request, or what makes it for each server. `part`: where given, it is a stream, and each of its
    messages is told to it. `began`: a message of the stream has come. After `ended` nothing is told."""

    giver_up: GiverUp
    method: str
    body: bytes | SharedRequest
    deadline_ns: int
    sent_ns: int
    done: Done
    part: Callable[[bytes], None] | None = None
    attempts: int = 0
    open: list[Attempt] = []  # a Struct makes a new one each time
    tried: list[int] = []
    rest: bytes = b""
    began: bool = False
    ended: bool = False

    def cancel(self) -> None:
        """Nobody waits for it any more. Any thread; may come after its end."""
        self.giver_up.cancel(self)


def messages_in(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole messages of `data`, and what is left behind them. Raises ValueError for a compressed one."""
    found, at = [], 0
    while len(data) - at >= PREFIX_BYTES:
        if data[at]:
            raise ValueError("a message is compressed, which was not asked for")
        stop = at + PREFIX_BYTES + int.from_bytes(data[at + 1 : at + PREFIX_BYTES], "big")
        if stop > len(data):
            break
        found.append(data[at + PREFIX_BYTES : stop])
        at = stop
    return found, data[at:]
