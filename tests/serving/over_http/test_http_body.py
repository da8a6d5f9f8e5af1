"""Bodies: read within bounds, unpacked and packed."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Cancelled, DeadlineExceeded, InvalidArgument, TooLarge, limits
from serving.http_body import Receive, UnknownEncoding, chosen_encoding, pack, read_body, unpack

MAX = 1 << 20
LARGE = bytes(range(256)) * 2048


def _unpacked(body: bytes, encoding: str, bytes_max: int = MAX) -> bytes:
    return asyncio.run(unpack(body, encoding, bytes_max))


def _part(body: bytes, *, more: bool) -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def _parts(*bodies: bytes) -> list[MutableMapping[str, Any]]:
    return [_part(each, more=index < len(bodies)) for index, each in enumerate(bodies, 1)]


def _receive(messages: list[MutableMapping[str, Any]]) -> Receive:
    waiting = iter(messages)

    async def receive() -> MutableMapping[str, Any]:
        return next(waiting)

    return receive


async def _never() -> MutableMapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


def _read(messages: list[MutableMapping[str, Any]], declared: int | None = None, bytes_max: int = MAX) -> bytes:
    return asyncio.run(read_body(_receive(messages), declared, bytes_max))


# Reading.


@pytest.mark.parametrize("bodies", [(b"",), (b"abc",), (b"a", b"", b"bc"), (b"", b"")])
def test_body_is_all_its_parts(bodies: tuple[bytes, ...]) -> None:
    assert _read(_parts(*bodies)) == b"".join(bodies)


def test_body_at_the_bound_is_read_and_one_byte_more_is_not() -> None:
    assert _read(_parts(b"abc", b"de"), bytes_max=5) == b"abcde"
    for messages in (_parts(b"abcdef"), _parts(b"abc", b"def")):
        with pytest.raises(TooLarge, match=r"6 bytes.*at most 5 are allowed \(server.message_bytes_max\)"):
            _read(messages, bytes_max=5)


def test_declared_length_beyond_the_bound_is_refused_before_anything_is_read() -> None:
    with pytest.raises(TooLarge, match="6 bytes, at most 5"):
        asyncio.run(read_body(_never, 6, 5))


def test_body_is_not_read_on_once_it_passes_the_bound() -> None:
    waiting = [*_parts(b"abc", b"def", b"never"), _part(b"", more=False)]
    with pytest.raises(TooLarge):
        _read(waiting[:2], bytes_max=5)


def test_client_that_leaves_before_the_end_has_cancelled() -> None:
    with pytest.raises(Cancelled, match="the client left"):
        _read([_part(b"abc", more=True), {"type": "http.disconnect"}])


def test_client_that_falls_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S_MAX", 0.001)
    with pytest.raises(DeadlineExceeded, match=r"request body: nothing came for 0\.001 s"):
        asyncio.run(read_body(_never, None, MAX))


# Unpacking.


@pytest.mark.parametrize("body", [b"", b"a", LARGE], ids=["empty", "short", "large"])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_what_is_packed_is_unpacked_to_the_same(body: bytes, encoding: str) -> None:
    assert _unpacked(asyncio.run(pack(body, encoding)), encoding) == body


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=6))
def test_gzip_of_many_members_is_all_of_them(members: list[bytes]) -> None:
    assert _unpacked(b"".join(map(gzip.compress, members)), "gzip") == b"".join(members)


def test_members_that_cross_the_window_are_found() -> None:
    members = [LARGE[:60_000], b"", LARGE, b"x" * 200_000]
    packed = b"".join(gzip.compress(each, 0) for each in members)
    assert _unpacked(packed, "gzip") == b"".join(members)


@pytest.mark.parametrize("encoding", ["", "identity", " Identity ", "IDENTITY"])
def test_identity_is_left_as_it_is(encoding: str) -> None:
    assert _unpacked(b"abc", encoding) == b"abc"


@pytest.mark.parametrize("encoding", ["GZIP", " gzip ", "x-gzip"])
def test_encodings_are_known_in_any_case(encoding: str) -> None:
    assert _unpacked(gzip.compress(b"abc"), encoding) == b"abc"


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "gzip;q=1", "\xff" * 500])
def test_unknown_encoding_is_named_with_the_known_ones(encoding: str) -> None:
    with pytest.raises(UnknownEncoding, match=r"is not supported; known: gzip, deflate, identity"):
        _unpacked(b"abc", encoding)


@given(st.binary(max_size=300), st.data())
def test_packed_body_cut_short_anywhere_is_refused(body: bytes, data: st.DataObject) -> None:
    packed = gzip.compress(body)
    with pytest.raises(InvalidArgument, match=r"ends too early"):
        _unpacked(packed[: data.draw(st.integers(0, len(packed) - 1))], "gzip")


@given(st.binary(min_size=1, max_size=100))
def test_what_follows_the_last_member_is_refused(tail: bytes) -> None:
    with pytest.raises(InvalidArgument, match=r"request body: (not what its|its compressed data)"):
        _unpacked(gzip.compress(b"abc") + tail, "gzip")


@pytest.mark.parametrize("size", [1000, 300_000, 5_000_000])
def test_body_that_unpacks_beyond_the_bound_is_refused(size: int) -> None:
    packed = zlib.compress(bytes(size))
    assert len(_unpacked(packed, "deflate", size)) == size
    with pytest.raises(TooLarge, match=f"more once unpacked, at most {size - 1}"):
        _unpacked(packed, "deflate", size - 1)


def test_members_are_bounded() -> None:
    empty = gzip.compress(b"")
    assert _unpacked(empty * limits.GZIP_MEMBERS_MAX, "gzip") == b""
    with pytest.raises(TooLarge, match=f"more than {limits.GZIP_MEMBERS_MAX} compressed members"):
        _unpacked(empty * (limits.GZIP_MEMBERS_MAX + 1), "gzip")


# What to answer with.


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("deflate, gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip;q=0.5, deflate;q=0.8", "deflate"),
        ("gzip ; q=0.5 , deflate ; q=0.4", "gzip"),
        ("gzip;q=0", None),
        ("gzip;q=0, deflate;q=0", None),
        ("gzip;q=0, *", "deflate"),
        ("*", "gzip"),
        ("*;q=0", None),
        ("*;q=0, deflate", "deflate"),
        ("identity", None),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.5", "gzip"),
        ("identity;q=0, gzip;q=0.001", "gzip"),
        ("br, zstd", None),
        ("gzip;q=nan", None),
        ("gzip;q=inf", None),
        ("gzip;q=-1", None),
        ("gzip;q=2", None),
        ("gzip;q=x", None),
        ("gzip;q=", None),
        ("gzip;level=9", "gzip"),
        (";;;,,,=", None),
    ],
)
def test_encoding_of_the_highest_quality_is_chosen(accepted: str, chosen: str | None) -> None:
    assert chosen_encoding(accepted) == chosen


@given(st.text(max_size=60))
def test_no_accept_encoding_is_too_odd_to_choose_by(accepted: str) -> None:
    assert chosen_encoding(accepted) in (None, "gzip", "deflate")
