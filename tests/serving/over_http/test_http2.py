"""HTTP over HTTP/2: what it shares with HTTP/1.1 to the letter, and what only streams of one connection can do."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import httpx
import numpy as np
import pytest

from engine import limits
from tests.fakes import PATIENCE_S, Gate
from tests.serving import functions
from tests.serving.models import MEETING
from tests.serving.over_http.bodies import (
    HEADER_LENGTH,
    SIMPLE,
    SUMS,
    check_refused,
    is_right,
    numbers,
    simple_binary,
    simple_body,
    values_of,
)
from tests.serving.over_http.conftest import client_of
from tests.serving.over_http2 import frames
from tests.serving.over_http2.peer import Exchange, Field, Peer
from tests.serving.servers import ServerHere, eventually

pytestmark = pytest.mark.usefixtures("http2")

Start = Callable[[str], ServerHere]
BODY = json.dumps(simple_body()).encode()
GATED = "/v2/models/gated/infer"
MEGABYTE = bytes(1 << 20)


@pytest.fixture
def peer(server: ServerHere) -> Iterator[Peer]:
    """A client that says exactly what it is told to. In the end the server answers it, or others, rightly."""
    assert server.host.http_port is not None
    with Peer(server.host.http_port) as made:
        yield made
    with Peer(server.host.http_port) as fresh:
        assert json.loads(_ask(fresh, "POST", SIMPLE, BODY).body)["outputs"][0]["data"] == SUMS[0]
    eventually(lambda: server.in_flight == 0, "nothing is in flight")


def _begin(peer: Peer, method: str, path: str, *more: Field, end: bool = False) -> int:
    """Opens a request; its stream."""
    stream = peer.stream()
    pseudo = ((":method", method), (":scheme", "http"), (":path", path), (":authority", "test"))
    flags = frames.END_HEADERS | (frames.END_STREAM if end else 0)
    peer.send(frames.frame(frames.HEADERS, flags, stream, peer.fields([*pseudo, *more])))
    return stream


def _ask(peer: Peer, method: str, path: str, body: bytes | None = None, *more: Field) -> Exchange:
    """Sends a request, and what comes of it."""
    stream = _begin(peer, method, path, *more, end=body is None)
    if body is not None:
        peer.send_body(stream, body)
    return peer.wait(stream)


def _begins(exchange: Exchange) -> bool:
    return bool(exchange.heads)


def _status(exchange: Exchange) -> int:
    return int(exchange.heads[0][":status"])


# As over HTTP/1.1.

ASKED: list[tuple[str, str, bytes | None, dict[str, str]]] = [
    ("GET", "/livez", None, {}),
    ("HEAD", "/livez", None, {}),
    ("GET", "/v2", None, {}),
    ("GET", "/v2/models/simple/config", None, {}),
    ("GET", "/docs", None, {"Accept-Encoding": "gzip"}),
    ("GET", "/v2/models/s%69mple?a=b", None, {}),
    ("GET", "/v2/models/%c3%28/ready", None, {}),
    ("GET", "/none", None, {}),
    ("HEAD", "/none", None, {}),
    ("PUT", SIMPLE, BODY, {}),
    ("POST", "/livez", b"", {}),
    ("POST", SIMPLE, BODY, {}),
    ("POST", SIMPLE, gzip.compress(BODY), {"Content-Encoding": "gzip"}),
    ("POST", SIMPLE, BODY, {"Content-Encoding": "br"}),
    ("POST", SIMPLE, b"{", {}),
    ("POST", SIMPLE, simple_binary()[0], {HEADER_LENGTH: simple_binary()[1]}),
    ("POST", "/v2/models/none/infer", BODY, {}),
    ("POST", "/v2/repository/index", b"{}", {}),
    ("POST", SIMPLE, BODY, {"X-Request-Timeout-Ms": "soon"}),
    ("OPTIONS", "/v2", None, {}),
]


@pytest.mark.parametrize("asked", ASKED, ids=range(len(ASKED)))
def test_answer_is_the_same_to_the_letter(
    http: httpx.Client, server: ServerHere, asked: tuple[str, str, bytes | None, dict[str, str]]
) -> None:
    method, path, body, headers = asked
    with httpx.Client(base_url=f"http://127.0.0.1:{server.host.http_port}") as http1:
        first, second = (each.request(method, path, content=body, headers=headers) for each in (http1, http))
    assert (first.http_version, second.http_version) == ("HTTP/1.1", "HTTP/2")
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert _lasting(first) == _lasting(second)


def _lasting(answer: httpx.Response) -> dict[str, str]:
    """The headers, without figures of the moment."""
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.headers["date"])
    return {name: value for name, value in answer.headers.items() if name not in ("date", "server-timing")}


@pytest.mark.parametrize("path", ["/livez", "/docs", "/none", "/v2"])
def test_head_is_answered_without_a_single_frame_of_a_body(peer: Peer, path: str) -> None:
    got, head = _ask(peer, "GET", path), _ask(peer, "HEAD", path)
    assert _status(got) == _status(head)
    assert got.heads[0]["content-length"] == head.heads[0]["content-length"] == str(len(got.body))
    assert (len(head.body), head.reset) == (0, None)
    assert _status(_ask(peer, "GET", "/livez")) == 200


def test_authority_is_the_host_and_another_one_does_not_count(peer: Peer) -> None:
    assert _status(_ask(peer, "GET", "/livez", None, ("host", "elsewhere"))) == 200


def test_trailers_of_a_request_are_passed_over(peer: Peer) -> None:
    stream = _begin(peer, "POST", SIMPLE, ("trailer", "x-sum"))
    peer.send(frames.data(stream, BODY))
    trailers = peer.fields([("x-sum", "1")])
    peer.send(frames.frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, trailers))
    assert json.loads(peer.wait(stream).body)["outputs"][0]["data"] == SUMS[0]


def test_grpc_method_without_grpcs_content_type_says_what_it_takes(http: httpx.Client) -> None:
    answer = http.post("/inference.GRPCInferenceService/ModelInfer", json={})
    check_refused(answer, 415, "content-type is application/grpc")


# Bodies.


@pytest.fixture
def large(start: Start) -> ServerHere:
    """A server that doubles any number of numbers."""
    text = MEETING.replace("meeting", "double").replace("batchable: true", "batchable: false")
    return start(f"server: {{grpc_port: null, http_port: null}}\n{text.replace('[-1, 1]', '[-1]')}")


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
def test_large_bodies_go_both_ways(large: ServerHere, encoding: str) -> None:
    values = np.arange(4 << 20, dtype=np.float32)
    sent = gzip.compress(values.tobytes(), 1) if encoding == "gzip" else values.tobytes()
    headers = {HEADER_LENGTH: "0", "Accept-Encoding": encoding, "Content-Encoding": "identity"}
    if encoding == "gzip":
        headers["Content-Encoding"] = "gzip"
    with client_of(large) as client:
        for _ in range(2):
            answer = client.post("/v2/models/double/infer", content=sent, headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.headers.get("content-encoding", "identity") == encoding
            got = answer.content[int(answer.headers[HEADER_LENGTH]) :]
            np.testing.assert_array_equal(np.frombuffer(got, np.float32), values * 2)


@pytest.mark.parametrize("each", [1, 7, 1000])
def test_body_in_many_small_frames_is_whole(peer: Peer, each: int) -> None:
    stream = _begin(peer, "POST", SIMPLE)
    peer.send(frames.body(stream, BODY, each=each))
    assert json.loads(peer.wait(stream).body)["outputs"][0]["data"] == SUMS[0]


def test_empty_frames_between_the_pieces_are_nothing(peer: Peer) -> None:
    stream = _begin(peer, "POST", SIMPLE)
    for at in range(0, len(BODY), 100):
        peer.send(frames.data(stream) + frames.data(stream, BODY[at : at + 100]))
    peer.send(frames.data(stream, end=True))
    assert json.loads(peer.wait(stream).body)["outputs"][0]["data"] == SUMS[0]


def test_body_that_comes_slowly_is_waited_for_and_others_are_served_meanwhile(peer: Peer) -> None:
    stream = _begin(peer, "POST", SIMPLE)
    for at in range(0, len(BODY), 100):
        peer.send(frames.data(stream, BODY[at : at + 100]))
        assert _status(_ask(peer, "GET", "/livez")) == 200
    peer.send(frames.data(stream, end=True))
    assert json.loads(peer.wait(stream).body)["outputs"][0]["data"] == SUMS[0]


def test_body_that_stops_is_refused_and_the_connection_goes_on(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S_MAX", 0.05)
    stream = _begin(peer, "POST", SIMPLE)
    peer.send(frames.data(stream, BODY[:-1]))
    exchange = peer.wait(stream)
    assert (_status(exchange), json.loads(exchange.body)["error"]) == (504, "request body: nothing came for 0.05 s")
    assert _status(_ask(peer, "GET", "/livez")) == 200


@pytest.mark.parametrize("claimed", [len(BODY) - 1, len(BODY) + 1])
def test_body_of_another_length_than_claimed_is_no_request(peer: Peer, claimed: int) -> None:
    exchange = _ask(peer, "POST", SIMPLE, BODY, ("content-length", str(claimed)))
    assert exchange.reset == frames.PROTOCOL_ERROR
    assert _status(_ask(peer, "GET", "/livez")) == 200


def test_slow_reader_gets_everything_and_holds_up_nobody(large: ServerHere) -> None:
    assert large.host.http_port is not None
    values = np.arange(1 << 20, dtype=np.float32)
    with Peer(large.host.http_port, slow=True) as slow:
        slow.send(frames.window_update(0, 1 << 30))
        stream = _begin(slow, "POST", "/v2/models/double/infer", (HEADER_LENGTH.lower(), "0"))
        slow.send_body(stream, values.tobytes())
        exchange = slow.exchanges[stream]
        slow.until(lambda: len(exchange.body) == frames.WINDOW_BYTES, "as much as it asked for")
        assert _status(_ask(slow, "GET", "/livez")) == 200
        while not exchange.over:
            slow.send(frames.window_update(stream, 100_000))
            slow.read_now(0.001)
        size = int(exchange.heads[0][HEADER_LENGTH.lower()])
        np.testing.assert_array_equal(np.frombuffer(exchange.body[size:], np.float32), values * 2)


# Heads.


def test_flood_of_headers_is_refused_and_the_connection_goes_on(http: httpx.Client) -> None:
    flood = {f"x-header-{index}": "v" * 1000 for index in range(70)}
    check_refused(http.get("/livez", headers=flood), 431, "request head: more than 65536 bytes")
    head = http.head("/livez", headers=flood)
    assert (head.status_code, head.content) == (431, b"")
    few = dict(list(flood.items())[:55])
    assert http.get("/livez", headers=few).status_code == 200


def test_target_without_an_end_is_refused(http: httpx.Client) -> None:
    assert http.get("/" + "p" * 60_000).status_code == 404
    assert http.get("/" + "p" * 65_500).status_code == 431


# Early answers.


def test_body_that_nobody_wants_may_be_sent_to_its_end(peer: Peer) -> None:
    stream = _begin(peer, "POST", "/none")
    exchange = peer.exchanges[stream]
    peer.until(lambda: exchange.over, "the answer, before the body")
    assert (_status(exchange), exchange.reset) == (404, None)
    exchange.ended = False  # goes on, as if it had not seen it
    peer.send_body(stream, MEGABYTE * 20)
    assert exchange.reset is None
    assert _status(_ask(peer, "GET", "/livez")) == 200


def test_uploads_refused_unread_take_nothing_from_those_that_follow(peer: Peer) -> None:
    for _ in range(12):
        stream = _begin(peer, "POST", "/none")
        peer.send_body(stream, MEGABYTE * 3)
        assert _status(peer.wait(stream)) == 404
    assert peer.room(peer.stream()) > 1 << 20
    assert _status(_ask(peer, "POST", SIMPLE, BODY)) == 200


def test_patience_with_an_unwanted_body_ends(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HTTP_IDLE_S_MAX", 0.1)
    server = start(f"server: {{grpc_port: null, http_port: null}}\n{MEETING}")
    assert server.host.http_port is not None
    with Peer(server.host.http_port) as peer:
        stream = _begin(peer, "POST", "/none")
        exchange = peer.wait(stream)
        for _ in range(1000):
            peer.send(frames.data(stream, b"x"))
            peer.read_now(0.005)
            if exchange.reset is not None:
                break
        assert exchange.reset == frames.NO_ERROR
        assert _status(_ask(peer, "GET", "/livez")) == 200


@pytest.mark.parametrize("claimed", [True, False])
def test_body_over_the_limit_is_refused_before_it_has_come(peer: Peer, claimed: bool) -> None:
    size = limits.MESSAGE_BYTES_MAX + 1
    stream = _begin(peer, "POST", SIMPLE, *([("content-length", str(size))] if claimed else []))
    for _ in range(66):
        peer.send_body(stream, MEGABYTE, end=False)
    exchange = peer.wait(stream)
    assert _status(exchange) == 413
    assert ("bytes so far" in json.loads(exchange.body)["error"]) is not claimed


# Those who leave.


@pytest.fixture
def held(http: httpx.Client, gate: Gate) -> Iterator[Future[httpx.Response]]:
    """One request (of value 1) is being computed and held at the gate, where the next ones wait behind it."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit(http.post, GATED, json=numbers(1.0))
        gate.open()


