"""One HTTP/2 connection by bytes alone: windows, limits, odd frames, and cuts at any byte. Both engines' wires."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.headers import HeadCache, literal, request_block
from benchmarks.load.http2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    Http2Wire,
    call_templates,
    frame,
    settings_payload,
)
from benchmarks.load.wire import Wire, WireError
from tests.benchmarks.load.native_wire import NativeWire

BLOCK = request_block(path="/a.B/C", authority="host:1")
OPENING = b"\x88" + literal("content-type", "application/grpc")
Frame = tuple[int, int, int, bytes]


def trailers(status: int) -> bytes:
    return literal("grpc-status", str(status))


def answer(stream_id: int, status: int = 0, body: bytes = b"\x00\x00\x00\x00\x01x") -> bytes:
    return (
        frame(HEADERS, END_HEADERS, stream_id, OPENING)
        + frame(DATA, 0, stream_id, body)
        + frame(HEADERS, END_HEADERS | END_STREAM, stream_id, trailers(status))
    )


Make = Callable[[bytes, int, int], Wire]


def python_wire(body: bytes, window_bytes: int, first_id: int) -> Wire:
    templates = call_templates(BLOCK, [body])
    return Http2Wire(block=BLOCK, templates=templates, heads=HeadCache(), window_bytes=window_bytes, first_id=first_id)


def native_wire(body: bytes, window_bytes: int, first_id: int) -> Wire:
    return NativeWire(block=BLOCK, body=body, window_bytes=window_bytes, first_id=first_id)


@pytest.fixture(scope="module", params=[python_wire, native_wire])
def make(request: pytest.FixtureRequest) -> Make:
    """What makes a wire: the one in Python or the one in C++."""
    made: Make = request.param
    return made


def wire(make: Make, body: bytes = b"\x00\x00\x00\x00\x02hi", window_bytes: int = 2**31 - 1, first_id: int = 1) -> Wire:
    return make(body, window_bytes, first_id)


def taken(one: Wire) -> list[Frame]:
    """The frames in `outgoing`, which is emptied."""
    data = b"".join(one.outgoing).removeprefix(PREFACE)
    one.outgoing.clear()
    frames: list[Frame] = []
    while data:
        high, low, kind, flags, stream_id = struct.unpack_from(">HBBBI", data)
        size = high << 8 | low
        frames.append((kind, flags, stream_id, data[9 : 9 + size]))
        data = data[9 + size :]
    return frames


def opened(make: Make, *tags: int, window_bytes: int = 2**31 - 1) -> Wire:
    """A wire past its greeting with these requests in flight; streams are 1, 3, 5..."""
    one = wire(make, window_bytes=window_bytes)
    one.receive(frame(SETTINGS, 0, 0))
    for tag in tags:
        one.submit(tag)
    taken(one)
    return one


def test_connection_opens_with_preface_and_a_header_table_of_size_zero(make: Make) -> None:
    one = wire(make)
    assert b"".join(one.outgoing).startswith(PREFACE)
    kind, _, _, payload = taken(one)[0]
    assert kind == SETTINGS
    assert struct.pack(">HI", 1, 0) in payload


def test_request_is_one_headers_and_one_data_frame_on_odd_streams(make: Make) -> None:
    one = wire(make)
    taken(one)
    one.submit(0)
    one.submit(1)
    body = b"\x00\x00\x00\x00\x02hi"
    assert taken(one) == [
        (HEADERS, END_HEADERS, 1, BLOCK),
        (DATA, END_STREAM, 1, body),
        (HEADERS, END_HEADERS, 3, BLOCK),
        (DATA, END_STREAM, 3, body),
    ]


@given(st.data())
def test_answers_are_the_same_wherever_the_bytes_are_cut(make: Make, data: st.DataObject) -> None:
    stream = frame(PING, 0, 0, bytes(8)) + answer(1) + answer(5, 8) + frame(RST_STREAM, 0, 3, struct.pack(">I", 8))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    one = opened(make, 10, 11, 12)
    parts = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [found for part in parts for found in one.receive(part)] == [(10, 0), (12, 8), (11, 1)]


def test_settings_and_pings_are_acknowledged(make: Make) -> None:
    one = wire(make)
    taken(one)
    one.receive(frame(SETTINGS, 0, 0) + frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, bytes(8)))
    assert taken(one) == [(SETTINGS, ACK, 0, b""), (PING, ACK, 0, b"12345678")]


def test_streams_stay_within_the_servers_limit(make: Make) -> None:
    one = wire(make)
    one.receive(frame(SETTINGS, 0, 0, settings_payload({MAX_CONCURRENT_STREAMS: 2})))
    one.submit(0)
    assert one.room()
    one.submit(1)
    assert not one.room()
    one.receive(answer(1))
    assert one.room()


def test_body_waits_for_the_stream_window_and_then_for_the_connection_window(make: Make) -> None:
    body = bytes(100_000)
    one = wire(make, body)
    one.receive(frame(SETTINGS, 0, 0, settings_payload({INITIAL_WINDOW_SIZE: 30_000})))
    taken(one)
    one.submit(0)
    assert sum(len(payload) for kind, *_, payload in taken(one) if kind == DATA) == 30_000
    one.receive(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 70_000)))
    assert sum(len(payload) for kind, *_, payload in taken(one) if kind == DATA) == 35_535
    one.receive(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 70_000)))
    rest = [found for found in taken(one) if found[0] == DATA]
    assert sum(len(payload) for *_, payload in rest) == 100_000 - 65_535
    assert [flags for _, flags, _, _ in rest][-1] == END_STREAM
    assert all(len(payload) <= 16_384 for *_, payload in rest)


def test_later_request_does_not_overtake_the_window_that_an_earlier_one_waits_for(make: Make) -> None:
    one = wire(make, bytes(40_000))
    one.receive(frame(SETTINGS, 0, 0))
    one.submit(0)
    one.submit(1)
    sent = [found for found in taken(one) if found[0] == DATA]
    assert sum(len(payload) for *_, payload in sent) == 65_535
    one.receive(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**20)))
    sent += [found for found in taken(one) if found[0] == DATA]
    assert sum(len(payload) for *_, payload in sent) == 80_000


def test_smaller_initial_window_holds_back_open_streams_and_larger_frames_are_used(make: Make) -> None:
    one = wire(make, bytes(60_000))
    one.receive(frame(SETTINGS, 0, 0, settings_payload({INITIAL_WINDOW_SIZE: 10_000, MAX_FRAME_SIZE: 40_000})))
    one.submit(0)
    taken(one)
    one.receive(frame(SETTINGS, 0, 0, settings_payload({INITIAL_WINDOW_SIZE: 5_000})))
    one.receive(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 5_000)))
    assert not [found for found in taken(one) if found[0] == DATA]
    one.receive(frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 50_000)))
    assert [len(payload) for kind, *_, payload in taken(one) if kind == DATA] == [40_000, 10_000]


def test_credit_is_returned_to_stream_and_connection(make: Make) -> None:
    one = opened(make, 0, window_bytes=20_000)
    one.receive(frame(HEADERS, END_HEADERS, 1, OPENING) + frame(DATA, 0, 1, bytes(12_000)))
    updates = {stream_id: payload for kind, _, stream_id, payload in taken(one) if kind == WINDOW_UPDATE}
    assert updates == {0: struct.pack(">I", 12_000), 1: struct.pack(">I", 12_000)}


def test_header_block_may_come_in_parts_padded_and_with_priority(make: Make) -> None:
    one = opened(make, 7)
    block = trailers(5)
    padded = bytes([3]) + bytes(5) + block[:4] + bytes(3)
    stream = (
        frame(HEADERS, PADDED | WITH_PRIORITY | END_STREAM, 1, padded)
        + frame(CONTINUATION, 0, 1, block[4:8])
        + frame(CONTINUATION, END_HEADERS, 1, block[8:])
    )
    assert one.receive(stream) == [(7, 5)]


def test_trailers_only_answer_carries_its_status(make: Make) -> None:
    block = OPENING + literal("grpc-status", "12")
    assert opened(make, 4).receive(frame(HEADERS, END_HEADERS | END_STREAM, 1, block)) == [(4, 12)]


def test_http_error_is_kept_as_its_code(make: Make) -> None:
    block = literal(":status", "503")
    assert opened(make, 4).receive(frame(HEADERS, END_HEADERS | END_STREAM, 1, block)) == [(4, 503)]
    with_body = frame(HEADERS, END_HEADERS, 1, block) + frame(DATA, END_STREAM, 1, b"busy")
    assert opened(make, 4).receive(with_body) == [(4, 503)]


def test_answer_without_grpc_status_is_unknown(make: Make) -> None:
    head, rest = frame(HEADERS, END_HEADERS, 1, OPENING), literal("x", "y")
    assert opened(make, 4).receive(head + frame(DATA, END_STREAM, 1)) == [(4, 2)]
    assert opened(make, 4).receive(head + frame(HEADERS, END_HEADERS | END_STREAM, 1, rest)) == [(4, 2)]


def test_interim_response_changes_nothing(make: Make) -> None:
    assert opened(make, 4).receive(frame(HEADERS, END_HEADERS, 1, literal(":status", "103")) + answer(1)) == [(4, 0)]


@pytest.mark.parametrize(("code", "status"), [(7, 14), (8, 1), (11, 8), (2, 13)])
def test_reset_stream_fails_with_the_matching_code(make: Make, code: int, status: int) -> None:
    assert opened(make, 4).receive(frame(RST_STREAM, 0, 1, struct.pack(">I", code))) == [(4, status)]


def test_goaway_fails_what_was_not_looked_at_and_lets_the_rest_finish(make: Make) -> None:
    one = opened(make, 20, 21)
    assert one.receive(frame(GOAWAY, 0, 0, struct.pack(">II", 1, 0))) == [(21, 14)]
    assert one.farewell == "the server sent GOAWAY"
    assert not one.room()
    assert not one.spent()
    assert one.receive(answer(1)) == [(20, 0)]
    assert one.spent()


def test_stream_ids_run_out(make: Make) -> None:
    one = wire(make, first_id=2**31 - 3)
    one.receive(frame(SETTINGS, 0, 0))
    one.submit(6)
    assert one.room()
    one.submit(7)
    assert not one.room()
    assert one.farewell == "the connection ran out of stream ids"
    assert one.receive(answer(2**31 - 1) + answer(2**31 - 3)) == [(7, 0), (6, 0)]
    assert one.spent()


def test_request_that_is_answered_before_it_is_sent_whole_is_cut_off(make: Make) -> None:
    one = wire(make, bytes(100_000))
    one.receive(frame(SETTINGS, 0, 0))
    one.submit(3)
    taken(one)
    assert one.receive(frame(HEADERS, END_HEADERS | END_STREAM, 1, OPENING + trailers(8))) == [(3, 8)]
    assert taken(one) == [(RST_STREAM, 0, 1, struct.pack(">I", 8))]
    one.receive(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 100_000)))
    assert taken(one) == []


def test_lost_connection_fails_all_open_requests(make: Make) -> None:
    one = opened(make, 20, 21)
    assert sorted(one.lose()) == [(20, 14), (21, 14)]
    assert not one.room()
    assert one.spent()


def test_unknown_frames_and_unknown_streams_are_skipped(make: Make) -> None:
    assert opened(make, 4).receive(frame(0xEE, 0, 1, b"?") + answer(99)) == []


@pytest.mark.parametrize(
    "bad",
    [
        frame(CONTINUATION, END_HEADERS, 1, b"\x88"),
        frame(PING, 0, 0, b"12345678")[:3] + bytes([RST_STREAM]) + bytes(5) + bytes(8),
        frame(HEADERS, END_HEADERS, 1, b"\xbe"),
        frame(HEADERS, END_HEADERS | PADDED, 1, b""),
        b"\x7f\xff\xff\x00\x00\x00\x00\x00\x01",
    ],
)
def test_broken_protocol_is_an_error_of_the_wire(make: Make, bad: bytes) -> None:
    with pytest.raises(WireError) as caught:
        opened(make, 3, 4).receive(answer(3, 5) + bad)
    assert caught.value.answers == [(4, 5)]


BLOCKS = st.sampled_from(
    [
        OPENING,
        trailers(0),
        trailers(8),
        OPENING + trailers(12),
        literal(":status", "503"),
        literal(":status", "103"),
        b"\xbe",
    ]
)
CHANGES = st.dictionaries(st.integers(1, 7), st.sampled_from([0, 1, 2, 9, 100, 16_384, 40_000, 65_535, 2**31 - 1]))
PAYLOADS = st.one_of(
    BLOCKS,
    CHANGES.map(settings_payload),
    st.integers(0, 2**31 - 1).map(lambda number: struct.pack(">I", number)),
    st.tuples(st.integers(0, 8), st.integers(0, 12)).map(lambda pair: struct.pack(">II", *pair)),
    st.binary(max_size=40),
    st.integers(0, 16_384).map(bytes),
)
KINDS = st.sampled_from([*range(10), HEADERS, DATA, SETTINGS, WINDOW_UPDATE, 0xEE])
FLAGS = st.sampled_from(
    [0, END_STREAM, END_HEADERS, END_STREAM | END_HEADERS, PADDED | END_HEADERS, WITH_PRIORITY, 0xFF]
)
FRAMES = st.builds(frame, KINDS, FLAGS, st.sampled_from([0, 1, 3, 5, 7]), PAYLOADS)
STEPS = st.lists(st.one_of(FRAMES, FRAMES, FRAMES, st.none(), st.binary(max_size=20)), max_size=30)


@given(STEPS, st.sampled_from([10, 20_000, 70_000]), st.sampled_from([100, 65_535, 2**31 - 1]))
def test_both_wires_do_the_same_whatever_comes(steps: list[bytes | None], body_bytes: int, window_bytes: int) -> None:
    """A step is bytes from the server, mostly a frame, or None for one more request of ours."""
    python, native = (make(bytes(body_bytes), window_bytes, 1) for make in (python_wire, native_wire))
    for tag, step in enumerate(steps):
        told = [step_taken(each, tag, step) for each in (python, native)]
        assert told[0] == told[1]
        if told[0][0] == "broken":
            break
    assert sorted(python.lose()) == sorted(native.lose())


def step_taken(one: Wire, tag: int, step: bytes | None) -> tuple[object, ...]:
    """Everything that can be seen of a wire after one step."""
    answers: list[tuple[int, int]] = []
    try:
        if step is not None:
            answers = one.receive(step)
        elif one.room():
            one.submit(tag)
    except WireError as error:
        return "broken", sorted(error.answers)
    sent = b"".join(one.outgoing)
    one.outgoing.clear()
    return sorted(answers), sent, one.room(), one.spent(), one.farewell
