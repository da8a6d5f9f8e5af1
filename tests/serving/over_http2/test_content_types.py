"""What is a gRPC call, and what becomes of everything else that comes over HTTP/2."""

from __future__ import annotations

import json
from collections.abc import Iterable

import pytest

from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import Connect, only_native
from tests.serving.over_http2.peer import Exchange, Field, Peer
from tests.serving.over_http2.table import ECHO, STREAM, TableServer
from tests.serving.servers import eventually

OTHERS = ["application/json", "text/plain", "application/grpc-web", "application/grpc-web+proto", "application/grpcx",
          "application", "", "Application/grpc2"]  # fmt: skip


def _http(
    peer: Peer, verb: str, path: str, body: bytes = b"", headers: Iterable[Field] = (), *, end: bool = True
) -> int:
    """Sends a plain request; its stream."""
    stream = peer.stream()
    fields = [(":method", verb), (":scheme", "http"), (":path", path), (":authority", "test"), *headers]
    flags = frames.END_HEADERS | (frames.END_STREAM if end and not body else 0)
    peer.send(frames.frame(frames.HEADERS, flags, stream, peer.fields(fields)))
    if body:
        peer.send(frames.body(stream, body, end=end))
    return stream


def _status(exchange: Exchange) -> int:
    return int(exchange.heads[0][":status"])


@pytest.mark.parametrize(
    "value", ["application/grpc", "application/grpc+proto", "application/grpc+json", "application/grpc;charset=utf-8"]
)
@pytest.mark.parametrize("path", [ECHO, STREAM])
def test_call_may_say_which_kind_of_grpc_it_is(peer: Peer, path: str, value: str) -> None:
    stream = peer.stream()
    head = peer.head(stream, path, base=[("content-type", value), ("te", "trailers")])
    peer.send(head + frames.body(stream, frames.message(b"x")))
    assert peer.wait(stream).messages == [b"x"]


@only_native
def test_call_need_not_say_that_it_takes_trailers(peer: Peer) -> None:
    stream = peer.stream()
    peer.send(peer.head(stream, ECHO, base=[("content-type", "application/grpc")]))
    peer.send(frames.body(stream, frames.message(b"x")))
    assert peer.wait(stream).messages == [b"x"]


@only_native
@pytest.mark.parametrize("value", OTHERS)
@pytest.mark.parametrize("path", [ECHO, STREAM])
def test_other_content_type_on_a_method_is_unsupported(table: TableServer, peer: Peer, path: str, value: str) -> None:
    exchange = peer.wait(_http(peer, "POST", path, frames.message(b"x"), [("content-type", value)]))
    assert _status(exchange) == 415
    assert b"application/grpc" in exchange.body
    assert "grpc-status" not in exchange.heads[0]


@only_native
def test_method_without_a_content_type_is_unsupported_and_refused_at_once(peer: Peer) -> None:
    assert _status(peer.wait(_http(peer, "POST", ECHO, end=False))) == 415


@only_native
@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_other_verb_on_a_method_is_for_the_application(peer: Peer, verb: str) -> None:
    exchange = peer.wait(_http(peer, verb, ECHO, headers=[("content-type", "application/grpc")]))
    assert json.loads(exchange.body) == {"method": verb, "path": ECHO, "size": 0}


@pytest.mark.parametrize("verb", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("value", ["application/json", "application/grpc-web"])
def test_what_is_no_call_harms_nobody(peer: Peer, verb: str, value: str) -> None:
    peer.ask(ECHO, b"x")
    _http(peer, verb, ECHO, frames.message(b"x"), [("content-type", value)])
    peer.check_lives()


# Plain HTTP/2.


@only_native
def test_plain_request_gets_its_answer(peer: Peer) -> None:
    for size in (0, 1, 100_000, 1_000_000):
        peer.check_lives()
        stream = _http(peer, "POST", "/anything?x=%20", end=False)
        peer.send_body(stream, bytes(size)) if size else peer.send(frames.data(stream, end=True))
        exchange = peer.wait(stream)
        assert (_status(exchange), exchange.ended) == (200, True)
        assert json.loads(exchange.body) == {"method": "POST", "path": "/anything", "size": size}


@only_native
def test_answer_to_head_has_no_body(peer: Peer) -> None:
    exchange = peer.wait(_http(peer, "HEAD", "/anything"))
    assert (_status(exchange), exchange.ended, bytes(exchange.body)) == (200, True, b"")
    assert int(exchange.heads[0]["content-length"]) > 0


@only_native
def test_plain_requests_and_calls_share_a_connection(peer: Peer) -> None:
    streams = [(peer.ask(ECHO, b"x"), _http(peer, "GET", "/x")) for _ in range(100)]
    for call, plain in streams:
        assert peer.wait(call).messages == [b"x"]
        assert _status(peer.wait(plain)) == 200


@only_native
def test_plain_request_whose_caller_leaves_is_dropped(table: TableServer, connect: Connect) -> None:
    peer = connect()
    streams = [_http(peer, "POST", "/hold", b"x") for _ in range(10)]
    streams += [_http(peer, "POST", "/hold", b"x", end=False) for _ in range(10)]
    eventually(lambda: table.tasks()["HttpExchange._run"] == 20, "the application works on them")
    peer.send(*map(frames.reset, streams[::2]))
    eventually(lambda: table.tasks()["HttpExchange._run"] == 10, "those that were reset end")
    peer.close()
    table.check_nothing_left()


@only_native
def test_plain_request_is_answered_before_it_is_complete_where_the_application_likes(peer: Peer) -> None:
    stream = _http(peer, "POST", "/early", end=False)
    assert _status(peer.wait(stream)) == 200
    peer.send(frames.body(stream, bytes(50_000)))
    peer.check_lives()


@only_native
def test_application_that_fails_resets_the_stream(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    assert peer.wait(_http(peer, "GET", "/fail")).reset == frames.INTERNAL_ERROR
    assert peer.wait(_http(peer, "GET", "/nothing")).reset == frames.INTERNAL_ERROR
    peer.check_lives()


@only_native
def test_large_plain_answer_waits_for_its_reader(table: TableServer, connect: Connect) -> None:
    peer = connect({frames.INITIAL_WINDOW_SIZE: 1000}, slow=True)
    stream = _http(peer, "GET", "/large")
    peer.until(lambda: len(peer.exchanges[stream].body) == 1000, "what it takes")
    eventually(lambda: 0 < table.queued() < 3 << 20, "some is waiting, not all of it")
    peer.send(frames.window_update(0, 1 << 30), frames.window_update(stream, 1 << 30))
    assert len(peer.wait(stream).body) == 20 << 20


@only_native
def test_headers_beyond_the_bound_are_refused_in_the_language_of_the_request(peer: Peer) -> None:
    large = [("x-large", "y" * 9000)] * 8
    peer.check_lives()
    exchange = peer.wait(_http(peer, "GET", "/anything", headers=large))
    assert _status(exchange) == 431
    exchange = peer.call(ECHO, b"x", more=large)
    assert (exchange.status, "headers" in exchange.text) == (8, True)
    assert peer.call(ECHO, b"x", more=large[:7]).messages == [b"x"]
