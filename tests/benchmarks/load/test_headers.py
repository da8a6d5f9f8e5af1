"""Header blocks: ours can be read by any decoder, theirs are read alone."""

import pytest
from hpack import Decoder, Encoder

from benchmarks.load.headers import HEADS_MAX, Head, HeadCache, HeaderError, literal, read_head, request_block


def test_request_block_says_what_a_grpc_call_must_say() -> None:
    long_token = "x" * 5000
    block = request_block(path="/a.B/C", authority="host:1", extra=(("authorization", long_token),))
    decoder = Decoder()
    decoder.max_header_list_size = 20_000
    fields = dict(decoder.decode(block))
    assert fields[":method"] == "POST"
    assert fields[":scheme"] == "http"
    assert fields[":path"] == "/a.B/C"
    assert fields[":authority"] == "host:1"
    assert fields["te"] == "trailers"
    assert fields["content-type"] == "application/grpc"
    assert fields["authorization"] == long_token


def test_request_block_leaves_no_trace_in_the_dynamic_table() -> None:
    decoder = Decoder()
    decoder.decode(request_block(path="/a.B/C", authority="host:1"))
    assert len(decoder.header_table.dynamic_entries) == 0


@pytest.mark.parametrize("huffman", [True, False])
def test_response_heads_are_read_with_and_without_huffman(huffman: bool) -> None:
    encoder = Encoder()
    encoder.header_table_size = 0
    block = encoder.encode([(":status", "200"), ("grpc-status", "8"), ("grpc-message", "no room")], huffman=huffman)
    assert read_head(block) == Head(200, 8)


def test_block_that_leans_on_a_dynamic_table_is_refused() -> None:
    with pytest.raises(HeaderError):
        read_head(b"\xbe")


def test_cache_stays_bounded_when_every_block_differs() -> None:
    cache = HeadCache()
    for number in range(HEADS_MAX + 10):
        assert cache.read(literal("grpc-message", str(number))).grpc_status is None
    assert len(cache.heads) <= HEADS_MAX
