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


@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD, DIRECT, ECHO])
def test_call_reset_before_its_request_is_complete_never_begins(
    table: TableServer, peer: Peer, tag: str, path: str
) -> None:
    whole = frames.message(b"content")
    for sent in (b"", whole[:3], whole[:5], whole[:9], *([whole] if table.native else [])):
        stream = peer.begin(path, tag=tag)
        peer.send(frames.data(stream, sent) + frames.reset(stream))
        peer.check_lives()
    assert not table.desk.began[tag]


@only_native
@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD, DIRECT, TAKE, LAST, COUNT])
def test_call_reset_right_behind_its_request_is_never_computed(
    table: TableServer, peer: Peer, tag: str, path: str
) -> None:
    for _ in range(MANY):
        stream = peer.stream()
        request = peer.head(stream, path, ("x-tag", tag)) + frames.body(stream, frames.message(b"9 9"))
        peer.send(request + frames.reset(stream))
    peer.check_lives()
    assert peer.call(ECHO, b"good").messages == [b"good"]
    assert not table.desk.began[tag]


@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD, TAKE])
def test_connection_closed_right_behind_its_requests_leaves_nothing(
    table: TableServer, connect: Connect, tag: str, path: str
) -> None:
    peer = connect()
    for _ in range(MANY):
        peer.ask(path, b"x", tag=tag)
    peer.close()
    eventually(lambda: table.desk.cancelled[tag] == table.desk.began[tag], "all are forgotten")


@pytest.mark.parametrize("path", [HOLD, TAKE])
def test_call_reset_while_it_is_served_is_stopped(table: TableServer, peer: Peer, tag: str, path: str) -> None:
    streams = [peer.ask(path, b"left", tag=tag) for _ in range(MANY)]
    eventually(lambda: table.desk.began[tag] == MANY, "all are being served")
    peer.send(*map(frames.reset, streams))
    eventually(lambda: table.desk.cancelled[tag] == MANY, "all are stopped")


@only_native
@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD, TAKE])
def test_call_that_is_left_is_counted_as_cancelled(serve: Callable[..., TableServer], tag: str, path: str) -> None:
    table = serve()
    with Peer(table.port) as peer:
        stream = peer.ask(path, b"left", tag=tag)
        eventually(lambda: table.desk.began[tag], "it is being served")
        peer.send(frames.reset(stream))
        eventually(lambda: table.counted(path) == {"CANCELLED": 1}, "it is counted")
        assert table.desk.cancelled[tag] == 1
        peer.check_lives()
    table.check_nothing_left()


@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD])
def test_answer_that_comes_after_the_caller_has_left_harms_nobody(
    table: TableServer, peer: Peer, tag: str, path: str
) -> None:
    left, stays = peer.ask(path, b"left", tag=tag), peer.ask(path, b"stays", tag=tag)
    eventually(lambda: table.desk.began[tag] == 2, "both are being served")
    peer.send(frames.reset(left))
    eventually(lambda: table.desk.cancelled[tag] == 1, "one is stopped")
    table.open()
    table.answer_held()
    assert peer.wait(stays).messages == [b"stays"]
    assert not peer.exchanges[left].heads
    table.do(table.desk.open.clear)


def test_stream_reset_while_it_is_answered_stops_the_handler(table: TableServer, connect: Connect, tag: str) -> None:
    peer = connect({frames.INITIAL_WINDOW_SIZE: 30_000}, slow=True)
    stream = peer.ask(COUNT, b"1000000 10000", tag=tag)
    peer.until(lambda: len(peer.exchanges[stream].body) >= 20_000, "the first answers")
    peer.send(frames.reset(stream))
    eventually(lambda: table.desk.cancelled[tag] == 1, "the handler is stopped")
    table.check_nothing_left()
    assert table.queued() == 0


def test_answers_reset_while_they_are_being_written_leave_the_others_whole(
    table: TableServer, connect: Connect
) -> None:
    """A socket that is full stops the server amid a frame; what that frame belongs to may be gone when it goes on."""
    peer = connect({frames.INITIAL_WINDOW_SIZE: 1 << 30, frames.MAX_FRAME_SIZE: 1 << 20}, slow=True)
    peer.send(frames.window_update(0, 1 << 30))
    content = bytes(range(250)) * 4000
    streams = [peer.begin((ECHO, DIRECT, STREAM, LAST)[index % 4]) for index in range(16)]
    for each in streams:
        peer.send_body(each, frames.message(content))
    eventually(lambda: table.queued() > 0 or table.native is None, "the socket is full")
    peer.send(*map(frames.reset, streams[::3]))
    for each in streams:
        if each not in streams[::3]:
            assert peer.wait(each).messages == [content]
    assert peer.call(ECHO, b"good").messages == [b"good"]


def test_stream_reset_between_messages_stops_the_handler(table: TableServer, peer: Peer, tag: str) -> None:
    stream = peer.begin(STREAM)
    for text in (b"one", b"two"):
        peer.send(frames.data(stream, frames.message(text)))
    exchange = peer.exchanges[stream]
    peer.until(lambda: len(exchange.body) == 16, "two answers")
    peer.send(frames.reset(stream))
    table.check_nothing_left()


def test_stream_reset_while_requests_wait_stops_the_handler(table: TableServer, peer: Peer, tag: str) -> None:
    stream = peer.begin(TAKE, tag=tag)
    peer.send(frames.body(stream, frames.message(b"x" * 100) * 300, end=False))
    eventually(lambda: table.desk.began[tag], "it is being served")
    peer.send(frames.reset(stream))
    eventually(lambda: table.desk.cancelled[tag] == 1, "the handler is stopped")
    table.check_nothing_left()


@pytest.mark.parametrize("politely", [True, False])
def test_connection_that_closes_stops_everything_on_it(
    table: TableServer, connect: Connect, tag: str, politely: bool
) -> None:
    peer, other = connect(), connect()
    stays = other.ask(HOLD, b"stays", tag=tag)
    for _ in range(MANY):
        for path in (HOLD, TAKE):
            peer.ask(path, b"left", tag=tag)
        peer.begin(STREAM)
        peer.begin(ECHO)
        peer.send(frames.data(peer.begin(ECHO), frames.message(b"x" * 50)[:20]))
    eventually(lambda: table.desk.began[tag] == 2 * MANY + 1, "all are being served")
    if politely:
        peer.send(frames.goaway())
    peer.close()
    eventually(lambda: table.desk.cancelled[tag] == 2 * MANY, "all are stopped")
    table.open()
    assert other.wait(stays).messages == [b"stays"]
    table.do(table.desk.open.clear)


def test_reset_of_one_call_leaves_the_others(table: TableServer, peer: Peer, tag: str) -> None:
    streams = [peer.ask(HOLD, b"%d" % index, tag=tag) for index in range(MANY)]
    eventually(lambda: table.desk.began[tag] == MANY, "all are being served")
    peer.send(*map(frames.reset, streams[::2]))
    eventually(lambda: table.desk.cancelled[tag] == MANY // 2, "half of them are stopped")
    table.open()
    assert [peer.wait(each).messages for each in streams[1::2]] == [[b"%d" % index] for index in range(1, MANY, 2)]
    table.do(table.desk.open.clear)


def test_reset_of_a_stream_that_is_over_is_ignored(peer: Peer) -> None:
    for code in (frames.NO_ERROR, frames.CANCEL, 12345):
        stream = peer.ask(ECHO, b"x")
        peer.wait(stream)
        peer.send(frames.reset(stream, code))
    peer.check_lives()
