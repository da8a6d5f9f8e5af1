"""What RFC 9113 lets a client do and ask for that ordinary clients hardly use: padding, priorities, extensions, splits."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import pytest

from engine import limits
from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import Connect, only_native
from tests.serving.over_http2.frames import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, WITH_PRIORITY
from tests.serving.over_http2.peer import Peer
from tests.serving.over_http2.table import ABOUT, ECHO, HOLD, LAST, TableServer

MESSAGE = frames.message(b"whole")
PRIORITIES = {
    "none": struct.pack(">IB", 0, 15),
    "exclusive": struct.pack(">IB", 1 << 31 | 3, 255),
    "on a stream to come": struct.pack(">IB", 1001, 0),
}


@only_native  # grpcio takes padded frames for errors, and unknown flags as well
@pytest.mark.parametrize("padding", [0, 1, 255])
def test_padding_is_no_content(peer: Peer, padding: int) -> None:
    stream = peer.stream()
    head = frames.Reader().take(peer.head(stream, ECHO))
    block = next(iter(head)).payload
    peer.send(frames.frame(HEADERS, END_HEADERS | PADDED, stream, frames.padded(block, padding)))
    for at in range(len(MESSAGE)):
        peer.send(frames.frame(DATA, PADDED, stream, frames.padded(MESSAGE[at : at + 1], padding)))
    peer.send(frames.frame(DATA, PADDED | END_STREAM, stream, frames.padded(b"", padding)))
    assert peer.wait(stream).messages == [b"whole"]


@only_native
def test_credit_for_padding_is_given_back(serve: Callable[..., TableServer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAM_WINDOW_BYTES", 70_000)
    monkeypatch.setattr(limits, "CONNECTION_WINDOW_BYTES", 100_000)
    content, at_once = bytes(2000), 100
    with Peer(serve().port) as peer:
        peer.check_lives()
        stream = peer.begin(LAST)
        peer.send(frames.data(stream, frames.message(content)[:5]))
        one = frames.frame(DATA, PADDED, stream, frames.padded(b"\0", 255))
        for _ in range(len(content) // at_once):
            peer.until(lambda: peer.room(stream) >= at_once * 257, "the server grants a window")
            peer.spend(stream, at_once * 257)
            peer.send(one * at_once)
        peer.send(frames.data(stream, end=True))
        assert peer.wait(stream).messages == [content]


@pytest.mark.parametrize("name", PRIORITIES)
def test_priorities_are_taken_note_of_at_most(peer: Peer, name: str) -> None:
    stream = peer.stream()
    block = next(iter(frames.Reader().take(peer.head(stream, ECHO)))).payload
    priority = PRIORITIES[name]
    peer.send(frames.frame(frames.PRIORITY, 0, stream, priority))
    peer.send(frames.frame(HEADERS, END_HEADERS | WITH_PRIORITY, stream, priority + block))
    peer.send(frames.frame(frames.PRIORITY, 0, stream, PRIORITIES["none"]))
    peer.send(frames.data(stream, MESSAGE, end=True))
    assert peer.wait(stream).messages == [b"whole"]
    peer.send(frames.frame(frames.PRIORITY, 0, stream, PRIORITIES["none"]))  # closed by now
    peer.send(frames.frame(frames.PRIORITY, 0, 2001, PRIORITIES["none"]))  # and one that never was
    peer.check_lives()


@pytest.mark.parametrize("kind", [0x0A, 0x0C, 0x10, 0x42, 0xFF])
def test_unknown_frames_are_ignored(peer: Peer, kind: int) -> None:
    stream = peer.begin(ECHO)
    for where in (0, stream, stream + 2, 4):
        peer.send(frames.frame(kind, 0xFF, where, b"whatever" * 100))
    peer.send(frames.data(stream, MESSAGE, end=True))
    assert peer.wait(stream).messages == [b"whole"]


def test_unknown_settings_are_ignored_and_acknowledged(connect: Connect) -> None:
    peer = connect({0x0: 1, 0x7: 2, 0x8: 1, 0xFE03: 1, 0xFFFF: 2**32 - 1, frames.MAX_FRAME_SIZE: 20_000})
    assert peer.call(ECHO, b"whole").messages == [b"whole"]
    assert peer.acknowledged == 1


@only_native
def test_unknown_flags_are_ignored(peer: Peer) -> None:
    stream = peer.stream()
    block = next(iter(frames.Reader().take(peer.head(stream, ECHO)))).payload
    peer.send(frames.frame(HEADERS, END_HEADERS | 0xD2, stream, block))
    peer.send(frames.frame(DATA, END_STREAM | 0xF6, stream, MESSAGE))
    assert peer.wait(stream).messages == [b"whole"]


def test_reserved_bits_are_ignored(peer: Peer) -> None:
    stream = peer.stream()
    head = bytearray(peer.head(stream, ECHO))
    head[5] |= 0x80
    peer.send(bytes(head), frames.frame(DATA, END_STREAM, stream | 1 << 31, MESSAGE))
    peer.send(frames.frame(frames.WINDOW_UPDATE, 0, stream, struct.pack(">I", 1 << 31 | 1)))
    assert peer.wait(stream).messages == [b"whole"]


@pytest.mark.parametrize("pieces", [2, 3, 8])
def test_headers_may_go_on_in_further_frames(peer: Peer, pieces: int) -> None:
    stream = peer.stream()
    block = next(iter(frames.Reader().take(peer.head(stream, ECHO, ("x-long", "y" * 5000))))).payload
    size = -(-len(block) // pieces)
    cut = [block[at : at + size] for at in range(0, len(block), size)]
    peer.send(frames.frame(HEADERS, 0, stream, cut[0]))
    for each in cut[1:-1]:
        peer.send(frames.frame(CONTINUATION, 0, stream, each))
    peer.send(frames.frame(CONTINUATION, END_HEADERS, stream, cut[-1]) + frames.data(stream, MESSAGE, end=True))
    assert peer.wait(stream).messages == [b"whole"]


def test_headers_may_go_on_in_an_empty_frame(peer: Peer) -> None:
    stream = peer.stream()
    block = next(iter(frames.Reader().take(peer.head(stream, ECHO)))).payload
    peer.send(frames.frame(HEADERS, 0, stream) + frames.frame(CONTINUATION, 0, stream, block))
    peer.send(frames.frame(CONTINUATION, END_HEADERS, stream) + frames.data(stream, MESSAGE, end=True))
    assert peer.wait(stream).messages == [b"whole"]


def test_ping_is_answered_with_its_content_and_an_answer_to_none_is_ignored(peer: Peer) -> None:
    peer.send(frames.frame(frames.PING, frames.ACK, payload=b"nobody's"))
    peer.check_pong()


def test_settings_are_acknowledged_each_time(peer: Peer) -> None:
    for size in (1, 70_000, 2**30, 65_535):
        peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: size}))
        peer.check_lives()
    assert peer.acknowledged == 5
    assert peer.call(ECHO, b"whole").messages == [b"whole"]


@pytest.mark.parametrize("size", [0, 1, 50, 4096, 65_536, 2**32 - 1])
def test_clients_table_of_headers_may_have_any_size(connect: Connect, size: int) -> None:
    peer = connect({frames.HEADER_TABLE_SIZE: size})
    for _ in range(3):
        assert peer.call(ECHO, b"whole").messages == [b"whole"]


def test_clients_frame_size_is_kept_to(connect: Connect) -> None:
    content = bytes(200_000)
    for size in (16_384, 50_000, 2**24 - 1):
        peer = connect({frames.MAX_FRAME_SIZE: size, frames.INITIAL_WINDOW_SIZE: 1 << 20})
        stream = peer.begin(ECHO)
        peer.send_body(stream, frames.message(content))
        assert peer.wait(stream).messages == [content]
        assert peer.frame_bytes_max <= size


def test_client_may_forbid_pushes(connect: Connect) -> None:
    assert connect({frames.ENABLE_PUSH: 0}).call(ECHO, b"whole").messages == [b"whole"]


@only_native
def test_server_tells_its_limits(peer: Peer) -> None:
    peer.check_lives()
    assert peer.settings == {
        frames.MAX_CONCURRENT_STREAMS: 1024,
        frames.INITIAL_WINDOW_SIZE: 4 << 20,
        frames.MAX_FRAME_SIZE: 1 << 20,
        frames.MAX_HEADER_LIST_SIZE: 64 << 10,
    }


@only_native
def test_frames_may_be_as_large_as_the_server_says(peer: Peer) -> None:
    peer.check_lives()
    stream, body = peer.begin(ECHO), frames.message(bytes(500_000))
    peer.send(frames.data(stream, body, end=True))
    assert peer.wait(stream).messages == [bytes(500_000)]


def test_goaway_of_the_client_lets_its_calls_finish(table: TableServer, peer: Peer) -> None:
    stream = peer.ask(HOLD, b"held")
    peer.check_lives()
    peer.send(frames.goaway())
    table.open()
    assert peer.wait(stream).messages == [b"held"]
    table.do(table.desk.open.clear)


def test_values_of_headers_arrive_as_they_were_sent(peer: Peer) -> None:
    sent = {"x-plain": "value", "x-empty": "", "x-comma": "a, b", "x-long": "z" * 3000}
    told = json.loads(peer.call(ABOUT, b"", more=list(sent.items())).messages[0])["metadata"]
    assert {name: told.get(name) for name in sent} == sent
