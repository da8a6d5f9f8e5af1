"""Callers who leave: what they asked for stops, or never begins, and nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import Connect, only_native
from tests.serving.over_http2.peer import Peer
from tests.serving.over_http2.table import COUNT, DIRECT, DIRECT_HOLD, ECHO, HOLD, LAST, STREAM, TAKE, TableServer
from tests.serving.servers import eventually

CANCELLED = 1
MANY = 50


def _once(table: TableServer) -> Callable[[], bytes]:
    """Makes messages that no other test of the same server sends."""
    table.desk.began.clear()
    table.desk.cancelled.clear()
    numbers = iter(range(1_000_000))
    return lambda: b"message %d" % next(numbers)


@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD, DIRECT, ECHO])
def test_call_reset_before_its_request_is_complete_never_begins(table: TableServer, peer: Peer, path: str) -> None:
    message = _once(table)
    whole = frames.message(message())
    for sent in (b"", whole[:3], whole[:5], whole[:9], whole):
        stream = peer.begin(path)
        peer.send(frames.data(stream, sent) + frames.reset(stream))
        peer.check_lives()
    assert table.desk.began == []


@only_native
@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD, DIRECT, TAKE, LAST, COUNT])
def test_call_reset_right_behind_its_request_is_never_computed(table: TableServer, peer: Peer, path: str) -> None:
    _once(table)
    for _ in range(MANY):
        stream = peer.stream()
        request = peer.head(stream, path) + frames.body(stream, frames.message(b"9 9"))
        peer.send(request + frames.reset(stream))
    peer.check_lives()
    assert peer.call(ECHO, b"good").messages == [b"good"]
    assert table.desk.began == []


@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD, TAKE])
def test_connection_closed_right_behind_its_requests_leaves_nothing(
    table: TableServer, connect: Connect, path: str
) -> None:
    _once(table)
    peer = connect()
    for _ in range(MANY):
        peer.ask(path, b"x")
    peer.close()
    eventually(lambda: len(table.desk.cancelled) == len(table.desk.began), "all are forgotten")


@pytest.mark.parametrize("path", [HOLD, TAKE])
def test_call_reset_while_it_is_served_is_stopped(table: TableServer, peer: Peer, path: str) -> None:
    _once(table)
    streams = [peer.ask(path, b"left") for _ in range(MANY)]
    eventually(lambda: len(table.desk.began) == MANY, "all are being served")
    peer.send(*map(frames.reset, streams))
    eventually(lambda: len(table.desk.cancelled) == MANY, "all are stopped")


@only_native
@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD, TAKE])
def test_call_that_is_left_is_counted_as_cancelled(serve: Callable[..., TableServer], path: str) -> None:
    table = serve()
    with Peer(table.port) as peer:
        stream = peer.ask(path, b"left")
        eventually(lambda: table.desk.began, "it is being served")
        peer.send(frames.reset(stream))
        eventually(lambda: table.counted(path) == {"CANCELLED": 1}, "it is counted")
        assert len(table.desk.cancelled) == 1
        peer.check_lives()
    table.check_nothing_left()


@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD])
def test_answer_that_comes_after_the_caller_has_left_harms_nobody(table: TableServer, peer: Peer, path: str) -> None:
    _once(table)
    left, stays = peer.ask(path, b"left"), peer.ask(path, b"stays")
    eventually(lambda: len(table.desk.began) == 2, "both are being served")
    peer.send(frames.reset(left))
    eventually(lambda: table.desk.cancelled == [b"left"], "one is stopped")
    table.open()
    table.answer_held()
    assert peer.wait(stays).messages == [b"stays"]
    assert not peer.exchanges[left].heads
    table.do(table.desk.open.clear)


def test_stream_reset_while_it_is_answered_stops_the_handler(table: TableServer, connect: Connect) -> None:
    _once(table)
    peer = connect({frames.INITIAL_WINDOW_SIZE: 30_000}, slow=True)
    stream = peer.ask(COUNT, b"1000000 10000")
    peer.until(lambda: len(peer.exchanges[stream].body) >= 20_000, "the first answers")
    peer.send(frames.reset(stream))
    eventually(lambda: table.desk.cancelled == [b"count"], "the handler is stopped")
    table.check_nothing_left()
    assert table.queued() == 0


def test_stream_reset_between_messages_stops_the_handler(table: TableServer, peer: Peer) -> None:
    stream = peer.begin(STREAM)
    for text in (b"one", b"two"):
        peer.send(frames.data(stream, frames.message(text)))
    exchange = peer.exchanges[stream]
    peer.until(lambda: len(exchange.body) == 16, "two answers")
    peer.send(frames.reset(stream))
    table.check_nothing_left()


def test_stream_reset_while_requests_wait_stops_the_handler(table: TableServer, peer: Peer) -> None:
    _once(table)
    stream = peer.begin(TAKE)
    peer.send(frames.body(stream, frames.message(b"x" * 100) * 300, end=False))
    eventually(lambda: table.desk.began, "it is being served")
    peer.send(frames.reset(stream))
    eventually(lambda: table.desk.cancelled == [b"take"], "the handler is stopped")
    table.check_nothing_left()


@pytest.mark.parametrize("politely", [True, False])
def test_connection_that_closes_stops_everything_on_it(table: TableServer, connect: Connect, politely: bool) -> None:
    _once(table)
    peer, other = connect(), connect()
    stays = other.ask(HOLD, b"stays")
    for _ in range(MANY):
        for path in (HOLD, TAKE):
            peer.ask(path, b"left")
        peer.begin(STREAM)
        peer.begin(ECHO)
        peer.send(frames.data(peer.begin(ECHO), frames.message(b"x" * 50)[:20]))
    eventually(lambda: len(table.desk.began) == 2 * MANY + 1, "all are being served")
    if politely:
        peer.send(frames.goaway())
    peer.close()
    eventually(lambda: len(table.desk.cancelled) == 2 * MANY, "all are stopped")
    table.open()
    assert other.wait(stays).messages == [b"stays"]
    table.do(table.desk.open.clear)


def test_reset_of_one_call_leaves_the_others(table: TableServer, peer: Peer) -> None:
    _once(table)
    streams = [peer.ask(HOLD, b"%d" % index) for index in range(MANY)]
    eventually(lambda: len(table.desk.began) == MANY, "all are being served")
    peer.send(*map(frames.reset, streams[::2]))
    eventually(lambda: len(table.desk.cancelled) == MANY // 2, "half of them are stopped")
    table.open()
    assert [peer.wait(each).messages for each in streams[1::2]] == [[b"%d" % index] for index in range(1, MANY, 2)]
    table.do(table.desk.open.clear)


def test_reset_of_a_stream_that_is_over_is_ignored(peer: Peer) -> None:
    for code in (frames.NO_ERROR, frames.CANCEL, 12345):
        stream = peer.ask(ECHO, b"x")
        peer.wait(stream)
        peer.send(frames.reset(stream, code))
    peer.check_lives()
