"""The client's side of HTTP/2: flow control, large and split frames, resets, pings, GOAWAY; what hpack writes is read back."""

from __future__ import annotations

import struct

import pytest
from hpack import Decoder, Encoder

from engine.triton.call import messages_in
from engine.triton.hpack import call_headers, integer, timeout_header
from engine.triton.http2 import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ClientSession,
    frame,
)
from engine.triton.messages import framed

CONTINUATION = 9
OK = ((":status", "200"), ("content-type", "application/grpc"))
TRAILERS = (("grpc-status", "0"),)
BLOCK = call_headers("/s/M", "host:1", tls=False, metadata={"x-team": "fraud"})


class Peer:
    """Reads what the session sends, as a server would, and writes frames."""

    def __init__(self, session: ClientSession) -> None:
        self.session = session
        self._encoder = Encoder()
        self._encoder.header_table_size = 0
        self._unread = b""
        self._greeted = False

    def sent(self) -> list[tuple[int, int, int, bytes]]:
        """(kind, flags, stream, payload) of each frame since the last time."""
        data = self._unread + b"".join(bytes(each) for each in self.session.out)
        self.session.out.clear()
        if not self._greeted:
            assert data.startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            data, self._greeted = data[24:], True
        frames = []
        while len(data) >= 9:
            size = int.from_bytes(data[:3], "big")
            frames.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + size]))
            data = data[9 + size :]
        self._unread = data
        return frames

    def headers(self, stream: int, fields: tuple[tuple[str, str], ...], flags: int = END_HEADERS) -> bytes:
        return frame(HEADERS, flags, stream, self._encoder.encode(fields, huffman=True))

    def answer(self, stream: int, body: bytes) -> bytes:
        head, tail = self.headers(stream, OK), self.headers(stream, TRAILERS, END_HEADERS | END_STREAM)
        return head + frame(DATA, 0, stream, framed(body)) + tail


@pytest.fixture
def session() -> ClientSession:
    return ClientSession()


@pytest.fixture
def peer(session: ClientSession) -> Peer:
    peer = Peer(session)
    peer.sent()
    return peer


def body_sent(frames: list[tuple[int, int, int, bytes]], stream: int) -> bytes:
    return b"".join(payload for kind, _, number, payload in frames if kind == DATA and number == stream)


def test_headers_are_what_a_decoder_reads() -> None:
    found = dict(Decoder().decode(BLOCK + timeout_header(1_500_000_000)))
    assert found[":method"] == "POST"
    assert found[":path"] == "/s/M"
    assert found[":authority"] == "host:1"
    assert found["te"] == "trailers"
    assert found["content-type"] == "application/grpc"
    assert found["x-team"] == "fraud"
    assert found["grpc-timeout"] == "1500000u"


@pytest.mark.parametrize(
    ("nanoseconds", "told"),
    [(1, b"1u"), (99_999_999_999, b"99999999u"), (100_000_000_000, b"100S"), (1 << 62, b"99999999S")],
)
def test_timeouts_have_at_most_eight_digits(nanoseconds: int, told: bytes) -> None:
    assert timeout_header(nanoseconds).endswith(bytes([len(told)]) + told)


def test_integers_are_as_in_the_examples_of_rfc_7541() -> None:
    assert integer(10, 5) == b"\x0a"
    assert integer(1337, 5) == b"\x1f\x9a\x0a"


def test_a_call_is_answered_however_the_bytes_are_cut(session: ClientSession, peer: Peer) -> None:
    first = session.send(BLOCK, framed(b"one"), "a")
    second = session.send(BLOCK, framed(b"two"), "b")
    assert (first.id, second.id) == (1, 3)
    assert body_sent(peer.sent(), 3) == framed(b"two")
    data = frame(SETTINGS, 0, 0) + peer.answer(3, b"second") + peer.answer(1, b"first")
    heard = [each for index in range(len(data)) for each in session.receive(data[index : index + 1])]
    assert [each.owner for each in heard] == ["b", "a"]
    assert messages_in(b"".join(first.data)) == ([b"first"], b"")
    assert first.headers["grpc-status"] == "0"
    assert session.open == 0


def test_a_large_body_goes_out_as_windows_open(session: ClientSession, peer: Peer) -> None:
    body = framed(bytes(range(256)) * 2_000)
    exchange = session.send(BLOCK, body, None)
    got = body_sent(frames := peer.sent(), 1)
    assert len(got) == 65_535
    assert max(len(payload) for kind, _, _, payload in frames if kind == DATA) == 16_384
    session.receive(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 20)))
    assert peer.sent() == []  # the stream's own window is shut
    session.receive(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 200_000)))
    got += body_sent(peer.sent(), 1)
    assert len(got) == 200_000
    session.receive(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1 << 20)))
    frames = peer.sent()
    assert got + body_sent(frames, 1) == body
    assert frames[-1][1] == END_STREAM
    assert not exchange.ended


