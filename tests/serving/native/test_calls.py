"""Calls between the compiled session and the method table, on a loop of their own and without a connection."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from engine import NEVER_NS, monotonic
from serving.auth import Authenticator
from serving.methods import Call, Method
from serving.metrics import CallCounter

pytest.importorskip("serving.native._wire", reason="the native transport is not built")

from serving.native.calls import Served, StreamCall, Surroundings, UnaryCall
from serving.native.connection import Connection


class Ends:
    """As much of a connection as a call needs that is never answered; keeps the codes that calls end with."""

    def __init__(self) -> None:
        self.open: dict[int, Any] = {}
        self.codes: list[int] = []

    def finish(self, stream: int, code: int, text: str, trailers: list[tuple[bytes, bytes]]) -> None:
        self.codes.append(code)


class Payload(bytearray):
    """A message that can be watched."""


async def never(call: Call, message: bytes) -> bytes:
    raise AssertionError("begun although stopped")


async def never_streamed(call: Call, messages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for _ in messages:
        raise AssertionError("begun although stopped")
    yield b""


@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_call_stopped_before_its_task_has_begun_is_freed_at_once(kind: str) -> None:
    async def scenario() -> tuple[list[int], object]:
        around = Surroundings(Authenticator([]), CallCounter(), monotonic, 1 << 20, asyncio.get_running_loop())
        method = Method("/a/b", unary=never) if kind == "unary" else Method("/a/b", stream=cast("Any", never_streamed))
        ends, payload = Ends(), Payload(b"message")
        connection = cast("Connection", ends)
        call: UnaryCall | StreamCall
        if kind == "unary":
            call = UnaryCall(connection, 1, Served(method, around), NEVER_NS)
            call.begin(payload, None)
        else:
            call = StreamCall(connection, 1, Served(method, around), NEVER_NS)
            call.begin()
            call.message(payload, None)
        call.expired()
        left = weakref.ref(payload)
        del call, payload
        for _ in range(3):
            await asyncio.sleep(0)
        assert not ends.open
        return ends.codes, left()

    gc.collect()
    gc.disable()
    try:
        codes, left = asyncio.run(scenario())
    finally:
        gc.enable()
    assert codes == [4]
    assert left is None
