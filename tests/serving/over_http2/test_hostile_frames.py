"""Tens of thousands of broken conversations, at the compiled session itself and over sockets.

A failure is replayed by the line it prints: `VIREO_HOSTILE_SEED=... pytest tests/serving/over_http2/test_hostile_frames.py`.
"""

from __future__ import annotations

import gc
import os
import random
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from serving.native import _wire, events
from tests.fakes import PATIENCE_S
from tests.serving.hostility import SEED, nothing_logged_as_an_error
from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import only_native
from tests.serving.over_http2.conversations import conversations, mutated
from tests.serving.over_http2.peer import Peer
from tests.serving.over_http2.table import DIRECT, ECHO, STREAM, TableServer
from tests.serving.servers import eventually

FACTOR = int(os.environ.get("VIREO_HOSTILE_FACTOR", "1"))
SESSIONS, CONNECTIONS, REQUESTS = 30_000 * FACTOR, 2_000 * FACTOR, 100_000 * FACTOR
RIGHT = conversations(ECHO, DIRECT, STREAM)
KINDS = range(events.CALL, events.ASKING_CALL + 1)
BOUNDS = {
    "streams_max": 30,
    "header_bytes_max": 4096,
    "window_bytes": 100_000,
    "connection_window_bytes": 300_000,
    "frame_bytes_max": 20_000,
    "message_bytes_max": 50_000,
    "queued_bytes_max": 5_000,
    "linger_ns": 0,
}
METHODS: dict[str, tuple[object, bool, bool]] = {
    ECHO: ("unary", True, False),
    DIRECT: ("direct", True, True),
    STREAM: ("stream", False, False),
}


ODD: list[Callable[[_wire.Session, int], object]] = [
    lambda session, stream: session.respond(stream, b"x" * 30_000),
    lambda session, stream: session.send(stream, b"x" * 30_000),
    lambda session, stream: session.finish(stream, 13, "größer\n", []),
    lambda session, stream: session.reset(stream, 8),
    lambda session, stream: session.taken(stream, 1 << 40),
    lambda session, stream: session.http_head(stream, 500, []),
    lambda session, stream: session.http_body(stream, b"", False),
    lambda session, stream: session.headers(stream),
    lambda session, stream: session.asked(stream),
    lambda session, stream: session.begun_ns(stream),
    lambda session, stream: session.trail(stream, [(b"x-more", b"1"), (b"grpc-status", b"x" * 1000)]),
    lambda session, stream: session.target(stream),
    lambda session, stream: session.expire(1 << 62),
    lambda session, stream: session.ping(),
    lambda session, stream: session.announce_end(),
    lambda session, stream: session.end(),
    lambda session, stream: session.lost(),
    lambda session, stream: session.output(),
]
"""What nobody asked for."""


