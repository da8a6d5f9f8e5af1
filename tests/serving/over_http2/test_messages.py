"""gRPC's length-prefixed messages in DATA frames: cut anywhere, compressed or not, too many, too few, too large."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import grpc
import pytest

from tests.serving.calls import AS_BYTES
from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import only_native
from tests.serving.over_http2.peer import Exchange, Peer
from tests.serving.over_http2.table import DIRECT, ECHO, LAST, STREAM, TableServer

INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 3, 8, 12, 13
UNARY = [ECHO, DIRECT]
TEXT = b"the quick brown fox " * 50
COMPRESSED = {"gzip": gzip.compress(TEXT), "deflate": zlib.compress(TEXT)}
MESSAGE_BYTES_MAX = 1 << 20


def _say(
    peer: Peer, path: str, body: bytes, *, each: int = frames.FRAME_BYTES, encoding: str | None = None
) -> Exchange:
    """What comes of a call with this body in DATA frames of `each` bytes."""
    stream = peer.stream()
    more = [] if encoding is None else [("grpc-encoding", encoding)]
    peer.send(peer.head(stream, path, *more) + frames.body(stream, body, each=each))
    return peer.wait(stream)


# Where frames cut.


@pytest.mark.parametrize("path", [*UNARY, STREAM])
@pytest.mark.parametrize("each", [1, 2, 3, 4, 5, 6, 7, 1000])
def test_message_may_be_cut_anywhere(peer: Peer, path: str, each: int) -> None:
    assert _say(peer, path, frames.message(TEXT), each=each).messages == [TEXT]


def test_frames_may_arrive_byte_by_byte(peer: Peer) -> None:
    stream = peer.stream()
    sent = peer.head(stream, ECHO) + frames.body(stream, frames.message(b"slowly"), each=4)
    for at in range(len(sent)):
        peer.send(sent[at : at + 1])
    assert peer.wait(stream).messages == [b"slowly"]


@pytest.mark.parametrize("each", [1, 7, 100, 16_384])
def test_many_messages_may_share_frames(peer: Peer, each: int) -> None:
    sent = [b"", b"a", TEXT, b"", b"b" * 3000, b"", b"c"]
    body = b"".join(map(frames.message, sent))
    assert _say(peer, STREAM, body, each=each).messages == sent
    assert _say(peer, LAST, body, each=each).messages == [b"".join(sent)]


def test_thousands_of_small_messages_in_one_packet_keep_their_order(peer: Peer) -> None:
    sent = [b"%d" % index for index in range(5000)]
    stream = peer.stream()
    peer.send(peer.head(stream, STREAM))
    peer.send_body(stream, b"".join(map(frames.message, sent)))
    assert peer.wait(stream).messages == sent


@pytest.mark.parametrize("path", [*UNARY, STREAM])
def test_empty_frames_mean_nothing(peer: Peer, path: str) -> None:
    stream = peer.begin(path)
    for piece in (b"", frames.message(b"whole")[:3], b"", b"", frames.message(b"whole")[3:], b""):
        peer.send(frames.data(stream, piece))
    peer.send(frames.data(stream, end=True))
    assert peer.wait(stream).messages == [b"whole"]


@pytest.mark.parametrize("path", [*UNARY, STREAM])
def test_trailers_of_the_client_end_its_request(peer: Peer, path: str) -> None:
    stream = peer.begin(path)
    peer.send(frames.data(stream, frames.message(b"whole")))
    trailers = peer.fields([("x-checksum", "1")])
    peer.send(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, trailers))
    assert peer.wait(stream).messages == [b"whole"]


# How many.


@only_native
@pytest.mark.parametrize("path", UNARY)
def test_unary_call_without_a_message_is_unimplemented(peer: Peer, path: str) -> None:
    assert peer.call(path).status == UNIMPLEMENTED
    stream = peer.stream()
    peer.send(peer.head(stream, path, end=True))
    assert peer.wait(stream).status == UNIMPLEMENTED


@only_native
@pytest.mark.parametrize("path", UNARY)
@pytest.mark.parametrize("second", [b"two", b""])
def test_unary_call_with_two_messages_is_unimplemented(
    table: TableServer, peer: Peer, tag: str, path: str, second: bytes
) -> None:
    exchange = peer.call(path, b"one", second, tag=tag)
    assert (exchange.status, "one message, got more" in exchange.text) == (UNIMPLEMENTED, True)
    assert not table.desk.began[tag]


@only_native
def test_second_message_is_refused_before_the_request_is_complete(peer: Peer) -> None:
    stream = peer.begin(ECHO)
    peer.send(frames.data(stream, frames.message(b"one") + b"\0"))
    assert peer.wait(stream).status == UNIMPLEMENTED


# Cut.


@only_native
@pytest.mark.parametrize("path", [*UNARY, STREAM])
@pytest.mark.parametrize("size", [1, 4, 5, 8])
def test_message_cut_by_the_end_is_refused(peer: Peer, path: str, size: int) -> None:
    exchange = _say(peer, path, frames.message(b"cut short")[:size])
    assert (exchange.status, "middle of a message" in exchange.text) == (INVALID_ARGUMENT, True)


@only_native
def test_messages_before_the_one_that_is_cut_are_answered(peer: Peer) -> None:
    exchange = _say(peer, STREAM, frames.message(b"one") + frames.message(b"two")[:6])
    assert exchange.status == INVALID_ARGUMENT


# Compressed.


@pytest.mark.parametrize("path", [*UNARY, STREAM])
@pytest.mark.parametrize("encoding", COMPRESSED)
def test_compressed_message_is_unpacked(peer: Peer, path: str, encoding: str) -> None:
    body = frames.message(COMPRESSED[encoding], flag=1)
    assert _say(peer, path, body, encoding=encoding).messages == [TEXT]
    assert _say(peer, path, body, encoding=encoding, each=3).messages == [TEXT]


@pytest.mark.parametrize("path", [*UNARY, STREAM])
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_message_may_be_plain_whatever_the_encoding(peer: Peer, path: str, encoding: str) -> None:
    assert _say(peer, path, frames.message(TEXT), encoding=encoding).messages == [TEXT]


def test_compressed_and_plain_messages_mix(peer: Peer) -> None:
    body = frames.message(b"plain") + frames.message(COMPRESSED["gzip"], flag=1) + frames.message(b"")
    assert _say(peer, STREAM, body, encoding="gzip").messages == [b"plain", TEXT, b""]


@only_native
@pytest.mark.parametrize("path", [*UNARY, STREAM])
@pytest.mark.parametrize("encoding", ["snappy", "br", "GZIP", "gzip,deflate", "zstd"])
def test_unknown_compression_is_unimplemented_and_what_is_known_is_told(peer: Peer, path: str, encoding: str) -> None:
    exchange = _say(peer, path, frames.message(COMPRESSED["gzip"], flag=1), encoding=encoding)
    assert exchange.status == UNIMPLEMENTED
    accepted = exchange.heads[0]["grpc-accept-encoding"].replace(" ", "").split(",")
    assert set(accepted) == {"identity", "deflate", "gzip"}


@pytest.mark.parametrize("path", [*UNARY, STREAM])
@pytest.mark.parametrize("encoding", [None, "identity"])
def test_compressed_message_without_a_compression_is_internal(peer: Peer, path: str, encoding: str | None) -> None:
    assert _say(peer, path, frames.message(COMPRESSED["gzip"], flag=1), encoding=encoding).status == INTERNAL


@only_native
@pytest.mark.parametrize("path", [*UNARY, STREAM])
@pytest.mark.parametrize(
    "content", [b"", b"not gzip at all", COMPRESSED["gzip"][:-5]], ids=["empty", "of another kind", "cut"]
)
def test_broken_compressed_content_is_refused(peer: Peer, path: str, content: bytes) -> None:
    assert _say(peer, path, frames.message(content, flag=1), encoding="gzip").status == INVALID_ARGUMENT


@pytest.mark.parametrize("path", [*UNARY, STREAM])
def test_small_message_that_unpacks_beyond_the_bound_is_refused(peer: Peer, path: str) -> None:
    bomb = gzip.compress(bytes(50 * MESSAGE_BYTES_MAX))
    stream = peer.stream()
    peer.send(peer.head(stream, path, ("grpc-encoding", "gzip")))
    peer.send_body(stream, frames.message(bomb, flag=1))
    assert peer.wait(stream).status == RESOURCE_EXHAUSTED


@only_native
@pytest.mark.parametrize("flag", [2, 3, 127, 128, 255])
def test_flag_without_a_meaning_is_internal(peer: Peer, flag: int) -> None:
    for path in (*UNARY, STREAM):
        exchange = _say(peer, path, frames.message(b"x", flag=flag))
        assert (exchange.status, str(flag) in exchange.text) == (INTERNAL, True)


def test_clients_that_compress_are_understood(table: TableServer, channel: grpc.Channel) -> None:
    for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert channel.unary_unary(DIRECT, *AS_BYTES)(TEXT, compression=algorithm) == TEXT
        assert list(channel.stream_stream(STREAM, *AS_BYTES)(iter([TEXT, b""]), compression=algorithm)) == [TEXT, b""]


# Too large.


@pytest.mark.parametrize("path", [*UNARY, STREAM])
@pytest.mark.parametrize("size", [MESSAGE_BYTES_MAX + 1, 2**31, 2**32 - 1])
def test_message_over_the_limit_is_refused_before_it_is_sent(peer: Peer, path: str, size: int) -> None:
    stream = peer.begin(path)
    peer.send(frames.data(stream, b"\0" + size.to_bytes(4, "big") + b"the first of it"))
    exchange = peer.wait(stream)
    assert exchange.status == RESOURCE_EXHAUSTED
    assert f"{size} vs. {MESSAGE_BYTES_MAX}" in exchange.text
    peer.send(frames.data(stream, b"more of it"))
    assert peer.call(ECHO, b"good").messages == [b"good"]


@pytest.mark.parametrize("path", [*UNARY, STREAM, LAST])
def test_message_of_exactly_the_limit_is_taken_and_given(peer: Peer, path: str) -> None:
    content = bytes(range(256)) * (MESSAGE_BYTES_MAX // 256)
    stream = peer.begin(path)
    peer.send_body(stream, frames.message(content))
    assert peer.wait(stream).messages == [content]


@only_native
def test_answer_over_the_limit_is_refused(peer: Peer) -> None:
    half = b"x" * (MESSAGE_BYTES_MAX // 2 + 1)
    stream = peer.begin(LAST)
    peer.send_body(stream, frames.message(half) * 2)
    exchange = peer.wait(stream)
    assert (exchange.status, "answer larger than max" in exchange.text) == (RESOURCE_EXHAUSTED, True)


@pytest.mark.parametrize("path", [DIRECT, STREAM])
def test_64_mib_travel_both_ways(serve: Callable[..., TableServer], path: str) -> None:
    size = 64 << 20
    table = serve(message_bytes_max=size)
    content = bytes(range(251)) * (size // 251) + bytes(size % 251)
    with Peer(table.port) as peer:
        stream = peer.begin(path)
        peer.send_body(stream, frames.message(content))
        (answer,) = peer.wait(stream).messages
    assert answer == content
    table.check_nothing_left()
