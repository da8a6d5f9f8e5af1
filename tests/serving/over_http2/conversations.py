"""Right conversations of many kinds as bytes, and what happens to bytes on their way to a server that is hated."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Iterator

from hpack import Encoder

from tests.serving.over_http2 import frames
from tests.serving.over_http2.frames import CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PADDED, frame
from tests.serving.over_http2.peer import GRPC, Field

GREETING = frames.PREFACE + frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 20})


def conversations(unary: str, direct: str, stream: str) -> list[bytes]:
    """What clients say on connections of their own, from the preface on; the paths are those of methods of each kind."""
    encoder = Encoder()

    def block(path: str, *more: Field, verb: str = "POST", base: tuple[Field, ...] = GRPC) -> bytes:
        fields = [(":method", verb), (":scheme", "http"), (":path", path), (":authority", "test"), *base, *more]
        encoded: bytes = encoder.encode(fields)
        return encoded

    def head(number: int, path: str, *more: Field) -> bytes:
        return frame(HEADERS, END_HEADERS, number, block(path, *more))

    text = b"the quick brown fox " * 20
    packed = frames.message(gzip.compress(text), flag=1)
    three = b"".join(map(frames.message, (b"one", b"", text)))
    said: list[bytes] = []

    def say(*pieces: bytes) -> None:
        nonlocal encoder
        said.append(GREETING + frame(frames.SETTINGS, frames.ACK) + b"".join(pieces))
        encoder = Encoder()

    say(*(head(number, path) + frames.body(number, frames.message(text)) for number, path in ((1, unary), (3, direct))))
    say(head(1, direct, ("grpc-timeout", "5S")), frames.body(1, frames.message(b"x" * 3000), each=100))
    say(
        head(1, direct, ("vireo-ledger", "1")), frames.body(1, frames.message(text)),
        head(3, unary, ("traceparent", "00"), ("vireo-", "é"), ("tracestate", "")), frames.body(3, frames.message(text)),
    )  # fmt: skip
    say(head(1, stream), frames.body(1, three), head(3, stream), frames.body(3, three, each=7))
    say(
        head(1, unary, ("grpc-encoding", "gzip")),
        frames.body(1, packed),
        head(3, stream),
        frames.data(3, packed, end=True),
    )
    say(head(1, "/no/such"), frames.body(1, frames.message(b"x")), head(3, unary), frames.reset(3), head(5, stream))
    say(
        frame(HEADERS, 0, 1, (whole := block(unary))[:10]),
        frame(CONTINUATION, 0, 1, whole[10:20]),
        frame(CONTINUATION, END_HEADERS, 1, whole[20:]),
        frame(DATA, PADDED | END_STREAM, 1, frames.padded(frames.message(text), 99)),
    )
    say(
        frames.settings({frames.INITIAL_WINDOW_SIZE: 10, frames.HEADER_TABLE_SIZE: 0}),
        head(1, direct), frames.body(1, frames.message(text)), frames.window_update(1, 5), frames.window_update(0, 5),
        frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 20}), frames.ping(),
    )  # fmt: skip
    say(
        frame(frames.PRIORITY, 0, 3, struct.pack(">IB", 1, 9)), frame(0xFA, 7, 1, b"unknown"),
        head(1, stream), frames.data(1, three[:9]), frames.data(1), frames.data(1, three[9:], end=True), frames.goaway(),
    )  # fmt: skip
    say(
        frame(HEADERS, END_HEADERS | END_STREAM, 1, block("/plain?x=1", verb="GET", base=())),
        frame(HEADERS, END_HEADERS, 3, block("/plain", ("content-length", "3"), verb="POST", base=())),
        frames.data(3, b"abc", end=True),
        frame(HEADERS, END_HEADERS, 5, block(unary, base=(("content-type", "text/plain"),))),
        frames.body(5, text),
    )
    say(b"".join(head(number, unary) + frames.body(number, frames.message(b"x")) for number in range(1, 41, 2)))
    return said


def mutated(right: list[bytes], rng: random.Random) -> bytes:
    """One of them with something wrong; seldom in its preface, else nothing behind that would ever be read."""
    whole = rng.choice(right)
    kept = 0 if rng.random() < 0.02 else len(frames.PREFACE)
    broken = bytearray(whole[kept:])
    for _ in range(rng.choice((1, 1, 1, 2, 4, 10))):
        rng.choice((_flip, _flip, _set, _cut, _double, _insert, _splice, _tell_wrong_size, _shuffle))(
            broken, right, rng
        )
    if rng.random() < 0.2:
        del broken[rng.randrange(len(broken) + 1) :]
    return whole[:kept] + bytes(broken)


def _flip(broken: bytearray, right: list[bytes], rng: random.Random) -> None:
    if broken:
        broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)


def _set(broken: bytearray, right: list[bytes], rng: random.Random) -> None:
    if broken:
        broken[rng.randrange(len(broken))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _cut(broken: bytearray, right: list[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(broken) + 1)
    del broken[at : at + rng.choice((1, 2, 9, 50))]


def _double(broken: bytearray, right: list[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(broken) + 1)
    broken[at:at] = broken[at : at + rng.choice((1, 9, 100))]


def _insert(broken: bytearray, right: list[bytes], rng: random.Random) -> None:
    at = rng.randrange(len(broken) + 1)
    broken[at:at] = rng.randbytes(rng.choice((1, 4, 9, 30)))


def _splice(broken: bytearray, right: list[bytes], rng: random.Random) -> None:
    """Some frames of another conversation among those of this one."""
    mine, others = list(_frames(bytes(broken))), list(_frames(rng.choice(right)[len(frames.PREFACE) :]))
    at = rng.randrange(len(mine) + 1)
    start = rng.randrange(len(others))
    broken[:] = b"".join([*mine[:at], *others[start : start + rng.randrange(1, 6)], *mine[at:]])


def _shuffle(broken: bytearray, right: list[bytes], rng: random.Random) -> None:
    mine = list(_frames(bytes(broken)))
    if len(mine) > 1:
        at, to = rng.randrange(len(mine)), rng.randrange(len(mine))
        mine.insert(to, mine.pop(at))
    broken[:] = b"".join(mine)


def _tell_wrong_size(broken: bytearray, right: list[bytes], rng: random.Random) -> None:
    """A frame, or a gRPC message in it, that says it is larger or smaller than it is."""
    mine = list(_frames(bytes(broken)))
    if not mine:
        return
    at = rng.randrange(len(mine))
    one = bytearray(mine[at])
    where = 2 if rng.random() < 0.6 or len(one) < 14 else 13
    if where < len(one):
        one[where] = (one[where] + rng.choice((-5, -1, 1, 2, 100))) % 256
    mine[at] = bytes(one)
    broken[:] = b"".join(mine)


def _frames(content: bytes) -> Iterator[bytes]:
    """The frames of what may be no frames any more; the last as much as is left."""
    at = 0
    while at < len(content):
        size = int.from_bytes(content[at : at + 3], "big") + frames.HEAD_BYTES
        yield content[at : at + size]
        at += size
