"""One HTTP/1.1 connection by bytes alone."""

import pytest

from benchmarks.load.http1 import Http1Wire
from benchmarks.load.wire import WireError

OK_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def test_one_request_at_a_time_and_answers_in_any_pieces() -> None:
    wire = Http1Wire(requests=[b"one", b"two"])
    wire.submit(3)
    assert wire.outgoing == [b"two"]
    assert not wire.room()
    found = [answer for index in range(len(OK_ANSWER)) for answer in wire.receive(OK_ANSWER[index : index + 1])]
    assert found == [(3, 0)]
    assert wire.room()


def test_error_status_is_kept_and_the_connection_lives_on() -> None:
    wire = Http1Wire(requests=[b"one"])
    wire.submit(0)
    assert wire.receive(b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n") == [(0, 429)]
    assert wire.room()


def test_connection_that_the_server_closes_takes_no_more() -> None:
    wire = Http1Wire(requests=[b"one"])
    wire.submit(0)
    wire.receive(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert not wire.room()
    assert wire.lose() == []


def test_lost_connection_fails_its_request() -> None:
    wire = Http1Wire(requests=[b"one"])
    wire.submit(5)
    assert wire.lose() == [(5, 14)]


@pytest.mark.parametrize("bad", [b"SPAM SPAM\r\n\r\n", OK_ANSWER])
def test_garbage_and_unasked_answers_are_errors_of_the_wire(bad: bytes) -> None:
    with pytest.raises(WireError):
        Http1Wire(requests=[b"one"]).receive(bad)
