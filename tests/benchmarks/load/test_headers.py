"""Header blocks: ours can be read by any decoder, theirs are read alone, by both engines alike."""

import contextlib
from collections.abc import Callable

import pytest
from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.headers import HEADS_MAX, Head, HeadCache, HeaderError, literal, read_head, request_block
from tests.benchmarks.load.native_wire import read_head_natively

Read = Callable[[bytes], Head]
readers = pytest.mark.parametrize("read", [read_head, read_head_natively])


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


def encoded(*fields: tuple[str, str], huffman: bool) -> bytes:
    """A block as a server writes it that was told a table of size zero."""
    encoder = Encoder()
    encoder.header_table_size = 0
    block: bytes = encoder.encode(fields, huffman=huffman)
    return block


@readers
@pytest.mark.parametrize("huffman", [True, False])
def test_response_heads_are_read_with_and_without_huffman(read: Read, huffman: bool) -> None:
    fields = ((":status", "200"), ("grpc-status", "8"), ("grpc-message", "no room"))
    assert read(encoded(*fields, huffman=huffman)) == Head(200, 8)


@readers
@pytest.mark.parametrize("huffman", [True, False])
def test_every_status_is_read(read: Read, huffman: bool) -> None:
    for status in range(17):
        assert read(encoded(("grpc-status", str(status)), huffman=huffman)) == Head(None, status)
    for status in range(100, 600):
        assert read(encoded((":status", str(status)), huffman=huffman)) == Head(status, None)


@readers
@pytest.mark.parametrize(
    "bad",
    [
        b"\xbe",  # an entry of the dynamic table
        b"\x3f\xe1\x1f",  # a larger dynamic table
        literal("grpc-status", "eight"),
        literal("grpc-status", ""),
        literal("grpc-status", "8")[:-1],
        b"\x00\x0bgrpc-status",
        b"\x00\x0bgrpc-status\x81\x1f",  # Huffman, but "a"
        b"\x00\x0bgrpc-status\x81\x00",  # Huffman, padded with zeros
        b"\xff\xff\xff\xff\xff\xff\x7f",
    ],
)
def test_damaged_block_is_refused(read: Read, bad: bytes) -> None:
    with pytest.raises(HeaderError):
        read(bad)


NAMES = st.sampled_from([":status", "grpc-status", "grpc-message", "content-type", "date", "x-trace"])
FIELDS = st.lists(st.tuples(NAMES, st.text(st.characters(min_codepoint=32, max_codepoint=126))), max_size=6)


@given(FIELDS, st.integers(100, 599), st.integers(0, 16), st.booleans())
def test_both_readers_agree_on_any_block(texts: list[tuple[str, str]], http: int, grpc: int, huffman: bool) -> None:
    numbers = {":status": str(http), "grpc-status": str(grpc)}
    block = encoded(*((name, numbers.get(name, text)) for name, text in texts), huffman=huffman)
    assert read_head_natively(block) == read_head(block)


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_by_the_native_reader(block: bytes) -> None:
    with contextlib.suppress(HeaderError):
        read_head_natively(block)


def test_cache_stays_bounded_when_every_block_differs() -> None:
    cache = HeadCache()
    for number in range(HEADS_MAX + 10):
        assert cache.read(literal("grpc-message", str(number))).grpc_status is None
    assert len(cache.heads) <= HEADS_MAX
