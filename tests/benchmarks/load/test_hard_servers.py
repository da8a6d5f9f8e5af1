"""Both engines against servers that keep count of every window and then do what servers seldom do."""

import random
import socket
import struct
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.load.frames import join_frames
from benchmarks.load.headers import literal
from benchmarks.load.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PING,
    RST_STREAM,
    frame,
)
from benchmarks.load.order import Engine, LoadOrder
from benchmarks.load.process import run_load
from benchmarks.load.result import LoadResult
from benchmarks.load.samples import Samples, load_samples
from benchmarks.load.statuses import status_name
from tests.benchmarks.load.engines import engine
from tests.benchmarks.load.raw_server import OPENING, Peer, RawServer, Script, answer, refusal

__all__ = ["engine"]  # a fixture

SEED = 11


class Run:
    """One order against a raw server, and everything that came of it."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._folder, self._engine = folder, engine

    def __call__(self, server: RawServer, messages: list[bytes], **changes: object) -> tuple[LoadResult, Samples]:
        frames, samples = self._folder / "requests.frames", self._folder / "samples.npz"
        frames.write_bytes(join_frames(messages))
        order = LoadOrder(
            port=server.port,
            frames=str(frames),
            callers=4,
            duration_s=0.2,
            warmup_s=0.0,
            drain_s=2.0,
            seed=SEED,
            spin_us=500,
            connections=1,
            samples=str(samples),
            engine=self._engine,
        )
        return run_load(replace(order, **changes)), load_samples(samples)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path, engine: Engine) -> Run:
    return Run(tmp_path, engine)


def fine(peer: Peer, stream_id: int, message: bytes) -> None:
    """Answer."""
    peer.answer(stream_id, answer(stream_id))


def test_payloads_rotate_in_order_and_arrive_unharmed(run: Run) -> None:
    messages = [bytes([number]) * size for number, size in enumerate((0, 1, 300, 5000, 16_379, 16_380, 70_000))]
    with RawServer(fine) as server:
        result, samples = run(server, messages)
    assert server.offences == []
    assert result.errors == {}
    assert len(server.messages) == len(samples.status) > 50
    expected = [messages[tag % len(messages)] for tag in range(len(samples.status))]
    assert Counter(server.messages) == Counter(expected)
    assert [message for message in server.messages if len(message) < 6000] == [
        message for message in expected if len(message) < 6000
    ]


def every_ending(peer: Peer, stream_id: int, message: bytes) -> None:
    """What the first byte says."""
    head = frame(HEADERS, END_HEADERS, stream_id, OPENING)
    busy = literal(":status", "503")
    peer.answer(
        stream_id,
        {
            b"o": answer(stream_id),
            b"e": answer(stream_id, status=8),
            b"t": refusal(stream_id, 12),
            b"h": frame(HEADERS, END_HEADERS | END_STREAM, stream_id, busy),
            b"b": frame(HEADERS, END_HEADERS, stream_id, busy) + frame(DATA, END_STREAM, stream_id, b"busy"),
            b"r": head + frame(RST_STREAM, 0, stream_id, struct.pack(">I", 8)),
            b"n": head + frame(DATA, END_STREAM, stream_id, b""),
            b"p": frame(PING, 0, 0, bytes(8)) + answer(stream_id),
        }[message[:1]],
    )


ENDINGS = {
    b"o": "OK", b"e": "RESOURCE_EXHAUSTED", b"t": "UNIMPLEMENTED", b"h": "HTTP 503", b"b": "HTTP 503", b"r": "CANCELLED",
    b"n": "UNKNOWN", b"p": "OK",
}  # fmt: skip


def test_every_ending_is_counted_by_its_request(run: Run) -> None:
    messages = [*ENDINGS, b"o", b"o", b"e"]
    with RawServer(every_ending) as server:
        result, samples = run(server, messages)
    assert server.offences == []
    expected = [ENDINGS[messages[tag % len(messages)]] for tag in range(len(samples.status))]
    assert [status_name(int(status)) for status in samples.status] == expected
    assert len(expected) > 50
    assert result.ok + sum(result.errors.values()) == result.requests


def restless(seed: int) -> Script:
    """Changes its windows and frame size every few requests, in the midst of others, below zero if it comes to that."""
    dice = random.Random(seed)

    def script(peer: Peer, stream_id: int, message: bytes) -> None:
        if peer.served % 5 == 0:
            window, size = dice.choice((97, 1000, 9000, 65_535)), dice.choice((16_384, 20_000, 2**24 - 1))
            peer.change({INITIAL_WINDOW_SIZE: window, MAX_FRAME_SIZE: size})
        peer.answer(stream_id, answer(stream_id, message=message[:3000]))

    return script


def test_tiny_windows_that_move_are_kept_to(run: Run) -> None:
    messages = [bytes([number]) * (1 + 331 * number) for number in range(40)]
    with RawServer(restless(SEED), settings={INITIAL_WINDOW_SIZE: 100}) as server:
        result, samples = run(server, messages, window_bytes=2000)
    assert server.offences == [], f"seed {SEED}"
    assert result.errors == {}, f"seed {SEED}"
    expected = [messages[tag % len(messages)] for tag in range(len(samples.status))]
    assert Counter(server.messages) == Counter(expected)
    assert len(expected) > 20


def echo_mebibyte(peer: Peer, stream_id: int, message: bytes) -> None:
    """A mebibyte back, in frames of every size up to the largest."""
    parts = [message[at : at + 16_384] for at in range(0, len(message), 16_384)]
    head = frame(HEADERS, END_HEADERS, stream_id, OPENING)
    ending = frame(HEADERS, END_HEADERS | END_STREAM, stream_id, literal("grpc-status", "0"))
    peer.answer(stream_id, head + b"".join(frame(DATA, 0, stream_id, part) for part in parts) + ending)


def test_mebibytes_both_ways(run: Run) -> None:
    message = random.Random(SEED).randbytes(2**20)
    with RawServer(echo_mebibyte) as server:
        result, samples = run(server, [message, message[::-1]], connections=2)
    assert server.offences == []
    assert result.errors == {}
    assert len(samples.status) >= 4
    assert set(server.messages) == {message, message[::-1]}


def test_streams_stay_within_the_limit_and_the_rest_wait(run: Run) -> None:
    held: list[int] = []

    def in_threes(peer: Peer, stream_id: int, message: bytes) -> None:
        held.append(stream_id)
        if len(held) == 3:
            while held:
                fine(peer, held.pop(), message)

    with RawServer(in_threes, settings={MAX_CONCURRENT_STREAMS: 3}) as server:
        _, samples = run(server, [b"o"], callers=10, drain_s=0.3)
    assert server.offences == []
    assert np.sum(samples.status == 0) > 50
    assert np.sum(samples.status != 0) <= 2  # fewer than three were left to wait for


def test_goaway_moves_the_load_to_a_new_connection(run: Run) -> None:
    def leaves_after_twenty(peer: Peer, stream_id: int, message: bytes) -> None:
        if peer.served == 20:
            peer.send(frame(GOAWAY, 0, 0, struct.pack(">II", stream_id, 0)))
        fine(peer, stream_id, message)

    with RawServer(leaves_after_twenty) as server:
        result, samples = run(server, [b"o"], rate_per_s=1000.0, callers=None)
    assert server.offences == []
    assert result.generator.reconnects == len(server.peers) - 1 > 3
    assert result.generator.faults == ["the server sent GOAWAY"]
    assert set(result.errors) <= {"UNAVAILABLE"}  # what had left before the news came
    assert np.sum(samples.status == 0) > 100


def test_lost_connections_fail_their_requests_and_are_replaced(run: Run) -> None:
    def breaks_after_twenty(peer: Peer, stream_id: int, message: bytes) -> None:
        fine(peer, stream_id, message)
        if peer.served == 20:
            peer.sock.shutdown(socket.SHUT_RDWR)

    with RawServer(breaks_after_twenty) as server:
        result, samples = run(server, [b"o"], rate_per_s=1000.0, callers=None, connections=2)
    assert server.offences == []
    assert result.generator.reconnects > 3
    assert result.ok + result.errors.get("UNAVAILABLE", 0) == result.requests
    assert np.sum(samples.status == 0) > 100


def test_broken_protocol_fails_its_requests_alone(run: Run) -> None:
    def breaks_once(peer: Peer, stream_id: int, message: bytes) -> None:
        first = peer is server.peers[0] and peer.served == 20
        peer.answer(stream_id, frame(HEADERS, END_HEADERS, stream_id, b"\xbe") if first else answer(stream_id))

    with RawServer(breaks_once) as server:
        result, samples = run(server, [b"o"])
    assert set(result.errors) == {"broken protocol"}
    assert result.generator.reconnects == 1
    assert np.sum(samples.status == 0) > 50


def test_latency_and_lateness_count_from_the_schedule(run: Run) -> None:
    def stalls_once(peer: Peer, stream_id: int, message: bytes) -> None:
        if peer.served == 50:
            time.sleep(0.1)
        fine(peer, stream_id, message)

    with RawServer(stalls_once) as server:
        _, samples = run(server, [b"o"], rate_per_s=1000.0, callers=None)
    gaps = np.diff(samples.due_ns)
    assert np.all(gaps >= 0)
    assert gaps.mean() == pytest.approx(1e6, rel=0.4), f"seed {SEED}"
    assert np.all(samples.sent_ns >= samples.due_ns)
    assert np.all(samples.done_ns >= samples.sent_ns)
    assert np.sum(samples.latency_ns > 20e6) > 40, f"seed {SEED}"


def test_same_seed_gives_both_engines_the_same_schedule(tmp_path: Path) -> None:
    dues = []
    with RawServer(fine) as server:
        for each in Engine:
            _, samples = Run(tmp_path, each)(server, [b"o"], rate_per_s=500.0, callers=None)
            dues.append(samples.due_ns - samples.due_ns[0])
    assert np.array_equal(*dues), f"seed {SEED}"
