"""Sockets between the wires and a server: one thread, one epoll, batched reads and writes. Knows no protocol.

Waiting is done by `select` on the epoll object, whose timeout counts in microseconds (epoll's own counts in
milliseconds), with the kernel's timer slack set to one nanosecond.
"""

import ctypes
import select
import socket
import time
from collections import deque
from collections.abc import Callable

from benchmarks.load.statuses import PROTOCOL_BROKEN, UNAVAILABLE, UNSENT
from benchmarks.load.wire import Answer, Wire, WireError

Arrival = tuple[int, list[Answer]]
"""(monotonic instant of the read in ns, what it finished)."""

READ_BYTES = 65_536
IN_FLIGHT_MAX = 20_000
RECONNECTS_MAX = 100
EVENTS_MAX = 256
PR_SET_TIMERSLACK = 29


class Link:
    """One socket and its wire."""

    __slots__ = ("listed", "replaced", "sock", "unsent", "wire")

    def __init__(self, sock: socket.socket, wire: Wire) -> None:
        self.sock = sock
        self.wire = wire
        self.unsent = b""
        self.listed = True  # in the pump's queue of links with room
        self.replaced = False  # another link stands in for this one, which may only finish what it has begun


class Pump:
    """Sends requests over `connections` links, round robin, and hands back answers. Owned by one thread.

    A request that finds no link with room waits here; past IN_FLIGHT_MAX unfinished requests a new one fails as UNSENT.
    A lost connection fails its requests. It is replaced, as is one that takes no more requests, which first finishes what
    it has begun; RECONNECTS_MAX times in all.
    """

    def __init__(
        self,
        *,
        address: tuple[str, int],
        make_wire: Callable[[], Wire],
        connections: int,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.in_flight = 0
        self.spun_ns = 0
        self.reconnects = 0
        self.faults: list[str] = []
        self._address, self._make_wire = address, make_wire
        self._epoll = select.epoll()
        self._links: dict[int, Link] = {}
        self._roomy: deque[Link] = deque()
        self._waiting: deque[int] = deque()
        self._dirty: list[Link] = []
        self._clock, self._read_ns = clock, 0
        _sharpen_timers()
        for _ in range(connections):
            self._connect()
        self.flush()

    def _connect(self) -> None:
        sock = socket.create_connection(self._address, timeout=5)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(sock, self._make_wire())
        self._links[sock.fileno()] = link
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._roomy.append(link)
        self._dirty.append(link)

    def submit(self, tag: int) -> Answer | None:
        """Hand over one request; an answer at once only when it was refused here. Nothing leaves before `flush`."""
        if self.in_flight >= IN_FLIGHT_MAX or not self._links:
            return (tag, UNSENT if self._links else UNAVAILABLE)
        self.in_flight += 1
        if self._roomy:
            self._place(tag)
        else:
            self._waiting.append(tag)
        return None

    def _place(self, tag: int) -> None:
        link = self._roomy.popleft()
        wire = link.wire
        if not wire.outgoing:
            self._dirty.append(link)
        wire.submit(tag)
        if wire.room():
            self._roomy.append(link)
        else:
            link.listed = False

    def flush(self) -> None:
        """Write what the wires hold, one call to the kernel for each link."""
        for link in self._dirty:
            wire = link.wire
            if wire.outgoing:
                data = link.unsent + b"".join(wire.outgoing)
                wire.outgoing.clear()
                self._write(link, data)
        self._dirty.clear()

    def _write(self, link: Link, data: bytes) -> None:
        had_unsent = bool(link.unsent)
        try:
            sent = link.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = len(data)  # the read side will see the loss
        link.unsent = data[sent:]
        if bool(link.unsent) != had_unsent and link.sock.fileno() >= 0:
            events = select.EPOLLIN | (select.EPOLLOUT if link.unsent else 0)
            self._epoll.modify(link.sock.fileno(), events)

    def turn(self) -> list[Arrival]:
        """Read whatever has arrived, without waiting, and write what that calls for."""
        arrivals: list[Arrival] = []
        for descriptor, events in self._epoll.poll(0, EVENTS_MAX):
            link = self._links.get(descriptor)
            if link is None:
                continue
            if events & select.EPOLLOUT:
                self._write(link, link.unsent)
            if events & ~select.EPOLLOUT:
                answers = self._read(link)
                if answers:
                    arrivals.append((self._read_ns, answers))
        if self._dirty:
            self.flush()
        return arrivals

    def _read(self, link: Link) -> list[Answer]:
        try:
            data = link.sock.recv(READ_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            return self._lose(link, f"connection lost: {error}")
        finally:
            self._read_ns = self._clock()
        if not data:
            return self._lose(link, "connection closed by the server")
        try:
            answers = link.wire.receive(data)
        except WireError as error:
            self.in_flight -= len(error.answers)
            return error.answers + self._lose(link, str(error), status=PROTOCOL_BROKEN)
        self.in_flight -= len(answers)
        return answers + self._after_read(link)

    def _after_read(self, link: Link) -> list[Answer]:
        if link.wire.outgoing:
            self._dirty.append(link)
        room = link.wire.room()
        if room and not link.listed:
            self._roomy.append(link)
        elif link.listed and not room:
            self._roomy.remove(link)
        link.listed = room
        if link.wire.farewell is not None and not link.replaced:
            self._replace(link, link.wire.farewell)
        self._place_waiting()
        return self._discard(link) if link.wire.spent() else []

    def _place_waiting(self) -> None:
        while self._waiting and self._roomy:
            self._place(self._waiting.popleft())

    def _lose(self, link: Link, why: str, status: int = UNAVAILABLE) -> list[Answer]:
        """Fail the requests of a link and discard it."""
        lost = [(tag, status) for tag, _ in link.wire.lose()]
        self.in_flight -= len(lost)
        if link.listed:
            self._roomy.remove(link)
        if not link.replaced:
            self._replace(link, why)
        return lost + self._discard(link)

    def _replace(self, link: Link, why: str) -> None:
        link.replaced = True
        self.faults.append(why)
        self.reconnects += 1
        if self.reconnects > RECONNECTS_MAX:
            return
        try:
            self._connect()
        except OSError as error:
            self.faults.append(f"no new connection: {error}")

    def _discard(self, link: Link) -> list[Answer]:
        """Close a link; where it was the last, what waits for one has failed."""
        del self._links[link.sock.fileno()]
        link.sock.close()
        self._place_waiting()
        if self._links:
            return []
        lost = [(tag, UNAVAILABLE) for tag in self._waiting]
        self._waiting.clear()
        self.in_flight -= len(lost)
        return lost

    def wait(self, *, until_ns: int, spin_ns: int) -> None:
        """Sleep until something arrives or the monotonic clock shows `until_ns`; the last `spin_ns` of it awake.

        CPU time spent awake and idle is added to `spun_ns`.
        """
        left_ns = until_ns - spin_ns - self._clock()
        if left_ns > 0 and select.select((self._epoll,), (), (), left_ns / 1e9)[0]:
            return
        if spin_ns:
            began_ns = time.process_time_ns()
            while self._clock() < until_ns and not select.select((self._epoll,), (), (), 0)[0]:
                pass
            self.spun_ns += time.process_time_ns() - began_ns

    def close(self) -> None:
        """Close every connection."""
        for link in self._links.values():
            link.sock.close()
        self._epoll.close()


def _sharpen_timers() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_TIMERSLACK, 1)
