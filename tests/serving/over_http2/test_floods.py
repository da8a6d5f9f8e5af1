"""Clients that ask for much work or memory with little effort: they get neither, and everybody else is served."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from engine import limits
from serving.native import _wire
from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import Connect, only_native
from tests.serving.over_http2.frames import CONTINUATION, END_HEADERS, END_STREAM, HEADERS, frame
from tests.serving.over_http2.peer import GRPC, Peer
from tests.serving.over_http2.table import ABOUT, DIRECT, ECHO, HOLD, STREAM, TAKE, TableServer
from tests.serving.servers import eventually

FLOOD = 20_000
CALM = frames.ENHANCE_YOUR_CALM
MIB = 1 << 20


def _rss_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@contextmanager
def _cheap(table: TableServer, *, rss_mib: int = 60) -> Iterator[None]:
    """What happens inside costs little memory, and others are served during it and afterwards."""
    before, held = _rss_bytes(), _wire.message_bytes()
    with Peer(table.port) as other:
        assert other.call(ECHO, b"before").messages == [b"before"]
        yield
        assert other.call(ECHO, b"after").messages == [b"after"]
    assert _rss_bytes() - before < rss_mib * MIB
    eventually(lambda: _wire.message_bytes() <= held + MIB, "no message is held")


def _send_all(peer: Peer, pieces: bytes, times: int, at_once: int = 500) -> None:
    """Sends `pieces` so many times, reading nothing, as long as the server listens."""
    batch = pieces * at_once
    peer.socket.settimeout(1)
    for _ in range(times // at_once):
        try:
            peer.socket.sendall(batch)
        except OSError:
            return


# Frames that ask for nothing.

IDLE = {
    "PING": frames.ping(),
    "PING that answers none": frame(frames.PING, frames.ACK, payload=bytes(8)),
    "SETTINGS": frames.settings(),
    "SETTINGS with much in them": frames.settings(dict.fromkeys(range(100, 130), 1)),
    "PRIORITY of one stream": frame(frames.PRIORITY, 0, 5, b"\0\0\0\0\x10"),
    "WINDOW_UPDATE of the connection": frames.window_update(0, 1),
    "WINDOW_UPDATE of a stream": frames.window_update(1, 1),
    "empty DATA": frames.data(1),
    "DATA of nothing but padding": frame(frames.DATA, frames.PADDED, 1, b"\x01\0"),
    "frames of an unknown kind": frame(0xFA),
    "GOAWAY": frames.goaway(),
}


@only_native
@pytest.mark.parametrize("reading", [True, False])
@pytest.mark.parametrize("name", IDLE)
def test_flood_of_frames_that_ask_for_nothing_is_cheap(
    table: TableServer, connect: Connect, name: str, reading: bool
) -> None:
    with _cheap(table):
        peer = connect(slow=True)
        peer.begin(TAKE)
        _send_all(peer, IDLE[name], FLOOD)
        if reading:
            peer.read_now(0.2)
        if name in ("PING", "SETTINGS", "empty DATA", "PRIORITY of one stream", "WINDOW_UPDATE of the connection"):
            assert set(peer.wait_closed()) <= {CALM}


@only_native
def test_flood_of_priorities_of_ever_new_streams_is_cheap(table: TableServer, connect: Connect) -> None:
    with _cheap(table):
        peer = connect(slow=True)
        _send_all(
            peer, b"".join(frame(frames.PRIORITY, 0, stream, b"\0\0\0\0\x10") for stream in range(1, 40_001, 2)), 500
        )
        assert set(peer.wait_closed()) <= {CALM}


@only_native
def test_any_number_of_pings_between_calls_ends_no_connection(connect: Connect) -> None:
    peer = connect()
    for _ in range(60):
        peer.send(frames.ping() * 500)
        assert peer.call(ECHO, b"work in between").messages == [b"work in between"]
    peer.check_pong()


# Headers.


@only_native
def test_many_small_headers_are_refused(table: TableServer, connect: Connect) -> None:
    with _cheap(table):
        peer = connect()
        peer.check_lives()
        exchange = peer.call(ECHO, b"x", more=[(f"x-{index}", "y") for index in range(5000)])
        assert exchange.status == 8
        assert peer.call(ECHO, b"x").messages == [b"x"]


@only_native
@pytest.mark.parametrize("size", [70_000, 500_000])
def test_one_huge_header_is_refused(table: TableServer, connect: Connect, size: int) -> None:
    with _cheap(table):
        peer = connect()
        peer.check_lives()
        peer.ask(ECHO, b"x", more=[("x-huge", "y" * size)])
        peer.until(lambda: peer.closed or peer.exchanges[3].over, "an end")


@only_native
@pytest.mark.parametrize("piece", [b"", b"\x00\x01a\x01b" * 100, b"\x82"])
def test_headers_that_never_end_are_cut_off(table: TableServer, connect: Connect, piece: bytes) -> None:
    """CVE-2024-28182 and its like: CONTINUATION without an end."""
    with _cheap(table):
        peer = connect()
        peer.send(frame(HEADERS, 0, 1, b"\x82"))
        _send_all(peer, frame(CONTINUATION, 0, 1, piece), FLOOD)
        assert len(peer.wait_closed()) <= 1


@only_native
def test_header_that_never_ends_is_cut_off(table: TableServer, connect: Connect) -> None:
    """One header of 100 MB in frames as large as may be."""
    with _cheap(table):
        peer = connect()
        peer.check_lives()
        peer.send(frame(HEADERS, 0, 3, b"\x82\x00\x01a\x7f\x81\x83\xaf\x2f"))
        _send_all(peer, frame(CONTINUATION, 0, 3, bytes(MIB)), 100, 1)
        assert len(peer.wait_closed()) <= 1


@only_native
@pytest.mark.parametrize("references", [1000, 1_000_000])
def test_headers_that_expand_beyond_the_bound_are_refused(
    table: TableServer, connect: Connect, references: int
) -> None:
    """A header of 4,000 bytes in the table, named by a byte each time: up to 4 GB in 1 MB."""
    with _cheap(table):
        peer = connect()
        peer.check_lives()
        planted = b"\x40\x01a\x7f" + b"\xa1\x1e" + b"v" * 4000
        pseudo = peer.fields([(":method", "POST"), (":scheme", "http"), (":path", ABOUT), (":authority", "x"), *GRPC])
        stream = peer.stream()
        begun = time.process_time()
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, pseudo + planted + b"\xbe" * (references - 10_000)))
        peer.until(lambda: peer.closed or peer.exchanges[stream].over, "an end")
        assert time.process_time() - begun < 2
        if references > 100_000:
            assert peer.wait_closed() == [CALM]


@only_native
def test_headers_that_expand_on_every_stream_are_bounded(table: TableServer, connect: Connect) -> None:
    """60 KB of headers on each of 1,000 streams, in 20 bytes."""
    with _cheap(table):
        peer = connect(slow=True)
        head = frames.literal((":method", "POST"), (":scheme", "http"), (":path", HOLD), (":authority", "x"), *GRPC)
        planted = b"\x40\x01a\x7f" + b"\xa1\x1e" + b"v" * 4000
        peer.send(frame(HEADERS, END_HEADERS, peer.stream(), head + planted))
        again = head + b"\xbe" * 15
        streams = [peer.stream() for _ in range(1000)]
        peer.send(*(frame(HEADERS, END_HEADERS, each, again) for each in streams))
        peer.check_pong()
        over = [each for each in streams if peer.exchanges[each].over]
        assert 500 < len(over) < 1000
        assert {peer.exchanges[each].reset for each in over} == {frames.REFUSED_STREAM}
        peer.send(*map(frames.reset, streams))
        assert peer.call(ECHO, b"room again").messages == [b"room again"]


# Streams.


@only_native
@pytest.mark.parametrize("reading", [True, False])
@pytest.mark.parametrize("path", [HOLD, DIRECT, STREAM, TAKE, "/none/such"])
def test_rapid_resets_are_cheap(table: TableServer, connect: Connect, tag: str, path: str, reading: bool) -> None:
    """CVE-2023-44487: 30,000 calls that are reset as soon as they are made."""
    with _cheap(table):
        peer = connect(slow=True)
        tired = peer.head(1, path, ("x-tag", tag))  # its fields are in the table from now on
        peer.send(tired + frames.reset(1))
        pieces = []
        for index in range(1, 30_000):
            stream = 2 * index + 1
            pieces.append(peer.head(stream, path, ("x-tag", tag)) + frames.body(stream, frames.message(b"x")))
            pieces.append(frames.reset(stream))
        begun = time.process_time()
        _send_all(peer, b"".join(pieces), 1, 1)
        if reading:
            peer.read_now(0.2)
        assert time.process_time() - begun < 5
        peer.until(lambda: peer.closed or peer.goaways, "the server tires of it")
        eventually(lambda: table.desk.began[tag] == table.desk.cancelled[tag] or path == DIRECT, "what began has ended")


@only_native
def test_streams_beyond_the_limit_without_end_are_cut_off(table: TableServer, connect: Connect) -> None:
    with _cheap(table):
        peer = connect(slow=True)
        pieces = [peer.head(2 * index + 1, HOLD) for index in range(30_000)]
        _send_all(peer, b"".join(pieces), 1, 1)
        assert set(peer.wait_closed()) <= {CALM}


@only_native
def test_broken_heads_without_end_are_cheap(table: TableServer, connect: Connect) -> None:
    with _cheap(table):
        peer = connect(slow=True)
        pieces = [frame(HEADERS, END_HEADERS | END_STREAM, 2 * index + 1, b"\x82\x86") for index in range(30_000)]
        _send_all(peer, b"".join(pieces), 1, 1)
        peer.read_now(0.2)


@only_native
def test_answers_that_nobody_reads_are_bounded(table: TableServer, connect: Connect) -> None:
    """A client that asks and asks and reads nothing, not even refusals."""
    with _cheap(table):
        peer = connect({frames.INITIAL_WINDOW_SIZE: 0}, slow=True)
        for path in ("/none/such", ECHO, DIRECT):
            for _ in range(2000):
                stream = peer.stream()
                peer.send(peer.head(stream, path) + frames.body(stream, frames.message(b"x" * 10)))
        peer.close()


@only_native
def test_streams_left_hanging_are_cheap(table: TableServer, connect: Connect) -> None:
    with _cheap(table, rss_mib=100):
        peers = [connect(slow=True) for _ in range(20)]
        for peer in peers:
            for index in range(1000):
                stream = peer.stream()
                peer.send(peer.head(stream, (ECHO, HOLD, DIRECT)[index % 3]) + frames.data(stream, b"\0\0\0\x10\0abc"))
        eventually(lambda: table.streams() == 20_000, "all are open")
        assert _wire.message_bytes() <= 20_000 * 4096
        for peer in peers:
            peer.close()


@only_native
def test_many_tiny_frames_of_one_message_are_cheap(table: TableServer, connect: Connect) -> None:
    with _cheap(table):
        peer = connect()
        stream = peer.begin(ECHO)
        peer.send(frames.data(stream, frames.message(bytes(50_000))[:5]))
        _send_all(peer, frames.data(stream, b"\0"), 50_000)
        peer.send(frames.data(stream, end=True))
        assert peer.wait(stream).messages == [bytes(50_000)]


@only_native
def test_endless_small_messages_that_nobody_takes_are_cheap(table: TableServer, connect: Connect) -> None:
    with _cheap(table):
        peer = connect()
        peer.check_lives()
        for _ in range(4):
            stream = peer.begin(TAKE)
            peer.send_body(stream, frames.message(b"") * (peer.room(stream) // 5 - 10), end=False)
        peer.check_lives()
        peer.close()


# Memory that is only claimed.


@only_native
def test_claims_of_large_messages_cost_next_to_nothing(serve: Callable[..., TableServer]) -> None:
    table = serve(message_bytes_max=64 * MIB)
    with _cheap(table):
        with Peer(table.port, slow=True) as peer:
            peer.check_lives()
            before = _wire.message_bytes()
            for index in range(1000):
                stream = peer.begin((ECHO, STREAM)[index % 2])
                peer.send(frames.data(stream, b"\0" + (64 * MIB).to_bytes(4, "big")))
            peer.check_pong()
            assert _wire.message_bytes() - before <= 1000 * 4096
            assert peer.call(ECHO, b"good").messages == [b"good"]
        table.check_nothing_left()


@only_native
def test_requests_beyond_the_bound_of_all_are_refused_and_the_rest_is_served(
    serve: Callable[..., TableServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = 10 * MIB
    monkeypatch.setattr(limits, "WIRE_BYTES_MAX", _wire.message_bytes() + bound)
    table = serve(message_bytes_max=4 * MIB)
    try:
        before = _wire.message_bytes()
        with Peer(table.port, slow=True) as peer, Peer(table.port) as other:
            peer.check_lives()
            streams = [peer.begin((ECHO, STREAM)[index % 2]) for index in range(10)]
            for each in streams:
                peer.send_body(each, frames.message(bytes(3 * MIB))[: 2 * MIB], end=False)
            peer.check_pong()
            refused = [each for each in streams if peer.exchanges[each].over]
            assert refused
            assert {peer.exchanges[each].status for each in refused} == {8}
            assert "as many bytes of messages as it may" in peer.exchanges[refused[0]].text
            assert len(refused) < len(streams)
            assert _wire.message_bytes() - before <= bound
            assert other.call(ECHO, b"small").messages == [b"small"]
            for each in streams:
                peer.send(frames.reset(each))
            peer.check_pong()  # connections are not read in the order in which they were written to
            big = other.begin(ECHO)
            other.send_body(big, frames.message(bytes(3 * MIB)))
            assert other.wait(big).messages == [bytes(3 * MIB)]
        eventually(lambda: _wire.message_bytes() == before, "nothing is held")
    finally:
        _wire.set_message_bytes_max(2 << 30)
