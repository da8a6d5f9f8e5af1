"""The client's side of HTTP/2: flow control, large and split frames, resets, pings, GOAWAY; what hpack writes is read back."""

from __future__ import annotations

import random
import struct
from typing import Any

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


Session = Any
"""Ours, or the compiled one."""


def output(session: Session) -> bytes:
    """What it has to send, which it has no more."""
    if not isinstance(session, ClientSession):
        return bytes(session.output())
    data = b"".join(bytes(each) for each in session.out)
    session.out.clear()
    return data


def compiled() -> Session:
    pytest.importorskip("engine.triton._http2", reason="the compiled client is not built")
    from engine.triton.compiled import CompiledSession

    return CompiledSession()


class Peer:
    """Reads what the session sends, as a server would, and writes frames."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._encoder = Encoder()
        self._encoder.header_table_size = 0
        self._unread = b""
        self._greeted = False

    def sent(self) -> list[tuple[int, int, int, bytes]]:
        """(kind, flags, stream, payload) of each frame since the last time."""
        data = self._unread + output(self.session)
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


@pytest.fixture(params=[ClientSession, compiled])
def session(request: pytest.FixtureRequest) -> Session:
    return request.param()


@pytest.fixture
def peer(session: Session) -> Peer:
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


def test_a_call_is_answered_however_the_bytes_are_cut(session: Session, peer: Peer) -> None:
    first = session.send(BLOCK, framed(b"one"), "a")
    second = session.send(BLOCK, framed(b"two"), "b")
    assert (first.id, second.id) == (1, 3)
    assert body_sent(peer.sent(), 3) == framed(b"two")
    data = frame(SETTINGS, 0, 0) + peer.answer(3, b"second") + peer.answer(1, b"first")
    heard = [each for index in range(len(data)) for each in session.receive(data[index : index + 1])]
    assert [each.owner for each in heard] == ["b", "a"]
    assert (first.message(), second.message()) == (b"first", b"second")
    assert first.ok
    assert first.headers["grpc-status"] == "0"
    assert session.open == 0


def test_a_large_body_goes_out_as_windows_open(session: Session, peer: Peer) -> None:
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


def test_a_large_answer_gets_credit_before_it_stops(session: Session, peer: Peer) -> None:
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


def test_a_live_call_gets_credit_only_for_what_was_taken(session: Session, peer: Peer) -> None:
    exchange = session.send(BLOCK, framed(b"x"), None, live=True)
    peer.sent()
    assert session.receive(peer.headers(1, OK) + frame(DATA, 0, 1, bytes(1 << 18))) == [exchange]
    assert peer.sent() == []
    assert exchange.waits
    assert session.take(exchange) == bytes(1 << 18)
    assert not exchange.waits
    assert peer.sent() == [(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1 << 18))]


def test_a_reset_call_is_told_once_and_what_comes_for_it_is_nothing(session: Session, peer: Peer) -> None:
    exchange = session.send(BLOCK, framed(b"x"), None)
    peer.sent()
    session.reset(exchange)
    session.reset(exchange)
    assert [each[0] for each in peer.sent()] == [RST_STREAM]
    assert session.receive(peer.answer(1, b"late")) == []


def test_resets_of_the_server_say_whether_it_did_anything(session: Session) -> None:
    one, other = session.send(BLOCK, b"x", None), session.send(BLOCK, b"x", None)
    heard = session.receive(
        frame(RST_STREAM, 0, 1, struct.pack(">I", REFUSED_STREAM)) + frame(RST_STREAM, 0, 3, struct.pack(">I", 2))
    )
    assert heard == [one, other]
    assert (one.unprocessed, other.unprocessed) == (True, False)
    assert (one.reset, other.reset) == (REFUSED_STREAM, 2)


def test_goaway_gives_back_what_was_not_begun_and_takes_nothing_new(session: Session, peer: Peer) -> None:
    session.send(BLOCK, b"x", "kept")
    session.send(BLOCK, b"x", "back")
    heard = session.receive(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 0)))
    assert [each.owner for each in heard] == ["back"]
    assert heard[0].unprocessed
    assert not session.has_room
    assert [each.owner for each in session.receive(peer.answer(1, b"y"))] == ["kept"]


def test_pings_are_answered_and_answers_left_alone(session: Session, peer: Peer) -> None:
    session.receive(frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, b"abcdefgh"))
    assert peer.sent() == [(PING, ACK, 0, b"12345678")]


def test_padding_and_continued_headers_are_read(session: Session, peer: Peer) -> None:
    exchange = session.send(BLOCK, b"x", None)
    block = peer.headers(1, OK)[9:]
    data = frame(HEADERS, 0, 1, block[:4]) + frame(CONTINUATION, END_HEADERS, 1, block[4:])
    data += frame(DATA, PADDED, 1, b"\x03" + framed(b"y") + b"\0\0\0")
    session.receive(data + peer.headers(1, TRAILERS, END_HEADERS | END_STREAM))
    assert exchange.message() == b"y"
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
def test_what_is_no_http2_breaks_the_connection(session: Session, data: bytes) -> None:
    session.send(BLOCK, b"x", None)
    with pytest.raises(ValueError):
        session.receive(data)


def test_a_header_block_without_end_breaks_the_connection(session: Session) -> None:
    session.send(BLOCK, b"x", None)
    session.receive(frame(HEADERS, 0, 1, bytes(1 << 18)))
    with pytest.raises(ValueError, match="without end"):
        session.receive(frame(CONTINUATION, 0, 1, b"x"))


def some_frame(draw: random.Random, peer: Peer) -> bytes:
    stream = draw.choice((0, 1, 1, 3, 3, 5, 7))
    ends = draw.choice((0, END_STREAM))
    number = struct.pack(">I", draw.choice((0, 1, 7, 8, 40_000, 1 << 31)))
    return draw.choice(
        (
            peer.headers(stream, OK, END_HEADERS | ends),
            peer.headers(stream, draw.choice((TRAILERS, (("grpc-status", "5"),))), END_HEADERS | END_STREAM),
            frame(HEADERS, ends | draw.choice((0, PADDED, 0x20)), stream, bytes((1, 0x88, 0))),
            frame(CONTINUATION, draw.choice((0, END_HEADERS)), stream, draw.choice((b"", b"\x88"))),
            frame(DATA, ends, stream, framed(draw.randbytes(draw.randrange(40)))),
            frame(DATA, ends | PADDED, stream, b"\x02" + draw.randbytes(draw.randrange(9))),
            frame(WINDOW_UPDATE, 0, stream, number),
            frame(SETTINGS, draw.choice((0, ACK)), 0, struct.pack(">HI", draw.randrange(1, 7), draw.randrange(90_000))),
            frame(PING, draw.choice((0, ACK)), 0, bytes(8)),
            frame(RST_STREAM, 0, stream, number),
            frame(GOAWAY, 0, 0, struct.pack(">II", draw.choice((1, 3, 99)), 0)),
            frame(draw.randrange(12), draw.randrange(256), stream, draw.randbytes(draw.randrange(7))),
        )
    )


def taken_in(session: Session, data: bytes) -> object:
    try:
        heard = session.receive(data)
    except ValueError:
        return "broken"
    return [(each.owner, each.ended, each.unprocessed, each.reset, each.ok, dict(each.headers)) for each in heard]


@pytest.mark.parametrize("seed", range(300))
def test_both_sessions_do_the_same_whatever_comes(seed: int) -> None:
    draw = random.Random(seed)
    both = (ClientSession(), compiled())
    calls: list[tuple[Any, Any]] = []
    peer = Peer(both[0])
    for _ in range(40):
        if both[0].has_room and draw.random() < 0.3:
            body, live = framed(bytes(draw.choice((9, 900, 70_000)))), draw.random() < 0.3
            calls.append(tuple(each.send(BLOCK, body, len(calls), live=live) for each in both))  # type: ignore[arg-type]
        if calls and draw.random() < 0.1:
            for session, exchange in zip(both, draw.choice(calls), strict=True):
                session.reset(exchange)
        data = some_frame(draw, peer)
        cut = draw.randrange(len(data) + 1)
        for part in (data[:cut], data[cut:]):
            one, other = (taken_in(session, part) for session in both)
            assert one == other, seed
            if one == "broken":
                return
        assert output(both[0]) == output(both[1]), seed
        assert (both[0].open, both[0].closing, both[0].has_room) == (both[1].open, both[1].closing, both[1].has_room)
    for ours, theirs in calls:
        if ours.ok and not ours.live:
            assert outcome(ours) == outcome(theirs), seed


def outcome(exchange: Any) -> object:  # noqa: ANN401  of either
    try:
        return exchange.message()
    except ValueError as error:
        return str(error)


def test_calls_past_the_servers_bound_have_no_room(session: Session) -> None:
    session.receive(frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 1)))
    session.send(BLOCK, b"x", None)
    assert not session.has_room


def test_compressed_messages_are_refused() -> None:
    with pytest.raises(ValueError, match="compressed"):
        messages_in(b"\x01\0\0\0\x01x")
