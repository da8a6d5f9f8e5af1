"""What no client library would send: each abuse of HTTP is answered or hung up on, and the server lives and answers right."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from engine import limits
from tests.fakes import Gate
from tests.serving.over_http.bodies import (
    GOOD_REQUEST,
    HEADER_LENGTH,
    SIMPLE,
    check_refused,
    is_right,
    numbers,
    simple_binary,
    simple_body,
)
from tests.serving.over_http.wire import Answer, Connect, Connection, chunked, request
from tests.serving.servers import ServerHere, eventually

BODY = json.dumps(simple_body()).encode()
CHUNKED = request("POST", SIMPLE, Transfer_Encoding="chunked")
LIVE = request("GET", "/livez")


@pytest.fixture(autouse=True)
def _lives(connect: Connect, server: ServerHere) -> Iterator[None]:
    """After each test, the server answers a right request rightly and has nothing left to do."""
    yield
    assert is_right(connect().ask(GOOD_REQUEST))
    eventually(lambda: server.in_flight == 0, "nothing is in flight")


def _head(*lines: str, first: str = f"POST {SIMPLE} HTTP/1.1") -> bytes:
    return "".join(f"{each}\r\n" for each in (first, "Host: localhost", *lines, "")).encode("latin-1")


def _check_hung_up(connection: Connection, status: int, *words: str) -> None:
    """The answer is a refusal, and the connection is closed behind it."""
    answer = connection.read()
    check_refused(answer, status, *words)
    assert answer.headers["connection"] == "close"
    assert connection.is_closed()


# Heads.

FLOOD = [f"X-Header-{index}: {'v' * 1000}" for index in range(70)]


def test_flood_of_headers_is_refused(connect: Connect) -> None:
    connection = connect()
    connection.send_what_it_takes([_head(*FLOOD)])
    _check_hung_up(connection, 431, "request head", f"more than {limits.HTTP_HEADER_BYTES_MAX} bytes")


def test_flood_of_headers_that_trickles_is_refused(connect: Connect) -> None:
    connection = connect()
    connection.send_what_it_takes(f"{each}\r\n".encode() for each in (f"GET {SIMPLE} HTTP/1.1", *FLOOD))
    _check_hung_up(connection, 431, "request head")


def test_header_line_without_an_end_is_refused(connect: Connect) -> None:
    connection = connect()
    connection.send_what_it_takes([b"GET / HTTP/1.1\r\nX-Endless: ", *[b"v" * 4096] * 1000])
    _check_hung_up(connection, 431, "request head")


def test_target_without_an_end_is_refused(connect: Connect) -> None:
    connection = connect()
    connection.send_what_it_takes([b"GET /", *[b"p" * 4096] * 1000])
    _check_hung_up(connection, 431, "request head")


def test_flood_of_headers_behind_a_right_request_is_refused_too(connect: Connect) -> None:
    connection = connect()
    assert is_right(connection.ask(GOOD_REQUEST))
    connection.send_what_it_takes([_head(*FLOOD)])
    _check_hung_up(connection, 431, "request head")


def test_trailers_without_an_end_are_refused_or_hung_up_on(connect: Connect) -> None:
    connection = connect()
    trailers = (f"X-Trailer-{index}: {'v' * 1000}\r\n".encode() for index in range(2000))
    connection.send_what_it_takes([CHUNKED, chunked(BODY)[:-2], *trailers])
    connection.end()
    _check_ends(connection, {200, 400, 413, 431})


def _check_ends(connection: Connection, allowed: set[int]) -> list[Answer]:
    """The answers before the server closes, each of an allowed status."""
    answers = connection.rest()
    assert {each.status for each in answers} <= allowed
    return answers


def test_large_heads_below_the_bound_are_taken(connect: Connect) -> None:
    lines = [*FLOOD[:60], f"Content-Length: {len(BODY)}"]
    assert is_right(connect().ask(_head(*lines), BODY))


def test_half_a_head_that_stops_is_hung_up_on(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S_MAX", 0.05)
    connection = connect()
    connection.send(GOOD_REQUEST[:50])
    assert connection.is_closed()


def test_half_a_body_that_stops_is_refused(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S_MAX", 0.05)
    connection = connect()
    check_refused(connection.ask(GOOD_REQUEST[:-5]), 504, "request body: nothing came for 0.05 s")
    assert connection.is_closed()


def test_connection_that_says_nothing_is_hung_up_on(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_KEEP_ALIVE_S", 0.05)
    assert connect().is_closed()


def test_client_that_leaves_in_the_middle_of_anything_harms_nobody(connect: Connect) -> None:
    for cut in range(1, len(GOOD_REQUEST), 37):
        with connect() as connection:
            connection.send(GOOD_REQUEST[:cut])


MALFORMED = {
    "no method": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "unknown method": b"BREW / HTTP/1.1\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 9": b"GET / HTTP/9.9\r\n\r\n",
    "space in a header's name": b"GET / HTTP/1.1\r\nA b: c\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    "target that is no URL": b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_head_that_is_no_http_is_refused(connect: Connect, case: str, route: str) -> None:
    if (case, route) == ("HTTP/2 preface", "door"):
        pytest.skip("the door lets it in")
    connection = connect()
    connection.send(MALFORMED[case])
    _check_hung_up(connection, 400, "not a valid HTTP request")


# Lengths.


@pytest.mark.parametrize(
    "lines",
    [
        (f"Content-Length: {len(BODY)}", "Content-Length: 5"),
        (f"Content-Length: {len(BODY)}, {len(BODY)}",),
        ("Content-Length: -5",),
        ("Content-Length: 0x10",),
        ("Content-Length: 99999999999999999999999",),
        (f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", f"Content-Length: {len(BODY)}"),
        ("Transfer-Encoding: chunked, gzip",),
        ("Transfer-Encoding: xchunked",),
    ],
)
def test_length_that_may_be_read_in_two_ways_is_refused(connect: Connect, lines: tuple[str, ...]) -> None:
    connection = connect()
    connection.send_what_it_takes([_head(*lines), BODY, LIVE])
    answers = _check_ends(connection, {400})
    assert len(answers) == 1, "what followed was read as a request of its own"


def test_content_length_beyond_the_limit_is_refused_before_the_body_comes(connect: Connect) -> None:
    answer = connect().ask(_head(f"Content-Length: {1 << 40}"))
    check_refused(answer, 413, f"{1 << 40} bytes", f"at most {limits.MESSAGE_BYTES_MAX}", "server.message_bytes_max")


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"-5\r\n", b"5\r\nabc\r\n0\r\n\r\n", b"fffffffffffffffff\r\n", b"5;a\r\nabcdefg"]
)
def test_chunks_that_lie_are_refused(connect: Connect, body: bytes) -> None:
    connection = connect()
    connection.send_what_it_takes([CHUNKED, body, LIVE, LIVE])
    connection.end()
    assert len(_check_ends(connection, {400, 413})) <= 1


def test_body_in_a_few_chunks_is_taken(connect: Connect) -> None:
    assert is_right(connect().ask(CHUNKED, chunked(BODY[:9], BODY[9:10], BODY[10:])))


def test_flood_of_one_byte_chunks_is_refused(connect: Connect) -> None:
    connection = connect()
    connection.send_what_it_takes([CHUNKED, *[b"1\r\n \r\n" * 10_000] * 60])
    _check_hung_up(connection, 413, f"more than {limits.HTTP_CHUNKS_MAX} chunks")


def test_body_that_grows_beyond_the_limit_is_refused(connect: Connect) -> None:
    connection, piece = connect(), chunked(bytes(1 << 20))[: -len(chunked())]
    connection.send_what_it_takes([CHUNKED, *[piece] * 66])
    check_refused(connection.read(), 413, "bytes so far", f"at most {limits.MESSAGE_BYTES_MAX}")


def test_body_longer_than_its_length_is_no_second_request(connect: Connect) -> None:
    connection = connect()
    connection.send_what_it_takes([GOOD_REQUEST, b"tail\r\n\r\n"])
    assert is_right(connection.read())
    assert len(_check_ends(connection, {400})) <= 1


def test_header_length_given_twice_is_read_once(connect: Connect) -> None:
    body, length = simple_binary()
    lines = [f"{HEADER_LENGTH}: {each}" for each in ("5", length)]
    assert connect().ask(_head(*lines, f"Content-Length: {len(body)}"), body).status == 200


# Pipelines.


def test_requests_sent_ahead_are_answered_in_their_order(connect: Connect) -> None:
    connection = connect()
    connection.send(GOOD_REQUEST + LIVE + request("GET", "/none") + GOOD_REQUEST)
    assert is_right(connection.read())
    assert [connection.read().status for _ in range(2)] == [200, 404]
    assert is_right(connection.read())


def test_flood_of_requests_sent_ahead_is_bounded(server: ServerHere, connect: Connect, gate: Gate) -> None:
    connection = connect()
    gated = request("POST", "/v2/models/gated/infer", json.dumps(numbers(1.0)).encode())
    connection.send(gated)
    gate.wait_entered()
    connection.send(b"GET /livez HTTP/1.1\r\n\r\n" * (3 * limits.HTTP_PIPELINE_MAX))
    gate.open()
    connection.end()
    answers = _check_ends(connection, {200})
    assert answers[0].json()["outputs"][0]["data"] == [2.0]
    assert len(answers) == 1 + limits.HTTP_PIPELINE_MAX


# Other protocols.


def test_websocket_upgrade_is_answered_as_a_plain_request_and_closed(connect: Connect) -> None:
    connection = connect()
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAA", "Sec-WebSocket-Version: 13")
    connection.send(_head(*lines, first="GET /v2 HTTP/1.1"))
    assert connection.read().status == 200
    assert connection.is_closed()


def test_upgrade_to_http2_is_not_taken(connect: Connect) -> None:
    connection = connect()
    connection.send(_head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", first="GET /v2 HTTP/1.1"))
    assert connection.read().status == 200
    assert connection.is_closed()


def test_connect_opens_no_tunnel(connect: Connect) -> None:
    connection = connect()
    connection.send_what_it_takes([_head(first="CONNECT example:443 HTTP/1.1"), LIVE])
    answers = _check_ends(connection, {400, 404, 405})
    assert len(answers) == 1


def test_http_1_0_is_answered_and_closed(connect: Connect) -> None:
    connection = connect()
    connection.send(_head(f"Content-Length: {len(BODY)}", first=f"POST {SIMPLE} HTTP/1.0"), BODY)
    assert is_right(connection.read())
    assert connection.is_closed()


def test_client_that_expects_100_continue_is_told_to(connect: Connect) -> None:
    connection = connect()
    connection.send(_head(f"Content-Length: {len(BODY)}", "Expect: 100-continue"))
    assert connection.read().status == 100
    assert is_right(connection.ask(BODY))


def test_client_that_expects_100_continue_for_too_much_is_refused_at_once(connect: Connect) -> None:
    answer = connect().ask(_head(f"Content-Length: {1 << 40}", "Expect: 100-continue"))
    check_refused(answer, 413, f"{1 << 40} bytes")


def test_connection_close_is_obeyed(connect: Connect) -> None:
    connection = connect()
    answer = connection.ask(request("GET", "/livez", Connection="close"))
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert connection.is_closed()


def test_client_that_reads_nothing_is_hung_up_on(
    start: Callable[[str], ServerHere], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(ENORMOUS)
    monkeypatch.setattr(limits, "HTTP_IDLE_S_MAX", 0.05)
    assert server.host.http_port is not None
    sent = request("POST", "/v2/models/enormous/infer", json.dumps(numbers(5000.0)).encode())
    with Connection(server.host.http_port) as silent, Connection(server.host.http_port) as other:
        silent.send(sent)
        eventually(lambda: _answered(server), "the model has answered")
        assert other.ask(LIVE).status == 200
        eventually(lambda: server.run(_connections(server)) == 1, "the silent one is gone")


def _answered(server: ServerHere) -> bool:
    return any(counted.success.count for name, _, counted in server.engine.statistics() if name == "enormous")


async def _connections(server: ServerHere) -> int:
    (http,) = [each for each in server.host._fronts if hasattr(each, "_server") and hasattr(each, "_running")]
    return len(http._server.server_state.connections)


ENORMOUS = """
server: {grpc_port: null, http_port: null, message_bytes_max: 268435456}
functions:
  enormous:
    call: tests.serving.functions:enormous
    inputs: {x: {datatype: FP32, shape: [1, 1]}}
    outputs: {y: {datatype: FP32, shape: [-1, 1000]}}
"""
