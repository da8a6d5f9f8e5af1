"""From when a call's time is counted, where it may have waited in its socket while the server was busy with others."""

from __future__ import annotations

import time

import pytest
from hpack import Encoder

pytest.importorskip("serving.native._wire", reason="the native transport is not built")

from engine import monotonic
from serving.native._wire import Session, Wire
from tests.serving.over_http2.frames import END_HEADERS, HEADERS, PREFACE, SETTINGS, body, frame

MS = 1_000_000


def read_one(wire: Wire, timeout_ms: int) -> tuple[int, int, int]:
    """When reading a call began and ended, and until when it is to be answered."""
    session, encoder = Session(wire), Encoder()
    session.receive(PREFACE + frame(SETTINGS))
    fields = [(":method", "POST"), (":scheme", "http"), (":path", "/a/b"), (":authority", "here"), ("te", "trailers"),
              ("content-type", "application/grpc"), ("grpc-timeout", f"{timeout_ms}m")]  # fmt: skip
    before_ns = monotonic()
    session.receive(frame(HEADERS, END_HEADERS, 1, encoder.encode(fields)) + body(1, bytes(5)))
    after_ns = monotonic()
    (event,) = wire.take(10)
    session.lost()
    return before_ns, after_ns, event[5]


@pytest.fixture
def wire() -> Wire:
    """One with a single method."""
    return Wire(
        {"/a/b": ("b", True, False)}, lambda: None, streams_max=1024, header_bytes_max=65536, window_bytes=65536,
        connection_window_bytes=1 << 20, frame_bytes_max=1 << 20, message_bytes_max=1 << 20, queued_bytes_max=1 << 20,
        linger_ns=0,
    )  # fmt: skip


def test_time_runs_from_the_reading_where_the_server_was_idle(wire: Wire) -> None:
    before_ns, after_ns, deadline_ns = read_one(wire, 1_000)
    assert before_ns <= deadline_ns - 1_000 * MS <= after_ns
    wire.take(10)
    wire.dirty()
    time.sleep(0.01)
    before_ns, after_ns, deadline_ns = read_one(wire, 1_000)
    assert before_ns <= deadline_ns - 1_000 * MS <= after_ns


def test_time_runs_from_when_the_turn_before_began_where_a_call_may_have_come_during_it(wire: Wire) -> None:
    for _ in range(20):  # whoever is interrupted between the two tries again
        begun_ns = monotonic()
        wire.take(10)
        time.sleep(0.03)
        wire.dirty()
        _, after_ns, deadline_ns = read_one(wire, 1_000)
        assert begun_ns <= deadline_ns - 1_000 * MS <= after_ns
        if deadline_ns - 1_000 * MS < begun_ns + 5 * MS:
            return
    raise AssertionError("never counted from the turn before")


def test_half_of_the_time_is_left_at_least(wire: Wire) -> None:
    wire.take(10)
    time.sleep(0.05)
    wire.dirty()
    before_ns, _, deadline_ns = read_one(wire, 20)
    assert deadline_ns >= before_ns + 10 * MS
