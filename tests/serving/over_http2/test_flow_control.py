"""Windows: the server sends no more than a client takes and takes no more than a handler does, and holds little meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from engine import limits
from serving.native import _wire
from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import Connect, only_native
from tests.serving.over_http2.peer import WIDE, Peer
from tests.serving.over_http2.table import COUNT, DIRECT, ECHO, FAIL, LAST, STREAM, TAKE, TableServer
from tests.serving.servers import eventually

CLOSED = {frames.INITIAL_WINDOW_SIZE: 0}
CONTENT = bytes(range(250)) * 20
SMALL_WINDOW, SMALL_CONNECTION_WINDOW = 200_000, 1_000_000


def _numbered(count: int, size: int) -> list[bytes]:
    return [bytes([index % 251]) * size for index in range(count)]


def _settled(value: Callable[[], int]) -> int:
    """What `value` is when it has stopped changing."""
    last, same = -1, 0
    while same < 10:
        time.sleep(0.01)
        now = value()
        last, same = now, same + 1 if now == last else 0
    return last


# Clients that take little.


@pytest.mark.parametrize("path", [ECHO, DIRECT, STREAM])
def test_client_without_a_window_gets_the_head_and_then_what_it_asks_for(connect: Connect, path: str) -> None:
    peer, other = connect(CLOSED, slow=True), connect()
    stream = peer.ask(path, CONTENT)
    exchange = peer.exchanges[stream]
    peer.check_lives()
    assert other.call(path, CONTENT).messages == [CONTENT]
    assert exchange.body == b""
    for granted in (1, 1, 3, 500):
        came = len(exchange.body)
        peer.send(frames.window_update(stream, granted))
        peer.until(lambda came=came, granted=granted: len(exchange.body) == came + granted, "as much as was granted")  # type: ignore[misc]
    peer.send(frames.window_update(stream, WIDE - 10_000))
    assert peer.wait(stream).messages == [CONTENT]


def test_answer_may_be_taken_byte_by_byte(connect: Connect) -> None:
    peer = connect(CLOSED, slow=True)
    stream = peer.ask(ECHO, b"in small pieces")
    peer.send(frames.window_update(stream, 1) * 30)
    assert peer.wait(stream).messages == [b"in small pieces"]


def test_connection_without_a_window_still_carries_what_needs_none(table: TableServer, connect: Connect) -> None:
    peer = connect({frames.INITIAL_WINDOW_SIZE: 1 << 20}, slow=True)
    hungry = peer.ask(COUNT, b"100 10000")
    peer.until(lambda: len(peer.exchanges[hungry].body) == frames.WINDOW_BYTES, "all that the connection takes")
    assert peer.call(FAIL, b"NotFound:x").status == 5
    waiting = peer.ask(ECHO, CONTENT)
    peer.check_lives()
    assert peer.exchanges[waiting].body == b""
    with Peer(table.port) as other:
        assert other.call(ECHO, CONTENT).messages == [CONTENT]
    peer.send(frames.window_update(0, WIDE - frames.WINDOW_BYTES))
    assert peer.wait(waiting).messages == [CONTENT]
    peer.send(frames.window_update(hungry, 1 << 20))
    assert peer.wait(hungry).messages == _numbered(100, 10_000)


def test_trailers_do_not_wait_for_a_window(connect: Connect) -> None:
    """RFC 9113 section 5.2: only DATA is flow-controlled."""
    size = len(frames.message(CONTENT))
    peer = connect({frames.INITIAL_WINDOW_SIZE: size}, slow=True)
    for ending in (b"", frames.message(b"!NotFound:x")):
        stream = peer.begin(STREAM)
        peer.send(frames.data(stream, frames.message(CONTENT)))
        peer.until(lambda stream=stream: len(peer.exchanges[stream].body) == size, "the answer")  # type: ignore[misc]
        peer.send(frames.window_update(0, size), frames.data(stream, ending, end=True))
        exchange = peer.wait(stream)
        assert (exchange.ended, exchange.status) == (True, 5 if ending else 0)
    assert peer.call(ECHO, CONTENT).messages == [CONTENT]


@pytest.mark.parametrize("window", [0, 1000])
def test_slow_reader_holds_the_handler_back_and_then_gets_everything(
    table: TableServer, connect: Connect, window: int
) -> None:
    peer, count, size = connect({frames.INITIAL_WINDOW_SIZE: window}, slow=True), 300, 20_000
    table.desk.taken = 0
    stream = peer.ask(COUNT, b"%d %d" % (count, size))
    ahead = _settled(lambda: table.desk.taken)
    assert ahead * size <= 2 * limits.STREAM_QUEUE_BYTES_MAX
    assert table.queued() <= limits.STREAM_QUEUE_BYTES_MAX + 2 * size
    with Peer(table.port) as other:
        assert other.call(COUNT, b"3 3").messages == _numbered(3, 3)
    peer.send(frames.window_update(0, WIDE - frames.WINDOW_BYTES), frames.window_update(stream, WIDE - window))
    assert peer.wait(stream).messages == _numbered(count, size)


def test_many_slow_readers_get_everything_in_the_end(table: TableServer, connect: Connect) -> None:
    peers = [connect(CLOSED, slow=True) for _ in range(10)]
    asked = [[each.begin(path) for path in (ECHO, DIRECT, STREAM) for _ in range(10)] for each in peers]
    for each, streams in zip(peers, asked, strict=True):
        for stream in streams:
            each.send_body(stream, frames.message(CONTENT * 20))
        each.check_lives()
    assert table.streams() == (300 if table.native else 0)
    for each, streams in zip(peers, asked, strict=True):
        each.send(frames.window_update(0, WIDE - frames.WINDOW_BYTES))
        each.send(*(frames.window_update(stream, WIDE) for stream in reversed(streams)))
        assert all(each.wait(stream).messages == [CONTENT * 20] for stream in streams)


def test_windows_may_shrink_below_nothing(connect: Connect) -> None:
    """RFC 9113 section 6.9.2."""
    peer = connect({frames.INITIAL_WINDOW_SIZE: 1000}, slow=True)
    stream = peer.ask(ECHO, CONTENT)
    exchange = peer.exchanges[stream]
    peer.until(lambda: len(exchange.body) == 1000, "all that it takes")
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 100}), frames.window_update(stream, 900))
    peer.check_lives()
    assert len(exchange.body) == 1000
    peer.send(frames.window_update(stream, 1))
    peer.until(lambda: len(exchange.body) == 1001, "one byte more")
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 50_000}))
    assert peer.wait(stream).messages == [CONTENT]


def test_new_initial_window_counts_for_open_streams(connect: Connect) -> None:
    peer = connect(CLOSED, slow=True)
    streams = [peer.ask(path, CONTENT) for path in (ECHO, DIRECT, STREAM)]
    peer.check_lives()
    peer.send(frames.settings({frames.INITIAL_WINDOW_SIZE: 10_000}))
    assert all(peer.wait(each).messages == [CONTENT] for each in streams)


@only_native
def test_window_of_a_stream_that_overflows_ends_the_stream(peer: Peer) -> None:
    stream = peer.begin(STREAM)
    peer.send(frames.window_update(stream, WIDE))
    assert peer.wait(stream).reset == frames.FLOW_CONTROL_ERROR
    assert peer.call(ECHO, b"good").messages == [b"good"]


@only_native
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frames.window_update(0, WIDE), frames.FLOW_CONTROL_ERROR),
        (frames.window_update(0, 0), frames.PROTOCOL_ERROR),
        (frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}), frames.FLOW_CONTROL_ERROR),
        (frames.settings({frames.INITIAL_WINDOW_SIZE: 2**32 - 1}), frames.FLOW_CONTROL_ERROR),
    ],
)
def test_impossible_window_ends_the_connection(connect: Connect, sent: bytes, code: int) -> None:
    peer = connect(slow=True)
    peer.begin(STREAM)
    peer.send(sent)
    assert peer.wait_closed() == [code]


@only_native
def test_update_of_nothing_ends_the_stream_at_least(connect: Connect) -> None:
    """A stream error by RFC 9113 section 6.9; nghttp2 ends the connection, as section 5.4.2 lets it."""
    peer = connect()
    peer.send(frames.window_update(peer.begin(STREAM), 0))
    assert peer.wait_closed() == [frames.PROTOCOL_ERROR]


@only_native
def test_setting_that_overflows_a_window_ends_the_stream_at_least(connect: Connect) -> None:
    """A connection error by RFC 9113 section 6.9.2; nghttp2 ends the streams whose windows overflow."""
    peer = connect(CLOSED, slow=True)
    stream = peer.begin(STREAM)
    peer.send(frames.window_update(stream, WIDE), frames.settings({frames.INITIAL_WINDOW_SIZE: 1}))
    assert peer.wait(stream).reset == frames.FLOW_CONTROL_ERROR
    peer.check_pong()


# Clients that send slowly, and those that send more than is taken.


def test_requests_may_trickle_in_on_many_streams(table: TableServer, peer: Peer) -> None:
    body = frames.message(b"drop by drop")
    streams = [peer.begin((ECHO, DIRECT, STREAM)[index % 3]) for index in range(30)]
    for at in range(len(body)):
        for each in streams:
            peer.send(frames.data(each, body[at : at + 1], end=at == len(body) - 1))
        with Peer(table.port) as other:
            assert other.call(ECHO, b"quick").messages == [b"quick"]
    assert all(peer.wait(each).messages == [b"drop by drop"] for each in streams)


@pytest.fixture
def narrow(serve: Callable[..., TableServer], monkeypatch: pytest.MonkeyPatch) -> TableServer:
    """A server with small windows of its own."""
    monkeypatch.setattr(limits, "STREAM_WINDOW_BYTES", SMALL_WINDOW)
    monkeypatch.setattr(limits, "CONNECTION_WINDOW_BYTES", SMALL_CONNECTION_WINDOW)
    return serve()


def _fill(peer: Peer, stream: int, piece: bytes) -> int:
    """Sends `piece` until the server grants no window for it any more; how often that was."""
    sent = 0
    while True:
        if peer.room(stream) < len(piece):
            for _ in range(5):
                peer.read_now(0.01)
            if peer.room(stream) < len(piece):
                return sent
        peer.spend(stream, len(piece))
        peer.send(frames.data(stream, piece))
        sent += 1


@only_native
@pytest.mark.parametrize("size", [0, 1, 300, 16_000, 90_000])
def test_client_that_sends_more_than_is_taken_is_held_back_and_then_heard_out(narrow: TableServer, size: int) -> None:
    before = _wire.message_bytes()
    with Peer(narrow.port) as peer:
        peer.check_lives()
        stream = peer.begin(TAKE)
        piece = frames.message(bytes(size)) * max(1, 1000 // (size + 5))
        pieces = _fill(peer, stream, piece)
        assert pieces * len(piece) <= 2.5 * SMALL_WINDOW
        assert _wire.message_bytes() - before <= 4 * SMALL_WINDOW
        assert peer.call(ECHO, CONTENT).messages == [CONTENT]
        count = pieces * max(1, 1000 // (size + 5))
        narrow.permit(count + 1)
        peer.until(lambda: peer.room(stream) >= len(piece), "the server grants a window again")
        peer.send(frames.data(stream, end=True))
        assert peer.wait(stream).messages == [b"%d %d" % (count, count * size)]
    narrow.check_nothing_left()
    eventually(lambda: _wire.message_bytes() == before, "nothing is held")


@only_native
def test_streams_that_are_held_back_hold_no_other_back(narrow: TableServer) -> None:
    with Peer(narrow.port) as peer:
        peer.check_lives()
        stuck = [peer.begin(TAKE) for _ in range(20)]
        for each in stuck:
            _fill(peer, each, frames.message(bytes(20_000)))
        for path in (ECHO, DIRECT, STREAM, LAST):
            stream = peer.begin(path)
            peer.send_body(stream, frames.message(CONTENT * 100))
            assert peer.wait(stream).messages == [CONTENT * 100]


@only_native
def test_what_a_stream_left_untaken_is_given_back_to_the_connection(narrow: TableServer) -> None:
    with Peer(narrow.port) as peer:
        peer.check_lives()
        for _ in range(30):
            stream = peer.begin(TAKE)
            _fill(peer, stream, frames.message(bytes(20_000)))
            peer.send(frames.reset(stream))
        assert peer.call(ECHO, CONTENT).messages == [CONTENT]
    narrow.check_nothing_left()


@only_native
def test_data_for_streams_that_are_over_is_given_back_to_the_connection(narrow: TableServer) -> None:
    with Peer(narrow.port) as peer:
        peer.check_lives()
        for _ in range(200):
            stream = peer.begin("/none/such")
            peer.spend(stream, 20_000)
            peer.send(frames.body(stream, bytes(20_000), end=False))
            assert peer.wait(stream).status == 12
            peer.spend(stream, 10_000)
            peer.send(frames.body(stream, bytes(10_000), end=False))
            peer.until(lambda: peer.room(0) > 100_000, "the server grants a window")
        assert peer.call(ECHO, CONTENT).messages == [CONTENT]


@only_native
def test_client_that_ignores_the_window_of_a_stream_is_cut_off(narrow: TableServer) -> None:
    with Peer(narrow.port) as peer:
        peer.check_lives()
        stream = peer.begin(TAKE)
        peer.send(frames.body(stream, frames.message(bytes(50_000)) * 20, end=False))
        assert peer.wait(stream).reset == frames.FLOW_CONTROL_ERROR
        assert peer.call(ECHO, CONTENT).messages == [CONTENT]
    narrow.check_nothing_left()