class Careless:
    """A server without sockets that answers whatever comes in whatever way comes to its mind."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.wire = _wire.Wire(METHODS, lambda: None, **BOUNDS)
        self.ended_badly = 0

    def hear(self, said: bytes) -> None:
        """One connection from its beginning to its end."""
        session = _wire.Session(self.wire)
        at = 0
        while at < len(said):
            size = self._rng.choice((1, 5, 50, 1000, 1 << 20))
            self._receive(session, said[at : at + size])
            at += size
            self._turn()
        self._meddle(session)
        self.ended_badly += session.over
        self._write(session)
        session.lost()
        self._turn()
        assert session.streams == 0

    def hear_out(self, said: bytes) -> None:
        """A connection of unary calls, each of which is answered."""
        session = _wire.Session(self.wire)
        session.receive(said)
        for _, _, stream, _, payload, _, _ in self.wire.take(100):
            assert session.respond(stream, payload)
        self.wire.dirty()
        self._write(session)
        assert session.streams == 0
        session.lost()

    def _receive(self, session: _wire.Session, piece: bytes) -> None:
        if self._rng.random() < 0.3:
            session.receive(piece)
            return
        session.get_buffer(-1)[: len(piece)] = piece
        session.buffer_updated(len(piece))

    def _turn(self) -> None:
        for kind, session, stream, method, payload, _, encoding in self.wire.take(self._rng.choice((1, 10, 300))):
            assert kind in KINDS
            assert encoding is None or isinstance(encoding, str)
            if self._rng.random() < 0.9:
                self._answer(kind, session, stream, method, payload)
        self.wire.take_expired()
        for session in self.wire.dirty():
            self._write(session)

    def _answer(self, kind: int, session: _wire.Session, stream: int, method: object, payload: Any) -> None:  # noqa: ANN401
        if kind in (events.CALL, events.ASKING_CALL):
            session.headers(stream)
            session.asked(stream)
            session.trail(stream, [(b"x-more", b"1")])
            session.respond(stream, payload) if method == "unary" else session.respond_infer(
                stream, bytes(payload), "id", memoryview(bytes(payload))
            )
        elif kind == events.OPEN and method is None:
            session.http_head(stream, 200, [(b"content-type", b"text/plain")])
            session.http_body(stream, b"hello" * 2000, self._rng.random() < 0.5)
        elif kind == events.MESSAGE:
            session.taken(stream, len(payload))
            session.send(stream, payload)
        elif kind == events.DATA:
            session.taken(stream, len(payload))
        elif kind == events.END:
            session.finish(stream, 0, "", [])
        elif kind == events.REFUSED:
            session.finish(stream, payload[0], payload[1], [(b"x-more", b"1")])

    def _meddle(self, session: _wire.Session) -> None:
        """Says things that nobody asked for, on streams that may not be there."""
        for _ in range(self._rng.choice((0, 0, 1, 5))):
            stream = self._rng.choice((-1, 0, 1, 2, 3, 5, 7, 2**31 - 1))
            self._rng.choice(ODD)(session, stream)
            self._turn()

    def _write(self, session: _wire.Session) -> None:
        while session.output() is not None:
            pass


@pytest.fixture(autouse=True)
def _nothing_is_logged_as_an_error() -> Iterator[None]:
    with nothing_logged_as_an_error("vireo", "asyncio"):
        yield


def _held() -> tuple[int, int]:
    gc.collect()
    return _wire.message_bytes(), _wire.answer_bytes()


def test_broken_conversations_leave_nothing_in_a_session() -> None:
    held = _held()
    rng = random.Random(SEED)
    careless = Careless(rng)
    for _ in range(SESSIONS):
        careless.hear(mutated(RIGHT, rng))
    assert SESSIONS / 5 < careless.ended_badly < SESSIONS, "some are broken enough, and some are not"
    careless.wire.close()
    assert _held() == held


def test_right_conversations_end_no_session() -> None:
    held = _held()
    rng = random.Random(SEED)
    for _ in range(20):
        for each in RIGHT:
            careless = Careless(rng)
            session = _wire.Session(careless.wire)
            careless._receive(session, each)
            careless._turn()
            assert not session.over or frames.goaway() in each
            session.lost()
            careless.wire.close()
    assert _held() == held


def _drop_amid_everything(rng: random.Random) -> None:
    wire = _wire.Wire(METHODS, lambda: None, **BOUNDS)
    sessions = [_wire.Session(wire) for _ in range(3)]
    for each in sessions:
        each.receive(mutated(RIGHT, rng))
    taken = wire.take(rng.choice((0, 1, 5)))
    if rng.random() < 0.5:
        wire.close()
    if rng.random() < 0.5:
        sessions[0].lost()
    for _, session, stream, *_ in taken:
        session.finish(stream, 0, "", [])
    wire.close()


def test_session_that_is_dropped_amid_everything_leaves_nothing() -> None:
    """Its connection's end is not told: as where a process gives up."""
    held, rng = _held(), random.Random(SEED)
    for _ in range(1000):
        _drop_amid_everything(rng)
    assert _held() == held


@pytest.mark.parametrize("kind", ["unary", "any", "broken"])
def test_hundred_thousand_requests_through_one_wire_leave_the_memory_flat(kind: str) -> None:
    rng, held = random.Random(SEED), _held()
    careless = Careless(rng)
    rounds = REQUESTS // 20
    sizes = []
    for index in range(rounds):
        if kind == "unary":
            careless.hear_out(RIGHT[-1])  # twenty calls
        else:
            careless.hear(rng.choice(RIGHT) if kind == "any" else mutated(RIGHT, rng))
        if index % (rounds // 10) == 0:
            sizes.append(_rss_bytes())
    careless.wire.close()  # it may not have taken all of the last one's
    assert sizes[-1] - sizes[3] < 3 << 20, sizes
    assert _held() == held


def _rss_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@only_native
def test_broken_conversations_over_sockets_harm_nobody(serve: Callable[..., TableServer]) -> None:
    table, rng, held = serve(), random.Random(SEED), _held()
    with Peer(table.port) as good:
        for index in range(CONNECTIONS):
            _talk(table.port, mutated(RIGHT, rng), rng)
            if index % 50 == 0:
                assert good.call((ECHO, DIRECT, STREAM)[index % 3], b"good").messages == [b"good"]
    table.check_nothing_left()
    eventually(lambda: _held() == held, "nothing is held")


def _talk(port: int, said: bytes, rng: random.Random) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as one, suppress(ConnectionError):
        cut = rng.randrange(len(said) + 1)
        one.sendall(said[:cut])
        one.sendall(said[cut:])
        if rng.random() < 0.1:
            one.settimeout(0.02)
            with suppress(TimeoutError):
                while one.recv(1 << 16):
                    pass