@pytest.mark.parametrize("how", ["reset", "close", "goaway and close"])
def test_request_of_a_client_that_leaves_while_it_waits_is_never_computed(
    server: ServerHere,
    peer: Peer,
    gate: Gate,
    held: Future[httpx.Response],
    how: str,
) -> None:
    gate.wait_entered()
    streams = []
    for value in (2.0, 3.0, 4.0):
        streams.append(_begin(peer, "POST", GATED))
        peer.send_body(streams[-1], json.dumps(numbers(value)).encode())
    eventually(lambda: server.waiting("gated") == 3, "three wait")
    if how == "reset":
        peer.send(*(frames.reset(each) for each in streams))
    else:
        peer.send(frames.goaway() if how == "goaway and close" else b"")
        peer.close()
    eventually(lambda: server.in_flight == 1, "the server has seen that nobody waits")
    gate.open()
    assert values_of(held.result(PATIENCE_S)) == [2.0]
    assert functions.COMPUTED == [1.0]
    if how == "reset":
        assert _status(_ask(peer, "GET", "/livez")) == 200


def test_client_that_leaves_in_the_middle_of_anything_harms_nobody(server: ServerHere, peer: Peer) -> None:
    assert server.host.http_port is not None
    head = frames.frame(frames.HEADERS, frames.END_HEADERS, 1, peer.fields(_whole_head()))
    whole = frames.PREFACE + frames.settings() + head + frames.body(1, BODY, each=100)
    for cut in range(1, len(whole), 41):
        with Peer(server.host.http_port, opening=whole[:cut]):
            pass


