"""How connections end: the server stops, peers fall silent, and clients that only want to know whether it is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import grpc
import pytest

from engine import limits
from tests.fakes import PATIENCE_S
from tests.serving.calls import AS_BYTES
from tests.serving.over_http2 import frames
from tests.serving.over_http2.conftest import only_native
from tests.serving.over_http2.peer import Peer
from tests.serving.over_http2.table import COUNT, DIRECT, DIRECT_HOLD, ECHO, HOLD, STREAM, TAKE, TableServer
from tests.serving.servers import eventually

Serve = Callable[..., TableServer]
UNAVAILABLE = 14


@contextmanager
def _stopping(table: TableServer) -> Iterator[threading.Thread]:
    """Has the server stop meanwhile."""
    thread = threading.Thread(target=table.stop)
    thread.start()
    yield thread
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.fixture
def long_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the grace to pass waits longer than a test does; who needs it has enough on any machine."""
    for transport in ("native.server", "grpc_server"):
        monkeypatch.setattr(f"serving.{transport}._GRACE_S", 100 * PATIENCE_S)


# The server stops.


@pytest.mark.usefixtures("long_grace")
@only_native  # grpcio closes the connection as soon as the handlers are through, written or not
@pytest.mark.parametrize("path", [HOLD, DIRECT_HOLD])
def test_calls_under_way_finish_when_the_server_stops(serve: Serve, tag: str, path: str) -> None:
    table = serve()
    with Peer(table.port) as peer:
        streams = [peer.ask(path, b"%d" % index, tag=tag) for index in range(20)]
        eventually(lambda: table.desk.began[tag] == 20, "all are being served")
        with _stopping(table):
            peer.until(lambda: peer.goaways, "word of the end")
            table.open()
            table.answer_held()
            assert [peer.wait(each).messages for each in streams] == [[b"%d" % index] for index in range(20)]
            peer.wait_closed()


@pytest.mark.usefixtures("long_grace")
@only_native
def test_end_is_announced_and_then_says_what_was_served(serve: Serve, tag: str) -> None:
    table = serve()
    with Peer(table.port) as peer:
        held = peer.ask(HOLD, b"held", tag=tag)
        eventually(lambda: table.desk.began[tag], "it is being served")
        with _stopping(table):
            peer.until(lambda: len(peer.goaways) == 2, "both words of the end")
            assert peer.goaways == [(2**31 - 1, frames.NO_ERROR), (held, frames.NO_ERROR)]
            late = peer.ask(ECHO, b"too late")
            table.open()
            assert peer.wait(held).messages == [b"held"]
            peer.wait_closed()
            assert not peer.exchanges[late].heads


@pytest.mark.usefixtures("long_grace")
@only_native
def test_call_that_comes_before_the_client_can_know_of_the_end_is_served(serve: Serve, tag: str) -> None:
    table = serve()
    with Peer(table.port) as peer:
        held = peer.ask(HOLD, b"held", tag=tag)
        eventually(lambda: table.desk.began[tag], "it is being served")
        with _stopping(table):
            peer.until(lambda: peer.goaways, "word of the end")
            crossing = peer.ask(ECHO, b"crossing")
            assert peer.wait(crossing).messages == [b"crossing"]
            table.open()
            assert peer.wait(held).messages == [b"held"]


@only_native
def test_connections_that_nobody_took_yet_are_served_when_the_server_ends(serve: Serve) -> None:
    """Else the system resets them, and gRPC's clients fail every call for a second."""
    table = serve()
    native = table.native
    assert native is not None

    def end_under_them() -> list[Peer]:
        made = [Peer(table.port) for _ in range(50)]  # by the thread that would take them
        native.announce_end()
        return made

    peers: list[Peer] = table.do(end_under_them)
    for each in peers:
        with each:
            assert each.call(ECHO, b"waited").messages == [b"waited"]
            each.until(lambda each=each: each.goaways, "word of the end")  # type: ignore[misc]
    with pytest.raises(ConnectionRefusedError):
        Peer(table.port)


