"""A connection on a socket, ours and the compiled one: what the socket does not take, large answers, ends, and other threads."""

from __future__ import annotations

import gc
import socket
import struct
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from hpack import Encoder

from engine.errors import Unavailable
from engine.triton.http2 import DATA, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, WINDOW_UPDATE, frame
from engine.triton.interpreted import InterpretedConnection
from engine.triton.messages import framed

Connection = Any
"""Ours, or the compiled one."""

BLOCK = b"\x83\x86"


def compiled(sock: socket.socket, blocked: Callable[[], None]) -> Connection:
    pytest.importorskip("engine.triton._http2", reason="the compiled client is not built")
    from engine.triton.compiled import CompiledConnection

    return CompiledConnection(sock, blocked)


class Blocked:
    """Counts how often a connection said that its socket takes no more."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def blocked() -> Blocked:
    return Blocked()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        yield near, far


@pytest.fixture(params=[InterpretedConnection, compiled])
def connection(
    request: pytest.FixtureRequest, ends: tuple[socket.socket, socket.socket], blocked: Blocked
) -> Connection:
    made = request.param(ends[0], blocked)
    opened(made, ends[1])
    return made


@pytest.fixture
def far(ends: tuple[socket.socket, socket.socket]) -> socket.socket:
    return ends[1]


def opened(connection: Connection, far: socket.socket) -> None:
    """Greets, and lets it send as much as it likes."""
    connection.flush()
    assert far.recv(1 << 16).startswith(b"PRI * HTTP/2.0")
    far.sendall(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 30)) + window(1 << 30))
    connection.read()
    assert far.recv(1 << 16) == frame(SETTINGS, 1, 0)


def window(size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", size))


def answer(stream: int, *contents: bytes) -> bytes:
    encoder = Encoder()
    encoder.header_table_size = 0
    head = frame(HEADERS, END_HEADERS, stream, encoder.encode([(":status", "200")]))
    tail = frame(HEADERS, END_HEADERS | END_STREAM, stream, encoder.encode([("grpc-status", "0")]))
    return head + b"".join(frame(DATA, 0, stream, each) for each in contents) + tail


def test_nothing_came_is_no_end(connection: Connection, far: socket.socket) -> None:
    assert connection.read() == []
    far.close()
    assert connection.read() is None


def test_a_call_goes_out_in_one_piece_and_is_answered(connection: Connection, far: socket.socket) -> None:
    exchange = connection.send(BLOCK, framed(b"one"), "owner")
    assert connection.open == 1
    connection.flush()
    assert far.recv(1 << 16) == frame(HEADERS, END_HEADERS, 1, BLOCK) + frame(DATA, END_STREAM, 1, framed(b"one"))
    far.sendall(answer(1, framed(b"two")))
    assert connection.read() == [exchange]
    assert (exchange.ok, exchange.message(), exchange.owner, connection.open) == (True, b"two", "owner", 0)


def test_what_the_socket_does_not_take_goes_out_when_it_does(
    connection: Connection, far: socket.socket, blocked: Blocked
) -> None:
    bodies = [framed(bytes([number]) * 700_000) for number in range(3)]
    for each in bodies:
        connection.send(BLOCK, each, None)
    connection.flush()
    connection.flush()
    assert (connection.wants_write, blocked.times) == (True, 1)
    got = b""
    while len(got) < sum(map(len, bodies)) or connection.wants_write:
        got += far.recv(1 << 20)
        connection.flush()
    assert blocked.times == 1
    sent = {1: b"", 3: b"", 5: b""}
    while got:
        size, kind, stream = int.from_bytes(got[:3], "big"), got[3], int.from_bytes(got[5:9], "big")
        if kind == DATA:
            sent[stream] += got[9 : 9 + size]
        got = got[9 + size :]
    assert list(sent.values()) == bodies


def test_a_large_answer_comes_whole_and_is_let_come(connection: Connection, far: socket.socket) -> None:
    content = bytes(range(256)) * 80_000
    whole = framed(content)
    parts = [whole[at : at + (1 << 18)] for at in range(0, len(whole), 1 << 18)]
    exchange = connection.send(BLOCK, framed(b"x"), None)
    sender = threading.Thread(target=far.sendall, args=(answer(1, *parts),))
    sender.start()
    while not exchange.ended:
        connection.read()
    sender.join()
    assert exchange.message() == content
    data = far.recv(1 << 20)
    assert frame(WINDOW_UPDATE, 0, 1)[3:9] in data
    far.sendall(frame(PING, 0, 0, bytes(8)))  # small reads after large ones
    assert connection.read() == []
    assert frame(PING, 1, 0, bytes(8)) in data + far.recv(1 << 16)


def test_messages_of_a_stream_are_taken_as_they_come(connection: Connection, far: socket.socket) -> None:
    exchange = connection.send(BLOCK, framed(b"x"), None, live=True)
    far.sendall(frame(DATA, 0, 1, framed(b"one")) + frame(DATA, 0, 1, framed(b"two")))
    assert connection.read() == [exchange, exchange]
    assert connection.take(exchange) == framed(b"one") + framed(b"two")
    assert far.recv(1 << 16).endswith(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 16)))
    connection.reset(exchange)
    assert (exchange.ended, connection.open) == (True, 0)


def test_a_connection_that_ends_gives_its_calls_back_and_takes_none(connection: Connection, far: socket.socket) -> None:
    first, second = connection.send(BLOCK, b"x", 1), connection.send(BLOCK, b"x", 2)
    assert list(connection.close()) == [first, second]
    assert far.recv(1 << 16) == b""
    connection.flush()
    with pytest.raises(Unavailable):
        connection.send(BLOCK, b"x", 3)


def test_a_socket_that_breaks_is_found_by_who_reads(connection: Connection, far: socket.socket) -> None:
    connection.send(BLOCK, framed(bytes(4_000_000)), None)
    connection.flush()
    far.close()
    connection.flush()
    assert not connection.wants_write
    with suppress(OSError):
        assert connection.read() is None


def test_threads_may_call_at_once(connection: Connection, far: socket.socket) -> None:
    body = framed(bytes(100_000))

    def call() -> None:
        for _ in range(50):
            connection.send(BLOCK, body, None)
            connection.flush()

    callers = [threading.Thread(target=call) for _ in range(4)]
    for each in callers:
        each.start()
    got = bytearray()
    while len(got) < 200 * (len(body) + 7 * 9 + 9 + len(BLOCK)):  # seven frames of content
        got += far.recv(1 << 20)
        connection.flush()
    for each in callers:
        each.join()
    streams: dict[int, int] = {}
    at = 0
    while at < len(got):
        size, kind, stream = (
            int.from_bytes(got[at : at + 3], "big"),
            got[at + 3],
            int.from_bytes(got[at + 5 : at + 9], "big"),
        )
        streams[stream] = streams.get(stream, 0) + (size if kind == DATA else 0)
        at += 9 + size
    assert streams == {2 * number + 1: len(body) for number in range(200)}


def test_nothing_keeps_a_connection_that_nobody_has(connection: Connection, far: socket.socket) -> None:
    class Owner:
        pass

    owner: Any = Owner()
    gone = weakref.ref(owner)
    owner.exchange = connection.send(BLOCK, b"x", owner)  # a cycle
    connection.close()
    connection.reset(owner.exchange)
    del owner
    gc.collect()
    assert gone() is None