def test_a_large_answer_gets_credit_before_it_stops(session: ClientSession, peer: Peer) -> None:
    session.send(BLOCK, framed(b"x"), None)
    peer.sent()
    session.receive(peer.headers(1, OK))
    credit = 0
    for _ in range(80):
        session.receive(frame(DATA, 0, 1, bytes(1 << 18)))
        credit += sum(
            int.from_bytes(p, "big") for kind, _, number, p in peer.sent() if kind == WINDOW_UPDATE and number
        )
    assert credit >= 12 << 20


def test_a_live_call_gets_credit_only_for_what_was_taken(session: ClientSession, peer: Peer) -> None:
    exchange = session.send(BLOCK, framed(b"x"), None, live=True)
    peer.sent()
    assert session.receive(peer.headers(1, OK) + frame(DATA, 0, 1, bytes(1 << 18))) == [exchange]
    assert peer.sent() == []
    session.consumed(exchange, 1 << 18)
    assert peer.sent() == [(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1 << 18))]


def test_a_reset_call_is_told_once_and_what_comes_for_it_is_nothing(session: ClientSession, peer: Peer) -> None:
    exchange = session.send(BLOCK, framed(b"x"), None)
    peer.sent()
    session.reset(exchange)
    session.reset(exchange)
    assert [each[0] for each in peer.sent()] == [RST_STREAM]
    assert session.receive(peer.answer(1, b"late")) == []


def test_resets_of_the_server_say_whether_it_did_anything(session: ClientSession) -> None:
    one, other = session.send(BLOCK, b"x", None), session.send(BLOCK, b"x", None)
    heard = session.receive(
        frame(RST_STREAM, 0, 1, struct.pack(">I", REFUSED_STREAM)) + frame(RST_STREAM, 0, 3, struct.pack(">I", 2))
    )
    assert heard == [one, other]
    assert (one.unprocessed, other.unprocessed) == (True, False)
    assert (one.reset, other.reset) == (REFUSED_STREAM, 2)


def test_goaway_gives_back_what_was_not_begun_and_takes_nothing_new(session: ClientSession, peer: Peer) -> None:
    session.send(BLOCK, b"x", "kept")
    session.send(BLOCK, b"x", "back")
    heard = session.receive(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 0)))
    assert [each.owner for each in heard] == ["back"]
    assert heard[0].unprocessed
    assert not session.has_room
    assert [each.owner for each in session.receive(peer.answer(1, b"y"))] == ["kept"]


def test_pings_are_answered_and_answers_left_alone(session: ClientSession, peer: Peer) -> None:
    session.receive(frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, b"abcdefgh"))
    assert peer.sent() == [(PING, ACK, 0, b"12345678")]


def test_padding_and_continued_headers_are_read(session: ClientSession, peer: Peer) -> None:
    exchange = session.send(BLOCK, b"x", None)
    block = peer.headers(1, OK)[9:]
    data = frame(HEADERS, 0, 1, block[:4]) + frame(CONTINUATION, END_HEADERS, 1, block[4:])
    data += frame(DATA, PADDED, 1, b"\x03" + framed(b"y") + b"\0\0\0")
    session.receive(data + peer.headers(1, TRAILERS, END_HEADERS | END_STREAM))
    assert b"".join(exchange.data) == framed(b"y")
    assert exchange.headers["grpc-status"] == "0"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(DATA, PADDED, 1, b"\xff"),
        frame(DATA, PADDED, 1),
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff"),
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\1"),
        frame(RST_STREAM, 0, 1),
        frame(SETTINGS, 0, 0, b"\0\3"),
        frame(GOAWAY, 0, 0, b"\0"),
    ],
)
def test_what_is_no_http2_breaks_the_connection(session: ClientSession, data: bytes) -> None:
    session.send(BLOCK, b"x", None)
    with pytest.raises(ValueError):
        session.receive(data)


def test_calls_past_the_servers_bound_have_no_room(session: ClientSession) -> None:
    session.receive(frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 1)))
    session.send(BLOCK, b"x", None)
    assert not session.has_room


def test_compressed_messages_are_refused() -> None:
    with pytest.raises(ValueError, match="compressed"):
        messages_in(b"\x01\0\0\0\x01x")