@pytest.mark.usefixtures("long_grace")
@only_native
def test_connection_whose_first_bytes_are_on_their_way_is_served_when_the_server_ends(serve: Serve) -> None:
    table = serve()
    native = table.native
    assert native is not None
    with Peer(table.port, opening=b"") as peer:
        eventually(lambda: native.undecided() == 1, "it is taken")
        table.do(native.announce_end)
        peer.send(frames.PREFACE + frames.settings())
        assert peer.call(ECHO, b"late").messages == [b"late"]
        peer.until(lambda: peer.goaways, "word of the end")


@pytest.mark.parametrize("path", [HOLD, TAKE, STREAM])
def test_calls_that_outlast_the_grace_are_ended(serve: Serve, tag: str, path: str) -> None:
    table = serve()
    with Peer(table.port) as peer:
        stream = peer.begin(path, tag=tag)
        peer.send(frames.data(stream, frames.message(b"x"), end=path == HOLD))
        if path == STREAM:
            peer.until(lambda: peer.exchanges[stream].body, "the first answer")
        else:
            eventually(lambda: table.desk.began[tag], "it is being served")
        with _stopping(table):
            exchange = peer.exchanges[stream]
            with suppress(AssertionError):
                peer.until(lambda: exchange.over, "an end")
            peer.wait_closed()
    if table.native:
        assert (exchange.status, exchange.text) == (UNAVAILABLE, "the server is shutting down")
    assert path == STREAM or table.desk.cancelled[tag] == 1


@only_native  # see above
def test_answers_under_way_are_delivered_before_the_end(serve: Serve) -> None:
    table = serve()
    with Peer(table.port) as peer:
        stream = peer.ask(COUNT, b"500 10000")
        peer.until(lambda: peer.exchanges[stream].body, "the first of it")
        with _stopping(table):
            assert len(peer.wait(stream).messages) == 500


@pytest.mark.usefixtures("long_grace")
@only_native
def test_idle_connections_are_closed_at_once(serve: Serve) -> None:
    """The grace is for calls."""
    table = serve()
    peers = [Peer(table.port) for _ in range(20)]
    for each in peers:
        assert each.call(ECHO, b"x").messages == [b"x"]
    undecided = [Peer(table.port, opening=opening) for opening in (b"", b"PRI", frames.PREFACE[:10], frames.PREFACE)]
    with _stopping(table):
        for each in (*peers, *undecided):
            each.wait_closed()
            each.close()
    with pytest.raises(ConnectionRefusedError):
        Peer(table.port)


@only_native
def test_client_that_reads_nothing_does_not_hold_up_the_end(serve: Serve) -> None:
    table = serve()
    with Peer(table.port, {frames.INITIAL_WINDOW_SIZE: 0}, slow=True) as peer:
        for path in (ECHO, DIRECT, COUNT):
            peer.ask(path, b"100 10000")
        peer.check_lives()
        table.stop()


@pytest.mark.usefixtures("long_grace")
def test_client_library_sees_calls_finish_and_then_an_unavailable_server(serve: Serve, tag: str) -> None:
    table = serve()
    with grpc.insecure_channel(table.address) as channel:
        held = channel.unary_unary(HOLD, *AS_BYTES).future(b"held", metadata=(("x-tag", tag),))
        eventually(lambda: table.desk.began[tag], "it is being served")
        with _stopping(table):
            time.sleep(0.1)
            table.open()
            assert held.result(PATIENCE_S) == b"held"
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(ECHO, *AS_BYTES)(b"too late", timeout=PATIENCE_S)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


# Somebody falls silent.


