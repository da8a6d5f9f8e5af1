"""Many streams on a connection, many connections, and who ends a stream first."""

from __future__ import annotations

import socket

import pytest

from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import Connect, only_native
from tests.serving.over_http2.peer import Peer
from tests.serving.over_http2.table import (
    COUNT,
    DIRECT,
    DIRECT_HOLD,
    ECHO,
    FAIL,
    HOLD,
    LAST,
    NOTHING,
    STREAM,
    TAKE,
    TableServer,
)
from tests.serving.servers import eventually

STREAMS_MAX, CONNECTIONS = 1024, 200


# How many.


@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD])
def test_thousand_calls_of_one_connection_are_served_at_once(
    table: TableServer, peer: Peer, tag: str, path: str
) -> None:
    peer.check_lives()
    streams = [peer.ask(path, b"%d" % index, tag=tag) for index in range(1000)]
    eventually(lambda: table.desk.began[tag] == 1000, "all are being served")
    table.open()
    table.answer_held()
    assert [peer.wait(each).messages for each in streams] == [[b"%d" % index] for index in range(1000)]
    table.do(table.desk.open.clear)


def test_thousand_streams_of_one_connection_take_turns(peer: Peer) -> None:
    peer.check_lives()
    streams = [peer.begin(STREAM) for _ in range(1000)]
    for text in (b"one", b"two"):
        for each in streams:
            peer.send(frames.data(each, frames.message(text)))
    for each in reversed(streams):
        peer.send(frames.data(each, end=True))
    assert all(peer.wait(each).messages == [b"one", b"two"] for each in streams)


@only_native
@pytest.mark.parametrize("settled", [True, False])
def test_stream_over_the_limit_is_refused_alone(table: TableServer, connect: Connect, settled: bool) -> None:
    """Also before the client can know the limit: it may try again, RFC 9113 section 8.7."""
    peer = connect()
    if settled:
        peer.check_lives()
    streams = [peer.begin(HOLD) for _ in range(STREAMS_MAX)]
    over = [peer.ask(ECHO, b"too many") for _ in range(3)]
    assert [peer.wait(each).reset for each in over] == [frames.REFUSED_STREAM] * 3
    peer.check_pong()
    for each in streams:
        peer.send(frames.data(each, frames.message(b"x"), end=True))
    table.open()
    assert all(peer.wait(each).messages == [b"x"] for each in streams)
    assert peer.call(ECHO, b"room again").messages == [b"room again"]
    table.do(table.desk.open.clear)


@only_native
def test_stream_that_ends_makes_room_for_the_next(peer: Peer) -> None:
    streams = [peer.begin(STREAM) for _ in range(STREAMS_MAX)]
    for each in streams[:100]:
        peer.send(frames.data(each, end=True))
        assert peer.wait(each).status == 0
    assert all(peer.call(ECHO, b"x").messages == [b"x"] for _ in range(100))
    peer.send(*map(frames.reset, streams[100:]))
    assert all(peer.wait(each).ended for each in [peer.ask(ECHO, b"x") for _ in range(500)])


def test_connections_are_served_side_by_side(table: TableServer, connect: Connect, tag: str) -> None:
    peers = [connect() for _ in range(CONNECTIONS)]
    held = [each.ask(HOLD, b"%d" % index, tag=tag) for index, each in enumerate(peers)]
    assert all(each.call(DIRECT, b"quick").messages == [b"quick"] for each in peers)
    eventually(lambda: table.desk.began[tag] == CONNECTIONS, "all are being served")
    for each in peers[::2]:
        each.close()
    table.open()
    for index in range(1, CONNECTIONS, 2):
        assert peers[index].wait(held[index]).messages == [b"%d" % index]
    table.do(table.desk.open.clear)


def test_connections_come_and_go(table: TableServer) -> None:
    for _ in range(CONNECTIONS):
        with Peer(table.port) as peer:
            assert peer.call(ECHO, b"x").messages == [b"x"]


def test_hundred_thousand_th_stream_of_a_connection_is_served(peer: Peer) -> None:
    for stream in (99_999, 199_999, 2**31 - 1):
        peer.send(peer.head(stream, ECHO) + frames.body(stream, frames.message(b"late")))
        assert peer.wait(stream).messages == [b"late"]


def test_streams_left_hanging_cost_the_others_nothing(table: TableServer, connect: Connect) -> None:
    for index in range(10):
        hanging = connect()
        for path in (ECHO, STREAM, TAKE):
            for _ in range(50):
                stream = hanging.begin(path)
                if index % 2:
                    hanging.send(frames.data(stream, frames.message(b"x" * 100)[:50]))
        hanging.check_lives()  # they are being served: of 1,000 that wait for it, grpcio cancels some, whoever's they are
    peer = connect()
    for _ in range(50):
        exchange = peer.call(ECHO, b"x")
        assert exchange.messages == [b"x"], exchange


# Who ends first.


@pytest.mark.parametrize("path", [COUNT, STREAM, LAST])
def test_client_that_ends_its_side_early_gets_the_rest_of_the_answer(peer: Peer, path: str) -> None:
    exchange = peer.call(path, b"500 1000")
    assert exchange.ended
    assert exchange.messages == (
        [bytes([index % 251]) * 1000 for index in range(500)] if path == COUNT else [b"500 1000"]
    )


def test_client_may_end_its_side_with_an_empty_frame_much_later(peer: Peer) -> None:
    stream = peer.begin(STREAM)
    peer.send(frames.data(stream, frames.message(b"one")))
    peer.until(lambda: peer.exchanges[stream].messages == [b"one"], "the answer")
    assert not peer.exchanges[stream].over
    peer.send(frames.data(stream, end=True))
    assert peer.wait(stream).status == 0


@only_native
@pytest.mark.parametrize(("path", "sent"), [(STREAM, b"."), (STREAM, b"!NotFound:x"), (COUNT, b"3 3"), ("/none", b"x")])
def test_client_whose_answer_is_complete_is_told_to_stop_and_that_nothing_is_wrong(
    peer: Peer, path: str, sent: bytes
) -> None:
    stream = peer.begin(path)
    peer.send(frames.data(stream, frames.message(sent)))
    exchange = peer.wait(stream)
    assert exchange.ended
    peer.until(lambda: exchange.reset is not None, "the word to stop")
    assert exchange.reset == frames.NO_ERROR
    peer.send(frames.data(stream, frames.message(b"unheard")), frames.data(stream, end=True))
    peer.check_lives()


def test_client_that_goes_on_after_the_answer_is_complete_harms_nobody(peer: Peer) -> None:
    for _ in range(20):
        stream = peer.begin(STREAM)
        peer.send(frames.data(stream, frames.message(b".")))
        assert peer.wait(stream).status == 0
        peer.send(frames.body(stream, bytes(3000)))
    peer.check_lives()


def test_unary_answer_ends_with_the_request_and_resets_nothing(peer: Peer) -> None:
    streams = [peer.ask(each, b"NotFound:x") for each in (ECHO, DIRECT, NOTHING, FAIL, LAST)]
    assert all(peer.wait(each).ended for each in streams)
    peer.check_lives()
    assert [peer.exchanges[each].reset for each in streams] == [None] * 5


@only_native
def test_half_closed_socket_is_closed(table: TableServer, connect: Connect) -> None:
    """As by grpcio: a client that can send no more cannot give credit either."""
    peer = connect()
    peer.ask(HOLD, b"held")
    eventually(lambda: table.streams() == 1, "it is being served")
    peer.socket.shutdown(socket.SHUT_WR)
    peer.wait_closed()
