"""Frames that break RFC 9113: the stream or the connection ends as it says, the process and all others live on."""

from __future__ import annotations

import json
import struct

import pytest

from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import Connect, only_native
from tests.serving.over_http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    WITH_PRIORITY,
    frame,
)
from tests.serving.over_http2.peer import GRPC, Field, Peer
from tests.serving.over_http2.table import ABOUT, ECHO, HOLD, STREAM, TableServer

GREETING = frames.PREFACE + frames.settings()
PSEUDO: tuple[Field, ...] = ((":method", "POST"), (":scheme", "http"), (":path", ECHO), (":authority", "test"))
WORD = struct.pack(">I", 1)


# The beginning.


@pytest.mark.parametrize(
    "sent",
    [
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + frames.settings(),
        b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n" + frames.settings(),
        frames.PREFACE + frames.ping(),
        frames.PREFACE + frames.window_update(0, 1),
        frames.PREFACE + frame(HEADERS, END_HEADERS, 1, b"\x82"),
        frames.PREFACE + b"GET / HTTP/1.1\r\n\r\n",
        frames.PREFACE + frame(frames.SETTINGS, frames.ACK),
        frames.PREFACE * 2,
    ],
    ids=["preface", "version", "PING", "WINDOW_UPDATE", "HEADERS", "HTTP/1.1", "acknowledgement", "twice"],
)
def test_connection_that_begins_wrongly_is_closed(connect: Connect, sent: bytes) -> None:
    peer = connect(opening=sent)
    assert set(peer.wait_closed()) <= {frames.PROTOCOL_ERROR, frames.INTERNAL_ERROR, frames.FRAME_SIZE_ERROR}


@pytest.mark.parametrize("size", [1, 5, 10, 23])
def test_preface_may_arrive_in_pieces(connect: Connect, size: int) -> None:
    peer = connect(opening=GREETING[:size])
    connect().check_lives()
    peer.send(GREETING[size:])
    assert peer.call(ECHO, b"whole").messages == [b"whole"]


@pytest.mark.parametrize("size", [0, 1, 10, 24, 30])
def test_connection_that_ends_in_its_beginning_is_forgotten(connect: Connect, size: int) -> None:
    connect(opening=GREETING[:size]).close()