def _whole_head() -> list[Field]:
    return [(":method", "POST"), (":scheme", "http"), (":path", SIMPLE), (":authority", "x"), ("a", "b")]


def test_answer_that_nobody_reads_is_dropped_with_its_stream(large: ServerHere) -> None:
    assert large.host.http_port is not None
    with Peer(large.host.http_port, slow=True) as slow:
        for _ in range(5):
            stream = _begin(slow, "POST", "/v2/models/double/infer", (HEADER_LENGTH.lower(), "0"))
            slow.send_body(stream, MEGABYTE * 2)
            slow.until(partial(_begins, slow.exchanges[stream]), "the answer begins")
            slow.send(frames.reset(stream))
        slow.send(frames.window_update(0, 1 << 20))
        assert _status(_ask(slow, "GET", "/livez")) == 200


# Many at once.


def test_requests_of_one_connection_are_answered_as_they_are_ready(
    http: httpx.Client, server: ServerHere, peer: Peer, gate: Gate
) -> None:
    first = _begin(peer, "POST", GATED)
    peer.send_body(first, json.dumps(numbers(1.0)).encode())
    gate.wait_entered()
    for _ in range(10):
        assert _status(_ask(peer, "POST", SIMPLE, BODY)) == 200
    assert not peer.exchanges[first].heads
    gate.open()
    assert json.loads(peer.wait(first).body)["outputs"][0]["data"] == [2.0]


