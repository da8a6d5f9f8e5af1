"""`grpc-timeout`: how it is read, and that it ends calls wherever they are."""

from __future__ import annotations

import json
import time

import pytest

from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import Connect, only_native
from tests.serving.over_http2.peer import Exchange, Peer
from tests.serving.over_http2.table import ABOUT, COUNT, DIRECT_HOLD, ECHO, HOLD, LAST, STREAM, TAKE, TableServer
from tests.serving.servers import eventually

DEADLINE_EXCEEDED, INVALID_ARGUMENT = 4, 3
SHORT, LONG = ("grpc-timeout", "200m"), ("grpc-timeout", "1H")
UNITS = {"2H": 7200, "3M": 180, "1S": 1, "1500m": 1.5, "2500000u": 2.5, "99999999n": 0.099999999, "00000009S": 9}
MALFORMED = ["", "5", "S", "-1S", "+1S", "1.5S", "123456789S", "1 S", "1s", "1x", "1SS", "1\xb2S", "0x1S", "S1"]


def _remaining_s(exchange: Exchange) -> float:
    return float(json.loads(exchange.messages[0])["remaining_s"])


def _check_ended_by_deadline(exchange: Exchange) -> None:
    """grpcio's server may reset the stream without a word: its clients know their deadlines themselves."""
    if exchange.heads and "grpc-status" in exchange.heads[-1]:
        assert exchange.status == DEADLINE_EXCEEDED
    else:
        assert exchange.reset is not None


@pytest.mark.parametrize("value", UNITS)
def test_timeout_is_read_in_every_unit(peer: Peer, value: str) -> None:
    took_s, exchange = UNITS[value], Exchange()
    while not exchange.body and took_s >= UNITS[value]:  # on a busy machine the shortest may expire
        begun = time.monotonic()
        exchange = peer.call(ABOUT, b"", more=[("grpc-timeout", value)])
        took_s = time.monotonic() - begun
    left_s = _remaining_s(exchange)
    assert UNITS[value] - took_s - 0.01 < left_s <= UNITS[value] + 0.02  # grpcio reckons in milliseconds, rounded up


def test_call_without_a_timeout_has_no_deadline(peer: Peer) -> None:
    assert _remaining_s(peer.call(ABOUT, b"")) == float("inf")


@pytest.mark.parametrize("value", ["99999999H", "99999999M", "9999999H", "5124096H", "2562048H"])
def test_longest_of_timeouts_are_long(peer: Peer, value: str) -> None:
    """99,999,999 hours do not fit 63 bits of nanoseconds."""
    assert _remaining_s(peer.call(ABOUT, b"", more=[("grpc-timeout", value)])) > 1e9


@only_native
@pytest.mark.parametrize("value", MALFORMED)
def test_malformed_timeout_is_refused(peer: Peer, value: str) -> None:
    for path in (ABOUT, STREAM):
        exchange = peer.call(path, b"x", more=[("grpc-timeout", value)])
        assert (exchange.status, "grpc-timeout" in exchange.text) == (INVALID_ARGUMENT, True)


@pytest.mark.parametrize("value", MALFORMED)
def test_malformed_timeout_harms_nobody(peer: Peer, value: str) -> None:
    peer.ask(ECHO, b"x", more=[("grpc-timeout", value)])
    assert peer.call(ECHO, b"good").messages == [b"good"]


@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD, TAKE])
def test_deadline_ends_a_call_that_is_being_served(table: TableServer, peer: Peer, tag: str, path: str) -> None:
    _check_ended_by_deadline(peer.call(path, b"late", more=[SHORT], tag=tag))
    eventually(lambda: table.desk.cancelled[tag] == 1, "the handler is told")


@only_native
@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD, TAKE])
def test_deadline_that_passes_is_told_and_counted(table: TableServer, peer: Peer, path: str) -> None:
    before = table.counted(path).get("DEADLINE_EXCEEDED", 0)
    exchange = peer.call(path, b"late", more=[SHORT])
    assert exchange.status == DEADLINE_EXCEEDED
    assert "deadline" in exchange.text
    assert table.counted(path)["DEADLINE_EXCEEDED"] == before + 1


@pytest.mark.parametrize("value", ["0n", "1n", "0S"])
@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD, TAKE])
def test_call_that_has_expired_on_arrival_ends(peer: Peer, path: str, value: str) -> None:
    _check_ended_by_deadline(peer.call(path, b"too late", more=[("grpc-timeout", value)]))


def test_deadline_ends_a_stream_whose_client_says_nothing(peer: Peer) -> None:
    for path in (STREAM, LAST):
        _check_ended_by_deadline(peer.wait(peer.begin(path, SHORT)))


def test_deadline_ends_a_stream_whose_client_takes_nothing(table: TableServer, connect: Connect, tag: str) -> None:
    peer = connect({frames.INITIAL_WINDOW_SIZE: 1000}, slow=True)
    peer.ask(COUNT, b"1000000 100000", more=[SHORT], tag=tag)
    eventually(lambda: table.desk.cancelled[tag] == 1, "the handler is told")


def test_deadline_counts_from_the_head_not_from_the_end_of_the_request(peer: Peer) -> None:
    stream = peer.begin(ABOUT, ("grpc-timeout", "10S"))
    time.sleep(0.1)
    peer.send(frames.body(stream, frames.message(b"")))
    assert _remaining_s(peer.wait(stream)) < 9.92


def test_deadlines_end_only_their_own_calls(table: TableServer, peer: Peer) -> None:
    long = [peer.ask(path, b"in time", more=[LONG]) for path in (HOLD, DIRECT_HOLD)]
    short = [peer.ask(path, b"late", more=[SHORT]) for path in (HOLD, DIRECT_HOLD)]
    for each in short:
        _check_ended_by_deadline(peer.wait(each))
    table.open()
    table.answer_held()
    assert [peer.wait(each).messages for each in long] == [[b"in time"], [b"in time"]]
    table.do(table.desk.open.clear)


@only_native
def test_deadline_ends_a_call_whose_request_never_becomes_complete(table: TableServer, peer: Peer) -> None:
    stream = peer.begin(ECHO, SHORT)
    peer.send(frames.data(stream, frames.message(b"x" * 100)[:50]))
    assert table.native is not None
    while not peer.exchanges[stream].over:
        table.do(table.native._sweep)
        peer.read_now(0.05)
    assert peer.wait(stream).status == DEADLINE_EXCEEDED