@only_native
@pytest.mark.parametrize(
    "sent",
    [b"\0" * 100, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", b"\xff" * 70_000, b"\r\n\r\n"],
    ids=["zeros", "TLS", "ones", "empty lines"],
)
def test_what_is_no_protocol_at_all_is_closed_or_ignored(table: TableServer, connect: Connect, sent: bytes) -> None:
    peer = connect(opening=sent)
    peer.read_now()
    peer.close()


# Frames. Each: what is sent on a connection with an open stream 1 (whose request is not complete) and 3 (which is), and the
# error code of the connection's end.

BROKEN_FRAMES: dict[str, tuple[bytes, int]] = {
    "DATA on no stream": (frame(DATA, 0, 0, b"x"), frames.PROTOCOL_ERROR),
    "DATA on an idle stream": (frames.data(101, b"x"), frames.PROTOCOL_ERROR),
    "DATA on a stream of the server": (frames.data(2, b"x"), frames.PROTOCOL_ERROR),
    "HEADERS on no stream": (frame(HEADERS, END_HEADERS, 0, b"\x82"), frames.PROTOCOL_ERROR),
    "HEADERS on an even stream": (frame(HEADERS, END_HEADERS, 10, b"\x82"), frames.PROTOCOL_ERROR),
    "PRIORITY on no stream": (frame(frames.PRIORITY, 0, 0, WORD + b"\0"), frames.PROTOCOL_ERROR),
    "PRIORITY of the wrong size": (frame(frames.PRIORITY, 0, 1, WORD), frames.FRAME_SIZE_ERROR),
    "RST_STREAM on no stream": (frame(frames.RST_STREAM, 0, 0, WORD), frames.PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (frames.reset(101), frames.PROTOCOL_ERROR),
    "RST_STREAM of the wrong size": (frame(frames.RST_STREAM, 0, 1, b"abc"), frames.FRAME_SIZE_ERROR),
    "SETTINGS on a stream": (frame(frames.SETTINGS, 0, 1), frames.PROTOCOL_ERROR),
    "SETTINGS of the wrong size": (frame(frames.SETTINGS, 0, 0, b"abcde"), frames.FRAME_SIZE_ERROR),
    "SETTINGS acknowledged with content": (frame(frames.SETTINGS, frames.ACK, 0, b"abcdef"), frames.FRAME_SIZE_ERROR),
    "SETTINGS that were never sent acknowledged": (frame(frames.SETTINGS, frames.ACK) * 3, frames.PROTOCOL_ERROR),
    "frames that may be too small": (frames.settings({frames.MAX_FRAME_SIZE: 16_383}), frames.PROTOCOL_ERROR),
    "frames that may be too large": (frames.settings({frames.MAX_FRAME_SIZE: 1 << 24}), frames.PROTOCOL_ERROR),
    "pushes neither allowed nor forbidden": (frames.settings({frames.ENABLE_PUSH: 2}), frames.PROTOCOL_ERROR),
    "PUSH_PROMISE": (frame(frames.PUSH_PROMISE, END_HEADERS, 1, WORD + b"\x82"), frames.PROTOCOL_ERROR),
    "PING on a stream": (frame(frames.PING, 0, 1, bytes(8)), frames.PROTOCOL_ERROR),
    "PING of the wrong size": (frame(frames.PING, 0, 0, bytes(7)), frames.FRAME_SIZE_ERROR),
    "GOAWAY on a stream": (frame(frames.GOAWAY, 0, 1, bytes(8)), frames.PROTOCOL_ERROR),
    "GOAWAY of the wrong size": (frame(frames.GOAWAY, 0, 0, bytes(7)), frames.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of the wrong size": (frame(frames.WINDOW_UPDATE, 0, 0, b"abc"), frames.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE on an idle stream": (frames.window_update(101, 1), frames.PROTOCOL_ERROR),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 1, b"\x82"), frames.PROTOCOL_ERROR),
    "CONTINUATION on no stream": (frame(CONTINUATION, END_HEADERS, 0, b"\x82"), frames.PROTOCOL_ERROR),
    "CONTINUATION of another stream": (
        frame(HEADERS, 0, 5, b"\x82") + frame(CONTINUATION, END_HEADERS, 7, b"\x86"),
        frames.PROTOCOL_ERROR,
    ),
    "headers interrupted": (frame(HEADERS, 0, 5, b"\x82") + frames.ping(), frames.PROTOCOL_ERROR),
    "headers interrupted by an unknown frame": (frame(HEADERS, 0, 5, b"\x82") + frame(0xFA), frames.PROTOCOL_ERROR),
    "more padding than content": (frame(DATA, PADDED, 1, b"\x05abc"), frames.PROTOCOL_ERROR),
    "more padding than headers": (frame(HEADERS, PADDED | END_HEADERS, 5, b"\x05\x82"), frames.PROTOCOL_ERROR),
    "padding without a length": (frame(DATA, PADDED, 1), frames.PROTOCOL_ERROR),  # FRAME_SIZE_ERROR by section 4.2
    "priority cut off": (frame(HEADERS, WITH_PRIORITY | END_HEADERS, 5, b"abc"), frames.FRAME_SIZE_ERROR),
    "DATA over the allowed size": (frames.data(1, bytes((1 << 20) + 1)), frames.FRAME_SIZE_ERROR),
    "HEADERS over the allowed size": (frame(HEADERS, 0, 5, bytes((1 << 20) + 1)), frames.FRAME_SIZE_ERROR),
    "unknown frame over the allowed size": (frame(0xFA, 0, 0, bytes((1 << 20) + 1)), frames.FRAME_SIZE_ERROR),
    "header index zero": (frame(HEADERS, END_HEADERS, 5, b"\x80"), frames.COMPRESSION_ERROR),
    "header index of nothing": (frame(HEADERS, END_HEADERS, 5, b"\xff\xff\xff\x7f"), frames.COMPRESSION_ERROR),
    "header index without an end": (frame(HEADERS, END_HEADERS, 5, b"\xff" * 20), frames.COMPRESSION_ERROR),
    "header cut off": (frame(HEADERS, END_HEADERS, 5, b"\x82\x00\x05ab"), frames.COMPRESSION_ERROR),
    "header with a length beyond all bounds": (
        frame(HEADERS, END_HEADERS, 5, b"\x00\x7f\xff\xff\xff\xff\x0f"),
        frames.COMPRESSION_ERROR,
    ),
    "broken Huffman code": (frame(HEADERS, END_HEADERS, 5, b"\x00\x84\xff\xff\xff\xff\x01a"), frames.COMPRESSION_ERROR),
    "table of headers larger than allowed": (
        frame(HEADERS, END_HEADERS, 5, b"\x3f\xff\xff\x7f\x82"),
        frames.COMPRESSION_ERROR,
    ),
    "size of the table amid headers": (frame(HEADERS, END_HEADERS, 5, b"\x82\x20"), frames.COMPRESSION_ERROR),
}


def _busy(connect: Connect) -> Peer:
    peer = connect()
    assert peer.begin(ECHO) == 1
    assert peer.ask(HOLD, b"held") == 3
    return peer


@only_native
@pytest.mark.parametrize("name", BROKEN_FRAMES)
def test_broken_frame_ends_the_connection_with_its_code(table: TableServer, connect: Connect, name: str) -> None:
    sent, code = BROKEN_FRAMES[name]
    peer, other = _busy(connect), connect()
    peer.send(sent)
    assert peer.wait_closed() == [code]
    assert other.call(ECHO, b"good").messages == [b"good"]


@pytest.mark.parametrize("name", BROKEN_FRAMES)
def test_broken_frame_harms_no_other_connection(table: TableServer, connect: Connect, name: str) -> None:
    peer, other = _busy(connect), connect()
    peer.send(BROKEN_FRAMES[name][0])
    peer.read_now(0.02)
    assert other.call(ECHO, b"good").messages == [b"good"]


# Streams.


@only_native
def test_data_after_the_end_ends_the_stream(table: TableServer, connect: Connect) -> None:
    peer = _busy(connect)
    peer.send(frames.data(3, b"more"))
    peer.until(lambda: peer.closed or peer.exchanges[3].over, "an end")
    assert peer.exchanges[3].reset == frames.STREAM_CLOSED or peer.wait_closed() == [frames.STREAM_CLOSED]


@only_native
def test_headers_after_the_end_end_the_stream_or_the_connection(connect: Connect) -> None:
    peer = _busy(connect)
    peer.send(peer.head(3, ECHO, end=True))
    peer.until(lambda: peer.closed or peer.exchanges[3].over, "an end")
    assert peer.exchanges[3].reset == frames.STREAM_CLOSED or peer.wait_closed() == [frames.STREAM_CLOSED]


@only_native
def test_stream_number_that_goes_backwards_is_never_served(connect: Connect) -> None:
    """A connection error by RFC 9113 section 5.1.1. nghttp2 ignores it, as it may be a frame that crossed a reset."""
    peer = _busy(connect)
    peer.send(peer.head(9, ECHO) + frames.body(9, frames.message(b"x")))
    assert peer.wait(9).messages == [b"x"]
    peer.send(peer.head(7, ECHO) + frames.body(7, frames.message(b"x")))
    peer.check_pong()
    assert not peer.exchanges[7].over


@only_native
def test_second_head_that_does_not_end_the_stream_is_an_error(connect: Connect) -> None:
    peer = _busy(connect)
    peer.send(frame(HEADERS, END_HEADERS, 1, peer.fields([("x-again", "1")])))
    assert peer.wait(1).reset == frames.PROTOCOL_ERROR
    assert peer.call(ECHO, b"good").messages == [b"good"]


@only_native
def test_trailers_with_pseudo_headers_are_an_error(connect: Connect) -> None:
    peer = _busy(connect)
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, peer.fields([(":path", "/again")])))
    assert peer.wait(1).reset == frames.PROTOCOL_ERROR
    assert peer.call(ECHO, b"good").messages == [b"good"]


