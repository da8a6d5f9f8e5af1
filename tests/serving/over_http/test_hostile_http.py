"""Thousands of random malformed requests: each is answered with a status it deserves, and the server still serves.

A failure is replayed by the line it prints: `VIREO_HOSTILE_SEED=... pytest tests/serving/over_http/test_hostile_http.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, seed
from hypothesis import strategies as st

from tests.serving.hostility import SEED, drawing, nothing_logged_as_an_error
from tests.serving.over_http.bodies import GOOD_REQUEST, is_right
from tests.serving.over_http.hostile import Sent, framed, unframed
from tests.serving.over_http.wire import Answer, Connection
from tests.serving.servers import ServerHere, eventually

pytestmark = pytest.mark.usefixtures("http1")

CONNECTIONS, REQUESTS_EACH = 300, 8
DESERVED = {200, 400, 404, 405, 413, 415, 429, 431, 499, 501, 503, 504}
"""503: a model asked about is not ready; 504: the timeout sent is over. Never 500: that would be our own fault."""

hostile = drawing(CONNECTIONS)


def _connection(server: ServerHere) -> Connection:
    assert server.host.http_port is not None
    return Connection(server.host.http_port)


def _answer_to(connection: Connection, sent: Sent) -> Answer:
    connection.send(sent.to_bytes())
    while (answer := connection.read(bodiless=sent.method == "HEAD")).status == 100:
        pass
    return answer


def _check(answer: Answer, sent: object) -> None:
    assert answer.status in DESERVED | {100}, f"{answer} to {sent!r}"
    if answer.status >= 400 and answer.body and answer.headers["content-type"] == "application/json":
        assert {"error", "code"} <= set(answer.json()) or "ready" in answer.json(), f"{answer} to {sent!r}"


def _check_serves(connection: Connection) -> None:
    assert is_right(connection.ask(GOOD_REQUEST))


@pytest.fixture(autouse=True)
def _nothing_is_logged_as_an_error() -> Iterator[None]:
    with nothing_logged_as_an_error("vireo", "uvicorn.error", "asyncio"):
        yield


def test_malformed_requests_are_refused_one_by_one_on_connections_that_stay_open(server: ServerHere) -> None:
    counted = 0

    @hostile
    @seed(SEED)
    @given(st.lists(framed(), min_size=REQUESTS_EACH, max_size=REQUESTS_EACH))
    def run(requests: list[Sent]) -> None:
        nonlocal counted
        connection = _connection(server)
        for each in requests:
            answer = _answer_to(connection, each)
            _check(answer, each)
            counted += 1
            if answer.headers.get("connection") == "close":
                assert connection.is_closed()
                connection = _connection(server)
        _check_serves(connection)
        connection.close()

    run()
    assert counted >= 2000


def test_bytes_that_are_no_request_are_refused_or_hung_up_on_and_nothing_stays_behind(server: ServerHere) -> None:
    beside = _connection(server)

    @hostile
    @seed(SEED)
    @given(st.booleans(), unframed())
    def run(after_a_good_one: bool, sent: bytes) -> None:
        with _connection(server) as connection:
            if after_a_good_one:
                _check_serves(connection)
            connection.send_what_it_takes([sent])
            connection.end()
            for each in connection.rest():
                _check(each, sent)
        _check_serves(beside)

    run()
    beside.close()
    eventually(lambda: server.in_flight == 0, "nothing is left in flight")