def test_hundreds_at_once_on_one_connection_each_get_their_own_answer(server: ServerHere) -> None:
    async def ask_all() -> list[httpx.Response]:
        url, bounds = f"http://127.0.0.1:{server.host.http_port}", httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(base_url=url, http1=False, http2=True, limits=bounds, timeout=PATIENCE_S) as one:
            return await asyncio.gather(*(one.post(SIMPLE, json=simple_body(id=str(index))) for index in range(300)))

    answers = asyncio.run(ask_all())
    assert all(map(is_right, answers))
    assert [each.json()["id"] for each in answers] == [str(index) for index in range(300)]


# The end.


def test_request_still_computed_when_patience_ends_is_told(start: Start, gate: Gate) -> None:
    text = MEETING.replace("meeting", "gated")
    server = start(f"server: {{grpc_port: null, http_port: null, drain_s: 0.1}}\n{text}")
    assert server.host.http_port is not None
    with Peer(server.host.http_port) as peer, ThreadPoolExecutor() as pool:
        stream = _begin(peer, "POST", GATED)
        peer.send_body(stream, json.dumps(numbers(1.0)).encode())
        gate.wait_entered()
        stopped = pool.submit(server.stop)
        exchange = peer.wait(stream)
        assert (_status(exchange), json.loads(exchange.body)["error"]) == (503, "the server is shutting down")
        gate.open()
        stopped.result(PATIENCE_S)
        assert peer.wait_closed() == [frames.NO_ERROR] * 2