@only_native
def test_less_content_than_content_length_says_is_an_error(peer: Peer) -> None:
    assert peer.call(ECHO, b"x", more=[("content-length", "7")]).reset == frames.PROTOCOL_ERROR
    assert peer.call(ECHO, b"xx", more=[("content-length", "7")]).messages == [b"xx"]
    assert peer.call(ECHO, b"xxx", more=[("content-length", "7")]).reset == frames.PROTOCOL_ERROR
    assert peer.call(ECHO, b"x", more=[("content-length", "x")]).reset == frames.PROTOCOL_ERROR


BROKEN_HEADS: dict[str, list[Field]] = {
    "no method": [*PSEUDO[1:], *GRPC],
    "no scheme": [PSEUDO[0], *PSEUDO[2:], *GRPC],
    "no path": [*PSEUDO[:2], PSEUDO[3], *GRPC],
    "empty path": [*PSEUDO[:2], (":path", ""), *GRPC],
    "nothing at all": [],
    "a pseudo-header twice": [*PSEUDO, PSEUDO[2], *GRPC],
    "an unknown pseudo-header": [*PSEUDO, (":colour", "red"), *GRPC],
    "a pseudo-header of answers": [*PSEUDO, (":status", "200"), *GRPC],
    "a pseudo-header behind the others": [*PSEUDO[:3], *GRPC, PSEUDO[3]],
    "an upper case name": [*PSEUDO, *GRPC, ("X-Upper", "1")],
    "a name with a space": [*PSEUDO, *GRPC, ("x y", "1")],
    "an empty name": [*PSEUDO, *GRPC, ("", "1")],
    "a name with a colon": [*PSEUDO, *GRPC, ("x:y", "1")],
    "a line end in a value": [*PSEUDO, *GRPC, ("x-lines", "1\r\n2")],
    "a zero in a value": [*PSEUDO, *GRPC, ("x-zero", "1\x002")],
    "connection": [*PSEUDO, *GRPC, ("connection", "close")],
    "keep-alive": [*PSEUDO, *GRPC, ("keep-alive", "timeout=5")],
    "transfer-encoding": [*PSEUDO, *GRPC, ("transfer-encoding", "chunked")],
    "upgrade": [*PSEUDO, *GRPC, ("upgrade", "h2c")],
    "te other than trailers": [*PSEUDO, GRPC[0], ("te", "gzip")],
}