@pytest.fixture
def impatient(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> TableServer:
    """A native server that waits for hardly anything."""
    for name, seconds in (("KEEPALIVE_S", 0.1), ("HTTP_IDLE_S_MAX", 0.15), ("SWEEP_S", 0.02), ("STUCK_S_MAX", 0.2)):
        monkeypatch.setattr(limits, name, seconds)
    return serve()


@pytest.fixture
def steadfast(impatient: TableServer, monkeypatch: pytest.MonkeyPatch) -> TableServer:
    """It asks as often, and bears with a peer whom the machine keeps from answering for a second."""
    monkeypatch.setattr(limits, "HTTP_IDLE_S_MAX", 1.0)
    monkeypatch.setattr(limits, "STUCK_S_MAX", 1.0)
    return impatient


@only_native
def test_peer_that_answers_no_ping_is_closed_and_its_calls_stop(impatient: TableServer, tag: str) -> None:
    with Peer(impatient.port) as peer:
        peer.ask(HOLD, b"held", tag=tag)
        eventually(lambda: impatient.desk.began[tag], "it is being served")
        eventually(lambda: impatient.desk.cancelled[tag] == 1, "the call is stopped")
        eventually(lambda: not impatient.connections(), "the connection is closed")
        peer.wait_closed()


@only_native
def test_peer_that_answers_pings_may_be_idle_for_ever(steadfast: TableServer, tag: str) -> None:
    with Peer(steadfast.port) as peer:
        held = peer.ask(HOLD, b"held", tag=tag)
        peer.read_now(1.5)
        assert not peer.closed
        steadfast.open()
        assert peer.wait(held).messages == [b"held"]
        peer.read_now(1.5)
        assert peer.call(ECHO, b"still here").messages == [b"still here"]


@only_native
@pytest.mark.parametrize("opening", [b"", b"P", b"PRI * HTT"])
def test_connection_that_never_says_what_it_wants_is_closed(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, opening: bytes
) -> None:
    for name in ("HTTP_IDLE_S_MAX", "HTTP_KEEP_ALIVE_S", "KEEPALIVE_S"):
        monkeypatch.setattr(limits, name, 0.1)
    monkeypatch.setattr(limits, "SWEEP_S", 0.02)
    with Peer(serve().port, opening=opening) as peer:
        peer.wait_closed()


@only_native
def test_peer_that_takes_nothing_for_too_long_is_closed(impatient: TableServer, tag: str) -> None:
    with Peer(impatient.port, {frames.INITIAL_WINDOW_SIZE: 10}, slow=True) as peer:
        peer.ask(COUNT, b"100000 10000", tag=tag)
        peer.wait_closed()
        eventually(lambda: impatient.desk.cancelled[tag] == 1, "the handler is stopped")


@only_native
def test_peer_that_takes_little_but_steadily_lives(steadfast: TableServer) -> None:
    with Peer(steadfast.port, {frames.INITIAL_WINDOW_SIZE: 10}, slow=True) as peer:
        stream = peer.ask(ECHO, b"x" * 1000)
        for _ in range(20):
            peer.read_now(0.08)
            peer.send(frames.window_update(stream, 10))
        assert not peer.closed
        peer.send(frames.window_update(stream, 1000))
        assert peer.wait(stream).messages == [b"x" * 1000]


@only_native
def test_client_library_may_ping_as_often_as_it_likes(serve: Serve, tag: str) -> None:
    table = serve()
    options = [
        ("grpc.keepalive_time_ms", 50),
        ("grpc.keepalive_timeout_ms", 5000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    with grpc.insecure_channel(table.address, options=options) as channel:
        echo = channel.unary_unary(ECHO, *AS_BYTES)
        assert echo(b"x") == b"x"
        (connection,) = table.connections()
        held = channel.unary_unary(HOLD, *AS_BYTES).future(b"held", metadata=(("x-tag", tag),))
        time.sleep(0.7)
        assert echo(b"x") == b"x"
        assert table.connections() == [connection]
        table.open()
        assert held.result(PATIENCE_S) == b"held"
