"""How answers end: status codes, their texts, trailers; what comes in which order."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest

from tests.serving.calls import AS_BYTES
from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import only_native
from tests.serving.over_http2.peer import Peer
from tests.serving.over_http2.table import CRASH, DIRECT, ECHO, FAIL, NOTHING, SERVICE, STREAM, TableServer

CODES = {
    "Cancelled": 1, "InvalidArgument": 3, "DeadlineExceeded": 4, "NotFound": 5, "ResourceExhausted": 8, "TooLarge": 8,
    "FailedPrecondition": 9, "Unimplemented": 12, "Internal": 13, "Unavailable": 14, "Unauthenticated": 16,
}  # fmt: skip
TEXTS = {
    "plain": "nothing special",
    "percent": "100 % of it, %41 and %zz",
    "lines": "one\r\ntwo\tthree",
    "beyond ASCII": "größer als 3 ☃ 🎿",
    "spaces at the ends": "  kept  ",
    "control characters": "\x00\x01\x7f",
    "long": "é" * 400,
}


@pytest.mark.parametrize("name", CODES)
def test_error_has_the_status_of_its_class(peer: Peer, name: str) -> None:
    exchange = peer.call(FAIL, f"{name}:of course".encode())
    assert (exchange.status, exchange.text) == (CODES[name], "of course")


def test_mistake_of_ours_is_internal_and_told_in_brief(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    exchange = peer.call(CRASH, b"")
    assert (exchange.status, exchange.text) == (13, "internal error: LookupError")
    assert "nobody caught it" in caplog.text
    caplog.clear()


@only_native
def test_mistake_in_the_transport_itself_is_logged_and_all_others_are_served(
    table: TableServer, peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*_: object) -> None:
        raise LookupError("nobody caught it")

    with monkeypatch.context() as broken:
        broken.setattr(table.native, "_opened", crash)
        lost = peer.stream()
        request = peer.head(lost, STREAM) + frames.body(lost, frames.message(b"x"))
        good = peer.stream()
        peer.send(request + peer.head(good, ECHO) + frames.body(good, frames.message(b"x")))
        assert peer.wait(good).messages == [b"x"]
    assert "nobody caught it" in caplog.text
    caplog.clear()
    peer.send(frames.reset(lost))
    assert peer.call(STREAM, b"x").messages == [b"x"]


@pytest.mark.parametrize("name", TEXTS)
def test_text_of_an_error_arrives_whole(table: TableServer, peer: Peer, name: str) -> None:
    text = TEXTS[name]
    exchange = peer.call(FAIL, f"NotFound:{text}".encode())
    assert exchange.status == 5
    assert exchange.text == text
    assert all(" " <= each <= "~" for each in exchange.heads[-1]["grpc-message"])
    with grpc.insecure_channel(table.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(FAIL, *AS_BYTES)(f"NotFound:{text}".encode())
    assert caught.value.details() == text


def test_endless_text_is_cut(peer: Peer) -> None:
    exchange = peer.call(FAIL, b"NotFound:" + "é".encode() * 10_000)
    assert exchange.text.endswith("(20000 bytes)")
    assert len(exchange.text.encode()) < 2500


@pytest.mark.parametrize("path", [SERVICE + "Nope", "/nope", "/", SERVICE, SERVICE + "Echo/", SERVICE + "echo"])
def test_unknown_method_is_unimplemented(peer: Peer, path: str) -> None:
    assert peer.call(path, b"x").status == 12


@only_native
def test_unknown_method_is_named(table: TableServer, peer: Peer) -> None:
    before = table.counted("unknown").get("UNIMPLEMENTED", 0)
    assert peer.call("/no.such/Thing", b"x").text == "unknown method '/no.such/Thing'"
    assert len(peer.call("/" + "x" * 5000, b"x").text) < 300
    assert peer.call("/\xff\xfe", b"x").status == 12
    assert table.counted("unknown")["UNIMPLEMENTED"] == before + 3


def test_unknown_method_is_refused_before_its_request_is_complete(peer: Peer) -> None:
    stream = peer.begin("/no.such/Thing")
    assert peer.wait(stream).status == 12


def test_answer_is_a_head_then_messages_then_trailers(peer: Peer) -> None:
    for path in (ECHO, DIRECT, STREAM):
        exchange = peer.call(path, b"something")
        head, trailers = exchange.heads
        assert exchange.order[0] == "head"
        assert exchange.order[-1] == "head"
        assert set(exchange.order[1:-1]) == {"data"}
        assert exchange.ended
        assert (head[":status"], head["content-type"]) == ("200", "application/grpc")
        assert "grpc-status" not in head
        assert trailers["grpc-status"] == "0"
        assert not any(name.startswith(":") for name in trailers)
        assert exchange.messages == [b"something"]


def test_error_without_a_message_is_trailers_only(peer: Peer) -> None:
    for path, content in ((FAIL, b"NotFound:x"), (STREAM, b"!NotFound:x"), ("/none/such", b"")):
        exchange = peer.call(path, content)
        assert exchange.order == ["head"]
        (only,) = exchange.heads
        assert only[":status"] == "200"
        assert only["content-type"].startswith("application/grpc")
        assert exchange.status != 0


def test_error_after_messages_comes_in_trailers(peer: Peer) -> None:
    exchange = peer.call(STREAM, b"one", b"two", b"!NotFound:no more", b"never")
    assert exchange.messages == [b"one", b"two"]
    assert len(exchange.heads) == 2
    assert (exchange.status, exchange.text) == (5, "no more")


def test_trailing_metadata_stands_beside_the_status(table: TableServer, peer: Peer) -> None:
    asked = [(FAIL, [b"unavailable:soon"]), (STREAM, [b"!unavailable:soon"]), (STREAM, [b"x", b"!unavailable:soon"])]
    for path, contents in asked:
        exchange = peer.call(path, *contents)
        assert exchange.status == 14
        assert exchange.heads[-1]["grpc-retry-pushback-ms"] == "1500"
    with grpc.insecure_channel(table.address) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary(FAIL, *AS_BYTES)(b"unavailable:soon")
    trailing = {str(each.key): str(each.value) for each in caught.value.trailing_metadata() or ()}
    assert trailing["grpc-retry-pushback-ms"] == "1500"


def test_empty_message_is_a_message(peer: Peer) -> None:
    for path in (ECHO, DIRECT, NOTHING, STREAM):
        exchange = peer.call(path, b"")
        assert exchange.status == 0
        assert exchange.messages == [b""]


def test_stream_without_messages_ends_well(peer: Peer) -> None:
    exchange = peer.call(STREAM)
    assert exchange.status == 0
    assert exchange.messages == []


def test_accepted_encodings_are_told(peer: Peer) -> None:
    accepted = {each.strip() for each in peer.call(ECHO, b"").heads[0]["grpc-accept-encoding"].split(",")}
    assert accepted == {"identity", "deflate", "gzip"}


def test_calls_are_counted_by_their_status(serve: Callable[..., TableServer]) -> None:
    server = serve()
    with Peer(server.port) as peer:
        for path in (ECHO, DIRECT, STREAM, STREAM):
            assert peer.call(path, b"x").status == 0
        for path, content in ((FAIL, b"NotFound:x"), (STREAM, b"!NotFound:x")):
            assert peer.call(path, content).status == 5
    assert server.counted(ECHO) == {"OK": 1}
    assert server.counted(STREAM) == {"OK": 2, "NOT_FOUND": 1}
    assert server.counted(FAIL) == {"NOT_FOUND": 1}


def test_bytes_beyond_ascii_in_metadata_harm_nobody(peer: Peer) -> None:
    peer.ask(ECHO, b"x", more=[("x-odd", "\xff\x00")])
    peer.check_lives()