@only_native
@pytest.mark.parametrize("name", BROKEN_HEADS)
def test_broken_head_ends_its_stream_alone(table: TableServer, peer: Peer, tag: str, name: str) -> None:
    stream, held = peer.stream(), peer.ask(HOLD, b"held", tag=tag)
    sent = [*BROKEN_HEADS[name], ("x-tag", tag)] if BROKEN_HEADS[name] else []
    stream = peer.stream()
    peer.send(frame(HEADERS, END_HEADERS, stream, peer.fields(sent)) + frames.body(stream, frames.message(b"x")))
    exchange = peer.wait(stream)
    assert (exchange.reset, exchange.heads) == (frames.PROTOCOL_ERROR, [])
    assert peer.call(ECHO, b"good").messages == [b"good"]
    assert not peer.exchanges[held].over


@pytest.mark.parametrize("name", BROKEN_HEADS)
def test_broken_head_harms_no_other_connection(connect: Connect, name: str) -> None:
    peer, other = connect(), connect()
    stream = peer.stream()
    block = peer.fields(BROKEN_HEADS[name])
    peer.send(frame(HEADERS, END_HEADERS, stream, block) + frames.body(stream, frames.message(b"x")))
    peer.read_now(0.02)
    assert other.call(ECHO, b"good").messages == [b"good"]


@only_native
def test_white_space_around_values_is_taken_as_grpc_takes_it(peer: Peer) -> None:
    assert peer.call(ECHO, b"x", more=[("x-space", " both sides ")]).messages == [b"x"]


def test_request_to_itself_is_no_dependency(peer: Peer) -> None:
    """A stream that depends on itself: an error by RFC 7540, nothing by RFC 9113."""
    peer.send(frame(frames.PRIORITY, 0, 1, struct.pack(">IB", 1, 0)))
    peer.read_now(0.02)


# Ends.


@pytest.mark.parametrize("cut", [1, 5, 8, 9, 12, 40, -1])
def test_connection_that_ends_amid_a_frame_is_forgotten(table: TableServer, connect: Connect, cut: int) -> None:
    peer = connect()
    stream = peer.ask(STREAM, b"x")
    peer.wait(stream)
    peer.ask(HOLD, b"held")
    peer.begin(ECHO)
    request = peer.head(peer.stream(), ECHO) + frames.body(7, frames.message(b"x" * 1000))
    peer.send(request[:cut])
    peer.close()
    table.check_nothing_left()


@only_native
@pytest.mark.parametrize("code", [frames.NO_ERROR, frames.PROTOCOL_ERROR, frames.ENHANCE_YOUR_CALM, 0xFFFF])
def test_goaway_of_a_client_without_calls_is_the_end(connect: Connect, code: int) -> None:
    peer = connect()
    assert peer.call(ECHO, b"x").messages == [b"x"]
    peer.send(frames.goaway(0, code))
    peer.close()


@only_native
def test_header_block_that_is_refused_still_counts_for_the_next(peer: Peer) -> None:
    """The table of headers is the connection's: what a broken head put into it, later ones may name."""
    head = frames.literal(*PSEUDO[:2], (":path", ABOUT), PSEUDO[3])
    kept = b"\x40" + frames.literal(("x-kept", "value"))[1:]
    broken, right = head + kept + frames.literal(("Upper", "1")), head + b"\xbe" + frames.literal(*GRPC)
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, broken))
    peer.send(frame(HEADERS, END_HEADERS, 3, right) + frames.body(3, frames.message(b"")))
    assert json.loads(peer.wait(3).messages[0])["metadata"]["x-kept"] == "value"
